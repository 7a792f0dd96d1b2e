"""Checkpoints: Orbax behind four verbs, with a digest that it lacks.

Orbax restores a file with a flipped byte without a word. So the SHA-256 of every file of a
committed step is written beside it, and a step is restored only if they all agree.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as keep

from cnnjax.errors import RunError
from cnnjax.training.state import State


class Checkpoints:
    """The checkpoints of one run directory: the newest, and the best on validation if asked for.

    `best` names the metric of `save(..., metrics)` that decides, largest first.
    """

    def __init__(self, directory: Path, *, best: str | None = None) -> None:
        self.directory = directory.absolute()
        self._digests = self.directory / "digests"
        self._pending: set[int] = set()
        policies: list[Any] = [keep.LatestN(2)]
        if best is not None:
            policies.append(
                keep.BestN(
                    get_metric_fn=lambda m: m[best], reverse=False, n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )  # fmt: skip
        options = ocp.CheckpointManagerOptions(
            # Orbax writes metrics only where best_fn is set, whatever the policy says.
            best_fn=None if best is None else (lambda m: m[best]),
            best_mode="max",
            preservation_policy=keep.AnyPreservationPolicy(policies),
            cleanup_tmp_directories=True,
        )
        self._digests.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(self.directory / "steps", options=options)

    def save(self, state: State, metrics: Mapping[str, float] | None = None) -> None:
        """Begin to write `state`; returns before it is on disk."""
        step = int(state.step)
        self.settle()
        if step in self._manager.all_steps():
            return
        self._manager.save(
            step,
            args=ocp.args.StandardSave(state),
            metrics=None if metrics is None else dict(metrics),
        )
        self._pending.add(step)

    def poll(self) -> None:
        """Seal what has been written meanwhile, without waiting for the rest."""
        if self._pending and not self._manager.is_saving_in_progress():
            self.settle()

    def restore(self, like: State, *, step: int | None = None) -> State | None:
        """The newest intact state, or that of `step`, placed as `like` is; None: there is none."""
        steps = sorted(self._manager.all_steps(), reverse=True) if step is None else [step]
        target = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), like
        )
        for candidate in steps:
            if not self._seal_path(candidate).exists():
                continue  # the process died before it could seal what it was writing
            if trouble := self._damage(candidate):
                warnings.warn(
                    f"{self.directory}: checkpoint {candidate} is left out: {trouble}", stacklevel=2
                )
                continue
            return self._manager.restore(candidate, args=ocp.args.StandardRestore(target))
        if step is not None:
            raise RunError(f"{self.directory}: checkpoint {step} cannot be restored.")
        return None

    def steps(self) -> list[int]:
        """The steps on disk, oldest first."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step whose metric was best."""
        return self._manager.best_step()

    def drop_after(self, step: int) -> None:
        """Forget damaged steps newer than the one that training goes on from."""
        for later in [s for s in self._manager.all_steps() if s > step]:
            self._manager.delete(later)
            self._seal_path(later).unlink(missing_ok=True)

    def close(self) -> None:
        """Settle, and stop Orbax's threads."""
        self.settle()
        self._manager.close()

    def settle(self) -> None:
        """Wait for what is being written, and seal it."""
        self._manager.wait_until_finished()
        if jax.process_index() == 0:
            kept = set(self._manager.all_steps())
            for step in self._pending & kept:
                write = self._seal_path(step).with_suffix(".tmp")
                write.write_text(json.dumps(_digests(self._step_path(step)), indent=0))
                write.replace(self._seal_path(step))
            for seal in self._digests.glob("*.json"):
                if int(seal.stem) not in kept:
                    seal.unlink()
        self._pending.clear()

    def _step_path(self, step: int) -> Path:
        return self.directory / "steps" / str(step)

    def _seal_path(self, step: int) -> Path:
        return self._digests / f"{step}.json"

    def _damage(self, step: int) -> str:
        """What is wrong with the files of `step`, or nothing."""
        try:
            sealed = json.loads(self._seal_path(step).read_text())
        except json.JSONDecodeError:
            return "its digest file is damaged"
        found = _digests(self._step_path(step))
        wrong = sorted(f for f in {*sealed, *found} if sealed.get(f) != found.get(f))
        return f"{wrong[0]} is not what was written" if wrong else ""


def _digests(directory: Path) -> dict[str, str]:
    files = sorted(p for p in directory.rglob("*") if p.is_file())
    return {
        str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
    }
