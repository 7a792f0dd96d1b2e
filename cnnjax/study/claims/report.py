"""Verdicts as tables: rows for people, Markdown for a file, and the small record to be shipped."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.errors import RunError, SpecError
from cnnjax.study import launches
from cnnjax.study.claims import CLAIMS
from cnnjax.study.claims.claim import TIERS, Claim
from cnnjax.study.claims.measures import windows
from cnnjax.study.claims.verdict import Part, Verdict, judge
from cnnjax.study.record import Study
from cnnjax.study.runs import read

HEADINGS = (
    "claim", "verdict", "contrast", "part", "effect", "95 % interval", "of interest", "n",
    "TMAC", "minutes", "device",
)  # fmt: skip
RIGHT = ("effect", "95 % interval", "of interest", "n", "TMAC", "minutes")
LEGEND = (
    "Effects are paired by seed and positive in the claimed direction; between equals they are the"
    " difference. The interval is over seeds, on one test set; n counts pairs; what is of interest"
    " was fixed before the runs. TMAC: multiply-adds of all training, three forward passes an"
    " image. Minutes are those in which any run was on. * settings were overridden or seeds left"
    " out; >= and <= an effect that is a bound, since some runs never reached the threshold."
)


def listing() -> list[dict[str, Any]]:
    """Every claim in a line."""
    return [
        {
            "id": claim.id,
            "statement": claim.statement,
            "paper": claim.paper,
            "tiers": list(claim.settings),
            "runs": _runs(claim),
        }
        for claim in CLAIMS.values()
    ]


def _runs(claim: Claim) -> int | None:
    setting = claim.settings.get("cpu")
    return None if setting is None else len(setting.arms) * setting.seeds


def described(claim: Claim) -> dict[str, Any]:
    """All that a claim says, as plain values."""
    return {
        "id": claim.id,
        "statement": claim.statement,
        "paper": claim.paper,
        "where": claim.where,
        "published": list(claim.published),
        "contradictions": list(claim.contradictions),
        "tiers": {
            tier: {
                "scope": setting.scope,
                "experiment": {k: dict(v) for k, v in setting.experiment.items()},
                "arms": {name: dict(changes) for name, changes in setting.arms.items()},
                "seeds": setting.seeds,
                "contrasts": [
                    {
                        "says": c.says, "kind": c.kind, "better": c.better, "worse": c.worse,
                        "measure": c.measure.name, "unit": c.measure.unit, "smallest": c.smallest,
                    }
                    for c in claim.contrasts_at(tier)
                ],
            }
            for tier, setting in claim.settings.items()
        },
    }  # fmt: skip


def verdicts(folder: Path) -> list[Verdict]:
    """The verdicts of all claims' studies in `folder`, worked out anew, in the order of CLAIMS."""
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder. 'cnnjax claims run' writes one.")
    found = []
    for directory in studies(folder):
        name = Study.read(directory).experiment
        found += [
            judge(claim, tier, directory)
            for claim in CLAIMS.values()
            for tier in claim.settings
            if claim.study_name(tier) == name
        ]
    if not found:
        raise RunError(f"{folder}: holds no study of a claim. 'cnnjax claims run' writes them.")
    order = list(CLAIMS)
    return sorted(found, key=lambda v: (TIERS.index(v.tier), order.index(v.claim.id)))


def studies(folder: Path) -> list[Path]:
    """The study directories in `folder`, by name."""
    return sorted(path.parent for path in folder.glob("*/study.json"))


def rows(verdict: Verdict) -> list[list[str]]:
    """The cells of a verdict under HEADINGS, one list a contrast."""
    first = [verdict.claim.study_name(verdict.tier), verdict.outcome + "*" * bool(verdict.changed)]
    last = [
        f"{verdict.macs / 1e12:.3g}",
        "" if verdict.minutes is None else f"{verdict.minutes:.1f}",
        ", ".join(verdict.devices),
    ]
    return [
        [*(first if place == 0 else ["", ""]), *_cells(part), *(last if place == 0 else [""] * 3)]
        for place, part in enumerate(verdict.parts)
    ]


def _cells(part: Part) -> list[str]:
    contrast, effect = part.contrast, part.effect
    unit, equal = contrast.measure.unit, contrast.kind == "equal"
    value = "" if effect.difference is None else f"{_bound(part)}{effect.difference:+.2f} {unit}"
    interval = (
        "" if effect.low is None or effect.high is None
        else f"{effect.low:+.2f} to {effect.high:+.2f}"
    )  # fmt: skip
    smallest = f"{'within ±' if equal else '≥ '}{contrast.smallest:g}"
    return [contrast.says, part.ruling.outcome, value, interval, smallest, str(effect.n)]


def _bound(part: Part) -> str:
    sides = {
        side: bool(set(part.censored) & set(arms))
        for side, arms in (("better", part.taken("better")), ("worse", part.taken("worse")))
    }
    if all(sides.values()):
        return "? "
    return "<= " if sides["better"] else ">= " if sides["worse"] else ""


def markdown(found: Sequence[Verdict]) -> str:
    """The table of verdicts, and under it what a reader must know."""
    rule = ["---:" if name in RIGHT else "---" for name in HEADINGS]
    lines = ["| " + " | ".join(cells) + " |" for cells in (list(HEADINGS), rule)]
    lines += ["| " + " | ".join(row) + " |" for verdict in found for row in rows(verdict)]
    return "\n".join([*lines, "", LEGEND, "", *(f"- {note}" for note in notes(found))]) + "\n"


def notes(found: Sequence[Verdict]) -> list[str]:
    """Why what is not reproduced is not, and where runs are not the claim's own."""
    return [
        f"{v.claim.study_name(v.tier)}: {part}"
        for v in found
        for part in (
            *([v.reason] if v.outcome != "reproduced" else []),
            *(["missing " + ", ".join(v.missing)] if v.missing else []),
            *(["overridden: " + "; ".join(v.changed)] if v.changed else []),
        )
    ]


def slim(source: Path, destination: Path) -> list[Path]:
    """Copy claims' studies without checkpoints, pictures and logs; the folders that were written.

    Kept is what `claims table` and `compare` read: training curves merged into windows, numbers to
    six digits, and nothing that names the machine but its kind of processor.
    """
    if destination.exists() and destination.resolve() == source.resolve():
        raise SpecError(f"{destination}: is where the studies are: give another folder.")
    found = studies(source) if source.is_dir() else []
    if not found:
        raise RunError(f"{source}: holds no study. 'cnnjax claims run' writes them.")
    written = []
    for directory in found:
        study = Study.read(directory)
        target = destination / directory.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(directory / "study.json", target / "study.json")
        private = ("host", "pid", "cores")
        lines = [
            {k: v for k, v in row.items() if k not in private}
            for row in launches.read(directory)
            if row.get("ended") is not None
        ]
        _write_rows(target / launches.NAME, lines)
        for cell in study.runs:
            if study.finished(cell):
                _slim_run(study.path(cell), target / cell.directory)
        if (directory / "verdict.json").is_file():
            shutil.copy(directory / "verdict.json", target / "verdict.json")
        written.append(target)
    return written


def _slim_run(directory: Path, target: Path) -> None:
    run = read(directory)
    target.mkdir(parents=True, exist_ok=True)
    for name in ("spec.json", "result.json"):
        shutil.copy(directory / name, target / name)
    sessions = [
        {k: s[k] for k in ("python", "versions", "device", "git") if k in s} for s in run.env
    ]
    (target / "env.json").write_text(json.dumps({"sessions": sessions}) + "\n")
    train = windows(run.metrics, run.steps or run.step)
    scores = [row for row in run.metrics if row["split"] != "train"]
    rows = sorted([*train, *scores], key=lambda row: row["step"])
    _write_rows(target / "metrics.jsonl", [_rounded(row) for row in rows])
    kept = [row for row in run.timing if row["event"] in ("compile", "end")]
    _write_rows(target / "timing.jsonl", [_rounded(row) for row in kept])


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()}


def _write_rows(path: Path, found: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
