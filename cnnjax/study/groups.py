"""Runs as arms: what a study says its arms are, or runs alike in all but the seed."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnnjax.errors import RunError
from cnnjax.spec import NOT_IN_DIGEST
from cnnjax.study.arms import Matched
from cnnjax.study.record import Study
from cnnjax.study.runs import SECTIONS, Run, flatten, places, read

# An arm named by more differences than these is named after its experiment instead.
SHORT = 3


@dataclass(frozen=True)
class Group:
    """An arm and its runs by seed: the finished ones, one per seed, and those that do not count.

    `waiting` are run directories without a result, whether begun or not. `source` is the study
    directory, None for runs that were given by themselves.
    """

    name: str
    runs: tuple[Run, ...]
    waiting: tuple[Path, ...] = ()
    source: Path | None = None
    matched: Matched | None = None

    @property
    def sample(self) -> Run | None:
        """A run that speaks for all in what does not depend on the seed."""
        return self.runs[0] if self.runs else None


@dataclass(frozen=True)
class Grouped:
    """Arms in the order given, the base's name, and what a reader should know about them."""

    arms: tuple[Group, ...]
    base: str
    notes: tuple[str, ...]


def group(paths: Iterable[str | Path]) -> Grouped:
    """The arms that the runs and studies at `paths` make up. RunError where there is no run.

    Arms of the same spec from two places are one; a run that is found twice counts once.
    """
    roots = [root for path in paths for root in places(Path(path))]
    roots = list({root.resolve(): root for root in roots}.values())
    studies = [Study.read(root) for root in roots if (root / "study.json").is_file()]
    known = {study.directory for study in studies}
    known |= {study.path(cell).resolve() for study in studies for cell in study.runs}
    plain = [read(root) for root in roots if not {root, root.resolve()} & known]
    arms: list[Group] = []
    bases = []
    for study in studies:
        base, of_study = _of_study(study, prefix=len(studies) > 1)
        bases.append(base)
        for arm in of_study:
            _merge(arms, arm)
    for arm in _of_plain(plain):
        _merge(arms, arm)
    if not arms:
        raise RunError("no runs to compare: give run directories, studies or folders of them.")
    notes: list[str] = []
    unique = tuple(_one_per_seed(arm, notes) for arm in _distinct(arms))
    return Grouped(unique, bases[0] if bases else unique[0].name, tuple(notes))


def alike(run: Run) -> str:
    """What two runs of one arm have in common: the spec without seed, paths and cadences."""
    skip = {k: set(v) for k, v in NOT_IN_DIGEST.items()}
    skip["schedule"].add("seed")
    kept = {
        part: {k: v for k, v in run.spec[part].items() if k not in skip.get(part, ())}
        for part in SECTIONS
    }
    return json.dumps(kept, sort_keys=True)


def _of_study(study: Study, *, prefix: bool) -> tuple[str, list[Group]]:
    """Base name and arms as study.json has them; names begin with the study's if there are more."""
    label = f"{study.experiment}: " if prefix else ""
    runs: dict[str, list[Run]] = {arm.name: [] for arm in study.arms}
    waiting: dict[str, list[Path]] = {name: [] for name in runs}
    for cell in study.runs:
        if cell.arm not in runs:
            raise RunError(f"{study.directory}: a run is of arm {cell.arm!r}, which is not listed.")
        directory = study.path(cell)
        run = read(directory) if (directory / "spec.json").is_file() else None
        if run is not None and run.result is not None:
            runs[cell.arm].append(run)
        else:
            waiting[cell.arm].append(directory)
    if study.base not in runs:
        raise RunError(f"{study.directory}: the base {study.base!r} is not among its arms.")
    groups = [
        Group(label + arm.name, tuple(runs[arm.name]), tuple(waiting[arm.name]), study.directory,
              arm.matched)
        for arm in study.arms
    ]  # fmt: skip
    return label + study.base, groups


def _of_plain(found: list[Run]) -> list[Group]:
    """Runs that differ only in the seed are one arm; arms are named by what differs."""
    by_spec: dict[str, list[Run]] = {}
    for run in found:
        by_spec.setdefault(alike(run), []).append(run)
    names = _names([runs[0] for runs in by_spec.values()])
    return [
        Group(
            name,
            tuple(r for r in runs if r.result is not None),
            tuple(r.directory for r in runs if r.result is None),
        )
        for name, runs in zip(names, by_spec.values(), strict=True)
    ]


def _names(samples: list[Run]) -> list[str]:
    """Short names that tell the samples apart: by experiment, or by the values that differ."""
    experiments = [run.experiment for run in samples]
    if len(set(experiments)) == len(samples):
        return experiments
    flat = [flatten(json.loads(alike(run))) for run in samples]
    paths = sorted({path for f in flat for path in f})
    varied = [p for p in paths if len({json.dumps(f.get(p)) for f in flat}) > 1]
    # An option that only some of the models have is told by the model's name.
    shared = [p for p in varied if all(p in f for f in flat)] or varied
    if len(shared) <= SHORT:
        leaves = [p.rpartition(".")[2] for p in shared]
        short = {p: leaf if leaves.count(leaf) == 1 else p for p, leaf in zip(shared, leaves)}  # noqa: B905
        names = [", ".join(f"{short[p]}={_literal(f[p])}" for p in shared) for f in flat]
        if len(set(names)) == len(names):
            return names
    return [
        f"{run.experiment} {run.digest[:8]}" if experiments.count(run.experiment) > 1
        else run.experiment
        for run in samples
    ]  # fmt: skip


def _literal(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _merge(arms: list[Group], new: Group) -> None:
    """Add `new`, to an arm of the same spec if another place gave one."""
    for i, arm in enumerate(arms):
        both = arm.sample, new.sample
        if arm.source != new.source and both[0] and both[1] and alike(both[0]) == alike(both[1]):
            arms[i] = replace(arm, runs=arm.runs + new.runs, waiting=arm.waiting + new.waiting)
            return
    arms.append(new)


def _distinct(arms: list[Group]) -> list[Group]:
    """No name twice."""
    seen: dict[str, int] = {}
    found = []
    for arm in arms:
        seen[arm.name] = seen.get(arm.name, 0) + 1
        again = f" ({seen[arm.name]})" if seen[arm.name] > 1 else ""
        found.append(replace(arm, name=arm.name + again))
    return found


def _one_per_seed(arm: Group, notes: list[str]) -> Group:
    """A seed counts once: a copy, or a second run of the same digest, adds no evidence."""
    kept: dict[int, Run] = {}
    for run in arm.runs:
        first = kept.setdefault(run.seed, run)
        if first is run:
            continue
        same = first.result == run.result
        what = "the same result" if same else "ANOTHER result"
        notes.append(
            f"{arm.name}: seed {run.seed} is there twice, {first.directory} and {run.directory},"
            f" with {what}; the first is counted."
        )
    return replace(arm, runs=tuple(kept[seed] for seed in sorted(kept)))
