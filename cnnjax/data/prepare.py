"""Prepare a TFDS set from its original files, without TensorFlow and without the network.

    python -m cnnjax.data.prepare NAME [--from DIR] [--data-dir DIR]

The files are checked against the sizes and SHA-256 sums that TFDS has registered, so what comes out
is the registered data set and nothing else. Runs in a process of its own: see `standin`.
"""

import contextlib
import hashlib
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.data.bucket import is_bucket
from cnnjax.data.idx import listing, read_idx
from cnnjax.data.standin import tensorflow_standin
from cnnjax.data.tfds import default_data_dir, find_prepared
from cnnjax.errors import DataError, did_you_mean


@dataclass(frozen=True)
class Original:
    """What is registered of one original file."""

    size: int
    sha256: str
    url: str = ""


_IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
FILES: dict[str, tuple[str, ...]] = {
    "mnist": _IDX,
    "kmnist": _IDX,
    "fashion_mnist": _IDX,
    "cifar10": ("cifar-10-binary.tar.gz",),
    "cifar100": ("cifar-100-binary.tar.gz",),
    "svhn_cropped": ("train_32x32.mat", "test_32x32.mat", "extra_32x32.mat"),
    "imagenette/full-size-v2": ("imagenette2.tgz",),
    "imagenette/320px-v2": ("imagenette2-320.tgz",),
    "imagenette/160px-v2": ("imagenette2-160.tgz",),
    "imagenette/full-size": ("imagenette.tgz",),
    "imagenette/320px": ("imagenette-320.tgz",),
    "imagenette/160px": ("imagenette-160.tgz",),
    "oxford_flowers102": ("102flowers.tgz", "imagelabels.mat", "setid.mat"),
    "imagenet2012": ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"),
}
"""The original files of each set; any other set of TFDS is tried with what its builder asks for."""

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""

# Debian's gzip files are upstream's without the name and time in their headers. With the time of
# August 2017 put back they are upstream's byte for byte, so the registered sums hold.
_FASHION_TIMES = {"t10k": 1504176627, "train": 1504176606}


def prepare(
    name: str,
    source_dir: str | None = None,
    data_dir: str | None = None,
    *,
    expected: Mapping[str, Original] | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Prepare `name` (or `name/config`) from the files in `source_dir`; the folder it is in.

    Nothing is done if it is there already. `expected` replaces the registered sums, by file name,
    for files that are knowingly not the published ones. DataError for a missing or wrong file.
    """
    where = data_dir or default_data_dir()
    if is_bucket(where):
        raise DataError(f"{where}: prepare on a local disk, then copy the folder to the bucket.")
    where = str(Path(where).expanduser())  # TFDS would make a folder called "~"
    name = "imagenette/full-size-v2" if name == "imagenette" else name
    with contextlib.suppress(DataError):
        place = find_prepared(name, where)
        say(f"{name} is already prepared: {place}")
        return place
    builder = _builder(name, where)
    source = _source(name, source_dir)
    originals = _registered(builder, name)
    if expected is not None:
        originals = {
            file: replace(expected.get(file, known), url=known.url)
            for file, known in originals.items()
        }
    root = Path(where).expanduser()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cnnjax-prepare-", dir=root) as scratch:
        if name == "fashion_mnist":
            source = restore_gzip_headers(source, originals, Path(scratch) / "originals")
        for file, original in originals.items():
            say(f"{name}: checking {file}")
            check_file(source / file, original)
        say(f"{name}: preparing in {root}")
        _run(builder, source, Path(scratch), originals)
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    place = Path(builder.data_path)
    say(f"{name}: {', '.join(f'{split} {size:,}' for split, size in sizes.items())} in {place}")
    return place


def check_file(path: Path, original: Original) -> None:
    """DataError unless `path` is there with the registered size and SHA-256."""
    if not path.is_file():
        origin = f" (published at {original.url})" if original.url else ""
        raise DataError(
            f"{path.parent}: expected {path.name}, {original.size:,} bytes{origin}; found "
            f"{listing(path.parent)}."
        )
    size = path.stat().st_size
    if size != original.size:
        raise DataError(f"{path}: expected {original.size:,} bytes, found {size:,}.")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != original.sha256:
        raise DataError(f"{path}: expected SHA-256 {original.sha256}, found {found}.")


def _source(name: str, source_dir: str | None) -> Path:
    if source_dir is None and name == "fashion_mnist" and DEBIAN_FASHION_MNIST.is_dir():
        return DEBIAN_FASHION_MNIST
    if source_dir is None:
        files = ", ".join(FILES.get(name, ("its original files",)))
        raise DataError(f"{name}: give --from DIR, the folder that holds {files}.")
    source = Path(source_dir).expanduser()
    if not source.is_dir():
        raise DataError(f"{name}: --from {source_dir}: no such folder.")
    return source


def _builder(name: str, data_dir: str) -> Any:
    """TFDS's builder of `name`, writing array_record; the MNIST family reads its files by `idx`."""
    import tensorflow_datasets as tfds

    short = name.split("/")[0].split(":")[0]
    options: dict[str, Any] = {"data_dir": data_dir, "file_format": "array_record"}
    try:
        if short in ("mnist", "kmnist", "fashion_mnist"):
            return _idx_builder(tfds.builder_cls(short))(**options)
        return tfds.builder(name, **options)
    except tfds.core.DatasetNotFoundError as error:
        known = [*FILES, "fashion_mnist_12k", "digits"]
        raise DataError(
            f"TFDS knows no data set '{name}'. {did_you_mean(name, known, label='Known here')}"
        ) from error
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error


def _idx_builder(official: Any) -> Any:
    """`official` (name, version, features and sums unchanged) reading IDX files of any length."""

    class IdxBuilder(official, skip_registration=True):  # type: ignore[call-arg]
        name = official.name

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            paths = dl_manager.download({file: self.URL + file for file in _IDX})
            return {
                "train": self._generate_examples(paths[_IDX[0]], paths[_IDX[1]]),
                "test": self._generate_examples(paths[_IDX[2]], paths[_IDX[3]]),
            }

        def _generate_examples(self, image_path: Any, label_path: Any) -> Iterator[Any]:
            images, labels = read_idx(Path(image_path)), read_idx(Path(label_path))
            if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
                raise DataError(
                    f"{self.name}: expected images (n, 28, 28) and labels (n,), found "
                    f"{images.shape} and {labels.shape}."
                )
            for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield index, {"image": image[..., np.newaxis], "label": int(label)}

    return IdxBuilder


def _registered(builder: Any, name: str) -> dict[str, Original]:
    """Registered size and sum of each original file of the set, as far as FILES lists them."""
    from tensorflow_datasets.core.download import checksums

    infos: dict[str, Any] = dict(checksums.get_all_url_infos())
    base = getattr(builder, "URL", None)
    wanted = FILES.get(name.split(":")[0], ())
    own = type(builder).url_infos or {}
    originals = {}
    for file in wanted:
        if base is not None:
            url = base + file
        else:
            url = next(url for url in own if url.rsplit("/", 1)[-1] == file)
        info = infos.get(url) or own[url]
        originals[file] = Original(int(info.size), info.checksum, url)
    return originals


def _run(builder: Any, source: Path, scratch: Path, originals: Mapping[str, Original]) -> None:
    """`download_and_prepare` with every original taken from `source`, and no way to the network."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import checksums

    known = {
        original.url: checksums.UrlInfo(original.size, original.sha256, file)
        for file, original in originals.items()
    }
    make_manager = builder._make_download_manager

    def with_known_files(*args: Any, **options: Any) -> Any:
        manager = make_manager(*args, **options)
        manager._url_infos = {**manager._url_infos, **known}  # theirs is shared by all sets
        return manager

    builder._make_download_manager = with_known_files
    config = tfds.download.DownloadConfig(manual_dir=str(source), try_download_gcs=False)
    tfds.disable_progress_bar()
    with tensorflow_standin(), _no_network(source), contextlib.redirect_stdout(sys.stderr):
        try:
            builder.download_and_prepare(
                download_dir=str(scratch / "downloads"), download_config=config
            )
        except DataError:
            raise
        except Exception as error:  # TFDS wraps what a builder raises in kinds of its own
            cause = _cause(error)
            raise cause if cause else DataError(f"{builder.name}: {error}") from error


def _cause(error: BaseException | None) -> DataError | None:
    """The DataError that TFDS wrapped, if there is one."""
    while error is not None and not isinstance(error, DataError):
        error = error.__cause__ or error.__context__
    return error


@contextlib.contextmanager
def _no_network(source: Path) -> Iterator[None]:
    """Turn each download that TFDS would start into an error that says which file is missing."""
    from tensorflow_datasets.core.download import downloader

    original = downloader._Downloader.download

    def refuse(self: Any, url: str, *args: Any, **options: Any) -> Any:
        raise DataError(
            f"{source}: expected {url.rsplit('/', 1)[-1]} (published at {url}); found "
            f"{listing(source)}."
        )

    downloader._Downloader.download = refuse
    try:
        yield
    finally:
        downloader._Downloader.download = original


def restore_gzip_headers(source: Path, originals: Mapping[str, Original], folder: Path) -> Path:
    """`folder`, filled with the Fashion-MNIST files of `source` as they were published.

    A file without a name in its gzip header that is shorter than registered gets name and time
    back.
    """
    if not all((source / file).is_file() for file in originals):
        return source
    folder.mkdir()
    for file, original in originals.items():
        content = (source / file).read_bytes()
        if len(content) < original.size and content[:4] == b"\x1f\x8b\x08\x00":
            stem = file.removesuffix(".gz")
            time = struct.pack("<I", _FASHION_TIMES[stem.split("-")[0]])
            head = b"\x1f\x8b\x08\x08" + time + b"\x00\x03" + stem.encode() + b"\x00"
            content = head + content[10:]
        (folder / file).write_bytes(content)
    return folder


def main(arguments: list[str] | None = None) -> int:
    """0 when the set is prepared, 2 when it cannot be."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m cnnjax.data.prepare")
    parser.add_argument("name")
    parser.add_argument("--from", dest="source_dir", metavar="DIR")
    parser.add_argument("--data-dir", metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        prepare(options.name, options.source_dir, options.data_dir)
    except DataError as error:
        print(f"DataError: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
