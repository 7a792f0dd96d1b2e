"""Pooling over windows and over whole maps."""

from typing import Any, Literal

import flax.linen as nn
from jaxtyping import Array, Float

from cnnjax import ops
from cnnjax.layers.named import Initializer
from cnnjax.layers.place import located

PoolName = Literal["max", "avg", "min", "trainable", "stride", "none"]


class Pool(nn.Module):
    """Pooling layer; `kind` is one of `PoolName`.

    "trainable" is LeNet's subsampling: the sum of a window times a scale plus a bias, one of each
    per map (LeCun et al. 1998, section II.B), non-overlapping. "stride" keeps the first value of
    each window, "none" passes the map on.
    """

    kind: PoolName = "max"
    window: int | tuple[int, ...] = 2
    stride: int | tuple[int, ...] | None = None
    padding: Any = "VALID"
    ceil_mode: bool = False
    count_include_pad: bool = False
    scale_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c"]) -> Float[Array, "n *space_out c"]:
        options: dict[str, Any] = {
            "stride": self.stride, "padding": self.padding, "ceil_mode": self.ceil_mode
        }  # fmt: skip
        c = (x.shape[-1],)
        with located(self):
            match self.kind:
                case "max":
                    return ops.max_pool(x, self.window, **options)
                case "min":
                    return ops.min_pool(x, self.window, **options)
                case "avg":
                    include = self.count_include_pad
                    return ops.avg_pool(x, self.window, count_include_pad=include, **options)
                case "trainable":
                    window = self.window if isinstance(self.window, int) else self.window[0]
                    # One over the window makes it start as average pooling.
                    init = self.scale_init or nn.initializers.constant(window ** -(x.ndim - 2))
                    scale = self.param("scale", init, c).astype(x.dtype)
                    bias = self.param("bias", nn.initializers.zeros, c).astype(x.dtype)
                    return ops.subsample(x, scale, bias, window=window)
                case "stride":
                    step = self.stride if self.stride is not None else self.window
                    steps = (step,) * (x.ndim - 2) if isinstance(step, int) else step
                    return x[:, *(slice(None, None, s) for s in steps), :]
        return x


class GlobalPool(nn.Module):
    """Maximum, mean or minimum of each whole map: (n, *space, c) to (n, c) (Lin et al. 2013)."""

    kind: Literal["max", "avg", "min"] = "avg"

    def __call__(self, x: Float[Array, "n *space c"]) -> Float[Array, "n c"]:
        pools = {"max": ops.global_max_pool, "avg": ops.global_avg_pool, "min": ops.global_min_pool}
        return pools[self.kind](x)
