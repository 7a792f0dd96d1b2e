"""Convolution with windows of 3x3 at stride 1 in fewer products, after Winograd.

Lavin and Gray 2016 (arXiv:1509.09308), section 4.1: F(4x4, 3x3) takes 4x4 outputs from 6x6 inputs
by 36 multiplications where the definition takes 144. How exact it is depends on the points at
which it evaluates polynomials (Barabasz et al. 2020, arXiv:1803.10986). With Lavin and Gray's, 1,
-1, 2 and -2 beside 0 and infinity, float32 results are wrong by 3e-6 to 2e-5 of the largest; with
these by 1e-6 to 5e-6, where XLA's own are by 5e-7.
"""

import math
from collections.abc import Sequence
from functools import reduce
from operator import add

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cnnjax.ops.cpu_conv import Ints, with_gradients
from cnnjax.ops.cpu_rows import fenced
from cnnjax.ops.window import Pairs

type Matrix = np.ndarray

OUTPUTS, INPUTS, TAPS = 4, 6, 3
POINTS = (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)
# With fewer channels, what products save goes into the sums around them: with 16 -> 192 all three
# ways take 1.8 of the time.
NARROWEST = 32
PLACES = 400  # of all images; with fewer it goes into transforming the kernel


def pays(x: Array, kernel: Ints, sides: Pairs) -> bool:
    """Whether more is saved in products than goes into sums.

    Half types have no digits to spare for the sums, and the smallest maps no room for a tile.
    """
    outputs = [n + sum(side) - TAPS + 1 for n, side in zip(x.shape[1:-1], sides, strict=True)]
    return (
        min(kernel[-2:]) >= NARROWEST
        and min(outputs) >= OUTPUTS
        and x.shape[0] * math.prod(outputs) >= PLACES
        and x.dtype.name in ("float32", "float64")
    )


def _matrices() -> tuple[Matrix, Matrix, Matrix]:
    """A, G and B of Toom and Cook, the paper's A, G and B^T: a row for each point and infinity.

    In A the powers of a point; in G the same over the product of its distances from the others; in
    B the coefficients of the polynomial that is zero at all the others.
    """
    others = [[q for q in POINTS if q != p] for p in POINTS]
    apart = [[np.prod(np.subtract(p, rest))] for p, rest in zip(POINTS, others, strict=True)]
    powers = np.vander(POINTS, OUTPUTS, increasing=True)
    highest = np.eye(OUTPUTS)[-1]
    vanishing = [*(np.poly(rest)[::-1] for rest in others), np.poly(POINTS)[::-1]]
    return (
        np.vstack([powers, highest]),
        np.vstack([powers[:, :TAPS] / apart, highest[-TAPS:]]),
        np.array([np.pad(row, (0, INPUTS - len(row))) for row in vanishing]),
    )


A, G, B = _matrices()


def _input_gradient(
    g: Array, kernel: Array, shape: Ints, strides: Ints, sides: Pairs, dilations: Ints
) -> Array:
    """The turned kernel over the gradient, which is a convolution of this kind too."""
    opposite = tuple((TAPS - 1 - low, TAPS - 1 - high) for low, high in sides)
    return _convolution(g, kernel[::-1, ::-1], opposite, channels=1)


def _weight_gradient(
    x: Array, g: Array, kernel: Ints, strides: Ints, sides: Pairs, dilations: Ints
) -> Array:
    """The transpose of `_convolution` in its kernel: G^T [(B x B^T) (A g A^T)] G."""
    tiles = _tiles(g.shape[1:-1])
    whole = [(0, t * OUTPUTS - n, 0) for t, n in zip(tiles, g.shape[1:-1], strict=True)]
    g = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *whole, (0, 0, 0)])
    seen, moved = _inputs_of(x, sides, tiles), _of_tiles(A, g, tiles)
    found = fenced(lax.dot_general(seen, moved, (((1,), (1,)), ((0,), (0,)))))
    return _of_squares(G.T, found.reshape(INPUTS, INPUTS, *found.shape[1:]))


def _convolution(x: Array, kernel: Array, sides: Pairs, channels: int = 0) -> Array:
    """A matrix product for each of the 6x6 places of a tile; y = A^T [(B x B^T) (G k G^T)] A.

    `channels` is the one of the kernel's two axes of channels that meets those of `x`.
    """
    size = [n + sum(side) - TAPS + 1 for n, side in zip(x.shape[1:-1], sides, strict=True)]
    tiles = _tiles(size)
    taps = _of_squares(G, kernel).reshape(-1, *kernel.shape[2:])
    axes = (((2,), (1 + channels,)), ((0,), (0,)))
    found = lax.dot_general(_inputs_of(x, sides, tiles), taps, axes)
    found = fenced(found).reshape(INPUTS, INPUTS, x.shape[0], *tiles, -1)
    rows = _combined(A.T, found)
    columns = [rows[:, j].transpose(1, 2, 0, 3, 4) for j in range(INPUTS)]
    y = _combined(A.T, columns, axis=4)  # (n, tiles, 4, tiles, 4, c)
    y = y.reshape(x.shape[0], *(t * OUTPUTS for t in tiles), -1)
    return y[:, : size[0], : size[1]]


def _tiles(outputs: Sequence[int]) -> list[int]:
    return [-(-n // OUTPUTS) for n in outputs]


def _inputs_of(x: Array, sides: Pairs, tiles: Sequence[int]) -> Array:
    """B x B^T."""
    edges = [
        (low, t * OUTPUTS + INPUTS - OUTPUTS - n - low, 0)
        for t, n, (low, _) in zip(tiles, x.shape[1:-1], sides, strict=True)
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    return _of_tiles(B, x, tiles)


def _of_tiles(matrix: Matrix, x: Array, tiles: Sequence[int]) -> Array:
    """A transform of tiles as large as the matrix is wide, OUTPUTS apart: (6x6, n x tiles, c)."""
    for count in reversed(tiles):  # across, then down, where an axis more stands before the others
        reach = (count - 1) * OUTPUTS + 1
        places = [lax.slice_in_dim(x, i, i + reach, OUTPUTS, 2) for i in range(matrix.shape[1])]
        x = _combined(matrix, places)
    return x.reshape(INPUTS**2, -1, x.shape[-1])


def _of_squares(matrix: Matrix, places: Array) -> Array:
    """A transform of the first two axes."""
    rows = _combined(matrix, places)
    return _combined(matrix, rows.swapaxes(0, 1), axis=1)


def _combined(matrix: Matrix, places: Sequence[Array] | Array, axis: int = 0) -> Array:
    """The product of a matrix with what stands at each place, on a new axis.

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
    """F(4x4, 3x3)."""
    return _convolution(x, kernel, sides)
