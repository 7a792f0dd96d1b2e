"""Convolutions and products with their kernels and biases, whole and in factors."""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnnjax import ops
from cnnjax.errors import ShapeError
from cnnjax.layers.named import INITIALIZERS, Activation, Initializer
from cnnjax.layers.norm import Identity, NormFactory
from cnnjax.layers.place import located
from cnnjax.ops.lowering import biased


class Conv(nn.Module):
    """Convolution with its kernel (*kernel_size, c_in / groups, features) and bias.

    `connections`, a (c_in, features) table of zeros and ones, keeps only the listed pairs of maps
    (LeCun et al. 1998, table I); the absent kernels are no parameters.
    """

    features: int
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: Any = "SAME"
    dilation: int | tuple[int, ...] = 1
    groups: int = 1
    use_bias: bool = True
    connections: tuple[tuple[int, ...], ...] | None = None
    kernel_init: Initializer = INITIALIZERS["he_normal"]
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c_in"]) -> Float[Array, "n *space_out features"]:
        rank = x.ndim - 2
        size = self.kernel_size
        window = (size,) * rank if isinstance(size, int) else tuple(size)
        options = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        shape = (*window, x.shape[-1] // self.groups, self.features)
        with located(self):
            if self.connections is not None:
                y = self._connected(x, shape, options)
            else:
                kernel = self.param("kernel", self.kernel_init, shape)
                y = ops.conv(x, kernel.astype(x.dtype), groups=self.groups, **options)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,)).astype(x.dtype)
            y = biased(y, bias)
        return y

    def _connected(self, x: Array, shape: tuple[int, ...], options: dict[str, Any]) -> Array:
        """Only the connected kernels are stored, as (*kernel_size, number of connections)."""
        table = np.asarray(self.connections, bool)
        stored = self.param(
            "kernel",
            # The initialiser sees the dense kernel, so its fan-in is that of a full connection.
            lambda key, _: self.kernel_init(key, shape)[..., *np.nonzero(table)],
            (*shape[:-2], int(table.sum())),
        )
        dense = jnp.zeros(shape, x.dtype).at[..., *np.nonzero(table)].set(stored.astype(x.dtype))
        return ops.connection_conv(x, dense, table, **options)


class Dense(nn.Module):
    """Fully connected layer: x @ kernel + bias over the last axis."""

    features: int
    use_bias: bool = True
    kernel_init: Initializer = INITIALIZERS["he_normal"]
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n features"]:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        y = jnp.dot(x, kernel.astype(x.dtype))
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,)).astype(x.dtype)
            y = biased(y, bias)
        return y


class ConvUnit(nn.Module):
    """Convolution, norm, activation. `conv` is the kind of convolution, such as `SeparableConv`."""

    features: int
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: Any = "SAME"
    groups: int = 1
    use_bias: bool = False
    norm: NormFactory = Identity
    activation: Activation = ops.relu
    kernel_init: Initializer = INITIALIZERS["he_normal"]
    conv: Callable[..., nn.Module] = Conv

    @nn.compact
    def __call__(
        self, x: Float[Array, "n *space c"], *, train: bool = False
    ) -> Float[Array, "n *space_out features"]:
        grouped = {"groups": self.groups} if self.groups != 1 else {}
        y = self.conv(
            self.features, self.kernel_size, stride=self.stride, padding=self.padding,
            use_bias=self.use_bias, kernel_init=self.kernel_init, name="conv", **grouped,
        )(x)  # fmt: skip
        return self.activation(self.norm(name="norm")(y, train=train))


class SeparableConv(nn.Module):
    """A window for each map on its own, then a 1x1 convolution across maps (Chollet 2016, sec. 2).

    Each map gives `multiplier` maps in between, where Chollet's fig. 10 tries an `activation`.
    The bias is the second step's.
    """

    features: int
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: Any = "SAME"
    multiplier: int = 1
    use_bias: bool = True
    activation: Activation = ops.identity
    kernel_init: Initializer = INITIALIZERS["he_normal"]

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c"]) -> Float[Array, "n *space_out features"]:
        c = x.shape[-1]
        x = Conv(
            c * self.multiplier, self.kernel_size, stride=self.stride, padding=self.padding,
            groups=c, use_bias=False, kernel_init=self.kernel_init, name="depthwise",
        )(x)  # fmt: skip
        return Conv(
            self.features, 1, use_bias=self.use_bias, kernel_init=self.kernel_init,
            name="pointwise",
        )(self.activation(x))  # fmt: skip


Factorization = Literal["none", "stack", "asymmetric", "depthwise"]


class FactoredConv(nn.Module):
    """An n x n convolution, n odd, written as a product of smaller ones with the same window.

    "none" leaves it whole; "stack" is (n - 1) / 2 of 3x3 (Szegedy et al. 2015, arXiv:1512.00567,
    sec. 3.1); "asymmetric" 1xn then nx1, or with `column_first` nx1 then 1xn (sec. 3.2);
    "depthwise" one window for each map, then 1x1 (Chollet 2016). All but the last factor keep the
    number of maps. `unit` makes a factor: a `Conv`, or a `ConvUnit` with norm and activation;
    `inner`, where given, all factors but the last, so that what stands between them is a choice.
    """

    features: int
    kernel_size: int
    factorization: Factorization = "none"
    stride: int = 1
    padding: Literal["SAME", "VALID"] = "SAME"
    column_first: bool = False
    unit: Callable[..., nn.Module] = Conv
    inner: Callable[..., nn.Module] | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], **options: Any
    ) -> Float[Array, "n h_out w_out features"]:
        *first, (name, last) = self._factors(x.shape[-1])
        for inner_name, factor in first:
            make = self.inner or self.unit
            x = make(x.shape[-1], padding=self.padding, name=inner_name, **factor)(x, **options)
        return self.unit(self.features, padding=self.padding, name=name, **last)(x, **options)

    def _factors(self, c: int) -> list[tuple[str, dict[str, Any]]]:
        """Name and options of each factor; a stride is the last factor's that can have it."""
        n, s = self.kernel_size, self.stride
        match self.factorization:
            case "stack":
                if n % 2 == 0:
                    raise ShapeError(f"a stack of 3x3 windows has an odd size, not {n}x{n}")
                depth = max(1, (n - 1) // 2)
                size = min(n, 3)
                steps = [1] * (depth - 1) + [s]
                return [
                    (f"conv{i}", {"kernel_size": size, "stride": t}) for i, t in enumerate(steps, 1)
                ]
            case "asymmetric":
                row = ("row", {"kernel_size": (1, n), "stride": (1, s)})
                column = ("column", {"kernel_size": (n, 1), "stride": (s, 1)})
                return [column, row] if self.column_first else [row, column]
            case "depthwise":
                window = {"kernel_size": n, "stride": s, "groups": c}
                return [("depthwise", window), ("pointwise", {"kernel_size": 1})]
        return [("conv", {"kernel_size": n, "stride": s})]
