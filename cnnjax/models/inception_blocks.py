"""The five block kinds of Inception v3 (Szegedy et al. 2015, arXiv:1512.00567, sections 3 to 6)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.layers import FactoredConv, Factorization, Pool, scaled

Branch5 = Literal["5x5", "two_3x3", "1x5_5x1"]
Branch7 = Literal["7x7", "three_3x3", "1x7_7x1"]
_FACTORS: Mapping[str, Factorization] = {
    "5x5": "none", "two_3x3": "stack", "1x5_5x1": "asymmetric",
    "7x7": "none", "three_3x3": "stack", "1x7_7x1": "asymmetric",
}  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """What every block is made of, handed down as it is."""

    unit: Callable[..., nn.Module]
    inner: Callable[..., nn.Module]
    pool: Literal["avg", "max"]
    count_include_pad: bool
    branch5: Branch5
    branch7: Branch7
    width: float

    def conv(self, maps: int, size: int | tuple[int, int], name: str, **options: Any) -> nn.Module:
        """A convolution with norm and activation, of `maps` times the width multiplier."""
        return self.unit(scaled(maps, self.width), size, name=name, **options)

    def factored(self, maps: int, size: int, form: str, name: str, **options: Any) -> nn.Module:
        """A size x size convolution in the form that the options ask for."""
        if _FACTORS[form] == "none":
            return self.conv(maps, size, name)
        return FactoredConv(
            scaled(maps, self.width), size, _FACTORS[form], unit=self.unit, inner=self.inner,
            name=name, **options,
        )  # fmt: skip

    def pooled(self, x: Array, maps: int, train: bool) -> Array:
        """The pooling branch of the blocks that keep the size of the map."""
        x = Pool(
            self.pool, 3, stride=1, padding="SAME", count_include_pad=self.count_include_pad,
            name="pool",
        )(x)  # fmt: skip
        return self.conv(maps, 1, "pool_proj")(x, train=train)


class InceptionA(nn.Module):
    """Fig. 5, on the 35x35 map: 1x1, 5x5, two 3x3, pooling. The 5x5 is the published program's."""

    parts: Parts
    pool_maps: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h w c_out"]:
        p = self.parts
        one = p.conv(64, 1, "conv1x1")(x, train=train)
        single = p.conv(48, 1, "reduce5x5")(x, train=train)
        single = p.factored(64, 5, p.branch5, "conv5x5")(single, train=train)
        double = p.conv(64, 1, "double_reduce")(x, train=train)
        double = p.conv(96, 3, "double_conv1")(double, train=train)
        double = p.conv(96, 3, "double_conv2")(double, train=train)
        return jnp.concatenate([one, single, double, p.pooled(x, self.pool_maps, train)], axis=-1)


class ReductionB(nn.Module):
    """Fig. 10: the grid is halved by convolutions and a pooling side by side, 35x35 to 17x17."""

    parts: Parts

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h2 w2 c_out"]:
        p, halve = self.parts, {"stride": 2, "padding": "VALID"}
        single = p.conv(384, 3, "conv3x3", **halve)(x, train=train)
        double = p.conv(64, 1, "double_reduce")(x, train=train)
        double = p.conv(96, 3, "double_conv1")(double, train=train)
        double = p.conv(96, 3, "double_conv2", **halve)(double, train=train)
        pooled = Pool("max", 3, stride=2, name="pool")(x)
        return jnp.concatenate([single, double, pooled], axis=-1)


class InceptionC(nn.Module):
    """Fig. 6, on the 17x17 map: nxn windows as 1xn and nx1, n = 7."""

    parts: Parts
    maps7: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h w c_out"]:
        p, maps = self.parts, self.maps7
        one = p.conv(192, 1, "conv1x1")(x, train=train)
        single = p.conv(maps, 1, "reduce7x7")(x, train=train)
        single = p.factored(192, 7, p.branch7, "conv7x7")(single, train=train)
        double = p.conv(maps, 1, "double_reduce")(x, train=train)
        for name, features in (("double_conv1", maps), ("double_conv2", 192)):
            conv = p.factored(features, 7, p.branch7, name, column_first=True)
            double = conv(double, train=train)
        return jnp.concatenate([one, single, double, p.pooled(x, 192, train)], axis=-1)


class ReductionD(nn.Module):
    """Fig. 10 again, 17x17 to 8x8, with a factored 7x7 before one of its 3x3."""

    parts: Parts

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h2 w2 c_out"]:
        p, halve = self.parts, {"stride": 2, "padding": "VALID"}
        single = p.conv(192, 1, "reduce3x3")(x, train=train)
        single = p.conv(320, 3, "conv3x3", **halve)(single, train=train)
        seven = p.conv(192, 1, "reduce7x7")(x, train=train)
        seven = p.factored(192, 7, p.branch7, "conv7x7")(seven, train=train)
        seven = p.conv(192, 3, "conv7x7_3x3", **halve)(seven, train=train)
        pooled = Pool("max", 3, stride=2, name="pool")(x)
        return jnp.concatenate([single, seven, pooled], axis=-1)


class InceptionE(nn.Module):
    """Fig. 7, on the 8x8 map: 1x3 and 3x1 side by side, an expanded filter bank."""

    parts: Parts

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h w c_out"]:
        p = self.parts
        one = p.conv(320, 1, "conv1x1")(x, train=train)
        single = p.conv(384, 1, "reduce3x3")(x, train=train)
        branches = [
            one,
            p.conv(384, (1, 3), "row")(single, train=train),
            p.conv(384, (3, 1), "column")(single, train=train),
        ]
        double = p.conv(448, 1, "double_reduce")(x, train=train)
        double = p.conv(384, 3, "double_conv")(double, train=train)
        branches += [
            p.conv(384, (1, 3), "double_row")(double, train=train),
            p.conv(384, (3, 1), "double_column")(double, train=train),
            p.pooled(x, 192, train),
        ]
        return jnp.concatenate(branches, axis=-1)
