"""GoogLeNet: Szegedy et al. 2014, "Going Deeper with Convolutions" (arXiv:1409.4842)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from annotated_types import Ge, Gt, Lt
from jaxtyping import Array, Float

from cnnjax import ops
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
    Initializer,
    InitializerName,
    LocalResponseNorm,
    NormName,
    Pool,
    PooledReadout,
    SeparableConv,
    capture,
    flatten,
    norm_factory,
    offer_auxiliary,
    scaled,
    stem_of,
    wants_auxiliary,
)

Unit = Callable[..., nn.Module]
Branch5 = Literal["5x5", "3x3", "two_3x3", "1x5_5x1"]


class Widths(NamedTuple):
    """One row of table 1: the maps of each convolution of an inception block."""

    conv1x1: int
    reduce3x3: int
    conv3x3: int
    reduce5x5: int
    conv5x5: int
    pool_proj: int


BLOCKS: Mapping[str, Widths] = {
    "3a": Widths(64, 96, 128, 16, 32, 32),
    "3b": Widths(128, 128, 192, 32, 96, 64),
    "4a": Widths(192, 96, 208, 16, 48, 64),
    "4b": Widths(160, 112, 224, 24, 64, 64),
    "4c": Widths(128, 128, 256, 24, 64, 64),
    "4d": Widths(112, 144, 288, 32, 64, 64),
    "4e": Widths(256, 160, 320, 32, 128, 128),
    "5a": Widths(256, 160, 320, 32, 128, 128),
    "5b": Widths(384, 192, 384, 48, 128, 128),
}
HEADS: Mapping[str, str] = {"aux1": "4a", "aux2": "4d"}
"""Which block's output each auxiliary head reads (section 5)."""

_BRANCH5: Mapping[Branch5, tuple[int, Factorization]] = {
    "5x5": (5, "none"),
    "3x3": (3, "none"),
    "two_3x3": (5, "stack"),
    "1x5_5x1": (5, "asymmetric"),
}


@dataclass(frozen=True)
class Variant:
    """What the paper leaves to the library, or the library changed."""

    branch5: Branch5
    norm: NormName
    dropout: float
    pool: Mapping[str, Any]  # between stages, 3x3 with stride 2
    pool4_window: int
    conv1_padding: Any
    head_pool: Literal["5x5", "adaptive"]
    initializer: InitializerName


VARIANTS: Mapping[str, Variant] = {
    # Fig. 3 marks its convolutions and poolings (S), same size. The paper names no initialiser.
    "paper": Variant("5x5", "lrn", 0.4, {"padding": "SAME"}, 3, "SAME", "5x5", "he_normal"),
    # torchvision 0.29, models/googlenet.py, ported from TF-slim's inception_v1.
    "torchvision": Variant(
        "3x3", "batch", 0.2, {"ceil_mode": True}, 2, 3, "adaptive", "gaussian_0.01"
    ),
}


class Inception(nn.Module):
    """Four branches side by side (fig. 2): 1x1, 3x3, 5x5 and a 3x3 pooling of stride 1.

    Reduced, 1x1 convolutions stand before the two large windows and after the pooling (fig. 2b);
    naive, they do not, and the pooled input is passed on whole (fig. 2a).
    """

    widths: Widths
    unit: Unit
    inner: Unit
    branch5: Branch5 = "5x5"
    reduced: bool = True
    pool: Literal["max", "avg"] = "max"

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h w c_out"]:
        w, unit = self.widths, self.unit
        one = unit(w.conv1x1, 1, name="conv1x1")(x, train=train)
        three = unit(w.reduce3x3, 1, name="reduce3x3")(x, train=train) if self.reduced else x
        three = unit(w.conv3x3, 3, name="conv3x3")(three, train=train)
        five = unit(w.reduce5x5, 1, name="reduce5x5")(x, train=train) if self.reduced else x
        five = self._branch5()(five, train=train)
        pooled = Pool(self.pool, 3, stride=1, padding="SAME", name="pool")(x)
        if self.reduced:
            pooled = unit(w.pool_proj, 1, name="pool_proj")(pooled, train=train)
        return jnp.concatenate([one, three, five, pooled], axis=-1)

    def _branch5(self) -> nn.Module:
        size, factorization = _BRANCH5[self.branch5]
        if factorization == "none":
            return self.unit(self.widths.conv5x5, size, name="conv5x5")
        return FactoredConv(
            self.widths.conv5x5, size, factorization, unit=self.unit, inner=self.inner,
            name="conv5x5",
        )  # fmt: skip


class Base(nn.Module):
    """The stem and the nine inception blocks; captures `pool1`, `stage2` .. `stage5`."""

    unit: Unit
    block: Unit
    remat: bool
    width: float
    small: bool
    separable: bool
    lrn: bool
    pool: Mapping[str, Any]
    pool_kind: Literal["max", "avg"]
    pool4_window: int
    conv1_padding: Any

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        return self.maps(x, train)[0]

    @nn.compact
    def maps(self, x: Float[Array, "n h w c"], train: bool) -> tuple[Array, dict[str, Array]]:
        """The last map, and the output of each inception block under its name in table 1."""
        x = self._stem(x, train)
        block = nn.remat(self.block, static_argnums=(2,)) if self.remat else self.block
        outputs: dict[str, Array] = {}
        for name, widths in BLOCKS.items():
            if name == "4a":
                x = capture(self, "pool3", self._pool(x, "max_pool3"))
            if name == "5a":
                x = capture(self, "pool4", self._pool(x, "max_pool4", self.pool4_window))
            own = Widths(*(scaled(n, self.width) for n in widths))
            outputs[name] = x = block(own, name=f"inception{name}")(x, train)
            if name in ("3b", "4e", "5b"):
                x = capture(self, f"stage{name[0]}", x)
        return x, outputs

    def _stem(self, x: Array, train: bool) -> Array:
        size, stride, padding = (3, 1, "SAME") if self.small else (7, 2, self.conv1_padding)
        kind = partial(SeparableConv, multiplier=8) if self.separable else Conv
        first, second = scaled(64, self.width), scaled(192, self.width)
        x = self.unit(first, size, stride=stride, padding=padding, conv=kind, name="conv1")(
            x, train=train
        )
        if not self.small:
            x = capture(self, "pool1", self._pool(x, "max_pool1"))
        if self.lrn:
            x = LocalResponseNorm(name="norm1")(x)
        x = self.unit(first, 1, name="conv2_reduce")(x, train=train)
        x = capture(self, "stage2", self.unit(second, 3, name="conv2")(x, train=train))
        if self.lrn:
            x = LocalResponseNorm(name="norm2")(x)
        return x if self.small else capture(self, "pool2", self._pool(x, "max_pool2"))

    def _pool(self, x: Array, name: str, window: int = 3) -> Array:
        return Pool(self.pool_kind, window, stride=2, name=name, **self.pool)(x)


class AuxiliaryHead(nn.Module):
    """A classifier beside the trunk: pooling, 1x1 convolution, FC, dropout, FC (section 5).

    `window` is that of the 5x5 average pooling with stride 3; None pools to a 4x4 grid, whatever
    the size of the map, as torchvision does.
    """

    num_classes: int
    unit: Unit
    maps: int
    hidden: int
    window: tuple[int, int] | None
    dropout: float
    activation: Activation
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        if self.window is None:
            x = ops.adaptive_avg_pool(x, 4)
        else:
            x = Pool("avg", self.window, stride=3, name="pool")(x)
        x = flatten(self.unit(self.maps, 1, name="conv")(x, train=train))
        x = self.activation(Dense(self.hidden, kernel_init=self.kernel_init, name="fc1")(x))
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        return Dense(self.num_classes, kernel_init=self.kernel_init, name="fc2")(x)


class GoogLeNet(nn.Module):
    """Base, classifier and up to two auxiliary heads, whose logits go to "auxiliary"."""

    features: Base
    classifier: nn.Module
    aux1: nn.Module | None = None
    aux2: nn.Module | None = None

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        x, outputs = self.features.maps(x, train)
        if wants_auxiliary(self, train):
            for name, head in (("aux1", self.aux1), ("aux2", self.aux2)):
                if head is not None:
                    offer_auxiliary(self, name, head(outputs[HEADS[name]], train=train))
        return self.classifier(x, train=train)


def googlenet(
    *,
    variant: Literal["paper", "torchvision"] = "paper",
    num_classes: Annotated[int, Ge(1)] = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    inception: Literal["reduced", "naive"] = "reduced",
    branch5: Branch5 | None = None,
    factor_activation: bool = True,
    aux_heads: Literal[0, 1, 2] = 2,
    stem: Literal["auto", "imagenet", "small"] = "auto",
    stem_conv: Literal["dense", "separable"] = "dense",
    norm: NormName | None = None,
    norm_momentum: Annotated[float, Ge(0), Lt(1)] = 0.9,
    norm_eps: Annotated[float, Gt(0)] = 1e-3,
    pool: Literal["max", "avg"] = "max",
    activation: ActivationName = "relu",
    dropout: Annotated[float, Ge(0), Lt(1)] | None = None,
    aux_dropout: Annotated[float, Ge(0), Lt(1)] = 0.7,
    initializer: InitializerName | None = None,
    width: Annotated[float, Gt(0)] = 1.0,
    remat: bool = False,
) -> nn.Module:
    """GoogLeNet with 22 layers (table 1); an option that is None is as the variant says.

    `variant="torchvision"` has batch norm (eps 1e-3) and no convolution biases, a 3x3 window in the
    5x5 branch (a slip kept for its weights, pytorch/vision pull 906), a 2x2 fourth pooling,
    poolings with ceil mode, a 4x4 adaptive pooling in the heads, dropout 0.2.

    `inception="naive"` leaves the 1x1 reductions out (fig. 2a). `branch5` writes the 5x5 window as
    such, as 3x3, or factored into two 3x3 or 1x5 and 5x1 (Szegedy et al. 2015, section 3);
    `factor_activation=False` leaves the activation between the factors out (its fig. 2).
    `stem_conv="separable"` is a depthwise 7x7 with multiplier 8 and a 1x1: the only reading that
    gives the 2.7K parameters and 34M operations of table 1's first row. `norm="lrn"` is the two
    local response normalisations of fig. 3; any other norm follows every convolution and takes
    the place of the biases, "none" excepted. `pool` is the kind between stages and in the blocks.

    `aux_heads=1` keeps the upper head (Szegedy et al. 2015, section 4, find the lower one
    dispensable). The heads' hidden layer and the blocks follow `width`.

    `stem="small"`, what "auto" means up to 64 pixels, makes conv1 3x3 with stride 1 and leaves the
    first two poolings out: a 28x28 image then meets block 3a at 28x28 and 4a at 14x14, as a
    224x224 one does. Where 4a's map is less than 5 pixels wide, the heads' pooling window is the
    whole map.
    """
    kind = VARIANTS[variant]
    small = stem == "small" or (stem == "auto" and stem_of(input_shape) == "small")
    normed = norm or kind.norm
    act, kernel_init = ops.ACTIVATIONS[activation], INITIALIZERS[initializer or kind.initializer]
    unit = partial(
        ConvUnit,
        use_bias=normed in ("lrn", "none"),
        norm=norm_factory(
            "none" if normed == "lrn" else normed, momentum=norm_momentum, eps=norm_eps
        ),
        activation=act,
        kernel_init=kernel_init,
    )
    block = partial(
        Inception,
        unit=unit,
        inner=unit if factor_activation else partial(unit, activation=ops.identity),
        branch5=branch5 or kind.branch5,
        reduced=inception == "reduced",
        pool=pool,
    )
    base = Base(
        unit=unit, block=block, remat=remat, width=width, small=small,
        separable=stem_conv == "separable", lrn=normed == "lrn", pool=kind.pool, pool_kind=pool,
        pool4_window=kind.pool4_window, conv1_padding=kind.conv1_padding,
    )  # fmt: skip
    head = partial(
        AuxiliaryHead, num_classes=num_classes, unit=unit, maps=scaled(128, width),
        hidden=scaled(1024, width), window=_head_window(kind, input_shape, small),
        dropout=aux_dropout, activation=act, kernel_init=kernel_init,
    )  # fmt: skip
    return GoogLeNet(
        base,
        PooledReadout(num_classes, kind.dropout if dropout is None else dropout, kernel_init),
        aux1=head() if aux_heads == 2 else None,
        aux2=head() if aux_heads >= 1 else None,
    )


def _head_window(
    kind: Variant, input_shape: tuple[int, int, int], small: bool
) -> tuple[int, int] | None:
    """The heads' pooling window: 5x5, or the whole of a map that is smaller."""
    if kind.head_pool == "adaptive":
        return None
    halvings = 1 if small else 4
    height, width = (-(-n // 2**halvings) for n in input_shape[:2])
    return min(5, height), min(5, width)
