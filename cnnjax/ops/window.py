"""Where a sliding window goes: padding as explicit pairs, and the size of the map it leaves."""

from collections.abc import Sequence

import numpy as np
from jax import Array, lax
from jaxtyping import Float

from cnnjax.errors import ShapeError, did_you_mean

Padding = str | int | Sequence[int] | Sequence[Sequence[int]]
"""`"SAME"`, `"VALID"`, one number for all sides, or for each axis one number or (before, after)."""

Pairs = tuple[tuple[int, int], ...]
PerAxis = int | Sequence[int]


def per_axis(value: PerAxis, rank: int, what: str, *, least: int = 1) -> tuple[int, ...]:
    """One number for each of `rank` spatial axes; ShapeError names `what` where that cannot be."""
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank:
        raise ShapeError(f"{what} {values} has {len(values)} numbers for {rank} spatial axes")
    if any(v < least for v in values):
        raise ShapeError(f"{what} must be at least {least} on every axis, not {_times(values)}")
    return values


def pairs(
    padding: Padding,
    size: Sequence[int],
    window: Sequence[int],
    *,
    stride: PerAxis = 1,
    dilation: PerAxis = 1,
) -> Pairs:
    """Padding as one (before, after) pair for each spatial axis of a map of `size`.

    `"SAME"` makes ceil(size / stride) outputs and puts the odd element after, so it is lopsided
    where torch's symmetric padding is not: (0, 1) for a window of 3, stride 2, over an even map.
    """
    rank = len(size)
    strides = per_axis(stride, rank, "stride")
    dilations = per_axis(dilation, rank, "dilation")
    if isinstance(padding, str):
        if padding == "VALID":
            return ((0, 0),) * rank
        if padding != "SAME":
            hint = did_you_mean(padding.upper(), ["SAME", "VALID"], label="Known paddings")
            raise ShapeError(f"unknown padding {padding!r}. {hint}")
        totals = (
            max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            for n, k, s, d in zip(size, window, strides, dilations, strict=True)
        )
        return tuple((total // 2, total - total // 2) for total in totals)
    if isinstance(padding, int):
        return tuple((p, p) for p in per_axis(padding, rank, "padding", least=0))
    sides = [(p, p) if isinstance(p, int) else tuple(p) for p in padding]
    if len(sides) != rank or any(len(side) != 2 for side in sides):
        raise ShapeError(
            f"padding {padding!r} does not fit {rank} spatial axes; "
            f"give one number or one (before, after) pair for each"
        )
    if any(p < 0 for side in sides for p in side):
        raise ShapeError(f"padding must not be negative: {padding!r}")
    return tuple((before, after) for before, after in sides)


def output_sizes(
    size: Sequence[int],
    window: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> tuple[int, ...]:
    """The size of the map that a window leaves, axis by axis.

    floor((n + before + after - d (k - 1) - 1) / s) + 1; with `ceil_mode` the ceiling, less one if
    the last window would then start beyond the map and its padding before (torch's rule). A map
    on which no window fits raises ShapeError.
    """
    rank = len(size)
    sides = pairs(padding, size, window, stride=stride, dilation=dilation)
    strides = per_axis(stride, rank, "stride")
    dilations = per_axis(dilation, rank, "dilation")
    outputs = []
    for n, k, s, d, (before, after) in zip(size, window, strides, dilations, sides, strict=True):
        room = n + before + after - d * (k - 1) - 1
        count = (-(-room // s) if ceil_mode else room // s) + 1
        if ceil_mode and (count - 1) * s >= n + before:
            count -= 1
        outputs.append(count if room >= 0 else 0)
    if min(outputs, default=1) < 1:
        reach = [d * (k - 1) + 1 for k, d in zip(window, dilations, strict=True)]
        dilated = f", dilated to {_times(reach)}," if reach != list(window) else ""
        padded = f" padded by {sides}" if any(map(any, sides)) else ""
        raise ShapeError(
            f"the map vanishes: a window of {_times(window)}{dilated} "
            f"does not fit a map of {_times(size)}{padded}"
        )
    return tuple(outputs)


def output_size(
    size: int,
    window: int,
    *,
    stride: int = 1,
    padding: str | int | tuple[int, int] = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> int:
    """`output_sizes` of one axis; `padding` may be a (before, after) pair.

    >>> output_size(224, 11, stride=4, padding=2)  # AlexNet's first layer, with the floor
    55
    """
    (count,) = output_sizes(
        (size,),
        (window,),
        stride=stride,
        padding=(padding,) if isinstance(padding, tuple) else padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )
    return count


def pad(
    x: Float[Array, "n *space c"], sides: Pairs, value: float | int
) -> Float[Array, "n *padded c"]:
    """`x` with `value` put before and after along its spatial axes."""
    if not any(map(any, sides)):
        return x
    config = [(0, 0, 0), *((before, after, 0) for before, after in sides), (0, 0, 0)]
    return lax.pad(x, np.asarray(value, x.dtype), config)


def _times(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
