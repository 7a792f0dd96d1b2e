"""Evaluation: every example exactly once, whatever the batch and the number of devices."""

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from cnnjax import data
from cnnjax.data import Split
from cnnjax.training.mesh import replicated, split_rows
from cnnjax.training.onednn import compiled_for_many
from cnnjax.training.step import eval_step, gathered

Evaluator = Callable[[Any], dict[str, Any]]
LARGEST_BATCH = 1_000
AHEAD = 1  # batches given to the device before the sums of an earlier one are read


def evaluator(split: Split, mesh: Mesh, *, onednn: bool, **parts: Any) -> Evaluator:
    """A function of variables: summed loss, hits, count and confusion over the whole split.

    A split that fits is put on the device once, here. `parts` are `eval_step`'s keywords. Every
    batch is of one shape, so the first call compiles for all.
    """
    devices = mesh.devices.size
    batch = -(-min(LARGEST_BATCH, len(split)) // devices) * devices
    rows, whole = split_rows(mesh), replicated(mesh)
    step: Callable[..., Any] = partial(eval_step, **parts)
    if data.fits(split):
        held = data.Resident.read(split, seed=0, batch_size=batch)
        resident = jax.device_put((held.images, held.labels), whole)
        shardings: tuple[Any, ...] = (whole, rows, rows)

        def run(shared: Any, *batch: Any) -> Any:
            (variables, images, labels), (index, real) = shared, batch
            return step(variables, *gathered(images, labels, index), real)

        def inputs(index: np.ndarray, real: np.ndarray) -> tuple[Any, ...]:
            return _place((index.astype(np.int32), real), rows)
    else:
        resident, shardings = (), (whole, rows, rows, rows)

        def run(shared: Any, *batch: Any) -> Any:
            return step(*shared, *batch)

        def inputs(index: np.ndarray, real: np.ndarray) -> tuple[Any, ...]:
            share = _own_rows(len(index))
            return _place((*split.gather(index[share]), real[share]), rows, local=True)

    programs: list[Callable[[Any], Callable[..., Any]]] = []

    def evaluate(variables: Any) -> dict[str, Any]:
        # Summed on the host in float64: 60,000 float32 losses would lose digits.
        total: dict[str, Any] = {}
        # They may come from a run on other devices; a compiled program does not move them.
        shared = (jax.device_put(variables, whole), *resident)
        waiting: deque[Mapping[str, Any]] = deque()
        of_batch: Callable[..., Any] | None = None

        def add(sums: Mapping[str, Any]) -> None:
            for key, value in sums.items():
                total[key] = total.get(key, 0) + np.asarray(value, _WIDE[key])

        for taken in data.eval_batches(len(split), batch):
            given = inputs(*taken)
            if not programs:
                programs.append(
                    compiled_for_many(
                        run, shared, *given, onednn=onednn,
                        in_shardings=shardings, out_shardings=whole,
                    )
                )  # fmt: skip
            of_batch = of_batch or programs[0](shared)
            waiting.append(of_batch(*given))
            if len(waiting) > AHEAD:
                add(waiting.popleft())
        for sums in waiting:
            add(sums)
        return total

    return evaluate


_WIDE: Mapping[str, Any] = {
    "loss": np.float64, "top1": np.int64, "top5": np.int64, "n": np.int64, "confusion": np.int64
}  # fmt: skip


def _own_rows(n: int) -> slice:
    share = n // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def _place(
    arrays: tuple[np.ndarray, ...], sharding: Any, *, local: bool = False
) -> tuple[Any, ...]:
    """Put host arrays on the mesh; `local` ones are this process's rows only."""
    if local:
        return tuple(jax.make_array_from_process_local_data(sharding, a) for a in arrays)
    return tuple(jax.make_array_from_callback(a.shape, sharding, a.__getitem__) for a in arrays)
