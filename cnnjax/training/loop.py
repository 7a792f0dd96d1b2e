"""The one training loop: from a spec to a finished run directory, continued if it is there."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from cnnjax.data import DataSet
from cnnjax.errors import RunError, SpecError
from cnnjax.spec import Spec
from cnnjax.training.checkpoint import Checkpoints
from cnnjax.training.compiled import Parts
from cnnjax.training.evaluate import Evaluator
from cnnjax.training.experiment import resolve
from cnnjax.training.fitting import check_fit
from cnnjax.training.mesh import data_mesh
from cnnjax.training.outline import derived
from cnnjax.training.pictures import curves
from cnnjax.training.progress import Reporter, Silent
from cnnjax.training.runlog import RunLog, event_writer, read_rows
from cnnjax.training.step import rates


class Interrupted(RunError):
    """SIGTERM or SIGINT came; the state was saved and the run can be continued."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


def train(
    spec: Spec,
    *,
    out: Path,
    model: nn.Module | None = None,
    dataset: DataSet | None = None,
    devices: Sequence[jax.Device] | None = None,
    reporter: Reporter | None = None,
    tensorboard: bool = False,
    workers: int = 0,
) -> dict[str, Any] | None:
    """Train as `spec` says in directory `out`, or go on with what is there.

    Returns the variables that were reported, or None where the run was finished before. Raises
    SpecError and DataError for what cannot start, RunError for a directory of another run and for
    a loss that is not finite, Interrupted after SIGTERM or SIGINT.
    """
    experiment = resolve(spec, model=model, dataset=dataset)
    mesh = data_mesh(devices)
    if experiment.batch_size % mesh.devices.size:
        raise SpecError(
            f"{spec.where}: dataset.batch_size: {experiment.batch_size} does not divide over"
            f" {mesh.devices.size} devices."
        )
    parts = Parts.of(experiment, mesh)
    check_fit(parts)
    log = RunLog(out)
    begun = False
    if log.writes:
        begun = log.open(spec, derived(experiment))
    if jax.process_count() > 1:
        # The others look when process 0 has written, not while it does.
        multihost_utils.sync_global_devices("run directory")
        begun = log.open(spec, {})
    if begun and (out / "result.json").exists():
        return None
    log.environment(mesh=[str(d) for d in mesh.devices.flat])
    session = _Session(parts, log, reporter or Silent(), workers)
    session.events = event_writer(log) if tensorboard else None
    with _signals(session):
        try:
            variables = session.run()
        finally:
            session.close()
    if jax.process_count() > 1:
        # What process 0 has written is there for all before any of them returns.
        multihost_utils.sync_global_devices("end of run")
    return variables


class _Session:
    """One process's part in a run: what is open while it trains."""

    def __init__(self, parts: Parts, log: RunLog, reporter: Reporter, workers: int) -> None:
        self.parts, self.log, self.reporter = parts, log, reporter
        self.experiment = parts.experiment
        self.classes = parts.experiment.dataset.num_classes
        self.signal: int | None = None
        self.events: Any = None
        best = "top1" if "validation" in self.experiment.splits else None
        self.checkpoints = Checkpoints(log.directory / "checkpoints", best=best)
        state = parts.state()
        restored = self.checkpoints.restore(state)
        self.state = state if restored is None else restored
        self.step = int(self.state.step)
        self.checkpoints.drop_after(self.step)
        log.truncate(self.step)
        self.feed = parts.feed(self.step, workers)
        self._evaluators: dict[str, Evaluator] = {}
        self._late: list[tuple[int, Any]] = []
        # What a row needs of the device, asked for before the next steps, which overwrite it.
        self._row = jax.jit(lambda totals, step: (jax.tree.map(jnp.copy, totals), parts.rate(step)))
        self._clock = time.perf_counter()

    def close(self) -> None:
        """Stop what reads and writes in the background."""
        self.reporter.stop()
        self.feed.close()
        self.checkpoints.close()
        if self.events is not None:
            self.events.close()

    def run(self) -> dict[str, Any]:
        """Step from where the state stands to the end, then report."""
        x = self.experiment
        if self.step < x.steps:
            self._announce()
            inputs = self.feed.inputs(self.step)
            start = time.perf_counter()
            self._functions = self.parts.compile(self.feed, self.state, inputs)
            seconds = time.perf_counter() - start
            self.log.timing(event="compile", step=self.step, seconds=seconds)
            self.log.found(convolutions=self._functions[1].convolutions)
            self._clock = time.perf_counter()
            while self.step < x.steps:
                inputs = self._advance(inputs)
                if self._at(x.log_every):
                    self._flush(leave=1)
                if self._at(x.every("eval_every")) or self._at(x.every("checkpoint_every")):
                    self._round()
                if self._told_to_stop():
                    self._save_and_stop()
        return self._report()

    def _advance(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """One step, or a stretch that nothing has to look into; gives the inputs of the next."""
        x = self.experiment
        cadences = (x.log_every, x.every("eval_every"), x.every("checkpoint_every"))
        room = min(x.steps - self.step, *(c - self.step % c for c in cadences))
        length = max(k for k in self._functions if k <= room)
        self.state = self._functions[length](self.state, *inputs)
        self.step += length
        if self._at(x.log_every):
            self._late.append((self.step, self._row(self.state.totals, self.step - 1)))
        return self.feed.inputs(self.step) if self.step < x.steps else ()

    def _at(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.experiment.steps

    def _flush(self, *, leave: int = 0) -> None:
        """Write the training rows that are due, all but the newest `leave`.

        Fetching a row waits for its step; one row late, the device has the next steps to do.
        """
        while len(self._late) > leave:
            step, row = self._late.pop(0)
            totals, rate = jax.device_get(row)
            now = time.perf_counter()
            if (bad := int(totals.bad_step)) >= 0:
                raise RunError(self._not_finite(bad))
            row = rates(totals, self.classes)
            row["learning_rate"] = float(rate)
            self.log.metrics(step=step, split="train", **row)
            speed = row["n"] / (now - self._clock)
            self._clock = now
            self.log.timing(event="train", step=step, images_per_s=speed)
            self.reporter.train(step, row, speed)
            self._event(step, "train", row)
            self.checkpoints.poll()

    def _round(self) -> None:
        """Evaluate and save where their cadences say so; every row of this step comes first."""
        x = self.experiment
        self._flush()
        metrics = None
        watched = next((s for s in ("validation", "test") if s in x.splits), None)
        if watched is not None and self._at(x.every("eval_every")):
            row, _ = self._evaluate(watched, self.state.variables())
            self._record(watched, row)
            metrics = {"top1": row["top1"]} if watched == "validation" else None
        # A validated state is always saved, or the best one could be lost between two checkpoints.
        if metrics is not None or self._at(x.every("checkpoint_every")):
            self.checkpoints.save(self._finite_state(), metrics)
        self._clock = time.perf_counter()

    def _evaluate(self, split: str, variables: Any) -> tuple[dict[str, Any], np.ndarray]:
        if split not in self._evaluators:
            self._evaluators[split] = self.parts.evaluator(split)
        start = time.perf_counter()
        sums = self._evaluators[split](variables)
        seconds = time.perf_counter() - start
        self.log.timing(event=f"evaluate {split}", step=self.step, seconds=seconds)
        return rates(sums, self.classes), sums["confusion"]

    def _record(self, split: str, row: dict[str, Any]) -> None:
        self.log.metrics(step=self.step, split=split, **row)
        self.reporter.evaluated(self.step, split, row)
        self._event(self.step, split, row)

    def _report(self) -> dict[str, Any]:
        """Score the last step's network, or the one chosen on validation, and write the result."""
        x = self.experiment
        schedule = x.spec.schedule
        self.checkpoints.save(self._finite_state())
        self.checkpoints.settle()
        chosen, how = self.state, "last"
        if schedule["select"] == "best":
            how = "best on validation"
            best = self.checkpoints.restore(self.state, step=self.checkpoints.best_step())
            assert best is not None, "a validation score was saved with every evaluation"
            chosen = best
        variables = chosen.variables()
        split = next(s for s in ("test", "validation", "train") if s in x.splits)
        row, confusion = self._evaluate(split, variables)
        seen = [r["split"] for r in self._rows("metrics") if r["step"] == self.step]
        if how == "last" and split not in seen:
            self._record(split, row)
        for name in x.evaluations:
            if name not in seen:
                self._record(name, self._evaluate(name, variables)[0])
        speeds = [r["images_per_s"] for r in self._rows("timing") if r["event"] == "train"]
        if speeds:
            self.log.timing(event="end", step=self.step, images_per_s=float(np.median(speeds)))
        self.log.confusion(confusion, x.dataset.class_names)
        curves(self.log)
        weights = "last" if schedule["ema"] is None else "ema"
        self.log.result(
            {"split": split, **row, "step": int(chosen.step), "selected": how, "weights": weights,
             "seed": schedule["seed"], "digest": x.spec.digest}
        )  # fmt: skip
        return variables

    def _rows(self, name: str) -> list[dict[str, Any]]:
        return read_rows(self.log.directory / f"{name}.jsonl")

    def _told_to_stop(self) -> bool:
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(self.step):
            self.signal = signal.SIGTERM
        return self.signal is not None and self.step < self.experiment.steps

    def _save_and_stop(self) -> None:
        self._flush()
        self.checkpoints.save(self._finite_state())
        self.checkpoints.settle()
        number = signal.Signals(self.signal or signal.SIGTERM)
        raise Interrupted(
            f"{self.log.directory}: stopped by {number.name} at step {self.step} of"
            f" {self.experiment.steps}; the same command goes on from there.",
            number,
        )

    def _finite_state(self) -> Any:
        """The state, which is not to be saved if its loss was not finite."""
        if (bad := int(self.state.totals.bad_step)) >= 0:
            raise RunError(self._not_finite(bad))
        return self.state

    def _not_finite(self, bad: int) -> str:
        x = self.experiment
        good = [s for s in self.checkpoints.steps() if s < bad]
        first = (bad - 1) * x.batch_size
        last = f"Last good checkpoint: step {good[-1]}." if good else "No checkpoint before it."
        return (
            f"{self.log.directory}: the loss was not finite at step {bad}. {last}\n"
            f"Its batch: examples cnnjax.data.indices({x.spec.schedule['seed']},"
            f" {len(x.splits['train'])}, {first}, {first + x.batch_size}) of split"
            f" '{x.split_names['train']}'.\n"
            "Often the learning rate is too high, or wants a warm-up or clipping."
        )

    def _announce(self) -> None:
        x = self.experiment
        devices = self.parts.mesh.devices
        begin = f"from step {self.step} " if self.step else ""
        self.reporter.start(
            self.step, x.steps,
            f"{x.spec.name}: {begin}to step {x.steps} (batch {x.batch_size},"
            f" {len(x.splits['train'])} examples) on {devices.size} x"
            f" {devices.flat[0].device_kind}, in {self.log.directory}",
        )  # fmt: skip

    def _event(self, step: int, split: str, row: dict[str, Any]) -> None:
        if self.events is not None:
            for key, value in row.items():
                if key != "n":
                    self.events.add_scalar(f"{split}/{key}", value, step)


@contextmanager
def _signals(session: _Session) -> Iterator[None]:
    """SIGTERM and SIGINT end the run after the step in hand, with a checkpoint.

    In a job of several processes JAX's notifier must have SIGTERM, so that all stop at one step.
    """
    if threading.current_thread() is not threading.main_thread() or jax.process_count() > 1:
        yield
        return

    def note(number: int, _: Any) -> None:
        session.signal = number

    before = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
