"""Run directories read back from their plain files: one, a folder of them, a table of them.

spec.json, result.json, metrics.jsonl, env.json and timing.jsonl are enough: what was trained need
not be there any more.
"""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnjax.errors import RunError, did_you_mean
from cnnjax.study.record import Study

if TYPE_CHECKING:
    import pandas as pd

SECTIONS = ("model", "dataset", "schedule")
# What result.json may say of how its network was chosen: never by its score on test.
SELECTED = ("last", "best on validation")


@dataclass(frozen=True)
class Run:
    """What a run directory says; `result` is None while the run is unfinished.

    `spec` has model, dataset and schedule; `derived` what followed from them (steps, splits,
    input_shape, ..) and `cost` its counts of parameters and multiply-adds. `env` is a row per
    session, oldest first.
    """

    directory: Path
    experiment: str
    digest: str
    spec: Mapping[str, Any]
    derived: Mapping[str, Any]
    result: Mapping[str, Any] | None
    metrics: tuple[Mapping[str, Any], ...]
    timing: tuple[Mapping[str, Any], ...]
    env: tuple[Mapping[str, Any], ...]

    @property
    def seed(self) -> int:
        return self.spec["schedule"]["seed"]

    @property
    def cost(self) -> Mapping[str, Any]:
        """Totals of `cnnjax summary`; empty where the record has none."""
        return self.derived.get("cost") or {}

    @property
    def params(self) -> int | None:
        """Trainable parameters, those of auxiliary heads left out."""
        return self.cost.get("params", {}).get("trainable")

    @property
    def macs(self) -> int | None:
        """Multiply-adds for one image."""
        return self.cost.get("macs")

    @property
    def steps(self) -> int | None:
        """How many steps the run has when it is done."""
        return self.derived.get("steps")

    @property
    def step(self) -> int:
        """How far the run is."""
        rows = [row["step"] for row in self.metrics]
        return (self.steps if self.result else None) or (rows[-1] if rows else 0)

    @property
    def images_per_s(self) -> float | None:
        """The run's own steady rate: the median over its training, evaluation left out."""
        rates = [row["images_per_s"] for row in self.timing if row["event"] == "end"]
        return rates[-1] if rates else None

    @property
    def seconds(self) -> float | None:
        """Training time at the steady rate, without compiling and evaluation."""
        rate, steps = self.images_per_s, self.steps
        return steps * self.spec["dataset"]["batch_size"] / rate if rate and steps else None

    @property
    def device(self) -> str | None:
        """The accelerators of the last session, such as "2 x NVIDIA H100"."""
        found = self.env[-1]["device"] if self.env else None
        return f"{found['count']} x {found['kind']}" if found else None

    @property
    def commits(self) -> tuple[str, ...]:
        """Code states of the sessions, "+" where uncommitted changes were in it; oldest first."""
        states = [session.get("git") for session in self.env]
        names = [f"{s['commit'][:8]}{'+' * bool(s['changed'])}" if s else "unknown" for s in states]
        return tuple(dict.fromkeys(names))

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of Python and the packages in the last session."""
        if not self.env:
            return {}
        last = self.env[-1]
        return {"python": last["python"], **{k: v for k, v in last["versions"].items() if v}}


def find(paths: Iterable[str | Path]) -> list[Path]:
    """Run directories in the order given, each once.

    A path is a run directory, a study directory (its runs as study.json lists them) or a folder of
    these, two levels deep. RunError for a path that holds none.
    """
    found = [run for path in paths for run in _below(Path(path))]
    return list({run.resolve(): run for run in found}.values())


def _below(path: Path) -> Iterator[Path]:
    for root in places(path):
        if (root / "study.json").is_file():
            study = Study.read(root)
            listed = [study.path(cell) for cell in study.runs]
            yield from (run for run in listed if (run / "spec.json").is_file())
        else:
            yield root


def places(path: Path) -> list[Path]:
    """The run and study directories at `path` or up to two levels below it, by name."""
    if not path.exists():
        raise RunError(f"{path}: no such folder.{_nearest(path)}")
    if not path.is_dir():
        raise RunError(f"{path}: is a file. Give the run directory or study directory it is of.")
    names = ("study.json", "spec.json")
    found: list[Path] = []
    for pattern in ("", "*/", "*/*/"):
        for name in names:
            for file in sorted(path.glob(pattern + name)):
                if not any(parent in found for parent in file.parents):
                    found.append(file.parent)
    if not found:
        raise RunError(
            f"{path}: holds no run and no study. A run directory has a spec.json, a study directory"
            " a study.json; 'cnnjax train' and 'cnnjax ablate' write them."
        )
    return found


def _nearest(path: Path) -> str:
    """The folders beside a path that is not there: the nearest, and all if they are few."""
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    names = [p.name for p in beside if p.is_dir() and not p.name.startswith(".")]
    if len(names) > 12:
        names = difflib.get_close_matches(path.name, names, n=3)
    return f" {did_you_mean(path.name, names, label='Folders there')}" if names else ""


def read(directory: str | Path) -> Run:
    """A run directory's record. RunError where a file is damaged or belongs to another run.

    A score that was chosen on the test split is refused.
    """
    directory = Path(directory)
    if not (directory / "spec.json").is_file():
        raise RunError(f"{directory}: is no run directory: it holds no spec.json.")
    spec = _json(directory / "spec.json")
    missing = [key for key in (*SECTIONS, "digest") if key not in spec]
    if missing:
        raise RunError(f"{directory / 'spec.json'}: has no {', '.join(missing)}.")
    path = directory / "result.json"
    result = _json(path) if path.is_file() else None
    if result is not None:
        _check(path, result, spec)
    env = directory / "env.json"
    return Run(
        directory=directory,
        experiment=spec.get("experiment") or directory.name,
        digest=spec["digest"],
        spec={key: spec[key] for key in SECTIONS},
        derived=spec.get("derived", {}),
        result=result,
        metrics=tuple(_rows(directory / "metrics.jsonl")),
        timing=tuple(_rows(directory / "timing.jsonl")),
        env=tuple(_json(env)["sessions"]) if env.is_file() else (),
    )


def _check(path: Path, result: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
    if result.get("selected") not in SELECTED:
        raise RunError(
            f"{path}: selected is {result.get('selected')!r}: expected"
            f" {' or '.join(map(repr, SELECTED))}. A score chosen on the split that it is reported"
            " for is too good by an unknown amount, so it is not compared."
        )
    if result.get("digest", spec["digest"]) != spec["digest"]:
        raise RunError(
            f"{path}: is of run {result['digest'][:8]}, but spec.json beside it is of"
            f" {spec['digest'][:8]}: the files of two runs were mixed."
        )


def results(paths: "str | Path | Iterable[str | Path]") -> "pd.DataFrame":
    """One row per run: its spec with dots (`model.name`), cost, environment and scores.

    Lists in the spec are given as JSON text, so that columns can be grouped by. Unfinished runs
    have rows without scores.
    """
    import pandas as pd

    given = [paths] if isinstance(paths, str | Path) else paths
    return pd.DataFrame([row(read(directory)) for directory in find(given)])


def row(run: Run) -> dict[str, Any]:
    """The flat form of a run."""
    scores = {} if run.result is None else {k: v for k, v in run.result.items() if k != "digest"}
    return {
        "run": str(run.directory),
        "experiment": run.experiment,
        "digest": run.digest,
        "seed": run.seed,
        "finished": run.result is not None,
        "step": run.step,
        "steps": run.steps,
        **flatten(run.spec),
        **{f"cost.{key}": value for key, value in flatten(run.cost).items()},
        "images_per_s": run.images_per_s,
        "seconds": run.seconds,
        "device": run.device,
        "commit": ", ".join(run.commits),
        **{key: scores.get(key) for key in ("split", "top1", "top5", "loss", "n", "selected")},
    }


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"model": {"depth": 20}} -> {"model.depth": 20}; a list becomes its JSON text."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = json.dumps(value) if isinstance(value, list) else value
    return flat


def overview(folder: Path) -> list[dict[str, Any]]:
    """Experiment, digest, step, state and result of each run directory in `folder`, by name.

    `folder` may be a run directory itself. RunError where there is none.
    """
    if (folder / "spec.json").is_file():
        return [_line(folder)]
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder. Runs are written to runs/ unless --out says so.")
    found = sorted(path.parent for path in folder.glob("*/spec.json"))
    return [_line(directory) for directory in found]


def _line(directory: Path) -> dict[str, Any]:
    run = read(directory)
    line: dict[str, Any] = {
        "directory": str(directory),
        "experiment": run.experiment,
        "model": run.spec["model"]["name"],
        "digest": run.digest,
        "seed": run.seed,
        "steps": run.steps,
        "step": run.step,
    }
    if run.result is None:
        return line | {"state": "unfinished"}
    kept = ("split", "top1", "top5", "loss", "n")
    return line | {"state": "finished"} | {k: run.result[k] for k in kept if k in run.result}


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: cannot be read: {error}.") from None
    except json.JSONDecodeError as error:
        raise RunError(f"{path}:{error.lineno}: not JSON: {error.msg}.") from None
    if not isinstance(content, dict):
        raise RunError(f"{path}: expected an object, got {type(content).__name__}.")
    return content


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file; a last line that is still being written is left out."""
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    found = []
    for number, line in enumerate(lines, 1):
        if not line.endswith("\n"):
            continue
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise RunError(f"{path}:{number}: not JSON: {error.msg}.") from None
    return found
