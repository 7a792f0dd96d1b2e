"""A trained network's answer to pictures from files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from cnnjax.data.pictures import decode, resize_and_crop
from cnnjax.errors import DataError, RunError
from cnnjax.training.compiled import Parts
from cnnjax.training.mesh import data_mesh
from cnnjax.training.run import Run


def predict(run: Run, paths: Sequence[str | Path], *, top: int = 5) -> list[dict[str, Any]]:
    """The `top` classes of each picture, likeliest first, with their names and probabilities.

    A picture becomes what the run's data set holds: its colours are turned to grey where the
    network has one channel (and grey is repeated where it has three), the largest centred
    rectangle of the input's aspect is cut out, and that is resized in one antialiased bilinear
    step; then comes the run's own normalisation. Light and dark are not swapped: Fashion-MNIST and
    MNIST are light on black. A data set read with `shorter_side` has its pictures cut alike.

    Raises RunError for a run that is not on pictures, DataError for a file that is none.
    """
    x = run.experiment
    shape = x.dataset.shape
    if len(shape) != 3 or shape[-1] not in (1, 3, 4) or x.dataset.dtype != np.uint8:
        size = "x".join(map(str, shape))
        raise RunError(
            f"{run.path}: was trained on {x.dataset.dtype} arrays of {size}, not on pictures; use"
            " run.model.apply(run.variables, array, train=False) from Python."
        )
    shorter_side = x.spec.dataset.get("shorter_side")
    images = np.stack([picture(Path(p), shape, shorter_side=shorter_side) for p in paths])
    inputs = Parts.of(x, data_mesh(jax.local_devices()[:1])).prepare(jnp.asarray(images))
    logits = run.model.apply(run.variables, inputs, train=False)
    chances = np.asarray(jax.nn.softmax(jnp.asarray(logits, jnp.float32)))
    names = x.dataset.class_names
    return [
        {
            "image": str(path),
            "classes": [
                {"name": names[i], "probability": float(row[i])} for i in np.argsort(-row)[:top]
            ],
        }
        for path, row in zip(paths, chances, strict=True)
    ]


def picture(
    path: Path, shape: tuple[int, int, int], *, shorter_side: int | None = None
) -> UInt8[np.ndarray, "h w c"]:
    """The picture in `path` at `shape`, by the rule of `predict`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None
    height, width, channels = shape
    pixels = decode(content, channels=channels, where=str(path))
    if height == width:
        return resize_and_crop(pixels, size=height, shorter_side=shorter_side)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    fitted = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(fitted).reshape(shape)
