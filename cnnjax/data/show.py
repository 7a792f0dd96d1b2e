"""A look at a data set: labelled pictures, raw and augmented side by side."""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped
from PIL import Image, ImageDraw, ImageFont

from cnnjax.data.augment import Augment, augment_batch
from cnnjax.data.order import indices, positions
from cnnjax.data.sources import DataSet
from cnnjax.errors import DataError

_GAP = 6
_TEXT = 14
_INK, _PAPER = (20, 20, 20), (255, 255, 255)


def show(
    dataset: DataSet,
    path: str | Path,
    *,
    augments: Sequence[Augment] = (),
    split: str | None = None,
    rows: int = 6,
    columns: int = 4,
    draws: int = 3,
    seed: int = 0,
) -> Path:
    """Write a PNG of the first `rows` x `columns` examples of training; the path it was written to.

    Each cell is the class's name over the picture as it is and, if there are `augments`, `draws`
    augmented versions of it. `split` is by default the first of the data set's own. Small images
    are enlarged by whole pixels.
    """
    if len(dataset.shape) != 3 or dataset.shape[-1] not in (1, 3):
        raise DataError(f"{dataset.name}: {dataset.shape} is not the shape of a picture to show.")
    source = dataset.split(split or next(iter(dataset.default_splits.values())))
    count = min(rows * columns, len(source))
    images, labels = source.gather(indices(seed, len(source), 0, count))
    versions = [images]
    if augments:
        key = jax.random.key(seed)
        for epoch in range(draws):
            places = jnp.asarray(positions(0, count) + epoch * len(source), jnp.uint32)
            versions.append(np.asarray(augment_batch(augments, key, places, jnp.asarray(images))))
    side = max(version.shape[1] for version in versions)
    factor = max(1, -(-84 // side))
    names = [dataset.class_names[label] for label in labels]
    strips = [
        _strip([_picture(version[index], factor) for version in versions], names[index])
        for index in range(count)
    ]
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _grid(strips, columns).save(target, "png")
    return target


def _picture(pixels: Shaped[np.ndarray, "h w c"], factor: int) -> Image.Image:
    """The pixels on the 0..255 scale, enlarged; floats are stretched over the range they have."""
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = ((pixels - low) / (high - low or 1) * 255).astype(np.uint8)
    grey = pixels.shape[-1] == 1
    picture = Image.fromarray(pixels[..., 0] if grey else pixels).convert("RGB")
    size = (picture.width * factor, picture.height * factor)
    return picture.resize(size, Image.Resampling.NEAREST)


def _strip(pictures: Sequence[Image.Image], name: str) -> Image.Image:
    """The raw picture, a wider gap, the augmented ones; the class's name above."""
    font = ImageFont.load_default(size=_TEXT)
    width = sum(picture.width for picture in pictures) + 2 * (len(pictures) - 1)
    width += _GAP if len(pictures) > 1 else 0
    height = max(picture.height for picture in pictures) + _TEXT + 4
    strip = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(strip)
    while len(name) > 3 and draw.textlength(name, font=font) > width:
        name = name.removesuffix("..")[:-1] + ".."
    draw.text((0, 0), name, font=font, fill=_INK)
    left = 0
    for index, picture in enumerate(pictures):
        strip.paste(picture, (left, _TEXT + 4))
        left += picture.width + 2 + (_GAP if index == 0 else 0)
    return strip


def _grid(strips: Sequence[Image.Image], columns: int) -> Image.Image:
    width, height = strips[0].width + 2 * _GAP, strips[0].height + 2 * _GAP
    lines = -(-len(strips) // columns)
    grid = Image.new("RGB", (min(columns, len(strips)) * width, lines * height), _PAPER)
    for index, strip in enumerate(strips):
        line, column = divmod(index, columns)
        grid.paste(strip, (column * width + _GAP, line * height + _GAP))
    return grid
