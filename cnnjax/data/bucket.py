"""Prepared sets in a bucket: copied once to a local cache, as array_record reads local files."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from cnnjax.errors import DataError


def is_bucket(data_dir: str) -> bool:
    """Whether `data_dir` is an address such as gs://bucket/tfds, not a path."""
    return "://" in data_dir


def cache_dir() -> Path:
    """$CNNJAX_CACHE, or cnnjax under $XDG_CACHE_HOME, or ~/.cache/cnnjax."""
    default = os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "cnnjax")
    return Path(os.environ.get("CNNJAX_CACHE", default)).expanduser()


def local_copy(data_dir: str, name: str, version: str | None = None) -> Path:
    """A local folder that mirrors `data_dir`/`name`, and only `version` of it if given.

    Files already there with the right size are not fetched again; one that is cut off while being
    fetched never gets its name. gs:// needs the package gcsfs, s3:// s3fs.
    """
    import fsspec

    address = f"{data_dir.rstrip('/')}/{name}" + (f"/{version}" if version else "")
    try:
        system, path = fsspec.core.url_to_fs(address)
        files: dict[str, Any] = system.find(path, detail=True)
    except (ImportError, OSError, ValueError) as error:
        raise DataError(f"{address} cannot be read: {error}") from error
    digest = hashlib.sha256(data_dir.rstrip("/").encode()).hexdigest()[:16]
    root = cache_dir() / "buckets" / digest / name
    target = root / version if version else root
    for remote, details in files.items():
        local = target / os.path.relpath(remote, path)
        if not local.exists() or local.stat().st_size != details["size"]:
            _fetch(system, remote, local, details["size"])
    return root


def _fetch(system: Any, remote: str, local: Path, size: int) -> None:
    local.parent.mkdir(parents=True, exist_ok=True)
    part = local.with_name(f"{local.name}.part{os.getpid()}")
    try:
        with system.open(remote, "rb") as source, part.open("wb") as sink:
            shutil.copyfileobj(source, sink, 2**20)
        if part.stat().st_size != size:
            raise DataError(f"{remote}: expected {size} bytes, fetched {part.stat().st_size}.")
        part.replace(local)
    finally:
        part.unlink(missing_ok=True)
