"""A folder of pictures by class."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge
from jaxtyping import Int64

from cnnjax.data.pictures import decode, resize_and_crop
from cnnjax.data.sources import DataSet, Images, Labels
from cnnjax.data.splits import resolve_split
from cnnjax.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True, eq=False)
class FolderSplit:
    """Pictures read from their files each time."""

    paths: tuple[Path, ...]
    labels: Labels
    shape: tuple[int, int, int]
    shorter_side: int | None
    resize: bool

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def nbytes(self) -> int:
        return len(self.paths) * int(np.prod(self.shape))

    def gather(self, indices: Int64[np.ndarray, " k"]) -> tuple[Images, Labels]:
        images = np.empty((len(indices), *self.shape), np.uint8)
        for row, index in enumerate(indices):
            images[row] = self._read(self.paths[index])
        return images, self.labels[indices]

    def _read(self, path: Path) -> np.ndarray:
        pixels = decode(path.read_bytes(), channels=self.shape[-1], where=str(path))
        if self.resize:
            return resize_and_crop(pixels, size=self.shape[0], shorter_side=self.shorter_side)
        if pixels.shape != self.shape:
            raise DataError(
                f"{path} is {pixels.shape[0]}x{pixels.shape[1]}, others here are "
                f"{self.shape[0]}x{self.shape[1]}. Give dataset.image_size to resize them all."
            )
        return pixels


def folder(
    data_dir: str | None = None,
    *,
    path: str = ".",
    image_size: Annotated[int, Ge(1)] | None = None,
    shorter_side: Annotated[int, Ge(1)] | None = None,
    channels: Literal[1, 3, 4] = 3,
) -> DataSet:
    """Pictures in `path`/<split>/<class>/ (train, val, test, ..) or in `path`/<class>/.

    The second form is one split, `train`, to be cut by split strings: `train[:80%]`, `train[80%:]`.
    The order within a split is that of a hash of the file's path, so any slice of it mixes the
    classes. With `image_size` each picture's shorter side becomes `shorter_side` (by default
    `image_size`) and the centre square of `image_size` is cut out; without it all must have one
    size. A relative `path` is looked for under `data_dir`, if that is given.
    """
    root = Path(data_dir or ".").expanduser() / Path(path).expanduser()
    if not root.is_dir():
        raise DataError(f"folder: no folder {root}.")
    if shorter_side is not None and (image_size is None or shorter_side < image_size):
        raise DataError(f"folder: shorter_side {shorter_side} needs an image_size up to that.")
    files = _files(root)
    class_names = sorted({name for part in files.values() for name, _ in part})
    sizes = {split: len(part) for split, part in files.items()}
    if image_size is None:
        first = next(iter(files.values()))[0][1]
        shape = decode(first.read_bytes(), channels=channels, where=str(first)).shape
    else:
        shape = (image_size, image_size, channels)

    def split(text: str) -> FolderSplit:
        chosen = [
            entry
            for name, low, high in resolve_split(text, sizes)
            for entry in files[name][low:high]
        ]
        labels = np.array([class_names.index(name) for name, _ in chosen], np.int32)
        paths = tuple(file for _, file in chosen)
        return FolderSplit(paths, labels, shape, shorter_side, image_size is not None)

    return DataSet(
        name="folder",
        class_names=tuple(class_names),
        shape=shape,
        split=split,
        sizes=sizes,
        default_splits=_defaults(files),
    )


def _files(root: Path) -> dict[str, list[tuple[str, Path]]]:
    """(class, file) pairs per split, in hashed order."""
    known = {name for names in _SPLIT_NAMES.values() for name in names}
    splits = [entry for entry in _folders(root) if entry.name in known]
    layout = {entry.name: entry for entry in splits} or {"train": root}
    files = {}
    for name, place in layout.items():
        pairs = [
            (kind.name, file)
            for kind in _folders(place)
            for file in sorted(kind.rglob("*"))
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
        ]
        if not pairs:
            raise DataError(
                f"folder: no pictures in {place}. Expected {place}/<class>/ with files ending in "
                f"{', '.join(SUFFIXES)}."
            )
        files[name] = sorted(pairs, key=lambda pair: _hash(pair[1].relative_to(place)))
    return files


def _folders(place: Path) -> list[Path]:
    return sorted(entry for entry in place.iterdir() if entry.is_dir() and entry.name[0] != ".")


def _hash(path: Path) -> bytes:
    return hashlib.blake2b(path.as_posix().encode(), digest_size=16).digest()


def _defaults(names: Iterable[str]) -> dict[str, str]:
    """Which of the splits there are stand for train, validation and test."""
    found = {
        role: name
        for role, spellings in _SPLIT_NAMES.items()
        for name in names
        if name in spellings
    }
    if "test" not in found and "validation" in found:
        found["test"] = found.pop("validation")
    return found
