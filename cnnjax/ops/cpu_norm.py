"""Batch normalisation on the CPU, with a gradient that reads and writes whole maps rarely.

There its arithmetic costs little and its traffic much. Derived step by step, XLA keeps `x - mean`
beside `x` and goes over whole maps about twice as often.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from cnnjax.ops.cpu_rows import along, fenced, rows, sums
from cnnjax.ops.numeric import normalised, wide

type Found = tuple[Array, Array, Array]


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def by_batch(
    x: Float[Array, "*batch c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    eps: float | int,
) -> Found:
    """`x` normalised by its mean and (biased) variance per channel, and those two."""
    return _forward(x, scale, bias, eps)[0]


def _forward(
    x: Array, scale: Array, bias: Array, eps: float | int
) -> tuple[Found, tuple[Array, ...]]:
    count = x.size // x.shape[-1]
    # Behind a fence the mean is another number than before it. Were it the same, XLA would compute
    # x - mean once for all that need it, and so write it to memory and read it from there.
    plain = sums(wide, [x]) / count
    mean = fenced(plain)
    var = fenced(sums(lambda seen, centre: jnp.square(wide(seen) - centre), [x], [plain]) / count)
    factor = lax.rsqrt(var + eps) * scale
    y = normalised(rows(x), *(along(v, x) for v in (mean, factor, bias))).reshape(x.shape)
    return (y, mean, var), (x, scale, mean, var)


def _backward(
    eps: float | int, saved: tuple[Array, ...], gradients: Found
) -> tuple[Array, Array, Array]:
    """The chain rule of Ioffe & Szegedy 2015, section 3; g_mean and g_var are mostly zeros."""
    x, scale, mean, var = saved
    g_mean, g_var = gradients[1:]
    count = x.size // x.shape[-1]
    gy = fenced(gradients[0])
    g_bias = sums(wide, [gy])
    g_centred = sums(
        lambda g, seen, centre: wide(g) * (wide(seen) - centre), [gy, x], [fenced(mean)]
    )
    inverse = lax.rsqrt(var + eps)
    factor = inverse * scale
    slope = (2 * g_var - factor * inverse**2 * g_centred) / count
    offset = (g_mean - factor * g_bias) / count
    centred = wide(rows(x)) - along(mean, x)
    gx = wide(rows(gy)) * along(factor, x) + centred * along(slope, x) + along(offset, x)
    gx = gx.astype(x.dtype).reshape(x.shape)
    return gx, (g_centred * inverse).astype(scale.dtype), g_bias.astype(scale.dtype)


by_batch.defvjp(_forward, _backward)
