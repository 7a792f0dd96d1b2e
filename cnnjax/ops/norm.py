"""Normalisation over the batch, the channels, groups of channels, or neighbouring channels."""

from typing import Literal

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from cnnjax.errors import ShapeError
from cnnjax.ops.lowering import normalise_by_batch, standardise
from cnnjax.ops.numeric import across, wide


def batch_norm(
    x: Float[Array, "*batch c"],
    mean: Float[Array, " c"],
    var: Float[Array, " c"],
    scale: Float[Array, " c"] | None = None,
    bias: Float[Array, " c"] | None = None,
    *,
    eps: float | int = 1e-5,
) -> Float[Array, "*batch c"]:
    """(x - mean) / sqrt(var + eps) * scale + bias per channel (Ioffe & Szegedy 2015, alg. 2).

    Evaluation: the statistics are given. Computed in at least float32, returned as `x` came.
    """
    return standardise(x, mean, var, *_given(x, scale, bias), eps)


def batch_norm_train(
    x: Float[Array, "*batch c"],
    mean: Float[Array, " c"],
    var: Float[Array, " c"],
    scale: Float[Array, " c"] | None = None,
    bias: Float[Array, " c"] | None = None,
    *,
    eps: float | int = 1e-5,
    momentum: float | int = 0.9,
    unbiased: bool = False,
) -> tuple[Float[Array, "*batch c"], tuple[Float[Array, " c"], Float[Array, " c"]]]:
    """Normalise by the batch's own statistics; return y and the new running (mean, var).

    Ioffe & Szegedy 2015, alg. 1. The running statistics are new = momentum * old +
    (1 - momentum) * batch, so torch's momentum 0.1 is 0.9 here. y uses the biased variance always;
    the running variance is biased too, as Flax and Keras have it, unless `unbiased` (the paper,
    torch). The mean is subtracted before squaring, so a large mean costs no digits. ShapeError
    where an unbiased variance is asked of one value per channel.
    """
    count = x.size // max(x.shape[-1], 1)
    if count < (2 if unbiased else 1):
        raise ShapeError(f"batch statistics need more values per channel than {x.shape} holds")
    y, batch_mean, batch_var = normalise_by_batch(x, *_given(x, scale, bias), eps)
    stored = batch_var * (count / (count - 1)) if unbiased else batch_var
    return y, (_blend(mean, batch_mean, momentum), _blend(var, stored, momentum))


def layer_norm(
    x: Float[Array, "*batch c"],
    scale: Float[Array, " c"] | None = None,
    bias: Float[Array, " c"] | None = None,
    *,
    eps: float | int = 1e-6,
) -> Float[Array, "*batch c"]:
    """Normalise each position over its channels (Ba et al. 2016, eq. 3; ConvNeXt, sec. 2.6)."""
    y = _standardise(wide(x), (-1,), eps)
    return _affine(y, scale, bias).astype(x.dtype)


def group_norm(
    x: Float[Array, "n *space c"],
    scale: Float[Array, " c"] | None = None,
    bias: Float[Array, " c"] | None = None,
    *,
    groups: int = 32,
    eps: float | int = 1e-5,
) -> Float[Array, "n *space c"]:
    """Normalise each example over space and each group of channels (Wu & He 2018, sec. 3.1).

    One group is layer norm over the whole example, one per channel is instance norm.
    """
    channels = x.shape[-1]
    if groups < 1 or channels % groups:
        raise ShapeError(f"{groups} groups do not divide {channels} channels")
    split = wide(x).reshape(*x.shape[:-1], groups, channels // groups)
    axes = (*range(1, x.ndim - 1), x.ndim)
    y = _standardise(split, axes, eps).reshape(x.shape)
    return _affine(y, scale, bias).astype(x.dtype)


def local_response_norm(
    x: Float[Array, "*batch c"],
    *,
    size: int = 5,
    alpha: float | int = 1e-4,
    beta: float | int = 0.75,
    k: float | int = 2.0,
    convention: Literal["paper", "torch"] = "paper",
) -> Float[Array, "*batch c"]:
    """x / (k + alpha * (sum of squares of `size` neighbouring channels)) ** beta.

    Krizhevsky et al. 2012, sec. 3.3. `"torch"` divides alpha by `size`: the paper's 1e-4 is
    torch's 5e-4. An even window reaches one channel further down than up.
    """
    if size < 1:
        raise ShapeError(f"local response norm needs a window of at least 1 channel, not {size}")
    before, after = size // 2, (size - 1) // 2
    around = [(0, 0)] * (x.ndim - 1) + [(before, after)]
    squares = jnp.pad(jnp.square(wide(x)), around)
    channels = x.shape[-1]
    total = sum(lax.slice_in_dim(squares, i, i + channels, axis=-1) for i in range(size))
    rate = alpha / size if convention == "torch" else alpha
    return (wide(x) * (k + rate * total) ** -beta).astype(x.dtype)


def _standardise(
    x: Float[Array, "*shape"], axes: tuple[int, ...], eps: float | int
) -> Float[Array, "*shape"]:
    """Mean zero and (biased) variance one over `axes`."""
    centred = x - jnp.mean(x, axis=axes, keepdims=True)
    return centred * lax.rsqrt(jnp.mean(jnp.square(centred), axis=axes, keepdims=True) + eps)


def _affine(
    x: Float[Array, "*batch c"],
    scale: Float[Array, " c"] | None,
    bias: Float[Array, " c"] | None,
) -> Float[Array, "*batch c"]:
    if scale is not None:
        x = x * across(scale, x)
    return x if bias is None else x + across(bias, x)


def _given(
    x: Float[Array, "*batch c"],
    scale: Float[Array, " c"] | None,
    bias: Float[Array, " c"] | None,
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Ones for a scale that is absent and zeros for a bias."""
    channels, dtype = x.shape[-1], wide(x).dtype
    scale = jnp.ones(channels, dtype) if scale is None else scale
    return scale, jnp.zeros(channels, dtype) if bias is None else bias


def _blend(
    old: Float[Array, " c"], new: Float[Array, " c"], momentum: float | int
) -> Float[Array, " c"]:
    return (momentum * old + (1 - momentum) * new).astype(old.dtype)
