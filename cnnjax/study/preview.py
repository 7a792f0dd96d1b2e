"""A dry run: the arms, what they cost, and how long the study would take, from a short real run."""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnjax.errors import RunError
from cnnjax.study.ablate import Source, planned_study
from cnnjax.study.arms import Arm
from cnnjax.study.pool import WORKER
from cnnjax.study.record import Cell, Study
from cnnjax.study.shares import Share, shares

SECONDS = 90.0
"""The short run is stopped after this long, whatever it has seen."""
EVALUATIONS = 2
"""The first one compiles, the second is measured."""
SHORT = 200
"""Steps of the short run where a row of the log of the whole one would be long in coming."""
SLOW = 1e10
"""Multiply-adds a second that a process surely does: decides whether a row is long in coming."""


@dataclass(frozen=True)
class Measured:
    """What a short run of the base showed: seconds before the first step, those of them that went
    into compiling, of an image, of an evaluation after the first, and of everything else."""

    ready: float
    compiling: float
    image: float
    evaluation: float
    rest: float
    steps: int


def preview(
    source: Source,
    *,
    out: str | Path | None = None,
    set: Iterable[str] = (),
    seeds: int | None = None,
    processes: int | None = None,
    data_dir: str | Path | None = None,
    measure: bool = True,
) -> dict[str, Any]:
    """What `ablate` would do, as plain values: nothing is written outside a temporary directory.

    `seconds` of each arm are for one run: the base's, measured on a few of its own training steps,
    with the time of its steps scaled by the arms' multiply-adds.
    """
    study, files = planned_study(source, out=out, set=set, seeds=seeds, data_dir=data_dir)
    slots = shares(processes, len(study.runs))
    states = study.states()
    todo = [c for c in study.runs if states[c] != "finished"]
    answer = {**study.overview(), "processes": len(slots), "todo": len(todo), "estimate": None}
    if not measure or not todo:
        return answer
    base = next(c for c in study.runs if c.arm == study.base)
    found = measured(json.loads(files[base.short]), study.arm(study.base), slots[0])
    each = {a.name: _seconds(a, study, base, files, found) for a in study.arms}
    # The seeds of an arm compile once.
    again = len(todo) - len({c.arm for c in todo})
    total = (sum(each[c.arm] for c in todo) - again * found.compiling) / len(slots)
    arms = [{**row, "seconds": each[row["name"]]} for row in answer["arms"]]
    how = (
        f"{found.steps} training steps of '{study.base}' in a process like those of the study;"
        " the other arms' steps scaled by their multiply-adds"
    )
    return {**answer, "arms": arms, "estimate": {"seconds": total, "from": how}}


def _seconds(
    arm: Arm, study: Study, base: Cell, files: Mapping[str, str], found: Measured
) -> float:
    """One run of `arm`, from the start of its process to its end."""
    cell = next(c for c in study.runs if c.arm == arm.name)
    content = json.loads(files[cell.short])
    ratio = (arm.macs or 1) / (study.arm(base.arm).macs or 1)
    steps, schedule = arm.steps or 0, content["schedule"]
    per_epoch = content["derived"]["steps_per_epoch"]
    evaluations = -(-steps // (schedule["eval_every"] or per_epoch))
    images = steps * content["dataset"]["batch_size"]
    return (
        found.ready + found.rest + images * found.image * ratio
        + evaluations * found.evaluation * ratio
    )  # fmt: skip


def measured(content: dict[str, Any], arm: Arm, share: Share) -> Measured:
    """Start the run that a spec.json describes, watch its first steps, and stop it."""
    steps, batch = arm.steps or 1, content["dataset"]["batch_size"]
    row = min(100, max(1, steps // 200))
    schedule = content["schedule"]
    if 3 * row * batch * (arm.macs or 0) / SLOW > 10 and steps > SHORT:
        schedule |= {"epochs": None, "examples": None, "steps": SHORT}
        steps, row = SHORT, 1
    every = max(row, min(20, steps // 3))
    schedule |= {"eval_every": every, "checkpoint_every": steps}
    with tempfile.TemporaryDirectory(prefix="cnnjax-") as folder:
        return _watch(Path(folder), content, share, batch)


def _watch(folder: Path, content: Mapping[str, Any], share: Share, batch: int) -> Measured:
    spec, log = folder / "spec.json", folder / "log"
    spec.write_text(json.dumps(content))
    command = [sys.executable, "-m", "cnnjax", "train", str(spec), "--out", str(folder / "run")]
    cores = ",".join(map(str, share.cores))
    begin, ready = time.perf_counter(), None
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-I", str(WORKER), str(os.getpid()), cores, *command],
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            env=os.environ | share.environment(), process_group=0,
        )  # fmt: skip
    try:
        while process.poll() is None:
            rows = _rows(folder / "run" / "timing.jsonl")
            if ready is None and rows:
                ready = time.perf_counter() - begin
            seen = sum(r["event"].startswith("evaluate") for r in rows)
            late = time.perf_counter() - begin > SECONDS
            if seen >= EVALUATIONS or (late and any(r["event"] == "train" for r in rows)):
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        process.wait()
    finally:
        process.kill()
        process.wait()
    total = time.perf_counter() - begin
    rows = _rows(folder / "run" / "timing.jsonl")
    trained = [r for r in rows if r["event"] == "train"]
    if not trained or ready is None:
        said = log.read_text(errors="replace").strip().splitlines()
        raise RunError("the short run failed: " + (said[-1] if said else "it said nothing"))
    speed = statistics.median(r["images_per_s"] for r in (trained[1:] or trained))
    evaluations = [r["seconds"] for r in rows if r["event"].startswith("evaluate")]
    evaluation = evaluations[-1] if evaluations else 0.0
    steps = trained[-1]["step"]
    rest = max(0.0, total - ready - steps * batch / speed - evaluation * len(evaluations))
    compiling = sum(r["seconds"] for r in rows if r["event"] == "compile")
    return Measured(ready, compiling, 1 / speed, evaluation, rest, steps)


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(r) for r in path.read_text().splitlines(keepends=True) if r.endswith("\n")]
