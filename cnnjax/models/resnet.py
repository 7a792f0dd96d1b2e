"""Residual networks: He et al. 2015 (arXiv:1512.03385) and He et al. 2016 (arXiv:1603.05027)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt, MinLen

from cnnjax.errors import SpecError
from cnnjax.layers import (
    ActivationName,
    InitializerName,
    Network,
    NormName,
    activation,
    initializer,
    norm_factory,
    stem_of,
)
from cnnjax.models.residual import (
    Base,
    Biases,
    Block,
    Design,
    Gate,
    Head,
    Order,
    Shortcut,
    Stem,
    StemPool,
    build_stages,
)

Stages = Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)]
Width = Annotated[float, Gt(0)]
Share = Annotated[float, Ge(0), Lt(1)]
Momentum = Annotated[float, Ge(0), Lt(1)]

# He et al. 2015, table 1; 200 layers are He et al. 2016, section 4.
DEPTHS: Mapping[int, tuple[Block, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
    200: ("bottleneck", (3, 24, 36, 3)),
}
_PAPER: dict[str, Any] = {
    "stride_in": "1x1",
    "biases": "none",
    "downsample": "first",
    "zero_pool_padding": False,
    "shared_first": True,
    "zero_init": False,
    "initializer": "he_normal",
    "norm_momentum": 0.9,
    "norm_eps": 1e-5,
    "unbiased_variance": False,
}
# What each library ships; its pre-activation nets (He et al. 2016) differ once more.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "paper": _PAPER,
    "torchvision": _PAPER
    | {"stride_in": "3x3", "initializer": "he_fan_out", "unbiased_variance": True},
    "timm": _PAPER
    | {
        "stride_in": "3x3",
        "initializer": "he_fan_out",
        "unbiased_variance": True,
        "zero_init": True,
    },
    "keras": _PAPER
    | {
        "biases": "all",
        "initializer": "glorot_uniform",
        "norm_momentum": 0.99,
        "norm_eps": 1.001e-5,
    },
}
PREACTIVATED: Mapping[str, Mapping[str, Any]] = {
    "paper": {"stride_in": "3x3"},
    "timm": {"shared_first": False, "zero_init": False},
    "keras": {
        "stride_in": "3x3",
        "biases": "unnormalized",
        "downsample": "last",
        "zero_pool_padding": True,
    },
}


def resnet(
    *,
    depth: Literal[18, 34, 50, 101, 152, 200] = 50,
    variant: Literal["paper", "torchvision", "timm", "keras"] = "paper",
    stages: Stages | None = None,
    block: Block | None = None,
    shortcut: Shortcut = "projection",
    order: Order = "original",
    stride_in: Literal["1x1", "3x3"] | None = None,
    downsample: Literal["first", "last"] | None = None,
    biases: Biases | None = None,
    zero_init: bool | None = None,
    shortcut_scale: float = 1.0,
    residual_scale: float = 1.0,
    gate: Gate = "none",
    gate_bias: float = 0.0,
    shortcut_dropout: Share = 0.0,
    width: Width = 1.0,
    stem: Literal["auto", "imagenet", "small"] = "auto",
    pool: StemPool = "max",
    zero_pool_padding: bool | None = None,
    shared_first: bool | None = None,
    activation: ActivationName = "relu",
    norm: NormName = "batch",
    norm_momentum: Momentum | None = None,
    norm_eps: Width | None = None,
    unbiased_variance: bool | None = None,
    initializer: InitializerName | None = None,
    dropout: Share = 0.0,
    remat: bool = False,
    num_classes: Annotated[int, Ge(1)] = 1000,
    input_shape: tuple[Annotated[int, Ge(1)], ...] = (224, 224, 3),
) -> Network:
    """The ImageNet networks of He et al. 2015, table 1, and, by `order`, of He et al. 2016.

    `depth` names a row of table 1 (200 is He et al. 2016); `stages` (units per stage, any number
    of stages, 64 maps doubled from stage to stage) and `block` replace what the row says.
    None stands for what the variant says:

    - `stride_in`: which convolution of a bottleneck halves the map. The paper and Keras: the first
      1x1; torchvision and timm: the 3x3 ("v1.5", Goyal et al. 2017, arXiv:1706.02677, section 5.1).
    - `biases`: no convolution has one, save in Keras: "all", or, where pre-activated,
      "unnormalized": only those that no norm follows. Nets whose norm is "lrn" or "none" have all.
    - `downsample`: Keras' pre-activation nets halve the map in the last unit of a stage, all
      others in the first.
    - `zero_init`: the last norm of each branch starts at gamma = 0, or the last kernel at 0 where
      the branch ends in a convolution (Goyal et al. 2017, section 5.1). timm's ResNets do it, its
      pre-activation nets do not.
    - `zero_pool_padding`: Keras' pre-activation nets pool zeros at the border, others ignore it.
    - `shared_first`: in a pre-activation net both paths of the first unit read its activated input
      (He et al. 2016, appendix); timm keeps the raw input on an identity shortcut there.
    - `norm_eps`, `norm_momentum`: 1e-5 and 0.9; Keras 1.001e-5 and 0.99. `unbiased_variance`: the
      running variance of torchvision and timm. `initializer`: He's by fan-in (the paper), by
      fan-out (torchvision, timm) or Glorot's (Keras).

    `shortcut`: "identity" (A: every other position, zeros for new maps), "projection" (B),
    "projection_all" (C), "none" (the plain nets). Any of them can be scaled by a constant, gated
    or dropped out, and the branch scaled: He et al. 2016, section 3.1. `order`: the five of its
    table 2; a pre-activation net strides in its 3x3 in every variant, and normalises once between
    stem and first unit, after the pooling.

    `stem`: "imagenet" is 7x7 at stride 2 and 3x3 pooling at stride 2; "small" a single 3x3 at
    stride 1 (the paper's CIFAR-10 stem); "auto" takes "small" for images up to 64 pixels.
    `width` multiplies every number of maps. Captured: stem_out, stage1, ..., pool.
    """
    row = DEPTHS[depth]
    asked = {
        "stride_in": stride_in,
        "biases": biases,
        "downsample": downsample,
        "zero_pool_padding": zero_pool_padding,
        "shared_first": shared_first,
        "zero_init": zero_init,
        "initializer": initializer,
        "norm_momentum": norm_momentum,
        "norm_eps": norm_eps,
        "unbiased_variance": unbiased_variance,
    }
    return _network(
        settled(variant, order, norm, asked),
        block=block or row[0],
        stages=stages or row[1],
        width=64 * width,
        stem=stem_of(input_shape) if stem == "auto" else stem,
        pool=pool,
        dropout=dropout,
        num_classes=num_classes,
        remat=remat,
        activation_name=activation,
        norm_name=norm,
        order=order,
        shortcut=shortcut,
        shortcut_scale=shortcut_scale,
        residual_scale=residual_scale,
        gate=gate,
        gate_bias=gate_bias,
        shortcut_dropout=shortcut_dropout,
    )


def resnet_cifar(
    *,
    depth: Annotated[int, Ge(8)] = 20,
    variant: Literal["paper"] = "paper",
    stages: Stages | None = None,
    block: Block = "basic",
    shortcut: Shortcut = "identity",
    order: Order = "original",
    stride_in: Literal["1x1", "3x3"] | None = None,
    biases: Biases | None = None,
    zero_init: bool = False,
    shortcut_scale: float = 1.0,
    residual_scale: float = 1.0,
    gate: Gate = "none",
    gate_bias: float = 0.0,
    shortcut_dropout: Share = 0.0,
    width: Width = 1.0,
    stem: Literal["auto", "imagenet", "small"] = "auto",
    pool: StemPool = "max",
    activation: ActivationName = "relu",
    norm: NormName = "batch",
    norm_momentum: Momentum | None = None,
    norm_eps: Width | None = None,
    initializer: InitializerName | None = None,
    dropout: Share = 0.0,
    remat: bool = False,
    num_classes: Annotated[int, Ge(1)] = 10,
    input_shape: tuple[Annotated[int, Ge(1)], ...] = (32, 32, 3),
) -> Network:
    """The CIFAR-10 networks of He et al. 2015, section 4.2, and He et al. 2016, section 4.

    Three stages of 16, 32 and 64 maps; `depth` is 6n + 2 with basic blocks, 9n + 2 with bottlenecks
    (64, 128 and 256 maps leave the stages then), unless `stages` says the units of each. Option A
    shortcuts, as in the paper; He et al. 2016 project in the bottleneck nets of 164 and 1001
    layers (`block="bottleneck", shortcut="projection", order="full_preactivation"`).

    The stem is the paper's 3x3 at stride 1 at every image size ("auto" is "small" here). All other
    options are those of `resnet`.
    """
    layers = 2 if block == "basic" else 3
    if stages is None:
        n, rest = divmod(depth - 2, 3 * layers)
        if rest or n < 1:
            below, above = (max(3 * layers * m + 2, 3 * layers + 2) for m in (n, n + 1))
            raise SpecError(
                f"resnet_cifar: depth {depth} is not {3 * layers}n + 2, as it is for three stages"
                f" of {block} blocks; the nearest are {below} and {above}."
            )
        stages = (n, n, n)
    asked = {
        "stride_in": stride_in,
        "biases": biases,
        "zero_init": zero_init,
        "initializer": initializer,
        "norm_momentum": norm_momentum,
        "norm_eps": norm_eps,
    }
    return _network(
        settled(variant, order, norm, asked),
        block=block,
        stages=stages,
        width=16 * width,
        stem="small" if stem == "auto" else stem,
        pool=pool,
        dropout=dropout,
        num_classes=num_classes,
        remat=remat,
        activation_name=activation,
        norm_name=norm,
        order=order,
        shortcut=shortcut,
        shortcut_scale=shortcut_scale,
        residual_scale=residual_scale,
        gate=gate,
        gate_bias=gate_bias,
        shortcut_dropout=shortcut_dropout,
    )


def settled(variant: str, order: str, norm: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the variant says, then what its pre-activation nets say, then what was asked for."""
    said = dict(VARIANTS[variant])
    if norm in ("lrn", "none"):
        said["biases"] = "all"
    if order in ("relu_preactivation", "full_preactivation"):
        said |= PREACTIVATED.get(variant, {})
    return said | {k: v for k, v in asked.items() if v is not None}


def _network(
    said: Mapping[str, Any],
    *,
    block: Block,
    stages: Sequence[int],
    width: float,
    stem: Literal["imagenet", "small"],
    pool: StemPool,
    dropout: float,
    num_classes: int,
    remat: bool,
    activation_name: ActivationName,
    norm_name: NormName,
    **parts: Any,
) -> Network:
    norm = norm_factory(norm_name, momentum=said["norm_momentum"], eps=said["norm_eps"])
    if norm_name == "batch":
        norm = partial(norm, unbiased=said["unbiased_variance"])
    design = Design(
        norm=norm,
        normalizes=norm_name not in ("lrn", "none"),
        activation=activation(activation_name),
        kernel_init=initializer(said["initializer"]),
        biases=said["biases"],
        zero_init=said["zero_init"],
        **parts,
    )
    widths = [max(1, round(width * 2**i)) for i in range(len(stages))]
    return Network(
        features=Base(
            design,
            stem=partial(Stem, design, widths[0], stem, pool, said["zero_pool_padding"]),
            stages=build_stages(
                design,
                block,
                stages,
                widths,
                stem_width=widths[0],
                stride_in=said["stride_in"],
                downsample=said["downsample"],
                shared_first=said["shared_first"],
                remat=remat,
            ),
        ),
        classifier=Head(num_classes, design.kernel_init, dropout),
    )
