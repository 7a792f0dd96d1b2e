"""An ablation from its file to its runs: plan, write the record, train what is missing."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax import atomic, spec
from cnnjax.errors import RunError, SpecError, did_you_mean
from cnnjax.spec import Spec, differences
from cnnjax.study import commands, pool, shares
from cnnjax.study import slurm as slurm_jobs
from cnnjax.study.arms import Arm
from cnnjax.study.plan import Plan, planned
from cnnjax.study.progress import Silent, Terminal
from cnnjax.study.record import Cell, Study

Source = str | Path | Mapping[str, Any] | Spec | spec.Source
LAUNCHERS = ("pool", "slurm", "print")


def ablate(
    source: Source,
    *,
    out: str | Path | None = None,
    set: Iterable[str] = (),
    seeds: int | None = None,
    launcher: str = "pool",
    processes: int | None = None,
    retry: bool = False,
    progress: bool | None = None,
    data_dir: str | Path | None = None,
    slurm: Sequence[str] = (),
) -> Study:
    """Run every arm of an experiment's `ablation` with every seed, and return the study.

    A study directory in place of an experiment goes on as it stands. What is finished is skipped,
    what was stopped goes on, what is broken is tried again with `retry`. `out` is the study
    directory, by default studies/<experiment>-<8 digits>. `processes` run at once.
    `launcher="slurm"` submits a job array with `slurm` as further options of sbatch; "print" prints
    the commands; neither waits for the runs. Raises SpecError and DataError before anything runs,
    RunError where a run failed, once all others are done.
    """
    if launcher not in LAUNCHERS:
        hint = did_you_mean(launcher, LAUNCHERS, label="Launchers")
        raise SpecError(f"launcher: unknown name {launcher!r}. {hint}")
    study = prepare(source, out=out, set=set, seeds=seeds, data_dir=data_dir)
    if launcher == "print":
        print("\n".join(commands.lines(study, left(study, retry)[1])))
        return study
    if launcher == "slurm":
        slurm_jobs.submit(study, left(study, retry)[1], slurm)
        return study
    return finish(study, processes=processes, retry=retry, progress=progress)


def finish(
    study: Study,
    *,
    processes: int | None = None,
    retry: bool = False,
    progress: bool | None = None,
) -> Study:
    """Train what of a study is not finished, here and now.

    Raises RunError where a run failed or has failed before, once all others are done.
    """
    broken, todo = left(study, retry)
    shown = sys.stderr.isatty() if progress is None else progress
    reporter = Terminal() if shown else Silent()
    reporter.begin(study, len(todo))
    failed = pool.run(study, todo, shares.shares(processes, len(study.runs)), reporter)
    if unfinished := [*([] if retry else broken), *failed]:
        raise RunError(_failed(study, unfinished, failed))
    return study


def left(study: Study, retry: bool = False) -> tuple[list[Cell], list[Cell]]:
    """The runs that are broken, and those to be started: with `retry`, the broken ones too."""
    states = study.states()
    broken = [c for c, state in states.items() if state == "broken"]
    return broken, [c for c, s in states.items() if s != "finished" and (retry or s != "broken")]


def prepare(
    source: Source,
    *,
    out: str | Path | None = None,
    set: Iterable[str] = (),
    seeds: int | None = None,
    data_dir: str | Path | None = None,
) -> Study:
    """Check every arm and write the study's record and experiment files; nothing is trained.

    A study directory is taken as it stands. Raises RunError where `out` holds another study.
    """
    changed = [*set] or seeds is not None or out is not None or data_dir is not None
    if isinstance(source, str | Path) and (Path(source) / "study.json").is_file() and not changed:
        return Study.read(source)
    study, files = planned_study(source, out=out, set=set, seeds=seeds, data_dir=data_dir)
    study.write()
    for cell in study.runs:
        path = study.spec_path(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != files[cell.short]:
            atomic.write(path, files[cell.short])
    return study


def planned_study(
    source: Source,
    *,
    out: str | Path | None = None,
    set: Iterable[str] = (),
    seeds: int | None = None,
    data_dir: str | Path | None = None,
) -> tuple[Study, dict[str, str]]:
    """The record of a study that is not written yet, and the experiment file of each run.

    Raises RunError where `out` holds another study.
    """
    where = [f"dataset.data_dir={str(data_dir)!r}"] if data_dir is not None else []
    plan = planned(source, overrides=[*set, *where], seeds=seeds)
    study = study_of(plan, out)
    _same_study(study)
    return study, plan["files"]


def study_of(plan: Plan, out: str | Path | None = None) -> Study:
    """The record of a plan, not yet written."""
    directory = Path(out or f"studies/{plan['experiment']}-{plan['digest'][:8]}")
    return Study(
        directory=directory,
        experiment=plan["experiment"],
        ablation=plan["ablation"],
        base=plan["base"],
        arms=tuple(Arm.of(a) for a in plan["arms"]),
        runs=tuple(Cell(**c) for c in plan["runs"]),
        spec=plan["spec"],
        digest=plan["digest"],
    )


def _same_study(study: Study) -> None:
    """Refuse a directory that holds something else."""
    directory = study.directory
    if not (directory / "study.json").exists():
        if directory.is_dir() and any(directory.iterdir()):
            raise RunError(
                f"{directory}: is not empty and holds no study.json, so it is no study."
                " Give a new one with --out DIR."
            )
        return
    found = Study.read(directory)
    if found.digest == study.digest:
        return
    kinds = {k: (found.ablation.get(k), study.ablation.get(k)) for k in ("mode", "match")}
    rows = [(f"ablation.{k}", a, b) for k, (a, b) in kinds.items() if a != b]
    rows += differences(found.spec, study.spec)
    lines = [f"  {path}\n    - {there!r}\n    + {here!r}" for path, there, here in rows]
    raise RunError(
        f"{directory}: holds another study. They differ in (- there, + asked for):\n"
        + "\n".join(lines)
        + "\nGive another directory with --out DIR."
    )


def _failed(study: Study, left: Sequence[Cell], now: Sequence[Cell]) -> str:
    """Which runs are broken, with the last line that each has printed."""
    lines = []
    for cell in left:
        path = study.log_path(cell)
        said = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
        lines.append(f"  {cell.name}: {said[-1] if said else 'said nothing'}\n    log: {path}")
    again = "" if now else " They failed before and were left alone."
    return (
        f"{study.directory}: {len(left)} of {len(study.runs)} runs failed.{again}\n"
        + "\n".join(lines)
        + "\nTry them again with --retry."
    )
