"""The IDX files that MNIST and its relatives are published in, plain or gzipped."""

import gzip
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cnnjax.errors import DataError


def find_idx(folder: Path, name: str) -> Path:
    """`name` or `name`.gz in `folder`."""
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    raise DataError(f"{folder}: expected {name}.gz (or {name}), found {listing(folder)}.")


def read_idx(path: Path) -> UInt8[np.ndarray, "n *shape"]:
    """The array of an unsigned-byte IDX file: magic 00 00 08 d, d big-endian sizes, the bytes."""
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path}: damaged gzip file: {error}") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(
            f"{path}: not an IDX file of unsigned bytes (starts {content[:4].hex(' ')})."
        )
    rank = content[3]
    sizes = np.frombuffer(content[4 : 4 + 4 * rank], ">u4").astype(int)
    body = np.frombuffer(content[4 + 4 * rank :], np.uint8)
    if len(sizes) != rank or body.size != sizes.prod():
        raise DataError(
            f"{path}: sizes {sizes.tolist()} need {sizes.prod()} bytes, found {body.size}."
        )
    return body.reshape(sizes)


def listing(folder: Path, most: int = 8) -> str:
    """The names in `folder`, for an error message."""
    if not folder.is_dir():
        return "no such folder"
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "") or "nothing"
