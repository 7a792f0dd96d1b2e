"""Inception v3: Szegedy et al. 2015, "Rethinking the Inception Architecture for Computer Vision"
(arXiv:1512.00567)."""

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
    ActivationName,
    ConvUnit,
    Dense,
    GlobalPool,
    Initializer,
    InitializerName,
    NormName,
    Pool,
    PooledReadout,
    capture,
    norm_factory,
    offer_auxiliary,
    scaled,
    stem_of,
    wants_auxiliary,
)
from cnnjax.models.inception_blocks import (
    Branch5,
    Branch7,
    InceptionA,
    InceptionC,
    InceptionE,
    Parts,
    ReductionB,
    ReductionD,
)


@dataclass(frozen=True)
class Variant:
    """Where the published program, torchvision and Keras differ."""

    count_include_pad: bool
    scale: bool  # whether batch norm has its factor gamma
    momentum: float
    dropout: float
    aux_heads: Literal[0, 1]
    initializer: InitializerName


VARIANTS: Mapping[str, Variant] = {
    # The paper gives no dropout and no initialiser; 0.2 is the authors' program (TF-slim).
    "paper": Variant(False, True, 0.9, 0.2, 1, "he_normal"),
    # torchvision 0.29, models/inception.py. Its initialiser is a normal with sd 0.1, near He's.
    "torchvision": Variant(True, True, 0.9, 0.5, 1, "he_normal"),
    # keras.applications.inception_v3: batch norm with scale=False, no auxiliary head.
    "keras": Variant(False, False, 0.99, 0.0, 0, "glorot_uniform"),
}


class Base(nn.Module):
    """Stem, blocks A, B, C, D, E (table 1); captures `pool1`, `pool2`, `stage3` .. `stage5`."""

    parts: Parts
    blocks: tuple[int, int, int]
    small: bool
    stem_conv: Literal["three_3x3", "7x7"]
    remat: bool

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        return self.maps(x, train)[0]

    @nn.compact
    def maps(self, x: Float[Array, "n h w c"], train: bool) -> tuple[Array, Array]:
        """The last map, and the last one of the 17x17 grid, which the auxiliary head reads."""
        x = self._stem(x, train)
        count_a, count_c, count_e = self.blocks
        # 32, 64, 64 in the published program, and 128, 160, 160, 192; the last ones where fewer.
        for i, maps in enumerate((32, *[64] * max(1, count_a - 1))[-count_a:], 1):
            x = self._block(InceptionA, maps)(name=f"inception_a{i}")(x, train)
        x = capture(self, "stage3", x)
        x = self._block(ReductionB)(name="reduction_b")(x, train)
        for i, maps in enumerate((128, *[160] * (count_c - 2), 192)[-count_c:], 1):
            x = self._block(InceptionC, maps)(name=f"inception_c{i}")(x, train)
        x = middle = capture(self, "stage4", x)
        x = self._block(ReductionD)(name="reduction_d")(x, train)
        for i in range(1, count_e + 1):
            x = self._block(InceptionE)(name=f"inception_e{i}")(x, train)
        return capture(self, "stage5", x), middle

    def _block(self, kind: type[nn.Module], *options: Any) -> Callable[..., nn.Module]:
        block = nn.remat(kind, static_argnums=(2,)) if self.remat else kind
        return partial(block, self.parts, *options)

    def _stem(self, x: Array, train: bool) -> Array:
        p = self.parts
        halve = {"padding": "SAME"} if self.small else {"padding": "VALID", "stride": 2}
        keep = {"padding": "SAME" if self.small else "VALID"}
        if self.stem_conv == "7x7":
            x = p.conv(64, 7, "conv1", **halve)(x, train=train)
        else:
            x = p.conv(32, 3, "conv1a", **halve)(x, train=train)
            x = p.conv(32, 3, "conv2a", **keep)(x, train=train)
            x = p.conv(64, 3, "conv2b")(x, train=train)
        if not self.small:
            x = capture(self, "pool1", Pool("max", 3, stride=2, name="max_pool1")(x))
        x = p.conv(80, 1, "conv3b")(x, train=train)
        x = p.conv(192, 3, "conv4a", **keep)(x, train=train)
        if self.small:
            return x
        return capture(self, "pool2", Pool("max", 3, stride=2, name="max_pool2")(x))


class AuxiliaryHead(nn.Module):
    """A classifier on the last 17x17 map (fig. 8): pooling, 1x1, 5x5 in place of FC, FC.

    `windows` are those of the pooling and the 5x5. With `inner_norm` the layer that stands for the
    fully connected one is batch-normalised too: table 3's "BN auxiliary".
    """

    num_classes: int
    parts: Parts
    plain: Callable[..., nn.Module]
    windows: tuple[tuple[int, int], tuple[int, int]]
    inner_norm: bool
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        pooling, window = self.windows
        x = Pool("avg", pooling, stride=3, name="pool")(x)
        x = self.parts.conv(128, 1, "conv0")(x, train=train)
        unit = self.parts.unit if self.inner_norm else self.plain
        x = unit(scaled(768, self.parts.width), window, padding="VALID", name="conv1")(
            x, train=train
        )
        return Dense(self.num_classes, kernel_init=self.kernel_init, name="fc")(
            GlobalPool("avg")(x)
        )


class InceptionV3(nn.Module):
    """Base, classifier and the auxiliary head, whose logits go to "auxiliary" as `aux`."""

    features: Base
    classifier: nn.Module
    aux: nn.Module | None = None

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        x, middle = self.features.maps(x, train)
        if self.aux is not None and wants_auxiliary(self, train):
            offer_auxiliary(self, "aux", self.aux(middle, train=train))
        return self.classifier(x, train=train)


Count = Annotated[int, Ge(1)]


def inception_v3(
    *,
    variant: Literal["paper", "torchvision", "keras"] = "paper",
    num_classes: Annotated[int, Ge(1)] = 1000,
    input_shape: tuple[int, int, int] = (299, 299, 3),
    blocks: tuple[Count, Count, Count] = (3, 4, 2),
    branch5: Branch5 = "5x5",
    branch7: Branch7 = "1x7_7x1",
    factor_activation: bool = True,
    pool: Literal["avg", "max"] = "avg",
    count_include_pad: bool | None = None,
    aux_heads: Literal[0, 1] | None = None,
    aux_norm: bool = True,
    stem: Literal["auto", "imagenet", "small"] = "auto",
    stem_conv: Literal["three_3x3", "7x7"] = "three_3x3",
    norm: NormName = "batch",
    norm_scale: bool | None = None,
    norm_momentum: Annotated[float, Ge(0), Lt(1)] | None = None,
    norm_eps: Annotated[float, Gt(0)] = 1e-3,
    activation: ActivationName = "relu",
    dropout: Annotated[float, Ge(0), Lt(1)] | None = None,
    initializer: InitializerName | None = None,
    width: Annotated[float, Gt(0)] = 1.0,
    remat: bool = False,
) -> nn.Module:
    """Inception v3 as its authors published it; an option that is None is as the variant says.

    Table 1 leaves widths open; they are those of the authors' program, on which torchvision and
    Keras agree. `variant="torchvision"` counts the zeros around the map in its average poolings
    (`count_include_pad`) and has dropout 0.5; `"keras"` has neither the factor gamma in batch norm
    (`norm_scale=False`) nor an auxiliary head nor dropout.

    `blocks` counts the blocks A, C and E. `branch5` and `branch7` write the 5x5 of the blocks A and
    the 7x7 of C and D whole, as a stack of 3x3, or as 1xn and nx1 (sections 3.1, 3.2);
    `factor_activation=False` leaves the activation between the factors out (fig. 2).
    `stem_conv="7x7"` is the first layer before its factorisation, and with `aux_norm=False` the
    auxiliary head's last hidden layer has no norm: the first rows of table 3. `pool` is the kind in
    the blocks that keep the map's size. Convolutions have biases with `norm="none"` alone.

    `stem="small"`, what "auto" means up to 64 pixels, takes the stem's convolutions with stride 1
    and the same size and leaves its two poolings out, so that the blocks A see the image's own
    size (28 or 32 beside 35), C 13 or 15, E 6 or 7. The auxiliary head's 5x5 windows, pooling with
    stride 3 and convolution, shrink to the size of the map where that is smaller.
    """
    if norm == "lrn":
        raise SpecError("inception_v3: norm: Inception v3 has no place for 'lrn'.")
    kind = VARIANTS[variant]
    small = stem == "small" or (stem == "auto" and stem_of(input_shape) == "small")
    scale = kind.scale if norm_scale is None else norm_scale
    kernel_init = INITIALIZERS[initializer or kind.initializer]
    momentum = kind.momentum if norm_momentum is None else norm_momentum
    factory = norm_factory(norm, momentum=momentum, eps=norm_eps)
    if norm == "batch":
        factory = partial(factory, use_scale=scale)
    plain = partial(
        ConvUnit, use_bias=True, activation=ops.ACTIVATIONS[activation], kernel_init=kernel_init
    )
    unit = partial(plain, use_bias=norm == "none", norm=factory)
    parts = Parts(
        unit=unit,
        inner=unit if factor_activation else partial(unit, activation=ops.identity),
        pool=pool,
        count_include_pad=(
            kind.count_include_pad if count_include_pad is None else count_include_pad
        ),
        branch5=branch5,
        branch7=branch7,
        width=width,
    )
    heads = kind.aux_heads if aux_heads is None else aux_heads
    return InceptionV3(
        Base(parts, blocks, small, stem_conv, remat),
        PooledReadout(num_classes, kind.dropout if dropout is None else dropout, kernel_init),
        AuxiliaryHead(
            num_classes, parts, plain, _head_windows(input_shape, small), aux_norm, kernel_init
        )
        if heads
        else None,
    )


def _head_windows(
    input_shape: tuple[int, int, int], small: bool
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The auxiliary head's two windows: 5x5, or the whole of a map that is smaller."""
    maps = [_middle(n, small) for n in input_shape[:2]]
    pooling = [max(1, min(5, n)) for n in maps]
    window = [max(1, min(5, (n - k) // 3 + 1)) for n, k in zip(maps, pooling, strict=True)]
    return (pooling[0], pooling[1]), (window[0], window[1])


def _middle(n: int, small: bool) -> int:
    """The size of the blocks C's map, 17 for an image of 299."""
    if not small:
        n = (n - 3) // 2 - 1  # conv1a, conv2a
        n = (n - 3) // 2 - 1  # max_pool1, conv4a
        n = (n - 3) // 2 + 1  # max_pool2
    return (n - 3) // 2 + 1  # reduction_b
