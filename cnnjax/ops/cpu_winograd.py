"""Convolution at stride 1 with windows of 3, 5 or 7 taps in fewer products, after Winograd.

Lavin and Gray 2016 (arXiv:1509.09308), section 4.1: F(4x4, 3x3) takes 4x4 outputs from 6x6 inputs
by 36 multiplications where the definition takes 144. F(4x4, 5x5) takes 64 instead of 400, and
F(4, 7) along one axis 10 instead of 28.

How exact it is depends on the points at which it evaluates polynomials (Barabasz et al. 2020,
arXiv:1803.10986). With Lavin and Gray's for 3x3, 1, -1, 2 and -2 beside 0 and infinity, float32
results are wrong by 3e-6 to 2e-5 of the largest. With these, those of 3x3 are by 1e-6 to 5e-6, of
3x3x3 by 2e-6 to 7e-6, of seven taps along one axis by 3e-6 to 1e-5, of 5x5 and 7x3 by 4e-6 to 2e-5,
each by the most with 512 channels; XLA's own by 3e-7 to 1e-6.
"""

import math
from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cnnjax.ops.cpu_conv import Ints, with_gradients
from cnnjax.ops.cpu_rows import fenced
from cnnjax.ops.window import Pairs

type Matrix = np.ndarray

OUTPUTS = 4  # of a tile, along each axis
REACH = 8  # taps of all axes beyond the first of each: with 10, of 5x7, 3e-5 would be lost
# Beside infinity, by the taps of an axis.
POINTS = {
    3: (0.0, 2 / 3, -2 / 3, 3 / 2, -3 / 2),
    5: (0.0, 1 / 2, -1 / 2, 1.0, -1.0, 2.0, -2.0),
    7: (0.0, 1 / 2, -1 / 2, 4 / 5, -4 / 5, 4 / 3, -4 / 3, 2.0, -2.0),
}
# With fewer channels, what products save goes into the sums around them: of 3x3 with 16 -> 192 all
# three ways take 1.8 of the time.
NARROWEST = 32
# Of all images at least, and of them for each product of a tile; with fewer places, what products
# save goes into transforming the kernel.
PLACES, PLACES_EACH = 256, 6


class Transforms(NamedTuple):
    """A, G and B of Toom and Cook, the paper's A, G and B^T: a row for each point and infinity."""

    A: Matrix
    G: Matrix
    B: Matrix


def _transforms(taps: int, points: Sequence[float]) -> Transforms:
    """F(4, taps) along an axis.

    In A the powers of a point; in G the same over the product of its distances from the others; in
    B the coefficients of the polynomial that is zero at all the others.
    """
    others = [[q for q in points if q != p] for p in points]
    apart = [np.prod(np.subtract(p, rest)) for p, rest in zip(points, others, strict=True)]
    vanishing = [*(np.poly(rest)[::-1] for rest in others), np.poly(points)[::-1]]
    return Transforms(
        _powers(points, OUTPUTS),
        _powers(points, taps) / np.array([*apart, 1])[:, None],
        np.array([np.pad(row, (0, len(points) + 1 - len(row))) for row in vanishing]),
    )


def _powers(points: Sequence[float], count: int) -> Matrix:
    """Of each point from 0 on, and of infinity the highest alone."""
    return np.vstack([np.vander(points, count, increasing=True), np.eye(count)[-1]])


TRANSFORMS = {taps: _transforms(taps, points) for taps, points in POINTS.items()}


def pays(x: Array, kernel: Ints, sides: Pairs) -> bool:
    """Whether more is saved in products than goes into sums.

    Half types have no digits to spare for the sums, and the smallest maps no room for a tile.
    """
    window = kernel[:-2]
    if not set(window) <= {1, *POINTS} or not 0 < sum(t - 1 for t in window) <= REACH:
        return False
    axes = _along(window)
    products = math.prod(len(t.B) for t in axes.values())
    outputs = _outputs(x, window, sides)
    return (
        min(kernel[-2:]) >= NARROWEST
        and min(outputs[i] for i in axes) >= OUTPUTS
        and x.shape[0] * math.prod(outputs) >= max(PLACES, PLACES_EACH * products)
        and x.dtype.name in ("float32", "float64")
    )


def _along(window: Ints) -> dict[int, Transforms]:
    """Of the axes of space along which the window has more than one tap."""
    return {i: TRANSFORMS[taps] for i, taps in enumerate(window) if taps > 1}


def _outputs(x: Array, window: Ints, sides: Pairs) -> list[int]:
    space = x.shape[1:-1]
    return [n + sum(side) - t + 1 for n, side, t in zip(space, sides, window, strict=True)]


def _tiles(outputs: Sequence[int], window: Ints) -> list[int]:
    """Along each axis; where the window has one tap, a tile is a place."""
    return [-(-n // OUTPUTS) if t > 1 else n for n, t in zip(outputs, window, strict=True)]


def _input_gradient(
    g: Array, kernel: Array, shape: Ints, strides: Ints, sides: Pairs, dilations: Ints
) -> Array:
    """The turned kernel over the gradient, which is a convolution of this kind too."""
    reach = [t - 1 for t in kernel.shape[:-2]]
    opposite = tuple((r - low, r - high) for r, (low, high) in zip(reach, sides, strict=True))
    return _convolution(g, kernel, opposite, turned=True)


def _weight_gradient(
    x: Array, g: Array, kernel: Ints, strides: Ints, sides: Pairs, dilations: Ints
) -> Array:
    """The transpose of `_convolution` in its kernel: G^T [(B x B^T) (A g A^T)] G."""
    window = kernel[:-2]
    axes = _along(window)
    tiles = _tiles(g.shape[1:-1], window)
    seen = _of_tiles({i: t.B for i, t in axes.items()}, x, [low for low, _ in sides], tiles)
    moved = _of_tiles({i: t.A for i, t in axes.items()}, g, [0] * len(tiles), tiles)
    found = fenced(lax.dot_general(seen, moved, (((1,), (1,)), ((0,), (0,)))))
    return _of_kernels(_of_all_taps(window).T, found).reshape(kernel)


def _convolution(x: Array, kernel: Array, sides: Pairs, *, turned: bool = False) -> Array:
    """A matrix product for each place of a transformed tile; y = A^T [(B x B^T) (G k G^T)] A.

    A `turned` kernel has its taps in reverse, and its outputs meet the channels of `x`.
    """
    window = kernel.shape[:-2]
    axes = _along(window)
    size = _outputs(x, window, sides)
    tiles = _tiles(size, window)
    seen = _of_tiles({i: t.B for i, t in axes.items()}, x, [low for low, _ in sides], tiles)
    matrix = _of_all_taps(window)
    taps = _of_kernels(
        matrix[:, ::-1] if turned else matrix, kernel.reshape(-1, *kernel.shape[-2:])
    )
    found = fenced(lax.dot_general(seen, taps, (((2,), (1 + turned,)), ((0,), (0,)))))
    y = found.reshape(*(len(t.B) for t in axes.values()), x.shape[0], *tiles, -1)
    for i, t in axes.items():
        y = _combined(t.A.T, y, axis=len(axes) + 1 + i)  # right behind the axis of its tiles
    whole = [n * OUTPUTS if i in axes else n for i, n in enumerate(tiles)]
    return y.reshape(x.shape[0], *whole, -1)[:, *map(slice, size)]


def _of_all_taps(window: Ints) -> Matrix:
    """G of all axes at once: of the taps of a window in their order."""
    return reduce(np.kron, [t.G for t in _along(window).values()])


def _of_kernels(matrix: Matrix, kernels: Array) -> Array:
    """A transform of the first axis, as a product: it compiles in a fifth of the time of sums."""
    return fenced(jnp.tensordot(jnp.asarray(matrix, kernels.dtype), kernels, 1))


def _of_tiles(
    matrices: dict[int, Matrix], x: Array, lows: Sequence[int], tiles: Sequence[int]
) -> Array:
    """A transform of tiles as large as a matrix is wide, OUTPUTS apart: (places, n x tiles, c).

    The first begins `lows` before the map, and whatever a tile has beyond the map is zero.
    """
    reaches = list(tiles)
    for i, matrix in matrices.items():
        reaches[i] = (tiles[i] - 1) * OUTPUTS + matrix.shape[1]
    space = zip(lows, reaches, x.shape[1:-1], strict=True)
    edges = [(0, 0, 0), *((low, reach - n - low, 0) for low, reach, n in space), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), edges)
    # Across, then down. The loop over the places of a tile is inside that over rows, so that these
    # are in the cache; but products want the places first, and so does the loop of the first axis.
    first, *others = matrices
    for i, matrix in reversed(matrices.items()):
        axis = 1 + i
        reach = (tiles[i] - 1) * OUTPUTS + 1
        seen = [lax.slice_in_dim(x, j, j + reach, OUTPUTS, axis) for j in range(matrix.shape[1])]
        if i == first:
            axis = 0
            places = [1 + other + count for count, other in enumerate(others)]
            seen = [jnp.moveaxis(a, places, range(len(places))) for a in seen]
        x = _combined(matrix, seen, axis)
    return x.reshape(math.prod(x.shape[: len(matrices)]), -1, x.shape[-1])


def _combined(matrix: Matrix, places: Sequence[Array] | Array, axis: int = 0) -> Array:
    """The product of a matrix with what stands at each place, as sums, on a new axis.

    One loop for all its rows: with one for each, a network compiles twice as long.
    """
    around = [-1 if i == axis else 1 for i in range(places[0].ndim + 1)]
    terms = (
        jnp.expand_dims(place, axis) * jnp.asarray(column.reshape(around), place.dtype)
        for place, column in zip(places, matrix.T, strict=True)
    )
    return fenced(reduce(add, terms))


@with_gradients(_input_gradient, _weight_gradient)
def winograd(
    x: Array, kernel: Array, strides: Ints, sides: Pairs, dilations: Ints, groups: int
) -> Array:
    """F(4, taps) along each axis."""
    return _convolution(x, kernel, sides)
