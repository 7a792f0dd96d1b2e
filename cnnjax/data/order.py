"""The order of examples: a pure function of (seed, global position).

Training reads an endless stream: the permutation of epoch 0, then that of epoch 1, and so on. Batch
i takes positions [i * B, (i + 1) * B) of it, across the ends of epochs, so no example is ever
dropped and a run resumes from its step number alone, with any number of processes, workers or
devices.
"""

import functools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int64


@functools.lru_cache(maxsize=4)
def permutation(seed: int, n: int, epoch: int) -> Int64[np.ndarray, " n"]:
    """The order of epoch `epoch`: counter-based Philox keyed by (seed, epoch), read-only."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64)))
    order = generator.permutation(n)
    order.setflags(write=False)
    return order


def indices(seed: int, n: int, start: int, stop: int) -> Int64[np.ndarray, " k"]:
    """Example indices at positions [start, stop) of the endless stream over `n` examples."""
    if n < 1 or not 0 <= start <= stop:
        raise ValueError(f"positions [{start}, {stop}) of a stream over {n} examples do not exist")
    parts = []
    while start < stop:
        epoch, offset = divmod(start, n)
        take = min(stop - start, n - offset)
        parts.append(permutation(seed, n, epoch)[offset : offset + take])
        start += take
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def positions(step: int, batch_size: int, count: int = 1) -> Int64[np.ndarray, " k"]:
    """The global positions of batches `step` to `step + count - 1`."""
    return np.arange(step * batch_size, (step + count) * batch_size, dtype=np.int64)


def eval_batches(
    n: int, batch_size: int
) -> Iterator[tuple[Int64[np.ndarray, " b"], Bool[np.ndarray, " b"]]]:
    """Every index of [0, n) exactly once, in batches of one size: (indices, is a real example).

    The last batch is filled up with index 0 and masked, so one compiled function serves all of
    them.
    """
    for start in range(0, n, batch_size):
        batch = np.arange(start, start + batch_size, dtype=np.int64)
        real = batch < n
        yield np.where(real, batch, 0), real
