"""Data: where it comes from, in which order, how it is augmented, how it reaches the device."""

from collections.abc import Callable

from cnnjax.data.altered import AugmentedSplit
from cnnjax.data.augment import AUGMENTS, NORMALIZE, Augment, augment_batch, normalize, normalizer
from cnnjax.data.folder import folder
from cnnjax.data.loaders import Batch, Batches, Resident, Streaming, fits, read_ahead
from cnnjax.data.order import eval_batches, indices, positions
from cnnjax.data.shipped import digits, fashion_mnist_12k
from cnnjax.data.show import show
from cnnjax.data.sources import ArraySplit, DataSet, Split, arrays, from_arrays
from cnnjax.data.tfds import (
    cifar10,
    cifar100,
    fashion_mnist,
    imagenet2012,
    imagenette,
    kmnist,
    mnist,
    oxford_flowers102,
    svhn_cropped,
    tfds,
    tfds_dataset,
)

DATASETS: dict[str, Callable[..., DataSet]] = {
    "fashion_mnist_12k": fashion_mnist_12k,
    "digits": digits,
    "arrays": arrays,
    "folder": folder,
    "mnist": mnist,
    "kmnist": kmnist,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "svhn_cropped": svhn_cropped,
    "imagenette": imagenette,
    "oxford_flowers102": oxford_flowers102,
    "imagenet2012": imagenet2012,
    "tfds": tfds,
}

__all__ = [
    "AUGMENTS",
    "DATASETS",
    "NORMALIZE",
    "ArraySplit",
    "Augment",
    "AugmentedSplit",
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
    "read_ahead",
    "show",
    "tfds_dataset",
]
