"""SqueezeNet: Iandola et al. 2016 (arXiv:1602.07360)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import flax.linen as nn
import jax.numpy as jnp
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Array, Float

from cnnjax import ops
from cnnjax.layers import (
    INITIALIZERS,
    Activation,
    ActivationName,
    Conv,
    Dropout,
    GlobalPool,
    Initializer,
    InitializerName,
    Network,
    NormFactory,
    NormName,
    Pool,
    PoolName,
    capture,
    norm_factory,
    scaled,
    stem_of,
)


@dataclass(frozen=True)
class Version:
    """The stem and the Fire modules (2 to 9) that a pool follows; pool 1 follows conv1."""

    stem_window: int
    stem_width: int
    pooled: tuple[int, ...]


VERSIONS: Mapping[str, Version] = {
    "1.0": Version(7, 96, (4, 8)),
    "1.1": Version(3, 64, (3, 5)),  # the authors' later release, 2.4 times less computation
}
CONV_INIT: Mapping[str, InitializerName] = {"paper": "glorot_uniform", "torchvision": "he_uniform"}


class Fire(nn.Module):
    """A 1x1 squeeze layer feeding 1x1 and 3x3 expand layers side by side (section 3.2, fig. 1)."""

    squeeze: int
    expand1x1: int
    expand3x3: int
    bypass: Literal["none", "identity", "conv"]
    norm: NormFactory
    activation: Activation
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool = False) -> Array:
        s = self._conv(x, self.squeeze, 1, "squeeze", train)
        y = jnp.concatenate(
            [
                self._conv(s, self.expand1x1, 1, "expand1x1", train),
                self._conv(s, self.expand3x3, 3, "expand3x3", train),
            ],
            axis=-1,
        )
        match self.bypass:
            case "identity":
                return y + x
            case "conv":
                projection = Conv(
                    y.shape[-1], 1, padding=0, kernel_init=self.kernel_init, name="bypass"
                )
                return y + projection(x)
        return y

    def _conv(self, x: Array, width: int, window: int, name: str, train: bool) -> Array:
        conv = Conv(width, window, padding=window // 2, kernel_init=self.kernel_init, name=name)
        return self.activation(self.norm(name=f"{name}_norm")(conv(x), train=train))


class Features(nn.Module):
    """conv1, then fire2 to fire9 with pools between them (Table 1)."""

    stem_window: int
    stem_width: int
    small: bool
    fires: tuple[tuple[int, int, int], ...]  # squeeze, expand 1x1, expand 3x3
    pooled: tuple[int, ...]
    bypasses: tuple[Literal["none", "identity", "conv"], ...]
    norm: NormFactory
    pool: PoolName
    activation: Activation
    kernel_init: Initializer
    remat: bool

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        x = Conv(
            self.stem_width,
            3 if self.small else self.stem_window,
            stride=1 if self.small else 2,
            padding=1 if self.small else 0,
            kernel_init=self.kernel_init,
            name="conv1",
        )(x)
        x = self.activation(self.norm(name="conv1_norm")(x, train=train))
        if not self.small:
            x = self._pool(x, 1)
        block = nn.remat(Fire, static_argnums=(2,)) if self.remat else Fire
        for i, (widths, bypass) in enumerate(zip(self.fires, self.bypasses, strict=True), 2):
            x = block(
                *widths, bypass, self.norm, self.activation, self.kernel_init, name=f"fire{i}"
            )(x, train)
            x = capture(self, f"fire{i}_out", x)
            if i in self.pooled:
                x = self._pool(x, i)
        return x

    def _pool(self, x: Array, i: int) -> Array:
        x = Pool(self.pool, 3, 2, ceil_mode=True, name=f"pool{i}")(x)
        return capture(self, f"pool{i}_out", x)


class Classifier(nn.Module):
    """Dropout, a 1x1 convolution to one map per class, activation, mean of each map."""

    num_classes: int
    dropout: float
    activation: Activation

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        init = INITIALIZERS["gaussian_0.01"]
        x = self.activation(
            Conv(self.num_classes, 1, padding=0, kernel_init=init, name="conv10")(x)
        )
        return GlobalPool("avg", name="pool")(capture(self, "class_maps", x))


def squeezenet(
    *,
    num_classes: Annotated[int, Ge(1)] = 1000,
    input_shape: tuple[int, ...] = (224, 224, 3),
    version: Literal["1.0", "1.1"] = "1.0",
    variant: Literal["paper", "torchvision"] = "paper",
    bypass: Literal["none", "simple", "complex"] = "none",
    base_e: Annotated[int, Ge(1)] = 128,
    incr_e: Annotated[int, Ge(0)] = 128,
    freq: Annotated[int, Ge(1)] = 2,
    squeeze_ratio: Annotated[float, Gt(0), Le(1)] = 0.125,
    pct3x3: Annotated[float, Gt(0), Lt(1)] = 0.5,
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.5,
    norm: NormName = "none",
    norm_momentum: Annotated[float, Ge(0), Lt(1)] | None = None,
    norm_eps: Annotated[float, Gt(0)] | None = None,
    pool: PoolName = "max",
    activation: ActivationName = "relu",
    width: Annotated[float, Gt(0)] = 1.0,
    initializer: InitializerName | None = None,
    stem: Literal["auto", "imagenet", "small"] = "auto",
    remat: bool = False,
) -> nn.Module:
    """SqueezeNet 1.0 (Table 1) or 1.1, with the metaparameters of section 5.1.

    Fire module i (counted from 0) expands to e = base_e + incr_e * floor(i / freq) maps, of which
    the share `pct3x3` comes from 3x3 kernels, and squeezes to squeeze_ratio * e before that.
    Where those numbers are not whole they are rounded, and never below one map.

    `bypass="simple"` adds the input to the output of fire 3, 5, 7 and 9, where their channels
    agree; "complex" also gives fire 2, 4, 6 and 8, where `floor(i / freq)` steps up, a 1x1
    convolution for the purpose (section 6).

    conv1 is not padded and pools end in a partial window (ceil mode), as in the authors' release
    and in torchvision. Table 1's maps of 111 and 55 follow from images of 227 pixels, not 224.
    `variant` decides the initialiser alone: Glorot's ("paper") or He's ("torchvision"); conv10 is
    N(0, 0.01) in both. `width` multiplies conv1's width, `base_e` and `incr_e`.

    `stem`: "imagenet" is conv1 with stride 2 and pool 1; "small" is a padded 3x3 conv1 of stride 1
    without pool 1, so that 28x28 ends at 7x7; "auto" takes "small" up to 64 pixels.
    """
    v = VERSIONS[version]
    small = (stem_of(input_shape) if stem == "auto" else stem) == "small"
    base, increment = scaled(base_e, width), scaled(incr_e, width) if incr_e else 0
    fires = tuple(_fire(base + increment * (i // freq), squeeze_ratio, pct3x3) for i in range(8))
    stem_width = scaled(v.stem_width, width)
    kinds: dict[str, tuple[Literal["none", "identity", "conv"], ...]] = {
        "none": ("none", "none"), "simple": ("none", "identity"), "complex": ("conv", "identity")
    }  # fmt: skip
    features = Features(
        stem_window=v.stem_window,
        stem_width=stem_width,
        small=small,
        fires=fires,
        pooled=v.pooled,
        bypasses=tuple(kinds[bypass][i % freq > 0] for i in range(8)),
        norm=norm_factory(norm, momentum=norm_momentum, eps=norm_eps),
        pool=pool,
        activation=ops.ACTIVATIONS[activation],
        kernel_init=INITIALIZERS[initializer or CONV_INIT[variant]],
        remat=remat,
    )
    return Network(features, Classifier(num_classes, dropout, ops.ACTIVATIONS[activation]))


def _fire(expand: int, squeeze_ratio: float, pct3x3: float) -> tuple[int, int, int]:
    """Squeeze, 1x1 and 3x3 widths of a Fire module of `expand` output maps."""
    e3 = min(max(round(expand * pct3x3), 1), expand - 1)
    return max(round(expand * squeeze_ratio), 1), expand - e3, e3
