"""What most primitives need: enough digits, and one number per channel set beside a whole batch."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


def wide(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x` in at least float32: half-precision numbers are summed there."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def across(channels: Float[Array, " c"], x: Float[Array, "*batch c"]) -> Float[Array, "*ones c"]:
    """One number per channel, shaped to go along the last axis of `x`."""
    return channels.reshape((1,) * (x.ndim - 1) + (-1,))


def normalised(
    x: Float[Array, "*batch c"],
    mean: Float[Array, "*ones c"],
    factor: Float[Array, "*ones c"],
    bias: Float[Array, "*ones c"],
) -> Float[Array, "*batch c"]:
    """(x - mean) * factor + bias, in at least float32 and returned as `x` came."""
    return ((wide(x) - mean) * factor + bias).astype(x.dtype)
