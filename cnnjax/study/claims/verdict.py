"""A claim's verdict, worked out from the run directories of its study and nothing else."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cnnjax.study import launches, stats
from cnnjax.study.arms import value_at
from cnnjax.study.claims.claim import Choice, Claim, Contrast, Tier, alternatives
from cnnjax.study.claims.measures import Value
from cnnjax.study.claims.rule import Outcome, Ruling, rule, together
from cnnjax.study.record import Study
from cnnjax.study.runs import Run, read
from cnnjax.study.stats import Effect

Runs = Mapping[str, Mapping[int, Run]]
"""Arm -> seed -> finished run."""
BACKWARD = 3
"""Multiply-adds of a training step in those of its forward pass: one forward, two backward."""


@dataclass(frozen=True)
class Part:
    """One contrast's ruling. `values`: arm -> seed -> measure; `chosen`: which arm of a choice
    each seed took; `censored`: arm -> seeds whose value is a lower bound."""

    contrast: Contrast
    effect: Effect
    ruling: Ruling
    values: Mapping[str, Mapping[int, float]]
    censored: Mapping[str, Sequence[int]]
    chosen: Mapping[str, Mapping[int, str]]

    def taken(self, side: Literal["better", "worse"]) -> tuple[str, ...]:
        """The arms that a side's values are of."""
        if side in self.chosen:
            return tuple(dict.fromkeys(self.chosen[side].values()))
        return alternatives(self.contrast.better if side == "better" else self.contrast.worse)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as verdict.json holds them."""
        c, e = self.contrast, self.effect
        return {
            "says": c.says,
            "kind": c.kind,
            "better": list(alternatives(c.better)),
            "worse": list(alternatives(c.worse)),
            "measure": c.measure.name,
            "unit": c.measure.unit,
            "smallest": c.smallest,
            "n": e.n,
            "effect": e.difference,
            "low": e.low,
            "high": e.high,
            "outcome": self.ruling.outcome,
            "reason": self.ruling.reason,
            "values": {arm: dict(v) for arm, v in self.values.items()},
            "censored": {arm: list(seeds) for arm, seeds in self.censored.items()},
            "chosen": {side: dict(v) for side, v in self.chosen.items()},
        }


@dataclass(frozen=True)
class Verdict:
    """What a study says of a claim. `changed`: where its runs are not what the claim asks for;
    `missing`: arms that lack seeds without which it cannot be judged.

    `macs` are the multiply-adds of all training, `minutes` the time while any run was on.
    """

    claim: Claim
    tier: Tier
    outcome: Outcome
    reason: str
    parts: tuple[Part, ...]
    finished: int
    planned: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    macs: int
    minutes: float | None
    devices: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the contents of verdict.json."""
        claim, setting = self.claim, self.claim.settings[self.tier]
        kept = {k: v for k, v in asdict(self).items() if k not in ("claim", "parts", "outcome")}
        return {
            "claim": claim.id,
            "statement": claim.statement,
            "paper": claim.paper,
            "where": claim.where,
            "scope": setting.scope,
            "verdict": self.outcome,
            **kept,
            **{key: list(kept[key]) for key in ("missing", "changed", "devices")},
            "parts": [part.to_dict() for part in self.parts],
        }


def judge(claim: Claim, tier: Tier, directory: Path) -> Verdict:
    """The verdict of a study directory. RunError where a record is missing or damaged.

    Runs that are missing make it inconclusive. A run that failed does not count as one of its arm,
    and no choice falls on its arm.
    """
    study = Study.read(directory)
    runs = _finished(study)
    setting = claim.settings[tier]
    seeds = int(study.ablation["seeds"])
    contrasts = claim.contrasts_at(tier)
    parts = tuple(_part(contrast, runs) for contrast in contrasts)
    flat = [run for by_seed in runs.values() for run in by_seed.values()]
    outcome = together([part.ruling.outcome for part in parts])
    reasons = [part.ruling.reason for part in parts if part.ruling.outcome == outcome]
    if missing := _missing(contrasts, runs, seeds):
        outcome, reasons = "inconclusive", ["runs are missing"]
    return Verdict(
        claim=claim,
        tier=tier,
        outcome=outcome,
        reason="; ".join(dict.fromkeys(reasons)),
        parts=parts,
        finished=len(flat),
        planned=len(setting.arms) * seeds,
        missing=tuple(missing),
        changed=tuple(_changes(claim, tier, study)),
        macs=sum(_training_macs(run) for run in flat),
        minutes=_minutes(directory, flat),
        devices=tuple(dict.fromkeys(run.device or "unknown" for run in flat)),
    )


def _finished(study: Study) -> Runs:
    found: dict[str, dict[int, Run]] = {arm.name: {} for arm in study.arms}
    for cell in study.runs:
        if study.finished(cell):
            found.setdefault(cell.arm, {})[cell.seed] = read(study.path(cell))
    return found


def _missing(contrasts: Sequence[Contrast], runs: Runs, seeds: int) -> list[str]:
    """Arms without all their seeds; of a choice, one complete arm is enough."""
    lacking = []
    for contrast in contrasts:
        for choice in (contrast.better, contrast.worse):
            arms = alternatives(choice)
            if not any(len(runs.get(arm, {})) >= seeds for arm in arms):
                done = max(len(runs.get(arm, {})) for arm in arms)
                lacking.append(f"{' or '.join(arms)} ({done} of {seeds} seeds)")
    return list(dict.fromkeys(lacking))


def _part(contrast: Contrast, runs: Runs) -> Part:
    measured = {
        arm: {seed: contrast.measure.of(run) for seed, run in runs.get(arm, {}).items()}
        for arm in contrast.arms
    }
    better, took_better = choose(contrast.better, measured)
    worse, took_worse = choose(contrast.worse, measured)
    seeds = sorted(better.keys() & worse.keys())
    effect = stats.paired(_values(worse), _values(better))
    ruling = rule(
        effect, contrast.smallest, contrast.kind,
        better_censored=any(better[s].censored for s in seeds),
        worse_censored=any(worse[s].censored for s in seeds),
    )  # fmt: skip
    return Part(
        contrast=contrast,
        effect=effect,
        ruling=ruling,
        values={arm: _values(by_seed) for arm, by_seed in measured.items()},
        censored={
            arm: seeds
            for arm, by_seed in measured.items()
            if (seeds := sorted(s for s, v in by_seed.items() if v.censored))
        },
        chosen={
            side: took
            for side, took in (("better", took_better), ("worse", took_worse))
            if took
        },
    )  # fmt: skip


def choose(
    choice: Choice, measured: Mapping[str, Mapping[int, Value]]
) -> tuple[dict[int, Value], dict[int, str]]:
    """Seed -> value, and seed -> arm where there was a choice.

    Each seed takes the arm that has the lowest mean over the OTHER seeds, so that no run speaks for
    its own choice. Arms that lack a seed that another has are not chosen from.
    """
    if isinstance(choice, str):
        return dict(measured[choice]), {}
    most = max(len(measured[arm]) for arm in choice)
    complete = [arm for arm in choice if len(measured[arm]) == most and most > 0]
    if not complete:
        return {}, {}
    seeds = sorted(measured[complete[0]])
    took = {}
    for seed in seeds:
        others = [s for s in seeds if s != seed] or seeds
        took[seed] = min(
            complete,
            key=lambda arm: math.fsum(measured[arm][s].value for s in others),
        )
    return {seed: measured[arm][seed] for seed, arm in took.items()}, took


def _values(found: Mapping[int, Value]) -> dict[int, float]:
    return {seed: value.value for seed, value in sorted(found.items())}


def _training_macs(run: Run) -> int:
    """Multiply-adds of a run's training: three forward passes an image, auxiliary heads' too."""
    forward = (run.macs or 0) + (run.cost.get("macs_auxiliary") or 0)
    return BACKWARD * forward * run.spec["dataset"]["batch_size"] * (run.steps or 0)


def _minutes(directory: Path, runs: Sequence[Run]) -> float | None:
    """Time while any run was on, pauses left out; without that record, the time of the steps."""
    if busy := launches.seconds_busy(launches.read(directory)):
        return busy / 60
    seconds = [run.seconds for run in runs if run.seconds is not None]
    return sum(seconds) / 60 if seconds else None


def _changes(claim: Claim, tier: Tier, study: Study) -> list[str]:
    """Where the study is not the claim's own: "schedule.steps: 20, claimed with 600"."""
    setting = claim.settings[tier]
    found = []
    for part, asked in setting.experiment.items():
        found += _differences(study.spec.get(part), dict(asked), part)
    theirs = {arm.name: arm.changes for arm in study.arms}
    for name, changes in setting.arms.items():
        if name not in theirs:
            found.append(f"arm {name}: missing")
        else:
            found += [
                f"arm {name}: {path}: {theirs[name].get(path)!r}, claimed with {value!r}"
                for path, value in changes.items()
                if not same(theirs[name].get(path), value)
            ]
    if (seeds := study.ablation["seeds"]) < setting.seeds:
        found.append(f"seeds: {seeds}, claimed with {setting.seeds}")
    return found


def _differences(there: Any, asked: Any, path: str) -> list[str]:
    if isinstance(asked, Mapping) and isinstance(there, Mapping):
        return [
            line
            for key, value in asked.items()
            for line in _differences(value_at(dict(there), key), value, f"{path}.{key}")
        ]
    return [] if same(there, asked) else [f"{path}: {there!r}, claimed with {asked!r}"]


def same(there: Any, asked: Any) -> bool:
    """Whether a filled-in value is what was asked for: dicts may hold more, tuples are lists."""
    if isinstance(asked, Mapping):
        return isinstance(there, Mapping) and all(
            key in there and same(there[key], value) for key, value in asked.items()
        )
    if isinstance(asked, list | tuple):
        return (
            isinstance(there, list | tuple)
            and len(there) == len(asked)
            and all(same(a, b) for a, b in zip(there, asked, strict=True))
        )
    return bool(there == asked)
