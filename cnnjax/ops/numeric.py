"""What most primitives need: enough digits, and one number per channel set beside a whole batch."""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float


def wide(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x` in at least float32: half-precision numbers are summed there."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def across(channels: Float[Array, " c"], x: Float[Array, "*batch c"]) -> Float[Array, "*ones c"]:
    """One number per channel, shaped to go along the last axis of `x`."""
    return channels.reshape((1,) * (x.ndim - 1) + (-1,))


def normalised(
    x: Float[Array, "*batch c"],
    mean: Float[Array, " c"],
    var: Float[Array, " c"],
    scale: Float[Array, " c"] | None,
    bias: Float[Array, " c"] | None,
    eps: float | int,
) -> Float[Array, "*batch c"]:
    """(x - mean) / sqrt(var + eps) * scale + bias per channel."""
    factor = lax.rsqrt(wide(var) + eps)
    if scale is not None:
        factor = factor * scale
    y = (wide(x) - across(mean, x)) * across(factor, x)
    return (y if bias is None else y + across(bias, x)).astype(x.dtype)
