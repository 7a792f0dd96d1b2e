"""From a split to batches: resident on the device when small, streamed through Grain when not.

Both give batch i the examples at positions [i * B, (i + 1) * B) of the same stream (`order`), so
which one runs changes the speed and nothing else.
"""

import contextlib
import ctypes
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, Int64, Shaped

from cnnjax.data import order
from cnnjax.data.decoded import read_whole
from cnnjax.data.sources import DataSet, Split

RESIDENT_LIMIT = 2**30
"""Bytes up to which a split is kept whole on the device: 1 GiB holds CIFAR (150 MB) six times."""


def fits(split: Split, limit: int = RESIDENT_LIMIT) -> bool:
    """Whether `split` may be kept whole in memory and on the device."""
    return split.nbytes <= limit


def read_ahead(dataset: DataSet) -> list[str]:
    """Decode the default splits that fit, so that the cache has them; which these were."""
    whole = {text: dataset.split(text) for text in dataset.default_splits.values()}
    small = {text: split for text, split in whole.items() if fits(split)}
    for split in small.values():
        read_whole(split)
    return list(small)


@dataclass(frozen=True, eq=False)
class Resident:
    """A whole split as arrays, to be put on the device once, and which rows each step takes."""

    images: Shaped[np.ndarray, "n ..."]
    labels: Int32[np.ndarray, " n"]
    seed: int
    batch_size: int

    @classmethod
    def read(cls, split: Split, *, seed: int, batch_size: int) -> "Resident":
        """Read the split into memory; a prepared one is decoded once and kept in the cache."""
        return cls(*read_whole(split), seed, batch_size)

    def __len__(self) -> int:
        return len(self.labels)

    def indices(self, step: int, count: int = 1) -> Int32[np.ndarray, "count b"]:
        """The rows that steps `step` to `step + count - 1` take, one line per step."""
        start, stop = step * self.batch_size, (step + count) * self.batch_size
        rows = order.indices(self.seed, len(self), start, stop)
        return rows.astype(np.int32).reshape(count, self.batch_size)


class Batch(NamedTuple):
    """This process's rows of one global batch."""

    positions: Int64[np.ndarray, " b"]
    images: Shaped[np.ndarray, "b ..."]
    labels: Int32[np.ndarray, " b"]


@dataclass(frozen=True, eq=False)
class Batches:
    """Random access to batches: item i is this process's contiguous rows of global batch i."""

    split: Split
    seed: int
    batch_size: int
    process_index: int = 0
    process_count: int = 1
    stop: int = sys.maxsize // 2**20
    """Number of steps there are; the default is as good as endless."""

    def __post_init__(self) -> None:
        if self.batch_size % self.process_count:
            raise ValueError(
                f"a batch of {self.batch_size} does not divide among {self.process_count} processes"
            )

    def __len__(self) -> int:
        return self.stop

    def __getitem__(self, step: int) -> Batch:
        share = self.batch_size // self.process_count
        start = int(step) * self.batch_size + self.process_index * share
        rows = order.indices(self.seed, len(self.split), start, start + share)
        images, labels = self.split.gather(rows)
        return Batch(np.arange(start, start + share, dtype=np.int64), images, labels)


class Streaming:
    """Batches from `start` on through Grain, read ahead by threads and, if asked, worker processes.

    State is the step alone: a new `Streaming` from step k continues where another stood at k, with
    any number of threads, workers or processes. JPEG decoding releases the interpreter's lock, so
    threads do on a few cores; each worker process costs some 250 MB and a second to start. Close
    it, or use it in a `with` statement.
    """

    def __init__(
        self,
        batches: Batches,
        *,
        start: int = 0,
        threads: int = 2,
        workers: int = 0,
        ahead: int = 4,
    ) -> None:
        import grain  # half a second, wanted only by sets that do not fit on the device

        dataset = grain.MapDataset.source(batches)
        dataset = dataset[start:] if start else dataset
        read = grain.ReadOptions(
            num_threads=threads, prefetch_buffer_size=max(ahead, threads) if threads else 0
        )
        stream = dataset.to_iter_dataset(read)
        if workers:
            _mark_flags_parsed()
            options = grain.MultiprocessingOptions(num_workers=workers)
            stream = stream.mp_prefetch(options, worker_init_fn=_start_worker)
        self._iterator: Any = iter(stream)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

    def close(self) -> None:
        """Stop the threads and worker processes; safe to call twice."""
        self._iterator.close()

    def __enter__(self) -> "Streaming":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _mark_flags_parsed() -> None:
    """Grain's workers read absl flags, which only `absl.app.run` parses."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _start_worker(index: int, count: int) -> None:
    """In a worker: die with the parent, and leave stopping to it.

    Without the first, workers outlive a killed parent for ever; without the second, a signal to the
    whole process group kills them before the parent has written its checkpoint.
    """
    if sys.platform == "linux":
        set_parent_death_signal = 1
        with contextlib.suppress(OSError):
            ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
