"""Linen modules that own parameters, over the primitives of `cnnjax.ops`; component tables.

Every layer computes in the dtype of its input: parameters are kept in float32 and cast on use, so
bfloat16 (or float64) compute is chosen by casting the images, nowhere else.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnnjax import ops
from cnnjax.errors import ShapeError
from cnnjax.ops.numeric import across

Initializer = Callable[..., Array]
Activation = Callable[[Array], Array]
NormFactory = Callable[..., nn.Module]
"""Called as `norm(name="norm1")`; gives a module called as `module(x, train=train)`."""

ActivationName = Literal[
    "relu", "tanh", "scaled_tanh", "sigmoid", "elu", "gelu", "silu", "relu6", "identity"
]
NormName = Literal["batch", "layer", "group", "lrn", "none"]
PoolName = Literal["max", "avg", "min", "trainable", "stride", "none"]
InitializerName = Literal[
    "he_normal", "he_uniform", "he_fan_out", "glorot_normal", "glorot_uniform",
    "lecun_normal", "lecun_uniform", "gaussian_0.01", "uniform_fan_in", "torch_default",
]  # fmt: skip

INITIALIZERS: Mapping[str, Initializer] = {
    "he_normal": nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
    "he_uniform": nn.initializers.variance_scaling(2.0, "fan_in", "uniform"),
    # He et al. 2015 (arXiv:1502.01852), eq. 14: keeps the variance of gradients.
    "he_fan_out": nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
    "glorot_normal": nn.initializers.variance_scaling(1.0, "fan_avg", "normal"),
    "glorot_uniform": nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"),
    "lecun_normal": nn.initializers.variance_scaling(1.0, "fan_in", "normal"),
    "lecun_uniform": nn.initializers.variance_scaling(1.0, "fan_in", "uniform"),
    # What torch gives convolutions and linear layers: uniform in +-1 / sqrt(fan_in).
    "torch_default": nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
    # Krizhevsky et al. 2012, section 5; Simonyan & Zisserman 2014, section 3.1.
    "gaussian_0.01": nn.initializers.normal(0.01),
    # LeCun et al. 1998, section III.B: uniform in +-2.4 / fan_in.
    "uniform_fan_in": lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -2.4 / math.prod(shape[:-1]), 2.4 / math.prod(shape[:-1])
    ),
}


@contextmanager
def _located(module: nn.Module) -> Iterator[None]:
    """Put the layer's path in front of what a primitive says about its sizes."""
    try:
        yield
    except ShapeError as error:
        raise ShapeError(f"{'/'.join(module.path) or type(module).__name__}: {error}") from None


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
        with _located(self):
            if self.connections is not None:
                y = self._connected(x, shape, options)
            else:
                kernel = self.param("kernel", self.kernel_init, shape)
                y = ops.conv(x, kernel.astype(x.dtype), groups=self.groups, **options)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,)).astype(x.dtype)
            y = y + across(bias, y)
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
            y = y + across(bias, y)
        return y


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
        with _located(self):
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


class Dropout(nn.Module):
    """Zeroes a share `rate` in training and scales the rest up by 1 / (1 - rate)."""

    rate: float

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        return nn.Dropout(self.rate, name="dropout")(x, deterministic=not train)


class PooledReadout(nn.Module):
    """The mean of each map, dropout, one linear layer `fc` (Szegedy et al. 2014, table 1)."""

    num_classes: int
    dropout: float = 0.0
    kernel_init: Initializer = INITIALIZERS["he_normal"]

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c"], *, train: bool = False) -> Array:
        x = Dropout(self.dropout, name="dropout")(GlobalPool("avg", name="pool")(x), train=train)
        return Dense(self.num_classes, kernel_init=self.kernel_init, name="fc")(x)


class Network(nn.Module):
    """A base and a top: `features`, then `classifier`, the two subtrees of every parameter tree."""

    features: nn.Module
    classifier: nn.Module

    def __call__(self, x: Float[Array, "n *space c"], *, train: bool = False) -> Array:
        return self.classifier(self.features(x, train=train), train=train)


def flatten(x: Float[Array, "n *space c"]) -> Float[Array, "n d"]:
    """Rows, then columns, then channels: the order of NHWC memory."""
    return x.reshape(x.shape[0], -1)


def capture(module: nn.Module, name: str, x: Array) -> Array:
    """Offer `x` under `name` in the "intermediates" collection; free unless it is asked for."""
    module.sow("intermediates", name, x)
    return x


def wants_auxiliary(module: nn.Module, train: bool) -> bool:
    """Whether auxiliary heads run: in training, at initialisation, or when someone asks for them.

    To ask is to apply with `mutable=["auxiliary"]`.
    """
    return train or module.is_initializing() or module.is_mutable_collection("auxiliary")


def offer_auxiliary(module: nn.Module, name: str, logits: Array) -> None:
    """Put the logits of the head `name` in the "auxiliary" collection, if it is mutable."""
    if module.is_mutable_collection("auxiliary") and not module.is_initializing():
        # Not `sow`: it refuses the name that the head's own subtree has.
        module.put_variable("auxiliary", name, logits)


def activation(name: ActivationName) -> Activation:
    """The activation function called `name`."""
    return ops.ACTIVATIONS[name]


def initializer(name: InitializerName) -> Initializer:
    """The kernel initialiser called `name`."""
    return INITIALIZERS[name]


def stem_of(input_shape: Sequence[int], *, small: int = 64) -> Literal["imagenet", "small"]:
    """The stem that `stem="auto"` means: "small" up to `small` pixels, else the paper's."""
    return "small" if max(input_shape[:-1]) <= small else "imagenet"


def scaled(features: int, width: float, *, multiple: int = 1) -> int:
    """`features` times a width multiplier, to the nearest positive multiple of `multiple`."""
    return max(multiple, math.floor(features * width / multiple + 0.5) * multiple)
