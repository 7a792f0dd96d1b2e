"""The two sets that come with the package: no network, no preparation, the same interface."""

import functools
import gzip
import lzma
from importlib import resources
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cnnjax.data.sources import ArraySplit, DataSet, in_memory

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
PER_CLASS = {"train": 1_000, "test": 200}
DIGITS_TRAIN = 1_437


def fashion_mnist_12k(data_dir: str | None = None) -> DataSet:
    """The first 1,000 training and 200 test images of each class of Fashion-MNIST, in file order.

    Xiao, Rasul and Vollgraf 2017 (arXiv:1708.07747). 10,000 and 2,000 images of 28x28, bit for bit
    the originals; 4.5 MB in the package. `data_dir` is not used.
    """
    return in_memory(
        "fashion_mnist_12k", _fashion(), FASHION_CLASSES, {"train": "train", "test": "test"}
    )


def digits(data_dir: str | None = None) -> DataSet:
    """The 1,797 8x8 digits of optdigits' test file (Alpaydin and Kaynak 1998), for quick tests.

    Counts 0..16 become 0..255 (rounded). Train is the first 1,437 rows and test the last 360, in
    file order, which is by writer: most writers in test were never seen. `data_dir` is not used.
    """
    return in_memory(
        "digits", _digits(), tuple(str(i) for i in range(10)), {"train": "train", "test": "test"}
    )


@functools.cache
def _fashion() -> dict[str, ArraySplit]:
    content = lzma.decompress(_bundled("fashion_mnist_12k.xz"))
    return unpack_fashion(content)


@functools.cache
def _digits() -> dict[str, ArraySplit]:
    rows = gzip.decompress(_bundled("digits.csv.gz")).decode().split()
    table = np.array([row.split(",") for row in rows], np.int32)
    images = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = table[:, 64]
    return {
        "train": _frozen(images[:DIGITS_TRAIN], labels[:DIGITS_TRAIN]),
        "test": _frozen(images[DIGITS_TRAIN:], labels[DIGITS_TRAIN:]),
    }


def _bundled(name: str) -> bytes:
    return (resources.files("cnnjax.data") / "bundled" / name).read_bytes()


def _frozen(images: UInt8[np.ndarray, "n h w 1"], labels: np.ndarray) -> ArraySplit:
    images.setflags(write=False)
    labels = labels.astype(np.int32)
    labels.setflags(write=False)
    return ArraySplit(images, labels)


def unpack_fashion(content: bytes) -> dict[str, ArraySplit]:
    """Labels then images, train then test: 12,000 bytes and 12,000 x 784 bytes."""
    sizes = {split: 10 * count for split, count in PER_CLASS.items()}
    total = sum(sizes.values())
    values = np.frombuffer(content, np.uint8)
    labels, images = values[:total], values[total:].reshape(total, 28, 28, 1)
    cut = sizes["train"]
    return {
        "train": _frozen(images[:cut], labels[:cut]),
        "test": _frozen(images[cut:], labels[cut:]),
    }


def pack_fashion(source_dir: Path) -> bytes:
    """The uncompressed content of the bundled file, made from the four IDX files in `source_dir`.

    The file is rebuilt by `python -m cnnjax.data.shipped SOURCE_DIR FILE`.
    """
    from cnnjax.data.idx import find_idx, read_idx

    labels, images = [], []
    for split, count in PER_CLASS.items():
        x = read_idx(find_idx(source_dir, f"{_PREFIX[split]}-images-idx3-ubyte"))
        y = read_idx(find_idx(source_dir, f"{_PREFIX[split]}-labels-idx1-ubyte"))
        keep = np.sort(np.concatenate([np.flatnonzero(y == label)[:count] for label in range(10)]))
        labels.append(y[keep].tobytes())
        images.append(x[keep].tobytes())
    return b"".join(labels + images)


_PREFIX = {"train": "train", "test": "t10k"}

if __name__ == "__main__":
    import sys

    Path(sys.argv[2]).write_bytes(
        lzma.compress(pack_fashion(Path(sys.argv[1])), preset=9 | lzma.PRESET_EXTREME)
    )
