"""Tensors by name in files: .safetensors and .npz, never a pickle."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cnnjax.errors import DataError

State = Mapping[str, np.ndarray]
"""Tensor name -> array, as a library writes them."""

SUFFIXES = (".safetensors", ".npz")


def read(source: State | str | Path) -> dict[str, np.ndarray]:
    """The tensors of a mapping, or of a .safetensors or .npz file.

    Raises DataError for any other kind of file, one that is absent or damaged, and an .npz that
    holds Python objects: reading those would run code that came with the file.
    """
    if isinstance(source, Mapping):
        return {str(name): np.asarray(array) for name, array in source.items()}
    path = Path(source)
    _check_suffix(path)
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except (OSError, ValueError, EOFError, SafetensorError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as {path.suffix}: {error}") from None


def write(path: str | Path, state: State) -> None:
    """Write the tensors of `state` to a .safetensors or .npz file."""
    path = Path(path)
    _check_suffix(path)
    arrays = {name: np.ascontiguousarray(a).reshape(np.shape(a)) for name, a in state.items()}
    if path.suffix == ".safetensors":
        save_file(arrays, path)
    else:
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)


def digest(source: State | str | Path) -> str:
    """SHA-256 of the file, or of the names, types, shapes and bytes of a mapping's tensors."""
    if not isinstance(source, Mapping):
        with Path(source).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    sha = hashlib.sha256()
    for name in sorted(source):
        array = np.ascontiguousarray(source[name])
        sha.update(f"{name} {array.dtype} {np.shape(source[name])}\n".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def _check_suffix(path: Path) -> None:
    if path.suffix in SUFFIXES:
        return
    why = ""
    if path.suffix in (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt"):
        why = (
            " It may be a pickle, and reading one runs code from the file. Where you trust it:"
            " safetensors.torch.save_file(torch.load(path, weights_only=True), 'x.safetensors')."
        )
    raise DataError(f"{path}: expected a {' or '.join(SUFFIXES)} file.{why}")
