"""Pooling over one to three spatial axes, and LeNet's trainable subsampling."""

import math
from collections.abc import Callable
from functools import reduce
from itertools import product

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from cnnjax.errors import ShapeError
from cnnjax.ops import lowering
from cnnjax.ops.numeric import wide
from cnnjax.ops.window import Padding, Pairs, PerAxis, output_sizes, pad, pairs, per_axis


def max_pool(
    x: Float[Array, "n *space c"],
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    padding_value: float | int | None = None,
) -> Float[Array, "n *space_out c"]:
    """The largest value of each window; `stride` defaults to the window, so that windows touch.

    A stride below the window is AlexNet's overlapping pooling (Krizhevsky et al. 2012, sec. 3.4).
    Padding never wins (-inf) unless it is given a value. Of equal values the first takes the whole
    gradient.
    """
    windows, strides, dilations, sides, overhang = _places(
        x.shape, window, stride, padding, dilation, ceil_mode
    )
    if padding_value is not None:
        x = pad(x, sides, padding_value)
        sides = ((0, 0),) * len(windows)
    sides = tuple(
        (before, after + over) for (before, after), over in zip(sides, overhang, strict=True)
    )
    if any(d > 1 for d in dilations):  # XLA has no gradient for a dilated window
        return _max_of_taps(pad(x, sides, -math.inf), windows, strides, dilations)
    return lowering.max_pool(x, windows, strides, sides)


def min_pool(
    x: Float[Array, "n *space c"],
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    padding_value: float | int | None = None,
) -> Float[Array, "n *space_out c"]:
    """The smallest value of each window: by definition -max_pool(-x)."""
    return -max_pool(
        -x,
        window,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        padding_value=None if padding_value is None else -padding_value,
    )


def avg_pool(
    x: Float[Array, "n *space c"],
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "VALID",
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    divisor: float | int | None = None,
    padding_value: float | int = 0.0,
) -> Float[Array, "n *space_out c"]:
    """The mean of each window, summed in at least float32.

    With `count_include_pad` (torchvision's Inception) padding enters sum and divisor alike, at
    `padding_value`; without it (Keras) the mean is over real elements alone. What `ceil_mode` lets
    hang over the edge never counts. `divisor` replaces the count.
    """
    windows, strides, _, sides, overhang = _places(x.shape, window, stride, padding, 1, ceil_mode)
    padded = pad(wide(x), sides, padding_value if count_include_pad else 0)
    padded = pad(padded, tuple((0, over) for over in overhang), 0)
    total = lowering.window_sum(padded, windows, strides)
    if divisor is not None:
        return (total / divisor).astype(x.dtype)
    counts = [
        _count(
            np.arange(o) * s - before, k, *((-before, n + after) if count_include_pad else (0, n))
        )
        for n, k, s, o, (before, after) in zip(
            x.shape[1:-1], windows, strides, total.shape[1:-1], sides, strict=True
        )
    ]
    divisors = reduce(np.multiply.outer, counts).astype(total.dtype)
    return (total / divisors[None, ..., None]).astype(x.dtype)


def global_max_pool(x: Float[Array, "n *space c"]) -> Float[Array, "n c"]:
    """The largest value of each feature map."""
    return jnp.max(x, axis=_space(x.shape))


def global_min_pool(x: Float[Array, "n *space c"]) -> Float[Array, "n c"]:
    """The smallest value of each feature map."""
    return jnp.min(x, axis=_space(x.shape))


def global_avg_pool(x: Float[Array, "n *space c"]) -> Float[Array, "n c"]:
    """The mean of each feature map (Lin et al. 2013, "Network in Network", sec. 3.2)."""
    return jnp.mean(wide(x), axis=_space(x.shape)).astype(x.dtype)


def adaptive_avg_pool(
    x: Float[Array, "n *space c"], output_size: PerAxis
) -> Float[Array, "n *space_out c"]:
    """Means over a grid of `output_size` cells; cell i of m covers [floor(i n/m), ceil((i+1) n/m)).

    Cells overlap where m does not divide n, as in torch. The identity where the sizes agree.
    """
    return _adaptive(wide(x), output_size, jnp.mean).astype(x.dtype)


def adaptive_max_pool(
    x: Float[Array, "n *space c"], output_size: PerAxis
) -> Float[Array, "n *space_out c"]:
    """Maxima over the cells of `adaptive_avg_pool`."""
    return _adaptive(x, output_size, jnp.max)


def subsample(
    x: Float[Array, "n *space c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    *,
    window: PerAxis = 2,
) -> Float[Array, "n *space_out c"]:
    """scale * (sum of each window) + bias, per channel, over windows that do not overlap.

    The subsampling layers S2 and S4 of LeNet-5 before their squashing (LeCun et al. 1998,
    sec. II.B).
    """
    windows, strides, *_ = _places(x.shape, window, None, "VALID", 1, False)
    total = lowering.window_sum(wide(x), windows, strides)
    y = lowering.elementwise(lambda s, a, b: s * a + b, total, channels=(scale, bias))
    return y.astype(x.dtype)


def _places(
    shape: tuple[int, ...],
    window: PerAxis,
    stride: PerAxis | None,
    padding: Padding,
    dilation: PerAxis,
    ceil_mode: bool,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], Pairs, tuple[int, ...]]:
    """Windows, strides, dilations, padding, and how far ceil mode hangs over it, for each axis."""
    size = tuple(shape[a] for a in _space(shape))
    rank = len(size)
    windows = per_axis(window, rank, "window")
    strides = windows if stride is None else per_axis(stride, rank, "stride")
    dilations = per_axis(dilation, rank, "dilation")
    sides = pairs(padding, size, windows, stride=strides, dilation=dilations)
    for side, k, d in zip(sides, windows, dilations, strict=True):
        if max(side) > d * (k - 1):
            raise ShapeError(
                f"padding {side} holds a whole pooling window of {d * (k - 1) + 1}: "
                f"its output would see no input"
            )
    outputs = output_sizes(
        size, windows, stride=strides, padding=sides, dilation=dilations, ceil_mode=ceil_mode
    )
    overhang = tuple(
        max((o - 1) * s + d * (k - 1) + 1 - (n + before + after), 0)
        for o, s, d, k, n, (before, after) in zip(
            outputs, strides, dilations, windows, size, sides, strict=True
        )
    )
    return windows, strides, dilations, sides, overhang


def _count(
    starts: np.ndarray[tuple[int], np.dtype[np.int_]], window: int, first: int, end: int
) -> np.ndarray[tuple[int], np.dtype[np.int_]]:
    """How many of the positions [first, end) each window holds."""
    return np.minimum(starts + window, end) - np.maximum(starts, first)


def _max_of_taps(
    x: Float[Array, "n *space c"],
    windows: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> Float[Array, "n *space_out c"]:
    """The maximum over shifted, strided slices of an already padded map, the first among equals."""
    outputs = output_sizes(x.shape[1:-1], windows, stride=strides, dilation=dilations)
    best = None
    for tap in product(*map(range, windows)):
        starts = [t * d for t, d in zip(tap, dilations, strict=True)]
        ends = [b + (o - 1) * s + 1 for b, o, s in zip(starts, outputs, strides, strict=True)]
        seen = lax.slice(x, (0, *starts, 0), (x.shape[0], *ends, x.shape[-1]), (1, *strides, 1))
        best = seen if best is None else jnp.where((seen > best) | jnp.isnan(seen), seen, best)
    assert best is not None
    return best


def _adaptive(
    x: Float[Array, "n *space c"],
    output_size: PerAxis,
    statistic: Callable[..., Array],
) -> Float[Array, "n *space_out c"]:
    """Reduce one axis after another: a cell is the product of its intervals."""
    space = _space(x.shape)
    for axis, m in zip(space, per_axis(output_size, len(space), "output_size"), strict=True):
        n = x.shape[axis]
        if n % m == 0:
            if n != m:
                cells = x.reshape(*x.shape[:axis], m, n // m, *x.shape[axis + 1 :])
                x = statistic(cells, axis=axis + 1)
            continue
        intervals = [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
        x = jnp.stack(
            [statistic(lax.slice_in_dim(x, a, b, axis=axis), axis=axis) for a, b in intervals],
            axis=axis,
        )
    return x


def _space(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The spatial axes of a batch of maps, of which there must be some and none may be empty."""
    if len(shape) < 3 or 0 in shape[1:-1]:
        raise ShapeError(f"pooling needs (n, spatial axes, channels), not an input of {shape}")
    return tuple(range(1, len(shape) - 1))
