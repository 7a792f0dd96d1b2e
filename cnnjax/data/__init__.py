"""Data: where it comes from, in which order, how it is augmented, how it reaches the device."""

from collections.abc import Callable

from cnnjax.data.augment import AUGMENTS, NORMALIZE, augment_batch, normalize, normalizer
from cnnjax.data.loaders import Batch, Batches, Resident, Streaming, fits
from cnnjax.data.order import eval_batches, indices, positions, steps_for_epochs
from cnnjax.data.shipped import digits, fashion_mnist_12k
from cnnjax.data.sources import ArraySplit, DataSet, Split, arrays, from_arrays

DATASETS: dict[str, Callable[..., DataSet]] = {
    "fashion_mnist_12k": fashion_mnist_12k,
    "digits": digits,
    "arrays": arrays,
}

__all__ = [
    "AUGMENTS",
    "DATASETS",
    "NORMALIZE",
    "ArraySplit",
    "Batch",
    "Batches",
    "DataSet",
    "Resident",
    "Split",
    "Streaming",
    "arrays",
    "augment_batch",
    "digits",
    "eval_batches",
    "fashion_mnist_12k",
    "fits",
    "from_arrays",
    "indices",
    "normalize",
    "normalizer",
    "positions",
    "steps_for_epochs",
]
