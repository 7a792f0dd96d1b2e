"""Convolution with windows of 3x3 at stride 1 in fewer products, after Winograd.

Lavin and Gray 2016 (arXiv:1509.09308), section 4.1: F(2x2, 3x3) takes 2x2 outputs from 4x4 inputs
by 16 multiplications where the definition takes 36. Its constants are 1 and 1/2, so in float32 it
is as exact as XLA's own; F(4x4, 3x3) would be faster still and ten times less exact.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from cnnjax.ops.cpu_conv import Ints, with_gradients
from cnnjax.ops.cpu_rows import fenced
from cnnjax.ops.window import Pairs

type Transform = Callable[[Sequence[Any]], list[Any]]
type Places = list[list[Array]]  # what all tiles hold at each of their 4x4 places

OUTPUTS, INPUTS, TAPS = 2, 4, 3
CHANNELS = 64  # below, what is saved in products goes into the sums around them


def pays(x: Array, kernel: Ints, sides: Pairs) -> bool:
    """Whether more is saved in products than goes into sums.

    Half types have no digits to spare for the sums.
    """
    outputs = [n + sum(side) - TAPS + 1 for n, side in zip(x.shape[1:-1], sides, strict=True)]
    deep = min(kernel[-2:]) >= CHANNELS and min(outputs) >= INPUTS
    return deep and x.dtype.name in ("float32", "float64")


def _input_gradient(
    g: Array, kernel: Array, shape: Ints, strides: Ints, sides: Pairs, dilations: Ints
) -> Array:
    """The turned kernel over the gradient, which is a convolution of this kind too."""
    opposite = tuple((TAPS - 1 - low, TAPS - 1 - high) for low, high in sides)
    return _convolution(g, kernel[::-1, ::-1], opposite, channels=1)


def _weight_gradient(
    x: Array, g: Array, kernel: Ints, strides: Ints, sides: Pairs, dilations: Ints
) -> Array:
    """The transpose of `_convolution` in its kernel: G^T [(B^T x B) (A g A^T)] G."""
    tiles = _tiles(g.shape[1:-1])
    seen = _inputs_of(x, sides, tiles)
    whole = [(0, t * OUTPUTS - n, 0) for t, n in zip(tiles, g.shape[1:-1], strict=True)]
    g = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *whole, (0, 0, 0)])
    moved = _of_tiles(_spread, g, tiles, OUTPUTS)
    rows = (((0, 1, 2), (0, 1, 2)), ((), ()))
    found = [
        [lax.dot_general(a, b, rows) for a, b in zip(*pair, strict=True)]
        for pair in zip(seen, moved, strict=True)
    ]
    return jnp.stack([jnp.stack(row) for row in _twice(_gathered, found)])


def _convolution(x: Array, kernel: Array, sides: Pairs, channels: int = 0) -> Array:
    """One matrix product for each of the 4x4 places of a tile; y = A^T [(G k G^T) (B^T x B)] A.

    `channels` is the one of the kernel's two axes of channels that meets those of `x`.
    """
    size = [n + sum(side) - TAPS + 1 for n, side in zip(x.shape[1:-1], sides, strict=True)]
    tiles = _tiles(size)
    taps = _twice(_taps, [[*row] for row in kernel])
    axes = (((3,), (channels,)), ((), ()))
    products = [
        [fenced(lax.dot_general(a, k, axes)) for a, k in zip(*pair, strict=True)]
        for pair in zip(_inputs_of(x, sides, tiles), taps, strict=True)
    ]
    columns = [_sums(column) for column in zip(*products, strict=True)]
    y = jnp.stack(
        [jnp.stack(_sums(row), axis=3) for row in zip(*columns, strict=True)], axis=2
    )  # (n, tiles, 2, tiles, 2, c)
    y = y.reshape(x.shape[0], *(t * OUTPUTS for t in tiles), kernel.shape[3 - channels])
    return y[:, : size[0], : size[1]]


def _tiles(outputs: Sequence[int]) -> list[int]:
    return [-(-n // OUTPUTS) for n in outputs]


def _inputs_of(x: Array, sides: Pairs, tiles: Sequence[int]) -> Places:
    """B^T x B."""
    edges = [
        (low, t * OUTPUTS + INPUTS - OUTPUTS - n - low, 0)
        for t, n, (low, _) in zip(tiles, x.shape[1:-1], sides, strict=True)
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    return _of_tiles(_inputs, x, tiles, INPUTS)


def _of_tiles(transform: Transform, x: Array, tiles: Sequence[int], size: int) -> Places:
    """A transform of tiles of `size` by `size`, OUTPUTS apart, first down, then across."""

    def places(x: Array, axis: int) -> list[Array]:
        reach = (tiles[axis - 1] - 1) * OUTPUTS + 1
        return [lax.slice_in_dim(x, i, i + reach, OUTPUTS, axis) for i in range(size)]

    # Both axes in one go would save a twentieth of the time, and cost a fifth more to compile.
    rows = map(fenced, transform(places(fenced(x), 1)))
    return [[fenced(a) for a in transform(places(row, 2))] for row in rows]


def _twice(transform: Transform, places: Sequence[Sequence[Array]]) -> Places:
    """A transform of what is given by places: first down, then across."""
    columns = [map(fenced, transform(column)) for column in zip(*places, strict=True)]
    return [[fenced(a) for a in transform(row)] for row in zip(*columns, strict=True)]


def _inputs(d: Sequence[Any]) -> list[Any]:
    """B^T d."""
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _taps(k: Sequence[Any]) -> list[Any]:
    """G k."""
    outer = k[0] + k[2]
    return [k[0], (outer + k[1]) / 2, (outer - k[1]) / 2, k[2]]


def _gathered(m: Sequence[Any]) -> list[Any]:
    """G^T m."""
    return [m[0] + (m[1] + m[2]) / 2, (m[1] - m[2]) / 2, (m[1] + m[2]) / 2 + m[3]]


def _sums(m: Sequence[Any]) -> list[Any]:
    """A^T m."""
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _spread(g: Sequence[Any]) -> list[Any]:
    """A g."""
    return [g[0], g[0] + g[1], g[0] - g[1], -g[1]]


@with_gradients(_input_gradient, _weight_gradient)
def winograd(
    x: Array, kernel: Array, strides: Ints, sides: Pairs, dilations: Ints, groups: int
) -> Array:
    """F(2x2, 3x3)."""
    return _convolution(x, kernel, sides)
