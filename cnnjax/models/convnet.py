"""The textbook pattern [[CONV -> ReLU]*N -> POOL?]*M -> [FC -> ReLU]*K -> FC, as nested lists."""

import dataclasses
from functools import partial
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import flax.linen as nn
from annotated_types import Ge, Gt, Lt
from jaxtyping import Array, Float
from pydantic import ConfigDict, with_config

from cnnjax import ops
from cnnjax.errors import SpecError
from cnnjax.layers import (
    INITIALIZERS,
    Activation,
    ActivationName,
    Conv,
    ConvUnit,
    Dense,
    Dropout,
    FactoredConv,
    Factorization,
    GlobalPool,
    Initializer,
    InitializerName,
    Network,
    NormFactory,
    NormName,
    Pool,
    PoolName,
    capture,
    flatten,
    norm_factory,
    scaled,
)

Size = Annotated[int, Ge(1)] | tuple[Annotated[int, Ge(1)], ...]
"""One number for every axis, or one per axis."""
Padding = Literal["SAME", "VALID"] | int | tuple[int, ...] | tuple[tuple[int, int], ...]


@with_config(ConfigDict(extra="forbid"))
class ConvOptions(TypedDict):
    """One convolution that differs from the network's: {"features": 32, "stride": 2}."""

    features: Annotated[int, Ge(1)]
    kernel_size: NotRequired[Size]
    stride: NotRequired[Size]
    padding: NotRequired[Padding]
    dilation: NotRequired[Size]
    groups: NotRequired[Annotated[int, Ge(1)]]
    factorization: NotRequired[Factorization]


@with_config(ConfigDict(extra="forbid"))
class PoolOptions(TypedDict):
    """One pooling that differs from the network's: {"pool": "avg", "window": 3, "stride": 2}."""

    pool: PoolName
    window: NotRequired[Size]
    stride: NotRequired[Size]
    padding: NotRequired[Padding]
    ceil_mode: NotRequired[bool]


Layer = Annotated[int, Ge(1)] | Literal["pool"] | ConvOptions | PoolOptions
"""A convolution's number of features, the word "pool", or either as a dict of its options."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one element of a stage became: the options of a `Conv`, `FactoredConv` or `Pool`."""

    kind: Literal["conv", "factored", "pool"]
    options: tuple[tuple[str, Any], ...]


class Stage(nn.Module):
    """Convolutions, each with norm and activation, and poolings, in the order of `plans`."""

    plans: tuple[Plan, ...]
    activation: Activation
    norm: NormFactory
    use_bias: bool
    kernel_init: Initializer
    factor_activation: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c"], train: bool) -> Array:
        convs = pools = 0
        for plan in self.plans:
            options: dict[str, Any] = dict(plan.options)
            if plan.kind == "pool":
                pools += 1
                x = Pool(**options, name=f"pool{pools}")(x)
                continue
            convs += 1
            if plan.kind == "factored":
                x = self._factored(options, f"conv{convs}")(x, train=train)
                continue
            x = Conv(
                **options,
                use_bias=self.use_bias,
                kernel_init=self.kernel_init,
                name=f"conv{convs}",
            )(x)
            x = self.activation(self.norm(name=f"norm{convs}")(x, train=train))
        return x

    def _factored(self, options: dict[str, Any], name: str) -> nn.Module:
        """A product of convolutions; norm and activation follow the last, or every one of them."""
        bare = partial(ConvUnit, use_bias=self.use_bias, kernel_init=self.kernel_init)
        unit = partial(bare, norm=self.norm, activation=self.activation)
        linear = partial(bare, activation=ops.identity)
        inner = unit if self.factor_activation else linear
        return FactoredConv(**options, unit=unit, inner=inner, name=name)


class Stages(nn.Module):
    """The stages one after the other; each result is captured as `stage1`, `stage2`, .."""

    stages: tuple[tuple[Plan, ...], ...]
    activation: Activation
    norm: NormFactory
    use_bias: bool
    kernel_init: Initializer
    factor_activation: bool
    remat: bool

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c"], *, train: bool = False) -> Array:
        stage = nn.remat(Stage, static_argnums=(2,)) if self.remat else Stage
        options = (
            self.activation, self.norm, self.use_bias, self.kernel_init, self.factor_activation
        )  # fmt: skip
        for i, plans in enumerate(self.stages, 1):
            x = stage(plans, *options, name=f"stage{i}")(x, train)
            x = capture(self, f"stage{i}_out", x)
        return x


class Head(nn.Module):
    """Global pooling or flattening, then [FC -> activation] * K -> FC with dropout before each."""

    widths: tuple[int, ...]
    num_classes: int
    global_pool: Literal["max", "avg", "min"] | None
    activation: Activation
    dropout: float
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c"], *, train: bool = False) -> Array:
        x = GlobalPool(self.global_pool)(x) if self.global_pool else flatten(x)
        for i, width in enumerate(self.widths, 1):
            x = Dropout(self.dropout, name=f"dropout{i}")(x, train=train)
            x = Dense(width, kernel_init=self.kernel_init, name=f"fc{i}")(x)
            x = capture(self, f"fc{i}_out", self.activation(x))
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        return Dense(self.num_classes, kernel_init=self.kernel_init, name="output")(x)


def convnet(
    *,
    stages: tuple[tuple[Layer, ...], ...] = ((32, "pool"), (64, "pool")),
    dense: tuple[Annotated[int, Ge(1)], ...] = (128,),
    num_classes: Annotated[int, Ge(1)] = 10,
    input_shape: tuple[int, ...] = (28, 28, 1),
    kernel_size: Size = 3,
    stride: Size = 1,
    padding: Padding = "SAME",
    factorization: Factorization = "none",
    factor_activation: bool = False,
    pool: PoolName = "max",
    pool_window: Size = 2,
    pool_stride: Size | None = None,
    global_pool: Literal["max", "avg", "min"] | None = None,
    activation: ActivationName = "relu",
    norm: NormName = "none",
    norm_momentum: Annotated[float, Ge(0), Lt(1)] | None = None,
    norm_eps: Annotated[float, Gt(0)] | None = None,
    use_bias: bool = True,
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
    initializer: InitializerName = "he_normal",
    width: Annotated[float, Gt(0)] = 1.0,
    remat: bool = False,
) -> nn.Module:
    """A network from nested lists: `stages` of convolutions and pools, then `dense` layers.

    `stages=[[16, 16, "pool"], [32, "pool"]], dense=[64]` is [[CONV -> ReLU]*2 -> POOL] ->
    [CONV -> ReLU -> POOL] -> FC -> ReLU -> FC. Where one layer differs it is a dict of its own
    options: `{"features": 32, "stride": 2}` or `{"pool": "avg", "window": 3}`. Both lists may be
    empty: without stages it is an `mlp`, without `dense` as well `linear`. The input has one, two
    or three axes and channels, as `input_shape` says. `width` multiplies the features of every
    convolution and hidden layer. `dropout` zeroes inputs of every fully connected layer.

    `factorization` writes every n x n convolution as a product: "stack" of 3x3, "asymmetric" 1xn
    and nx1 (Szegedy et al. 2015, arXiv:1512.00567, section 3), or "depthwise" and 1x1 (Chollet
    2016); `factor_activation` puts norm and activation between the factors too.
    """
    if not 2 <= len(input_shape) <= 4:
        raise SpecError(
            f"convnet: input_shape: expected one to three axes and channels, got {input_shape}."
        )
    conv_defaults = {
        "kernel_size": kernel_size, "stride": stride, "padding": padding,
        "factorization": factorization,
    }  # fmt: skip
    pool_defaults = {"kind": pool, "window": pool_window, "stride": pool_stride}

    def plan(layer: Any) -> Plan:
        given = {"features": layer} if isinstance(layer, int) else layer
        if given == "pool":
            return Plan("pool", tuple(pool_defaults.items()))
        if "pool" in given:
            own = {"kind" if k == "pool" else k: v for k, v in given.items()}
            return Plan("pool", tuple((pool_defaults | own).items()))
        own = {**given, "features": scaled(given["features"], width)}
        return _conv_plan(conv_defaults | own, len(input_shape) - 1)

    act, kernel_init = ops.ACTIVATIONS[activation], INITIALIZERS[initializer]
    factory = norm_factory(norm, momentum=norm_momentum, eps=norm_eps)
    plans = tuple(tuple(plan(layer) for layer in stage) for stage in stages)
    widths = tuple(scaled(n, width) for n in dense)
    return Network(
        Stages(plans, act, factory, use_bias, kernel_init, factor_activation, remat),
        Head(widths, num_classes, global_pool, act, dropout, kernel_init),
    )


def _conv_plan(options: dict[str, Any], rank: int) -> Plan:
    """A convolution, or the product that its `factorization` asks for."""
    form = options.pop("factorization")
    if form == "none":
        return Plan("conv", tuple(options.items()))
    sizes = {"kernel_size": options["kernel_size"], "stride": options["stride"]}
    plain = all(isinstance(v, int) for v in sizes.values()) and options["padding"] in (
        "SAME", "VALID"
    )  # fmt: skip
    if rank != 2 or not plain or {"dilation", "groups"} & set(options):
        raise SpecError(
            f"convnet: factorization: '{form}' takes square windows of images, one number for"
            " kernel_size and stride, padding 'SAME' or 'VALID', and neither dilation nor groups."
        )
    if form == "stack" and options["kernel_size"] % 2 == 0:
        raise SpecError(
            "convnet: factorization: a 'stack' of 3x3 needs an odd kernel_size, not"
            f" {options['kernel_size']}."
        )
    return Plan("factored", (*options.items(), ("factorization", form)))
