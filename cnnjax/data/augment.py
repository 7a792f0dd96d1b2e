"""Augmentation and normalisation: pure functions of one example, run on the device.

An augmentation is a factory whose keywords stand in the experiment file; it returns a function
(key, image) -> image. `augment_batch` gives each example a key of its own made from the run's key
and the example's GLOBAL position in the training stream, so what happens to it does not depend on
the batch size, the number of devices or where a run was resumed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Le
from jaxtyping import Array, Float, Integer, Key, Num

from cnnjax.errors import SpecError, did_you_mean

Image = Num[Array, "*space c"]
Augment = Callable[[Key[Array, ""], Image], Image]


def augment_batch(
    augments: Sequence[Augment],
    key: Key[Array, ""],
    positions: Integer[Array, " n"],
    images: Num[Array, "n *space c"],
) -> Num[Array, "n *out c"]:
    """Apply `augments` in turn to each image; randomness is a function of (key, position) alone.

    Positions count modulo 2**32: after four thousand million examples the draws repeat.
    """
    if not augments:
        return images

    def one(position: Integer[Array, ""], image: Image) -> Num[Array, "*out c"]:
        own = jax.random.fold_in(key, position.astype(jnp.uint32))
        for place, augment in enumerate(augments):
            image = augment(jax.random.fold_in(own, place), image)
        return image

    return jax.vmap(one)(positions, images)


def pad_crop(
    *, pad: Annotated[int, Ge(1)] = 4, fill: Annotated[int, Ge(0), Le(255)] = 0
) -> Augment:
    """Pad each side and take a random crop of the old size (Lee et al. 2015; He et al. 2015, 4.2).

    He et al. pad after subtracting the mean, so with zeros that mean "average"; here, as in most
    code, the padding is of raw pixel value `fill`.
    """

    def apply(key: Key[Array, ""], image: Num[Array, "h w c"]) -> Num[Array, "h w c"]:
        padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)), constant_values=fill)
        row, column = jax.random.randint(key, (2,), 0, 2 * pad + 1)
        return jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)

    return apply


def flip(*, probability: Annotated[float, Ge(0), Le(1)] = 0.5) -> Augment:
    """Mirror left and right with `probability` (Krizhevsky, Sutskever and Hinton 2012, 4.1)."""

    def apply(key: Key[Array, ""], image: Num[Array, "h w c"]) -> Num[Array, "h w c"]:
        return jnp.where(jax.random.uniform(key) < probability, image[:, ::-1], image)

    return apply


def shift(*, max: Annotated[int, Ge(1)] = 2, fill: Annotated[int, Ge(0), Le(255)] = 0) -> Augment:
    """Translate by a whole number of pixels, uniform in [-max, max] on each axis.

    The simplest of the distortions of Simard, Steinkraus and Platt 2003, section 2; what comes in
    is `fill`. The same draw as `pad_crop` with `pad=max`.
    """
    return pad_crop(pad=max, fill=fill)


def cutout(
    *, size: Annotated[int, Ge(1)] = 16, fill: Annotated[int, Ge(0), Le(255)] = 0
) -> Augment:
    """Blank a square of side `size` centred on a random pixel (DeVries and Taylor 2017, 3.2).

    As in the paper the square may lie partly outside. The paper blanks after normalisation, with
    zeros; here the blank is of raw pixel value `fill`.
    """

    def apply(key: Key[Array, ""], image: Num[Array, "h w c"]) -> Num[Array, "h w c"]:
        height, width, _ = image.shape
        rows, columns = jax.random.split(key)
        top = jax.random.randint(rows, (), 0, height) - size // 2
        left = jax.random.randint(columns, (), 0, width) - size // 2
        row, column = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
        inside = (row >= top) & (row < top + size) & (column >= left) & (column < left + size)
        return jnp.where(inside[..., None], jnp.asarray(fill, image.dtype), image)

    return apply


def random_resized_crop(
    *,
    size: Annotated[int, Ge(1)] | None = None,
    min_area: Annotated[float, Gt(0), Le(1)] = 0.08,
    max_area: Annotated[float, Gt(0), Le(1)] = 1.0,
    max_aspect: Annotated[float, Ge(1)] = 4 / 3,
    method: Literal["linear", "cubic"] = "linear",
) -> Augment:
    """A crop of random area and aspect, resized to `size` (Szegedy et al. 2014, section 6).

    The area is uniform in [min_area, max_area] of the image, the aspect log-uniform in [1 /
    max_aspect, max_aspect], the place uniform. `size` None keeps the size of the input. A crop that
    would not fit is narrowed to the image (torchvision draws again up to ten times). The input has
    one size for all examples: larger pictures were resized and centre-cropped when they were read.
    """
    if min_area > max_area:
        raise SpecError(f"random_resized_crop: min_area {min_area} is above max_area {max_area}.")

    def apply(key: Key[Array, ""], image: Num[Array, "h w c"]) -> Num[Array, "h_out w_out c"]:
        height, width, channels = image.shape
        area_key, aspect_key, place_key = jax.random.split(key, 3)
        area = jax.random.uniform(area_key, minval=min_area, maxval=max_area) * height * width
        bound = math.log(max_aspect)
        aspect = jnp.exp(jax.random.uniform(aspect_key, minval=-bound, maxval=bound))
        crop = jnp.minimum(
            jnp.sqrt(area * jnp.stack([1 / aspect, aspect])), jnp.array([height, width])
        )
        corner = jax.random.uniform(place_key, (2,)) * (jnp.array([height, width]) - crop)
        out = (size or height, size or width, channels)
        scale = jnp.array(out[:2]) / crop
        resized = jax.image.scale_and_translate(
            image.astype(jnp.float32), out, (0, 1), scale, -corner * scale, method=method
        )
        if jnp.issubdtype(image.dtype, jnp.integer):
            resized = jnp.clip(jnp.round(resized), 0, 255)
        return resized.astype(image.dtype)

    return apply


Channels = float | Sequence[float]

NORMALIZE: dict[str, tuple[Channels, Channels] | None] = {
    "none": None,
    "unit": (0.0, 1.0),
    # Background -0.1 and foreground 1.175, so that the mean is about 0 (LeCun et al. 1998, II.B).
    "lecun1998": (0.1 / 1.275, 1 / 1.275),
    "mnist": (0.1307, 0.3081),
    "fashion_mnist": (0.2860, 0.3530),
    "kmnist": (0.1918, 0.3483),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and standard deviation per channel on the 0..1 scale; `none` leaves the numbers alone."""


def normalize(images: Num[Array, "*n c"], mean: Channels, sd: Channels) -> Float[Array, "*n c"]:
    """(x - mean) / sd in float32, channels last; uint8 is first divided by 255, floats are not."""
    x = images.astype(jnp.float32)
    if images.dtype == jnp.uint8:
        x = x / 255
    centre, spread = _channels(mean, x), _channels(sd, x)
    return (x - centre) / spread


def _channels(values: Channels, x: Float[Array, "*n c"]) -> Float[Array, "..."]:
    """`values` as a scalar or with one axis per axis of `x`, so that no rank is promoted."""
    array = jnp.asarray(values, jnp.float32)
    return array if array.ndim == 0 else array.reshape((1,) * (x.ndim - 1) + (-1,))


def normalizer(
    how: str | Mapping[str, float | Sequence[float]],
) -> Callable[[Num[Array, "*n c"]], Float[Array, "*n c"]]:
    """What an experiment's `normalize` means: a name of NORMALIZE or {"mean": .., "sd": ..}."""
    if isinstance(how, str):
        if how not in NORMALIZE:
            known = did_you_mean(how, NORMALIZE, label="Known names")
            raise SpecError(f"dataset.normalize: unknown name '{how}'. {known}")
        pair = NORMALIZE[how]
        if pair is None:
            return lambda images: images.astype(jnp.float32)
        mean, sd = pair
    else:
        if set(how) != {"mean", "sd"}:
            given = ", ".join(sorted(how)) or "nothing"
            raise SpecError(f"dataset.normalize: expected the keys mean and sd, got {given}.")
        mean, sd = how["mean"], how["sd"]
        if not all(value > 0 for value in ([sd] if isinstance(sd, int | float) else sd)):
            raise SpecError(f"dataset.normalize: sd must be above 0, got {sd}.")
    return lambda images: normalize(images, mean, sd)


AUGMENTS: dict[str, Callable[..., Augment]] = {
    "pad_crop": pad_crop,
    "flip": flip,
    "shift": shift,
    "cutout": cutout,
    "random_resized_crop": random_resized_crop,
}
