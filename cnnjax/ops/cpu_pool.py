"""Pooling on the CPU: sums of one axis after the other, a running maximum over taps.

XLA:CPU scatters the gradient of a window's maximum one element at a time; here it is gathered.
"""

import math
from functools import partial, reduce
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from cnnjax.ops.cpu_conv import Ints, tap_of
from cnnjax.ops.cpu_rows import fenced

LARGEST_SUM = 8  # places along an axis of a window; each is one more slice to add


def sums(space: Ints, windows: Ints, strides: Ints) -> bool:
    """Whether windows are few slices along each axis, or side by side."""
    each = zip(space, windows, strides, strict=True)
    return all(k <= LARGEST_SUM or _are_side_by_side(n, k, s) for n, k, s in each)


def _are_side_by_side(size: int, window: int, stride: int) -> bool:
    return window == stride and size % window == 0


def window_sum(
    x: Float[Array, "n *space c"], windows: Ints, strides: Ints
) -> Float[Array, "n *space_out c"]:
    """The sum of each window, one axis after the other."""
    for axis, (k, stride) in enumerate(zip(windows, strides, strict=True), 1):
        size, rest = x.shape[axis], x.shape[axis + 1 :]
        outputs = (size - k) // stride + 1
        if _are_side_by_side(size, k, stride):
            split = x.reshape(-1, k, math.prod(rest))
            taps = [split[:, i] for i in range(k)]
        else:
            reach = (outputs - 1) * stride + 1
            taps = [lax.slice_in_dim(x, i, i + reach, stride, axis) for i in range(k)]
        # Fused into one loop over the windows, the axes would take half as long again.
        total = lax.optimization_barrier(sum(taps[1:], taps[0]))
        x = total.reshape(*x.shape[:axis], outputs, *rest)
    return x


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def max_pool(
    x: Float[Array, "n *space c"], windows: Ints, strides: Ints
) -> Float[Array, "n *space_out c"]:
    """The largest value of each window of a padded map; the first of equals has the gradient."""
    return reduce(jnp.maximum, _seen(x, windows, strides))


def _seen(x: Array, windows: Ints, strides: Ints) -> list[Array]:
    """What each tap of a window sees, one after the other."""
    ones = (1,) * len(windows)
    return [tap_of(x, tap, windows, strides, ones) for tap in product(*map(range, windows))]


def _best(x: Array, windows: Ints, strides: Ints) -> tuple[Array, Array]:
    """The largest value of each window and the number of the tap that holds it first.

    By selection, since half of a maximum's derivative goes to each of two equals.
    """
    best, *others = _seen(x, windows, strides)
    where = jnp.zeros(best.shape, jnp.int8 if _few(windows) else jnp.int32)
    for number, seen in enumerate(others, 1):
        better = (seen > best) | (jnp.isnan(seen) & ~jnp.isnan(best))
        best = jnp.where(better, seen, best)
        where = jnp.where(better, jnp.asarray(number, where.dtype), where)
    return best, where


def _few(windows: Ints) -> bool:
    return math.prod(windows) < 128


def _max_forward(x: Array, windows: Ints, strides: Ints) -> tuple[Array, tuple[Array, Ints]]:
    best, where = _best(x, windows, strides)
    return best, (where, x.shape)


def _max_backward(
    windows: Ints,
    strides: Ints,
    saved: tuple[Array, Ints],
    g: Array,
) -> tuple[Array]:
    """Gather, not scatter: each input asks the windows that hold it whether it was their best.

    Inputs at positions s q + r of an axis, for a residue r of the stride s, are seen by the taps
    t = r, r + s, .. only, from the windows q, q - 1, ..: shifted slices of the outputs.
    """
    where, shape = saved
    g = fenced(g)
    if windows == strides:
        return (_spread(where, g, windows, shape),)
    space = shape[1:-1]
    reach = tuple((k - 1) // s for k, s in zip(windows, strides, strict=True))
    counts = tuple(-(-n // s) for n, s in zip(space, strides, strict=True))
    sides = [
        (0, 0),
        *((f, max(q - o, 0)) for f, q, o in zip(reach, counts, g.shape[1:-1], strict=True)),
        (0, 0),
    ]
    g, where = jnp.pad(g, sides), jnp.pad(where, sides, constant_values=-1)
    numbers = {tap: i for i, tap in enumerate(product(*map(range, windows)))}

    def residue(r: Ints) -> Array:
        total = jnp.zeros((shape[0], *counts, shape[-1]), g.dtype)
        choices = (range(first, k, s) for first, k, s in zip(r, windows, strides, strict=True))
        for tap in product(*choices):
            index = tuple(
                slice(f - (t - first) // s, f - (t - first) // s + q)
                for f, t, first, s, q in zip(reach, tap, r, strides, counts, strict=True)
            )
            here = (slice(None), *index, slice(None))
            total = total + jnp.where(where[here] == numbers[tap], g[here], 0)
        return total

    return (_interleaved(residue, strides, counts, shape),)


def _spread(where: Array, g: Array, windows: Ints, shape: Ints) -> Array:
    """The gradient of windows that do not overlap: each is spread over its own inputs."""
    n, *counts, c = g.shape
    own = [size for q in counts for size in (q, 1)]  # (n, count, 1, count, 1, .., c)
    taps = [size for k in windows for size in (1, k)]
    numbers = jnp.arange(math.prod(windows), dtype=where.dtype).reshape(1, *taps, 1)
    best = where.reshape(n, *own, c) == numbers
    seen = tuple(q * k for q, k in zip(counts, windows, strict=True))
    full = jnp.where(best, g.reshape(n, *own, c), 0).reshape(n, *seen, c)
    rest = [(0, size - k) for size, k in zip(shape[1:-1], seen, strict=True)]
    return jnp.pad(full, [(0, 0), *rest, (0, 0)])


def _interleaved(residue: Any, strides: Ints, counts: Ints, shape: Ints) -> Array:
    """The map whose residues modulo the strides are given one by one, cropped to `shape`."""
    parts = jnp.stack([residue(r) for r in product(*map(range, strides))], axis=-2)
    rank = len(strides)
    # (n, *counts, *strides, c) -> (n, count, stride, count, stride, .., c)
    parts = parts.reshape(shape[0], *counts, *strides, shape[-1])
    order = [0, *(a for i in range(rank) for a in (1 + i, 1 + rank + i)), 1 + 2 * rank]
    whole = parts.transpose(order).reshape(
        shape[0], *(q * s for q, s in zip(counts, strides, strict=True)), shape[-1]
    )
    return whole[:, *(slice(0, n) for n in shape[1:-1]), :]


max_pool.defvjp(_max_forward, _max_backward)
