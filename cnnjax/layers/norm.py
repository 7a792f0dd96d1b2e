"""Norms with their scales, biases and running statistics."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import ops
from cnnjax.layers.named import Initializer

NormName = Literal["batch", "layer", "group", "lrn", "none"]
NormFactory = Callable[..., nn.Module]
"""Called as `norm(name="norm1")`; gives a module called as `module(x, train=train)`."""


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015, alg. 1) over every axis but the last.

    `momentum` is the share of the old running value kept (one minus torch's). The running variance
    is the biased one, as in Flax; `unbiased=True` is torch's. Under a device mesh the statistics
    are those of the whole global batch.
    """

    momentum: float = 0.9
    eps: float = 1e-5
    use_scale: bool = True
    use_bias: bool = True
    unbiased: bool = False
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c"], *, train: bool) -> Float[Array, "n *space c"]:
        c = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, c)
        var = self.variable("batch_stats", "var", jnp.ones, c)
        scale = self.param("scale", self.scale_init, c) if self.use_scale else None
        bias = self.param("bias", nn.initializers.zeros, c) if self.use_bias else None
        if not train:
            # In the precision of x before eps is added and the root taken, or float64 loses half.
            wide = jnp.promote_types(x.dtype, jnp.float32)
            given = (mean.value.astype(wide), var.value.astype(wide))
            return ops.batch_norm(x, *given, scale, bias, eps=self.eps)
        y, (new_mean, new_var) = ops.batch_norm_train(
            x, mean.value, var.value, scale, bias,
            eps=self.eps, momentum=self.momentum, unbiased=self.unbiased,
        )  # fmt: skip
        if not self.is_initializing() and self.is_mutable_collection("batch_stats"):
            mean.value, var.value = new_mean, new_var
        return y


class LayerNorm(nn.Module):
    """Layer normalisation over the channels of each position (Ba et al. 2016, eq. 3)."""

    eps: float = 1e-6
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(
        self, x: Float[Array, "n *space c"], *, train: bool = False
    ) -> Float[Array, "n *space c"]:
        scale = self.param("scale", self.scale_init, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return ops.layer_norm(x, scale, bias, eps=self.eps)


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He 2018, eq. 7).

    `groups` is lowered to the largest divisor of the channels that does not exceed it.
    """

    groups: int = 32
    eps: float = 1e-5
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(
        self, x: Float[Array, "n *space c"], *, train: bool = False
    ) -> Float[Array, "n *space c"]:
        c = x.shape[-1]
        groups = max(g for g in range(1, min(self.groups, c) + 1) if c % g == 0)
        scale = self.param("scale", self.scale_init, (c,))
        bias = self.param("bias", nn.initializers.zeros, (c,))
        return ops.group_norm(x, scale, bias, groups=groups, eps=self.eps)


class LocalResponseNorm(nn.Module):
    """Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3)."""

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0
    convention: Literal["paper", "torch"] = "paper"

    def __call__(
        self, x: Float[Array, "n *space c"], *, train: bool = False
    ) -> Float[Array, "n *space c"]:
        return ops.local_response_norm(
            x, size=self.size, alpha=self.alpha, beta=self.beta, k=self.k,
            convention=self.convention,
        )  # fmt: skip


class Identity(nn.Module):
    """Passes its input on: the norm called "none"."""

    scale_init: Initializer | None = None

    def __call__(self, x: Array, *, train: bool = False) -> Array:
        return x


NORMS: Mapping[str, type[nn.Module]] = {
    "batch": BatchNorm,
    "layer": LayerNorm,
    "group": GroupNorm,
    "lrn": LocalResponseNorm,
    "none": Identity,
}


def norm_factory(
    name: NormName, *, momentum: float | None = None, eps: float | None = None
) -> NormFactory:
    """The norm called `name` with the options it has; momentum reaches batch norm alone."""
    given = {"momentum": momentum, "eps": eps}
    fields = NORMS[name].__dataclass_fields__
    return partial(NORMS[name], **{k: v for k, v in given.items() if v is not None and k in fields})
