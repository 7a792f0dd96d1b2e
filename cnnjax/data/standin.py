"""What TFDS asks of TensorFlow while it prepares image sets, done by Python and Pillow.

TFDS reads prepared sets without TensorFlow but unpacks archives and encodes pictures through it.
For the length of a `with` block this puts a module named `tensorflow` in its place that can do just
that. It leans on the inside of TFDS (held to one minor version in pyproject.toml), so it belongs in
a process of its own, `python -m cnnjax.data.prepare`.
"""

import contextlib
import glob
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image


@contextlib.contextmanager
def tensorflow_standin() -> Iterator[None]:
    """In the block `import tensorflow` gives the stand-in; a real one that is loaded stays."""
    from tensorflow_datasets.core.utils import image_utils, lazy_imports_utils

    if "tensorflow" in sys.modules:
        yield
        return
    patched = {"jpeg_cmyk_to_rgb": _to_rgb_jpeg, "png_to_jpeg": _to_rgb_jpeg}
    originals = [
        (module, name, getattr(module, name))
        for module in (image_utils, _public_utils())
        for name in patched
        if hasattr(module, name)
    ]
    sys.modules["tensorflow"] = _module()
    for module, name, _ in originals:
        setattr(module, name, patched[name])
    try:
        yield
    finally:
        for module, name, original in originals:
            setattr(module, name, original)
        del sys.modules["tensorflow"]
        # The lazy module of TFDS keeps what it once imported.
        lazy_imports_utils.tensorflow.__dict__.pop("_module", None)


def _public_utils() -> ModuleType:
    """`tfds.core.utils`, through which builders reach the picture conversions."""
    import tensorflow_datasets as tfds

    return tfds.core.utils


def _module() -> ModuleType:
    files = SimpleNamespace(
        GFile=_open,
        exists=os.path.exists,
        isdir=os.path.isdir,
        listdir=lambda folder: sorted(os.listdir(folder)),
        glob=lambda pattern: sorted(glob.glob(pattern)),
        walk=os.walk,
        makedirs=lambda folder: os.makedirs(folder, exist_ok=True),
        copy=shutil.copyfile,
    )
    module = ModuleType("tensorflow")
    module.__path__ = []
    parts: dict[str, Any] = {
        "__version__": "2.99.0",
        "io": SimpleNamespace(gfile=files),
        "compat": SimpleNamespace(as_text=_as_text),
        "image": SimpleNamespace(encode_png=_encode("png"), encode_jpeg=_encode("jpeg")),
        "executing_eagerly": lambda: True,
        "errors": SimpleNamespace(UnimplementedError=type("UnimplementedError", (Exception,), {})),
        # Only ever asked for in isinstance.
        "Tensor": type("Tensor", (), {}),
        "RaggedTensor": type("RaggedTensor", (), {}),
        "SparseTensor": type("SparseTensor", (), {}),
    }
    vars(module).update(parts)
    return module


def _open(path: str | os.PathLike[str], mode: str = "r") -> Any:
    return Path(path).open(mode)


def _as_text(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text


def _encode(kind: str) -> Callable[[Any], SimpleNamespace]:
    """An encoder whose answer has the `.numpy()` that TFDS calls."""

    def encode(pixels: Any) -> SimpleNamespace:
        array = np.asarray(pixels)
        target = io.BytesIO()
        options = {"quality": 95} if kind == "jpeg" else {}
        Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(
            target, kind, **options
        )
        return SimpleNamespace(numpy=target.getvalue)

    return encode


def _to_rgb_jpeg(content: bytes, quality: int = 100) -> bytes:
    """ImageNet's 22 CMYK pictures and its one PNG, as RGB JPEGs."""
    target = io.BytesIO()
    with Image.open(io.BytesIO(content)) as picture:
        picture.convert("RGB").save(target, "jpeg", quality=quality)
    return target.getvalue()
