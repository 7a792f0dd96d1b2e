"""Xception: Chollet 2016, "Xception: Deep Learning with Depthwise Separable Convolutions"
(arXiv:1610.02357)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import flax.linen as nn
from annotated_types import Ge, Gt, Lt
from jaxtyping import Array, Float

from cnnjax import ops
from cnnjax.errors import SpecError
from cnnjax.layers import (
    INITIALIZERS,
    Activation,
    ActivationName,
    ConvUnit,
    InitializerName,
    Network,
    NormName,
    Pool,
    PooledReadout,
    SeparableConv,
    capture,
    norm_factory,
    scaled,
    stem_of,
)

ENTRY = (128, 256, 728)
"""Widths of the entry flow's blocks, each of which halves the map (fig. 5)."""
MIDDLE = 728
EXIT = 1024
TOP = (1536, 2048)


@dataclass(frozen=True)
class Variant:
    """Where Keras, which is the author's own program, and timm differ."""

    pool_padding: Any
    momentum: float
    eps: float
    dropout: float


VARIANTS: Mapping[str, Variant] = {
    # Section 4.3: dropout 0.5 before the last layer on ImageNet; the rest is the author's program.
    "paper": Variant("SAME", 0.99, 1e-3, 0.5),
    # keras.applications.xception.
    "keras": Variant("SAME", 0.99, 1e-3, 0.0),
    # timm 1.0 models/xception.py, legacy_xception, after Remi Cadene's port.
    "timm": Variant(1, 0.9, 1e-5, 0.0),
}


class Block(nn.Module):
    """Activation, separable convolution, norm, repeated; pooled; plus the input (fig. 5).

    The first block of all has no activation at its start. `projected` puts a 1x1 convolution of
    the same stride on the shortcut; without `residual` there is no shortcut.
    """

    widths: tuple[int, ...]
    unit: Callable[..., nn.Module]
    separable: Callable[..., nn.Module]
    activation: Activation
    activate_first: bool = True
    stride: int = 1
    projected: bool = False
    residual: bool = True
    pool: Literal["max", "avg"] = "max"
    pool_padding: Any = "SAME"

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h2 w2 c_out"]:
        shortcut = x
        if self.projected and self.residual:
            shortcut = self.unit(
                self.widths[-1], 1, stride=self.stride, padding="VALID",
                activation=ops.identity, name="shortcut",
            )(x, train=train)  # fmt: skip
        for i, features in enumerate(self.widths, 1):
            if i > 1 or self.activate_first:
                x = self.activation(x)
            x = self.separable(features, 3, name=f"sepconv{i}")(x, train=train)
        if self.stride > 1:
            pool = Pool(
                self.pool, 3, stride=self.stride, padding=self.pool_padding, name="pool"
            )  # fmt: skip
            x = pool(x)
        return x + shortcut if self.residual else x


class Base(nn.Module):
    """Entry, middle and exit flow (fig. 5).

    Captures `stage1` (the two plain convolutions), `stage2` .. `stage4` (entry blocks), `stage5`
    (middle flow), `stage6` (the block of the exit flow) and `stage7` (the last map).
    """

    unit: Callable[..., nn.Module]
    separable: Callable[..., nn.Module]
    block: Callable[..., nn.Module]
    activation: Activation
    middle: int
    width: float
    small: bool

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        def wide(n: int) -> int:
            return scaled(n, self.width)

        stride, padding = (1, "SAME") if self.small else (2, "VALID")
        x = self.unit(wide(32), 3, stride=stride, padding=padding, name="conv1")(x, train=train)
        x = self.unit(wide(64), 3, padding=padding, name="conv2")(x, train=train)
        x = capture(self, "stage1", x)
        for i, maps in enumerate(map(wide, ENTRY), 1):
            x = self.block(
                (maps, maps), projected=True, activate_first=i > 1,
                stride=1 if self.small and i == 1 else 2, name=f"entry{i}",
            )(x, train)  # fmt: skip
            x = capture(self, f"stage{i + 1}", x)
        for i in range(1, self.middle + 1):
            x = self.block((wide(MIDDLE),) * 3, name=f"middle{i}")(x, train)
        x = capture(self, "stage5", x)
        x = self.block((wide(MIDDLE), wide(EXIT)), projected=True, stride=2, name="exit")(x, train)
        x = capture(self, "stage6", x)
        for i, maps in enumerate(map(wide, TOP), 1):
            x = self.activation(self.separable(maps, 3, name=f"sepconv{i}")(x, train=train))
        return capture(self, "stage7", x)


def xception(
    *,
    variant: Literal["paper", "keras", "timm"] = "paper",
    num_classes: Annotated[int, Ge(1)] = 1000,
    input_shape: tuple[int, int, int] = (299, 299, 3),
    middle: Annotated[int, Ge(0)] = 8,
    residual: bool = True,
    middle_activation: Literal["none", "relu", "elu"] = "none",
    stem: Literal["auto", "imagenet", "small"] = "auto",
    pool: Literal["max", "avg"] = "max",
    norm: NormName = "batch",
    norm_momentum: Annotated[float, Ge(0), Lt(1)] | None = None,
    norm_eps: Annotated[float, Gt(0)] | None = None,
    activation: ActivationName = "relu",
    dropout: Annotated[float, Ge(0), Lt(1)] | None = None,
    initializer: InitializerName = "glorot_uniform",
    width: Annotated[float, Gt(0)] = 1.0,
    remat: bool = False,
) -> nn.Module:
    """Xception with 36 convolutional layers (fig. 5); None is as the variant says.

    A separable convolution is a 3x3 window on each map, then a 1x1 across maps, with nothing
    between: `middle_activation` puts a ReLU or ELU there (fig. 10). `residual=False` takes every
    shortcut away (fig. 9), with it 977,072 parameters. `middle` counts the middle flow's blocks.
    Convolutions have biases with `norm="none"` alone, then the 1x1 of a separable one.

    The paper gives neither padding nor eps nor initialiser: those of its author's program
    (`"keras"`: poolings of the same size, eps 1e-3, Glorot) hold, and dropout 0.5 before the last
    layer (section 4.3), which the libraries leave out. `"timm"`, legacy_xception, has eps 1e-5 and
    pads its poolings by 1 on every side, which differs on the even maps (74 to 37).

    `stem="small"`, what "auto" means up to 64 pixels, takes the first convolution and the first
    block of the entry flow with stride 1 and pads the two plain convolutions to the same size: the
    middle flow of a 28x28 image is on 7x7.
    """
    if norm == "lrn":
        raise SpecError("xception: norm: Xception has no place for 'lrn'.")
    kind = VARIANTS[variant]
    act = ops.ACTIVATIONS[activation]
    between = {"none": ops.identity, "relu": ops.relu, "elu": ops.elu}[middle_activation]
    unit = partial(
        ConvUnit,
        use_bias=norm == "none",
        norm=norm_factory(
            norm,
            momentum=kind.momentum if norm_momentum is None else norm_momentum,
            eps=kind.eps if norm_eps is None else norm_eps,
        ),
        activation=act,
        kernel_init=INITIALIZERS[initializer],
    )
    separable = partial(
        unit, conv=partial(SeparableConv, activation=between), activation=ops.identity
    )
    block = partial(
        nn.remat(Block, static_argnums=(2,)) if remat else Block,
        unit=unit, separable=separable, activation=act, residual=residual,
        pool=pool, pool_padding=kind.pool_padding,
    )  # fmt: skip
    small = stem == "small" or (stem == "auto" and stem_of(input_shape) == "small")
    return Network(
        Base(unit, separable, block, act, middle, width, small),
        PooledReadout(
            num_classes,
            kind.dropout if dropout is None else dropout,
            INITIALIZERS[initializer],
        ),
    )
