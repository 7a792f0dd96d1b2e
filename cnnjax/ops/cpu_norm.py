"""Batch normalisation on the CPU, with a gradient that reads and writes whole maps rarely.

There its arithmetic costs little and its traffic much. Derived step by step, XLA keeps `x - mean`
beside `x` and goes over whole maps about twice as often.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from cnnjax.ops.cpu_conv import fenced
from cnnjax.ops.numeric import across, normalised, wide

type Found = tuple[Array, Array, Array]


def by_batch(
    x: Float[Array, "*batch c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    eps: float | int,
) -> Found:
    """`x` normalised by its mean and (biased) variance per channel, and those two."""
    mean, var = _statistics(x)
    return normalised(x, mean, var, scale, bias, eps), mean, var


def _statistics(x: Array) -> tuple[Array, Array]:
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(wide(x), axis=axes)
    return mean, jnp.mean(jnp.square(wide(x) - across(mean, x)), axis=axes)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def by_batch_once(x: Array, scale: Array, bias: Array, eps: float | int) -> Found:
    """`by_batch`, whose gradient goes over the maps once for its sums and once for the result."""
    return by_batch(x, scale, bias, eps)


def _forward(
    x: Array, scale: Array, bias: Array, eps: float | int
) -> tuple[Found, tuple[Array, ...]]:
    # Behind a fence the mean is another number than before it. Were it the same, XLA would compute
    # x - mean once for all that need it, and so write it to memory and read it from there.
    mean, var = map(fenced, _statistics(x))
    return (normalised(x, mean, var, scale, bias, eps), mean, var), (x, scale, mean, var)


def _backward(
    eps: float | int, saved: tuple[Array, ...], gradients: Found
) -> tuple[Array, Array, Array]:
    """The chain rule of Ioffe & Szegedy 2015, section 3; g_mean and g_var are mostly zeros."""
    x, scale, mean, var = saved
    g, g_mean, g_var = fenced(gradients[0]), *gradients[1:]
    axes, count = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    centred = wide(x) - across(fenced(mean), x)
    g_bias = jnp.sum(wide(g), axis=axes)
    g_centred = jnp.sum(wide(g) * centred, axis=axes)
    inverse = lax.rsqrt(var + eps)
    factor = inverse * scale
    slope = (2 * g_var - factor * inverse**2 * g_centred) / count
    offset = (g_mean - factor * g_bias) / count
    gx = wide(g) * across(factor, x) + (wide(x) - across(mean, x)) * across(slope, x)
    gx = (gx + across(offset, x)).astype(x.dtype)
    return gx, (g_centred * inverse).astype(scale.dtype), g_bias.astype(scale.dtype)


by_batch_once.defvjp(_forward, _backward)
