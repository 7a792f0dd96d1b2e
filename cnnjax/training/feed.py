"""From a split to the compiled step: batches gathered on the device, or streamed to it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from cnnjax import data
from cnnjax.data import Split
from cnnjax.training.mesh import replicated, split_rows
from cnnjax.training.state import State
from cnnjax.training.step import gathered

Step = Callable[[State, Array, Array, Array], State]
AHEAD = 2
"""Batches put on the device before they are needed."""


class ResidentFeed:
    """The whole split on the device as it is stored; the step gathers its own batch.

    What crosses to the device is the order of `block` steps at a time, so that a step of a small
    network is not held up by a transfer of its own.
    """

    def __init__(self, split: Split, mesh: Mesh, *, seed: int, batch_size: int, block: int) -> None:
        held = data.Resident.read(split, seed=seed, batch_size=batch_size)
        self._order, self._block, self._batch = held, block, batch_size
        self._mesh = mesh
        self._arrays = jax.device_put((held.images, held.labels), replicated(mesh))
        self._first = -1
        self._rows: Any = None

    def lift(self, step: Step) -> Callable[..., State]:
        """`step` on a batch, as a function of (state, *inputs)."""
        rows = split_rows(self._mesh)

        def run(state: State, images: Array, labels: Array, order: Array, first: Array) -> State:
            index = jax.lax.dynamic_index_in_dim(order, state.step - first, keepdims=False)
            index = jax.lax.with_sharding_constraint(index, rows)
            positions = _positions(state.step, self._batch)
            return step(state, *gathered(images, labels, index), positions)

        return run

    def inputs(self, step: int) -> tuple[Any, ...]:
        """The arguments of the lifted step, from `step` to the end of its block."""
        first = step - step % self._block
        if first != self._first:
            order = self._order.indices(first, self._block)
            whole = replicated(self._mesh)
            place = jax.device_put((order, np.int32(first)), whole)
            self._first, self._rows = first, place
        return (*self._arrays, *self._rows)

    def close(self) -> None:
        """Nothing to stop."""


class StreamingFeed:
    """Batches read ahead by Grain and put on the device before their step."""

    def __init__(
        self, split: Split, mesh: Mesh, *, seed: int, batch_size: int, start: int, workers: int
    ) -> None:
        batches = data.Batches(
            split, seed, batch_size, jax.process_index(), jax.process_count()
        )  # fmt: skip
        self._stack = ExitStack()
        stream = self._stack.enter_context(data.Streaming(batches, start=start, workers=workers))
        self._rows = split_rows(mesh)
        self._batch = batch_size
        self._ahead = self._placed(iter(stream))
        self._waiting = [next(self._ahead) for _ in range(AHEAD)]

    def lift(self, step: Step) -> Callable[..., State]:
        """`step` on a batch, as a function of (state, *inputs)."""

        def run(state: State, images: Array, labels: Array) -> State:
            return step(state, images, labels, _positions(state.step, self._batch))

        return run

    def inputs(self, step: int) -> tuple[Any, ...]:
        """The next batch; called once per step, in order."""
        self._waiting.append(next(self._ahead))
        return self._waiting.pop(0)

    def _placed(self, stream: Iterator[data.Batch]) -> Iterator[tuple[Any, ...]]:
        for batch in stream:
            yield tuple(
                jax.make_array_from_process_local_data(self._rows, a)
                for a in (batch.images, batch.labels)
            )

    def close(self) -> None:
        """Stop the reading threads and processes."""
        self._stack.close()


Feed = ResidentFeed | StreamingFeed


def _positions(step: Array, batch_size: int) -> Array:
    """Where in the endless stream the examples of `step` stand, modulo 2**32."""
    first = step.astype(jnp.uint32) * jnp.uint32(batch_size)
    return first + jnp.arange(batch_size, dtype=jnp.uint32)
