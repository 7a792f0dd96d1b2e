"""Convolution with windows of 3x3 at stride 1 in fewer products, after Winograd.

Lavin and Gray 2016 (arXiv:1509.09308), section 4.1: F(2x2, 3x3) takes 2x2 outputs from 4x4 inputs
by 16 multiplications where the definition takes 36. Its constants are 1 and 1/2, so in float32 it
is as exact as XLA's own; F(4x4, 3x3) would be faster still and ten times less exact.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from cnnjax.ops.cpu_conv import Ints, with_gradients
from cnnjax.ops.cpu_rows import fenced
from cnnjax.ops.window import Pairs

OUTPUTS, INPUTS, TAPS = 2, 4, 3
CHANNELS = 64  # below, what is saved in products goes into the sums around them


def pays(x: Array, kernel: Ints, sides: Pairs) -> bool:
    """Whether more is saved in products than goes into sums: on maps twice as deep as wide.

    Half types have no digits to spare for the sums.
    """
    outputs = [n + sum(side) - TAPS + 1 for n, side in zip(x.shape[1:-1], sides, strict=True)]
    deep = min(kernel[-2:]) >= max(CHANNELS, 2 * max(outputs)) and min(outputs) >= INPUTS
    return deep and x.dtype.name in ("float32", "float64")


def _input_gradient(
    g: Array, kernel: Array, shape: Ints, strides: Ints, sides: Pairs, dilations: Ints
) -> Array:
    """The turned kernel over the gradient, which is a convolution of this kind too."""
    opposite = tuple((TAPS - 1 - low, TAPS - 1 - high) for low, high in sides)
    return _convolution(g, kernel[::-1, ::-1], opposite, channels=1)


@with_gradients(_input_gradient)
def winograd(
    x: Array, kernel: Array, strides: Ints, sides: Pairs, dilations: Ints, groups: int
) -> Array:
    """F(2x2, 3x3)."""
    return _convolution(x, kernel, sides)


def _convolution(x: Array, kernel: Array, sides: Pairs, channels: int = 0) -> Array:
    """One matrix product for each of the 4x4 places of a tile; y = A^T [(G k G^T) (B^T x B)] A.

    `channels` is the one of the kernel's two axes of channels that meets those of `x`.
    """
    n, *size, _ = x.shape
    outputs = [s + low + high - TAPS + 1 for s, (low, high) in zip(size, sides, strict=True)]
    tiles = [-(-o // OUTPUTS) for o in outputs]
    edges = [
        (low, t * OUTPUTS + INPUTS - OUTPUTS - s - low, 0)
        for t, s, (low, _) in zip(tiles, size, sides, strict=True)
    ]
    x = fenced(lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)]))

    def places(x: Array, axis: int) -> list[Array]:
        """What a tile holds at each of its places along `axis`."""
        last = (tiles[axis - 1] - 1) * OUTPUTS + 1
        return [lax.slice_in_dim(x, i, i + last, OUTPUTS, axis) for i in range(INPUTS)]

    seen = [_inputs(places(row, 2)) for row in _inputs(places(x, 1))]
    taps = [_taps([*row]) for row in _taps([*kernel])]
    products = [
        [fenced(_product(fenced(a), fenced(k), channels)) for a, k in zip(*rows, strict=True)]
        for rows in zip(seen, taps, strict=True)
    ]
    columns = [_sums(column) for column in zip(*products, strict=True)]
    y = jnp.stack(
        [jnp.stack(_sums(row), axis=3) for row in zip(*columns, strict=True)], axis=2
    )  # (n, tiles, 2, tiles, 2, c)
    y = y.reshape(n, *(t * OUTPUTS for t in tiles), kernel.shape[3 - channels])
    return y[:, : outputs[0], : outputs[1]]


def _product(x: Array, kernel: Array, channels: int) -> Array:
    return lax.dot_general(x, kernel, (((3,), (channels,)), ((), ())))


def _inputs(d: Sequence[Any]) -> list[Any]:
    """B^T d."""
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _taps(k: Sequence[Any]) -> list[Any]:
    """G k."""
    outer = k[0] + k[2]
    return [k[0], (outer + k[1]) / 2, (outer - k[1]) / 2, k[2]]


def _sums(m: Sequence[Any]) -> list[Any]:
    """A^T m."""
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]
