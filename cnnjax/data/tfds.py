"""Data sets that TFDS has prepared on disk, read without TensorFlow and without the network.

A prepared set is a folder of array_record files with its description beside them,
`<data_dir>/<name>[/<config>]/<version>`. It is found and checked here, so one that is not there is
reported at once; TFDS itself would retry its download for minutes.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge
from jaxtyping import Int64

from cnnjax.data.bucket import is_bucket, local_copy
from cnnjax.data.pictures import decode, resize_and_crop
from cnnjax.data.sources import DataSet, Images, Labels
from cnnjax.data.splits import resolve_split
from cnnjax.errors import DataError


def default_data_dir() -> str:
    """TFDS's own default: $TFDS_DATA_DIR, or ~/tensorflow_datasets."""
    return os.environ.get("TFDS_DATA_DIR", os.path.join("~", "tensorflow_datasets"))


@dataclass(frozen=True, eq=False)
class TfdsSplit:
    """A split of a prepared set; `source` gives dicts whose pictures are still encoded."""

    source: Any
    keys: tuple[str, str]
    shape: tuple[int, ...]
    shorter_side: int | None
    resize: bool
    encoded: bool
    cache_key: str
    """Tells apart everything that the arrays of this split depend on."""

    def __len__(self) -> int:
        return len(self.source)

    @property
    def nbytes(self) -> int:
        return len(self) * int(np.prod(self.shape))

    def gather(self, indices: Int64[np.ndarray, " k"]) -> tuple[Images, Labels]:
        image_key, label_key = self.keys
        try:
            records = self.source.__getitems__([int(index) for index in indices])
        except (RuntimeError, OSError, ValueError, IndexError) as error:
            raise DataError(f"{image_key}: the prepared files cannot be read: {error}") from error
        images = np.empty((len(records), *self.shape), np.uint8)
        labels = np.empty(len(records), np.int32)
        for row, record in enumerate(records):
            images[row] = self._pixels(record[image_key])
            labels[row] = record[label_key]
        if len(labels) and labels.min() < 0:
            raise DataError("this split has no labels: choose another one.")
        return images, labels

    def _pixels(self, value: Any) -> np.ndarray:
        if not self.encoded:
            return np.asarray(value)
        pixels = decode(value, channels=self.shape[-1])
        if self.resize:
            return resize_and_crop(pixels, size=self.shape[0], shorter_side=self.shorter_side)
        return pixels


def tfds_dataset(
    name: str,
    data_dir: str | None = None,
    *,
    image_size: int | None = None,
    shorter_side: int | None = None,
    image_key: str | None = None,
    label_key: str | None = None,
    default_splits: Mapping[str, str] | None = None,
) -> DataSet:
    """The prepared TFDS set `name`, `name/config` or `name/config:version`."""
    place = find_prepared(name, data_dir)
    builder = _open(place, name)
    features = builder.info.features
    supervised = builder.info.supervised_keys or ("image", "label")
    keys = (image_key or supervised[0], label_key or supervised[1])
    for key in keys:
        if key not in features:
            raise DataError(f"{name}: no feature '{key}'. Features: {', '.join(sorted(features))}.")
    class_names = getattr(features[keys[1]], "names", None)
    if not class_names:
        raise DataError(f"{name}: '{keys[1]}' is not a class label, so nothing can be learnt.")
    shape, encoded = _image_shape(name, features[keys[0]], image_size)
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}

    def split(text: str) -> TfdsSplit:
        source = _source(builder, name, text, keys[0] if encoded else None, sizes)
        resize = image_size is not None
        key = repr((_fingerprint(place), text, keys, shape, shorter_side, resize))
        return TfdsSplit(source, keys, shape, shorter_side, resize, encoded, key)

    return DataSet(
        name=name,
        class_names=tuple(class_names),
        shape=shape,
        split=split,
        sizes=sizes,
        default_splits=dict(default_splits) if default_splits else _default_splits(sizes),
    )


def _source(builder: Any, name: str, text: str, picture: str | None, sizes: dict[str, int]) -> Any:
    """The TFDS data source of a split string, its pictures left encoded."""
    import tensorflow_datasets as tfds

    if "shard" not in text:
        resolve_split(text, sizes)  # the same words for the same mistakes as in any other set
    decoders = {picture: tfds.decode.SkipDecoding()} if picture else None
    try:
        source = builder.as_data_source(split=text, decoders=decoders)
    except ValueError as error:
        raise DataError(f"{name}: split '{text}': {error}") from error
    return source


def _open(place: Path, name: str) -> Any:
    """TFDS's read-only builder of a prepared folder; no code of the set itself runs."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(place))
    kind = builder.info.file_format.value if builder.info.file_format else "unknown"
    if kind != "array_record":
        raise DataError(
            f"{name}: {place} was prepared as {kind}, which needs TensorFlow to read; expected "
            f"array_record. {how_to_prepare(name)}"
        )
    missing = [
        path
        for info in builder.info.splits.values()
        for path in map(os.fspath, info.filepaths)
        if not os.path.exists(path)
    ]
    if missing:
        raise DataError(f"{name}: {missing[0]} is missing ({len(missing)} files in all).")
    return builder


def _image_shape(name: str, feature: Any, image_size: int | None) -> tuple[tuple[int, ...], bool]:
    """(shape of the arrays, whether the stored thing is an encoded picture)."""
    import tensorflow_datasets as tfds

    encoded = isinstance(feature, tfds.features.Image)
    shape = tuple(feature.shape or ())
    if encoded:
        shape = (*shape[:2], shape[2] or 3)
        if image_size is not None:
            shape = (image_size, image_size, shape[2])
    if len(shape) not in (2, 3, 4) or None in shape or feature.np_dtype != np.uint8:
        raise DataError(
            f"{name}: images are {feature.np_dtype} of shape {feature.shape}; expected uint8 of "
            "one shape. Give dataset.image_size to resize pictures."
        )
    return shape, encoded


def _fingerprint(place: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of every file of a prepared set."""
    files = sorted(file for file in place.iterdir() if file.is_file())
    return [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]


def _default_splits(sizes: Mapping[str, int]) -> dict[str, str]:
    found = {role: role for role in ("train", "validation", "test") if role in sizes}
    if "test" not in found and "validation" in found:
        found["test"] = found.pop("validation")
    return found


def find_prepared(name: str, data_dir: str | None = None) -> Path:
    """The folder of the newest prepared version; a bucket's is copied to the local cache first."""
    place, _, version = name.partition(":")
    where = data_dir or default_data_dir()
    if is_bucket(where):
        root = local_copy(where, place, version or None)
    else:
        root = Path(where).expanduser() / place
    found = sorted(
        (folder for folder in _entries(root) if (folder / "dataset_info.json").is_file()),
        key=lambda folder: [int(part) for part in folder.name.split(".") if part.isdigit()],
    )
    if version:
        found = [folder for folder in found if folder.name == version]
    if found:
        return found[-1]
    configs = [
        f"{place}/{folder.name}"
        for folder in _entries(root)
        if any((inner / "dataset_info.json").is_file() for inner in _entries(folder))
    ]
    if configs and "/" not in place:
        raise DataError(f"{name}: say which: {', '.join(configs)}.")
    raise DataError(f"{name} is not prepared in {where}. {how_to_prepare(name)}")


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []


def how_to_prepare(name: str) -> str:
    """The command, as every error about a set that is not there ends."""
    return f"Prepare it with: cnnjax data prepare {name} --from DIR (where its original files are)."


def tfds(
    data_dir: str | None = None,
    *,
    dataset: str,
    image_size: Annotated[int, Ge(1)] | None = None,
    shorter_side: Annotated[int, Ge(1)] | None = None,
    image_key: str | None = None,
    label_key: str | None = None,
) -> DataSet:
    """Any prepared TFDS set of labelled images: `dataset` is `name`, `name/config`, `name:version`.

    The keys default to the set's supervised pair. Pictures of varying size need `image_size`: the
    shorter side becomes `shorter_side` (by default `image_size`) and the centre square is cut out.
    """
    return tfds_dataset(
        dataset,
        data_dir,
        image_size=image_size,
        shorter_side=shorter_side,
        image_key=image_key,
        label_key=label_key,
    )


def mnist(data_dir: str | None = None) -> DataSet:
    """60,000 + 10,000 digits, 28x28 (LeCun, Bottou, Bengio and Haffner 1998, section III.A)."""
    return tfds_dataset("mnist", data_dir)


def kmnist(data_dir: str | None = None) -> DataSet:
    """Kuzushiji-MNIST: 60,000 + 10,000 hiragana, 28x28 (Clanuwat et al. 2018, arXiv:1812.01718)."""
    return tfds_dataset("kmnist", data_dir)


def fashion_mnist(data_dir: str | None = None) -> DataSet:
    """60,000 + 10,000 articles of clothing, 28x28 (Xiao et al. 2017, arXiv:1708.07747)."""
    return tfds_dataset("fashion_mnist", data_dir)


def cifar10(data_dir: str | None = None) -> DataSet:
    """50,000 + 10,000 colour images of 10 classes, 32x32 (Krizhevsky 2009)."""
    return tfds_dataset("cifar10", data_dir)


def cifar100(data_dir: str | None = None, *, labels: Literal["fine", "coarse"] = "fine") -> DataSet:
    """50,000 + 10,000 colour images, 32x32: 100 classes, or their 20 groups (Krizhevsky 2009)."""
    key = "label" if labels == "fine" else "coarse_label"
    return tfds_dataset("cifar100", data_dir, label_key=key)


def svhn_cropped(data_dir: str | None = None) -> DataSet:
    """73,257 + 26,032 house-number digits, 32x32, and the split `extra` (Netzer et al. 2011)."""
    return tfds_dataset("svhn_cropped", data_dir, default_splits={"train": "train", "test": "test"})


def imagenette(
    data_dir: str | None = None,
    *,
    config: Literal[
        "full-size-v2", "320px-v2", "160px-v2", "full-size", "320px", "160px"
    ] = "full-size-v2",
    image_size: Annotated[int, Ge(1)] = 224,
    shorter_side: Annotated[int, Ge(1)] | None = None,
) -> DataSet:
    """Ten easy classes of ImageNet (fast.ai 2019); `test` is the published validation split."""
    return tfds_dataset(
        f"imagenette/{config}", data_dir, image_size=image_size, shorter_side=shorter_side
    )


def oxford_flowers102(
    data_dir: str | None = None,
    *,
    image_size: Annotated[int, Ge(1)] = 224,
    shorter_side: Annotated[int, Ge(1)] | None = None,
) -> DataSet:
    """102 flowers: 1,020 train, 1,020 validation, 6,149 test (Nilsback and Zisserman 2008)."""
    return tfds_dataset(
        "oxford_flowers102", data_dir, image_size=image_size, shorter_side=shorter_side
    )


def imagenet2012(
    data_dir: str | None = None,
    *,
    image_size: Annotated[int, Ge(1)] = 224,
    shorter_side: Annotated[int, Ge(1)] | None = 256,
) -> DataSet:
    """ILSVRC 2012: 1,281,167 train; `test` is the 50,000 of validation (Russakovsky et al. 2014).

    Pictures are read as the papers evaluate them: shorter side 256, centre 224. The published test
    split has no labels and is not used.
    """
    return tfds_dataset(
        "imagenet2012",
        data_dir,
        image_size=image_size,
        shorter_side=shorter_side,
        default_splits={"train": "train", "test": "validation"},
    )
