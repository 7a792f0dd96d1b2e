"""What a data set is to the rest of the house, and the sets that are arrays in memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, Int64, Integer, Shaped

from cnnjax.data.splits import resolve_split
from cnnjax.errors import DataError

Images = Shaped[np.ndarray, "k ..."]
Labels = Int32[np.ndarray, " k"]


@runtime_checkable
class Split(Protocol):
    """A finite list of labelled images of one shape that any process can read at random."""

    def __len__(self) -> int: ...

    @property
    def nbytes(self) -> int:
        """Bytes of all images as arrays."""
        ...

    def gather(self, indices: Int64[np.ndarray, " k"]) -> tuple[Images, Labels]:
        """Images (k, *shape), uint8 or float32, and labels (k,) at `indices`."""
        ...


@dataclass(frozen=True)
class DataSet:
    """A named set of labelled images of one shape; `split` opens a part of it.

    uint8 images are on the 0..255 scale, float32 ones on whatever scale their owner gave them.
    """

    name: str
    class_names: tuple[str, ...]
    shape: tuple[int, ...]
    split: Callable[[str], Split]
    sizes: Mapping[str, int]
    """Examples per split, by the names that a split string may use."""
    default_splits: Mapping[str, str]
    """What `train`, `validation` and `test` are when the experiment does not say."""
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.uint8))

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True, eq=False)
class ArraySplit:
    """A split in memory."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.images)

    @property
    def nbytes(self) -> int:
        return self.images.nbytes

    def gather(self, indices: Int64[np.ndarray, " k"]) -> tuple[Images, Labels]:
        return self.images[indices], self.labels[indices]


def in_memory(
    name: str,
    arrays: Mapping[str, ArraySplit],
    class_names: Sequence[str],
    default_splits: Mapping[str, str],
) -> DataSet:
    """The DataSet over named splits in memory, with split strings; a plain slice is a view."""
    sizes = {split: len(part) for split, part in arrays.items()}
    first = next(iter(arrays.values()))

    def split(text: str) -> ArraySplit:
        parts = [
            ArraySplit(arrays[name].images[low:high], arrays[name].labels[low:high])
            for name, low, high in resolve_split(text, sizes)
        ]
        if len(parts) == 1:
            return parts[0]
        return ArraySplit(
            np.concatenate([part.images for part in parts]),
            np.concatenate([part.labels for part in parts]),
        )

    return DataSet(
        name=name,
        class_names=tuple(class_names),
        shape=tuple(first.images.shape[1:]),
        split=split,
        sizes=sizes,
        default_splits=dict(default_splits),
        dtype=first.images.dtype,
    )


def from_arrays(
    x_train: Shaped[np.ndarray, "n ..."],
    y_train: Integer[np.ndarray, " n"],
    x_test: Shaped[np.ndarray, "m ..."] | None = None,
    y_test: Integer[np.ndarray, " m"] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    signal: bool = False,
    name: str = "arrays",
) -> DataSet:
    """One's own arrays as a data set: images (n, *space, channels), labels 0 to k - 1.

    uint8 images stay on the 0..255 scale that normalisation divides by; a float kind becomes
    float32 and is taken as it is. Three axes are grey images (n, h, w), which get their channel
    axis, or, with `signal`, (n, length, channels).
    """
    splits = {"train": (x_train, y_train)}
    if x_test is not None and y_test is not None:
        splits["test"] = (x_test, y_test)
    return _from_splits(splits, class_names, signal, name)


def _from_splits(
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
    class_names: Sequence[str] | None,
    signal: bool,
    name: str,
) -> DataSet:
    arrays = {split: _checked(split, *pair, signal, name) for split, pair in splits.items()}
    shapes = {split: part.images.shape[1:] for split, part in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"{name}: the splits hold images of different shapes: {shapes}.")
    if len({part.images.dtype for part in arrays.values()}) > 1:
        kinds = {split: str(part.images.dtype) for split, part in arrays.items()}
        raise DataError(f"{name}: the splits hold images of different kinds: {kinds}.")
    top = max(int(part.labels.max()) for part in arrays.values())
    names = tuple(class_names) if class_names else tuple(str(i) for i in range(top + 1))
    if top >= len(names):
        raise DataError(f"{name}: label {top} stands in the data, class_names has {len(names)}.")
    defaults: dict[str, str] = {
        key: key for key in ("train", "validation", "test") if key in arrays
    }
    return in_memory(name, arrays, names, defaults)


def _checked(
    split: str, images: np.ndarray, labels: np.ndarray, signal: bool, name: str
) -> ArraySplit:
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim < 3 or labels.ndim != 1 or len(images) != len(labels) or not len(images):
        raise DataError(
            f"{name}: split '{split}' has images {images.shape} and labels {labels.shape}; "
            "expected (n, height, width, channels), (n, height, width) or (n, length, channels), "
            "and (n,)."
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise DataError(f"{name}: split '{split}': labels must be whole numbers from 0 on.")
    if images.dtype.kind not in "uif" or (images.dtype.kind in "ui" and images.dtype != np.uint8):
        raise DataError(
            f"{name}: split '{split}': images are {images.dtype}; expected uint8 or a float kind."
        )
    if images.ndim == 3 and not signal:
        images = images[..., None]
    if images.dtype != np.uint8:
        images = images.astype(np.float32, copy=False)
    return ArraySplit(images, labels.astype(np.int32))


def arrays(
    data_dir: str | None = None,
    *,
    path: str,
    class_names: tuple[str, ...] | None = None,
    signal: bool = False,
) -> DataSet:
    """An .npz file of `x_train`, `y_train`, `x_test`, `y_test` (and any `x_<split>`, `y_<split>`).

    A relative `path` is looked for under `data_dir`, if that is given. Kinds and shapes:
    `from_arrays`.
    """
    file = Path(data_dir or ".").expanduser() / Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"arrays: no file {file}.")
    try:
        with np.load(file, allow_pickle=False) as archive:
            content = {key: archive[key] for key in archive.files}
    except (ValueError, OSError) as error:
        raise DataError(f"arrays: {file} is not an .npz file of plain arrays: {error}") from error
    names = [key[2:] for key in content if key.startswith("x_") and f"y_{key[2:]}" in content]
    if "train" not in names and "test" not in names:
        held = ", ".join(sorted(content)) or "nothing"
        raise DataError(f"arrays: {file} holds {held}; expected x_train, y_train, x_test, y_test.")
    splits = {name: (content[f"x_{name}"], content[f"y_{name}"]) for name in names}
    return _from_splits(splits, class_names, signal, "arrays")
