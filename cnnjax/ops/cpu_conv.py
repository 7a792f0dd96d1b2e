"""Convolution on the CPU, written as what XLA:CPU runs fast: matrix products and shifted sums.

Every function takes complete arguments, one number or pair per spatial axis, already checked.
"""

from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from cnnjax.ops.numeric import across
from cnnjax.ops.window import Pairs, pad

Ints = tuple[int, ...]
NARROW = 64  # output channels up to which copies cost more than arithmetic
PARTS = 4  # with 16, a step of LeNet-5 takes 1.1 of the time, one of ResNet-20 1.04 to 1.08


def fenced(x: Array) -> Array:
    """`x`, computed once and stored.

    Without the fence XLA:CPU fuses whatever made `x` (batch norm, activation, the addition of a
    shortcut) into the copy that lays it out for a convolution, and computes it again, scalar by
    scalar, for each of the three convolutions that read it.
    """
    return lax.optimization_barrier(x)


def library(
    x: Array, kernel: Array, strides: Ints, sides: Pairs, dilations: Ints, groups: int
) -> Array:
    """XLA's own convolution, channels last."""
    space = "DHW"[3 - (x.ndim - 2) :]
    layout = f"N{space}C"
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=strides,
        padding=sides,
        rhs_dilation=dilations,
        dimension_numbers=(layout, f"{space}IO", layout),
        feature_group_count=groups,
    )


# -- convolutions that are one matrix product ------------------------------------------------------


def pointwise(x: Array, kernel: Array, strides: Ints, *_: Any) -> Array:
    """A 1x1 convolution; a stride skips what it would not read."""
    if any(s > 1 for s in strides):
        x = x[:, *(slice(None, None, s) for s in strides), :]
    return rows_product(x, kernel.reshape(kernel.shape[-2:]))


def covering(x: Array, kernel: Array, *_: Any) -> Array:
    """A window as large as the map, which it sees once: a linear layer."""
    ones = (1,) * (x.ndim - 2)
    return rows_product(x.reshape(x.shape[0], *ones, -1), kernel.reshape(-1, kernel.shape[-1]))


@jax.custom_vjp
def rows_product(
    x: Float[Array, "n *space c_in"], kernel: Float[Array, "c_in c_out"]
) -> Float[Array, "n *space c_out"]:
    """x @ kernel over the last axis, with a weight gradient that uses every core."""
    return lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def _rows_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return rows_product(x, kernel), (x, kernel)


def _rows_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    g = fenced(g)
    gx = lax.dot_general(g, kernel, (((g.ndim - 1,), (1,)), ((), ())))
    return gx, _summed_products(x, g)


rows_product.defvjp(_rows_forward, _rows_backward)


def _summed_products(x: Array, g: Array) -> Array:
    """The sum over rows of x^T g, as up to PARTS products that run beside each other.

    One product would contract a very long axis into a small matrix, on one core; many would write
    as many matrices to be added.
    """
    n = x.shape[0]
    parts = max(k for k in range(1, PARTS + 1) if n % k == 0)
    a, b = x.reshape(parts, -1, x.shape[-1]), g.reshape(parts, -1, g.shape[-1])
    return lax.dot_general(a, b, (((1,), (1,)), ((0,), (0,)))).sum(0)


# -- weight gradients as products ------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def with_summed_products(
    x: Array, kernel: Array, strides: Ints, sides: Pairs, dilations: Ints, groups: int
) -> Array:
    """XLA's convolution with its own input gradient, and the weight gradient as products."""
    return library(x, kernel, strides, sides, dilations, groups)


def _conv_forward(
    x: Array, kernel: Array, strides: Ints, sides: Pairs, dilations: Ints, groups: int
) -> tuple[Array, tuple[Array, Array]]:
    return library(x, kernel, strides, sides, dilations, groups), (x, kernel)


def _conv_backward(
    strides: Ints,
    sides: Pairs,
    dilations: Ints,
    groups: int,
    saved: tuple[Array, Array],
    g: Array,
) -> tuple[Array, Array]:
    x, kernel = saved
    g = fenced(g)
    _, pull = jax.vjp(lambda x: library(x, kernel, strides, sides, dilations, groups), x)
    return fenced(pull(g)[0]), weight_gradient(x, g, kernel.shape, strides, sides, dilations)


with_summed_products.defvjp(_conv_forward, _conv_backward)


def weight_gradient(
    x: Array, g: Array, kernel: Ints, strides: Ints, sides: Pairs, dilations: Ints
) -> Array:
    """The sum over images and places of what each tap saw times the gradient there."""
    *first, last = kernel[:-2]
    if any(s > 1 for s in strides):
        window = kernel[:-2]
        x = fenced(pad(x, sides, 0))
        seen = [tap_of(x, tap, window, strides, dilations) for tap in product(*map(range, window))]
        wide = fenced(jnp.concatenate(seen, axis=-1))
        return _summed_products(wide, g).reshape(kernel)
    # What x[p] is to tap t of an axis, g[p - t d] is: the gradient moves against the map.
    lows = [
        [t * d - before for t, d, (before, _) in zip(tap, dilations, sides, strict=False)]
        for tap in product(*map(range, first))
    ]
    if kernel[-1] <= NARROW and dilations[-1] == 1:
        return _tiled_weight_gradient(x, g, kernel, lows, sides[-1][0])
    here = (0,) * len(first)
    starts = [sides[-1][0] - t * dilations[-1] for t in range(last)]
    size = (*x.shape[1:-2], g.shape[-2])
    wide = _beside([_placed(x, (*here, start), size) for start in starts])
    moved = _beside([_placed(g, low, x.shape[1:-2]) for low in lows])
    found = _summed_products(wide, moved).reshape(last, kernel[-2], -1, kernel[-1])
    return found.transpose(2, 0, 1, 3).reshape(kernel)


def _tiled_weight_gradient(
    x: Array, g: Array, kernel: Ints, lows: Sequence[Sequence[int]], before: int
) -> Array:
    """The same from tiles of neighbours along the last axis, for few channels.

    Neighbours and their channels are one vector as they lie in memory. The product of x's vectors
    with g's holds every pair of places in a tile, and so those that are a tap apart; a second
    product holds the pairs across the border of two tiles. A tile is the narrowest that needs no
    third. For a window of 3 that is 4/3 of the arithmetic and far less to copy.
    """
    last = kernel[-3]
    centre, reach = (last - 1) // 2, last // 2
    tile = max(1, 2 * reach)
    # Places p of x and q of g belong to tap p - q + centre, once g is moved by what centre lacks.
    left_x, left_g = max(0, before - centre), max(0, centre - before)
    width = -(-max(x.shape[-2] + left_x, g.shape[-2] + left_g) // tile) * tile

    def tiled(a: Array, left: int) -> tuple[Array, Array]:
        """Rows of whole tiles, and of the `reach` places on both sides of each border."""
        a = _placed(a, (0,) * (a.ndim - 3) + (left,), (*a.shape[1:-2], width))
        inner = a[..., tile - reach : width - reach, :]
        whole, borders = (b.reshape(*b.shape[:-2], -1, tile * b.shape[-1]) for b in (a, inner))
        return whole, borders

    def pairs(x: Array, g: Array, counted: np.ndarray) -> Array:
        """The products of x's rows with g's, summed over the pairs that belong to each tap."""
        moved = _beside([_placed(g, low, x.shape[1:-2]) for low in lows])
        found = _summed_products(fenced(x), moved)
        found = found.reshape(tile, kernel[-2], len(lows), tile, kernel[-1])
        return jnp.einsum("pqt,pcfqd->ftcd", jnp.asarray(counted, found.dtype), found)

    (x, x_borders), (g, g_borders) = tiled(x, left_x), tiled(g, left_g)
    p, q, t = np.ogrid[:tile, :tile, :last]
    near = p - q + centre == t
    total = pairs(x, g, near)
    if reach and width > tile:
        total = total + pairs(x_borders, g_borders, near & ((p < reach) != (q < reach)))
    return total.reshape(kernel)


def _beside(maps: Sequence[Array]) -> Array:
    """The channels of all maps in one vector for each place."""
    wide = jnp.stack(maps, axis=-2)
    return fenced(wide.reshape(*wide.shape[:-2], -1))


def _placed(a: Array, low: Sequence[int], size: Sequence[int]) -> Array:
    """`a` with `low` zeros before it along its first axes of space, cut or filled up to `size`."""
    high = [n - m - k for n, m, k in zip(size, a.shape[1:], low, strict=False)]
    edges = [(k, h, 0) for k, h in zip(low, high, strict=True)]
    rest = [(0, 0, 0)] * (a.ndim - 1 - len(edges))
    return lax.pad(a, jnp.zeros((), a.dtype), [(0, 0, 0), *edges, *rest])


# -- tiny channel counts ---------------------------------------------------------------------------


def banded(x: Array, kernel: Array, _: Ints, sides: Pairs, *__: Any) -> Array:
    """Whole rows of outputs from whole rows of inputs, in one product.

    A row of width w and c channels is one vector of w c numbers, and its convolution with a row of
    the kernel a banded matrix. The zeros beside the band cost less than vectors of c numbers would.
    """
    x = fenced(pad(x, sides, 0))
    *first, last = kernel.shape[:-2]
    n, *space, width, c = x.shape
    outputs = width - last + 1
    rows = x.reshape(n, *space, width * c)
    seen = [
        tap_of(rows, tap, tuple(first), (1,) * len(first), (1,) * len(first))
        for tap in product(*map(range, first))
    ]
    p, r, i = np.ogrid[:width, :outputs, :last]
    band = jnp.asarray(p == r + i, kernel.dtype)
    taps = kernel.reshape(-1, last, *kernel.shape[-2:])
    matrix = jnp.einsum("pri,kicd->kpcrd", band, taps).reshape(-1, outputs * kernel.shape[-1])
    y = rows_product(fenced(jnp.concatenate(seen, -1)), matrix)
    return y.reshape(*y.shape[:-1], outputs, kernel.shape[-1])


# -- depthwise convolution ------------------------------------------------------------------------


# Backward pads anew: a padded copy of every map would be kept until then.
@partial(jax.checkpoint, static_argnums=(2, 3, 4, 5))
def depthwise(
    x: Array, kernel: Array, strides: Ints, sides: Pairs, dilations: Ints, _: int
) -> Array:
    """A sum of shifted products, one for each tap."""
    x = pad(x, sides, 0)
    multiplier = kernel.shape[-1] // x.shape[-1]
    if multiplier > 1:
        x = jnp.repeat(x, multiplier, axis=-1)
    total = None
    for tap in product(*map(range, kernel.shape[:-2])):
        seen = tap_of(x, tap, kernel.shape[:-2], strides, dilations)
        term = seen * across(kernel[*tap, 0], seen)
        total = term if total is None else total + term
    assert total is not None
    return total


def tap_of(
    x: Array,
    tap: Ints,
    window: Ints,
    strides: Ints,
    dilations: Ints,
) -> Array:
    """What the position `tap` of every window sees of an already padded map."""
    index = []
    for size, t, k, s, d in zip(x.shape[1:-1], tap, window, strides, dilations, strict=True):
        outputs = (size - d * (k - 1) - 1) // s + 1
        index.append(slice(t * d, t * d + (outputs - 1) * s + 1, s))
    return x[:, *index, :]
