"""Arithmetic on whole maps on the CPU: what is computed once, and in loops of which length.

XLA:CPU's innermost loop goes over the last axis. Over 6 or 16 channels it is too short for vector
instructions; over a row of the map, its width times its channels, it is not.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from cnnjax.ops.numeric import across

STREAMS = 8  # in which a map is read to be added up; with 4 or 16, no better
LARGE = 2**21  # bytes of such a map; all of them would make programs half as long again
FEW = 16  # with 32, a step of ResNet-20 takes 1.1 of the time


def fenced(x: Array) -> Array:
    """`x`, computed once and stored.

    Without the fence XLA:CPU fuses whatever made `x` (batch norm, activation, the addition of a
    shortcut) into the copy that lays it out for a convolution, and computes it again, scalar by
    scalar, for each of the three convolutions that read it.
    """
    return lax.optimization_barrier(rows(x)).reshape(x.shape)


def rows(x: Float[Array, "*shape"]) -> Array:
    """A map of few channels as a matrix, with a row of the map in each row; others as they are."""
    return x.reshape(-1, x.shape[-2] * x.shape[-1]) if _in_rows(x) else x


def along(channels: Float[Array, " c"], x: Float[Array, "*batch c"]) -> Array:
    """One number per channel of `x`, shaped to go along the last axis of `rows(x)`."""
    if not _in_rows(x):
        return across(channels, x)
    # Without the fence XLA takes the matrix for the map again.
    return lax.optimization_barrier(jnp.tile(channels, x.shape[-2]))[None]


def sums(
    values: Callable[..., Array], maps: Sequence[Array], channels: Sequence[Array] = ()
) -> Float[Array, " c"]:
    """The sum for each channel of `values` of maps of one shape and of numbers per channel.

    XLA's library adds up what is in memory, and takes 1.1 to 2 times as long where it computes the
    values itself. Those of large maps are added up over places far apart before they are written.
    """
    x = maps[0]
    images, length = x.shape[0] if x.ndim > 1 else 1, rows(x).shape[-1]
    maps = [m.reshape(images, -1, length) for m in maps]
    beside = [along(v, x).reshape(1, 1, length) for v in channels]

    def of(start: int, stop: int) -> Array:
        return values(*(lax.slice_in_dim(m, start, stop, axis=1) for m in maps), *beside)

    places = maps[0].shape[1]
    share = places // STREAMS if x.size * x.dtype.itemsize >= LARGE else 0
    parts = [of(STREAMS * share, places)]
    if share:
        parts.append(fenced(reduce(add, [of(i * share, (i + 1) * share) for i in range(STREAMS)])))
    columns = reduce(add, [jnp.sum(part, axis=(0, 1)) for part in parts])
    return columns.reshape(-1, x.shape[-1]).sum(0)


def reshapes(x: Array) -> bool:
    """Whether axes may be merged: some are there, and the caller has not said where each lies."""
    meshes = jax.typeof(x).sharding.mesh, jax.sharding.get_abstract_mesh()
    return x.size > 0 and not any(mesh.explicit_axes for mesh in meshes)


def _in_rows(x: Array) -> bool:
    return x.ndim > 2 and x.shape[-1] <= FEW and reshapes(x)
