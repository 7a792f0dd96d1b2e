"""The residual unit and its surroundings, each part exchangeable.

He et al. 2015 (arXiv:1512.03385) and He et al. 2016 (arXiv:1603.05027); `resnet` has the networks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.layers import (
    Activation,
    Conv,
    Dense,
    Dropout,
    GlobalPool,
    Initializer,
    NormFactory,
    Pool,
    capture,
)
from cnnjax.ops.lowering import elementwise, stored

Shortcut = Literal["identity", "projection", "projection_all", "none"]
Order = Literal[
    "original", "bn_after_add", "relu_before_add", "relu_preactivation", "full_preactivation"
]
Gate = Literal["none", "exclusive", "shortcut_only"]
Biases = Literal["none", "all", "unnormalized"]
Block = Literal["basic", "bottleneck"]
StemPool = Literal["max", "avg", "min", "stride", "none"]


@dataclass(frozen=True)
class Design:
    """The exchangeable parts that all units of a network share; see `resnet` for their meaning."""

    norm: NormFactory
    normalizes: bool  # whether that norm has a gamma and a beta
    activation: Activation
    kernel_init: Initializer
    order: Order = "original"
    shortcut: Shortcut = "projection"
    biases: Biases = "none"
    zero_init: bool = False
    shortcut_scale: float = 1.0
    residual_scale: float = 1.0
    gate: Gate = "none"
    gate_bias: float = 0.0
    shortcut_dropout: float = 0.0

    @property
    def preactivates(self) -> bool:
        return self.order in ("relu_preactivation", "full_preactivation")

    def conv(
        self, features: int, size: int, stride: int, *, normed: bool, name: str, zero: bool = False
    ) -> Conv:
        """A convolution padded by half its size on each side, at any stride."""
        bias = self.biases == "all" or (self.biases == "unnormalized" and not normed)
        init = nn.initializers.zeros if zero else self.kernel_init
        return Conv(
            features, size, stride=stride, padding=size // 2, use_bias=bias,
            kernel_init=init, name=name,
        )  # fmt: skip


class ShortcutPath(nn.Module):
    """h(x): the identity, or what takes its place where map size or width change.

    Option A keeps every `stride`-th position and appends `widen` maps of zeros; B and C are 1x1
    convolutions (He et al. 2015, section 3.3). Then constant scale and dropout (2016, section 3.1).
    """

    design: Design
    features: int
    stride: int = 1
    widen: int = 0
    projects: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c"], train: bool) -> Array:
        d = self.design
        if self.projects:
            normed = d.order != "full_preactivation"
            x = d.conv(self.features, 1, self.stride, normed=normed, name="conv")(x)
            x = d.norm(name="norm")(x, train=train) if normed else x
        else:
            space = x.ndim - 2
            if self.stride > 1:
                x = stored(x)[:, *((slice(None, None, self.stride),) * space), :]
            x = jnp.pad(x, ((0, 0),) * (space + 1) + ((0, self.widen),)) if self.widen else x
        if d.shortcut_scale != 1.0:
            x = x * d.shortcut_scale
        if d.shortcut_dropout:
            x = Dropout(d.shortcut_dropout, name="dropout")(x, train=train)
        return x


class Unit(nn.Module):
    """One residual unit y = h(x) + F(x) in one of the five orders of He et al. 2016, figure 4.

    F is the list `convs` of (features, window, stride): two 3x3 (basic) or 1x1, 3x3, 1x1
    (bottleneck; He et al. 2015, figure 5). `opens` marks the first unit of a network, whose
    pre-activation serves both paths (He et al. 2016, appendix); where the shortcut is a
    convolution it reads the pre-activated map in every unit.
    """

    design: Design
    convs: tuple[tuple[int, int, int], ...]
    stride: int = 1
    widen: int = 0
    projects: bool = False
    opens: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c"], train: bool) -> Array:
        d = self.design
        full, count = d.order == "full_preactivation", len(self.convs)
        y = x
        if d.preactivates:
            y = d.activation(d.norm(name="norm1")(x, train=train) if full else x)
            x = y if self.opens or self.projects else x
        for i, (features, size, stride) in enumerate(self.convs, 1):
            last = i == count
            if full and i > 1:
                y = d.activation(d.norm(name=f"norm{i}")(y, train=train))
            bare = last and d.order in ("full_preactivation", "bn_after_add")
            zero = last and d.zero_init and (bare or not d.normalizes)
            y = d.conv(features, size, stride, normed=not bare, name=f"conv{i}", zero=zero)(y)
            if not full and not bare:
                gamma = last and d.zero_init and d.normalizes
                init = {"scale_init": nn.initializers.zeros} if gamma else {}
                y = d.norm(name=f"norm{i}", **init)(y, train=train)
            if not full and (not last or d.order == "relu_before_add"):
                y = d.activation(y)
        if d.shortcut != "none":
            y = self._add(x, y, train)
        if d.order == "bn_after_add":
            y = d.norm(name=f"norm{count}")(y, train=train)
        if d.order in ("original", "bn_after_add"):
            y = d.activation(y)
        # What the next unit's convolution reads is stored for it; for its shortcut XLA would
        # compute it again, and with it all units before. A pre-activated one reads another map.
        return y if d.preactivates else stored(y)

    def _add(self, x: Array, y: Array, train: bool) -> Array:
        """h(x) + F(x), either of them scaled or gated (He et al. 2016, section 3.1, figure 2).

        The gate g is a 1x1 convolution of h(x) and a sigmoid: h is weighted by 1 - g and, if the
        gate is exclusive, F by g.
        """
        d = self.design
        h = ShortcutPath(
            d, self.convs[-1][0], self.stride, self.widen, self.projects, name="shortcut"
        )(x, train)
        if d.residual_scale != 1.0:
            y = y * d.residual_scale
        if d.gate != "none":
            bias_init = nn.initializers.constant(d.gate_bias)
            gate = Conv(
                self.convs[-1][0], 1, padding=0, kernel_init=d.kernel_init, bias_init=bias_init,
                name="gate",
            )  # fmt: skip
            g = jax.nn.sigmoid(gate(h))
            h = h * (1 - g)
            y = y * g if d.gate == "exclusive" else y
        # In an evaluation oneDNN adds a projection to the last product; XLA copies what it has not
        # stored first.
        h = stored(h) if self.projects and not train else h
        return elementwise(jnp.add, h, y)


class Stem(nn.Module):
    """ "imagenet": 7x7 at stride 2, then 3x3 pooling at stride 2. "small": 3x3 at stride 1."""

    design: Design
    features: int
    kind: Literal["imagenet", "small"]
    pool: StemPool = "max"
    zero_padding: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c"], *, train: bool) -> Array:
        d = self.design
        size, stride = (7, 2) if self.kind == "imagenet" else (3, 1)
        # A full pre-activation net normalises here once, inside its first unit.
        normed = d.order != "full_preactivation"
        x = d.conv(self.features, size, stride, normed=normed, name="conv")(x)
        x = d.norm(name="norm")(x, train=train) if normed else x
        x = x if d.preactivates else d.activation(x)
        if self.kind == "small" or self.pool == "none":
            return x
        padding = 1
        if self.zero_padding:
            x = jnp.pad(x, ((0, 0), *((1, 1),) * (x.ndim - 2), (0, 0)))
            padding = 0
        return Pool(self.pool, 3, stride=2, padding=padding, name="pool")(x)


class Base(nn.Module):
    """Stem and stages; a pre-activation net ends with the activation its last unit lacks.

    Unit 2 of the first stage is called "stage1_block2"; "stage1" is that stage's captured output.
    """

    design: Design
    stem: Callable[..., nn.Module]
    stages: tuple[tuple[Callable[..., nn.Module], ...], ...]

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c"], *, train: bool = False) -> Array:
        d = self.design
        x = capture(self, "stem_out", self.stem(name="stem")(x, train=train))
        for i, units in enumerate(self.stages, 1):
            for j, unit in enumerate(units, 1):
                x = unit(name=f"stage{i}_block{j}")(x, train)
            if i == len(self.stages) and d.preactivates:
                x = d.norm(name="norm")(x, train=train) if d.order == "full_preactivation" else x
                x = d.activation(x)
            x = capture(self, f"stage{i}", x)
        return x


class Head(nn.Module):
    """Global average pooling and one fully connected layer."""

    num_classes: int
    kernel_init: Initializer
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c"], *, train: bool = False) -> Array:
        x = capture(self, "pool", GlobalPool(name="global_pool")(x))
        x = Dropout(self.dropout, name="dropout")(x, train=train) if self.dropout else x
        return Dense(self.num_classes, kernel_init=self.kernel_init, name="fc")(x)


def build_stages(
    design: Design,
    block: Block,
    stages: Sequence[int],
    widths: Sequence[int],
    *,
    stem_width: int,
    stride_in: str,
    downsample: str,
    shared_first: bool,
    remat: bool,
) -> tuple[tuple[Callable[..., nn.Module], ...], ...]:
    """Every unit with its strides and widths: shortcuts are settled here, not at run time."""
    # A call's second argument, `train`, is a Python bool and must stay one under remat.
    unit = nn.remat(Unit, static_argnums=(2,)) if remat else Unit
    c_in, built = stem_width, []
    for s, (count, c) in enumerate(zip(stages, widths, strict=True)):
        row = []
        for u in range(count):
            if downsample == "first":
                stride = 2 if u == 0 and s > 0 else 1
            else:
                stride = 2 if u == count - 1 and s < len(stages) - 1 else 1
            if block == "basic":
                convs: tuple[tuple[int, int, int], ...] = ((c, 3, stride), (c, 3, 1))
            else:
                first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
                convs = ((c, 1, first), (c, 3, second), (4 * c, 1, 1))
            c_out = convs[-1][0]
            projects = design.shortcut == "projection_all" or (
                design.shortcut == "projection" and c_out != c_in
            )
            row.append(
                partial(
                    unit, design, convs, stride=stride, widen=max(c_out - c_in, 0),
                    projects=projects, opens=shared_first and s == u == 0,
                )
            )  # fmt: skip
            c_in = c_out
        built.append(tuple(row))
    return tuple(built)
