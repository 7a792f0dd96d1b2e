"""AlexNet: Krizhevsky, Sutskever & Hinton 2012, "ImageNet Classification with Deep CNNs"."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import flax.linen as nn
from annotated_types import Ge, Gt, Lt
from jaxtyping import Array, Float

from cnnjax import ops
from cnnjax.layers import (
    INITIALIZERS,
    Activation,
    ActivationName,
    Conv,
    Dense,
    Dropout,
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
    stem_of,
)

Omitted = Literal["conv3", "conv4", "conv5"]


@dataclass(frozen=True)
class Variant:
    """Where the published forms of the network differ."""

    widths: tuple[int, ...]
    groups: int
    norm: NormName
    stem_padding: int
    initializer: InitializerName
    unit_biases: bool
    grid: int | None  # adaptive average pooling in front of the first dense layer
    dropout_first: bool  # on the inputs of the hidden dense layers in place of their outputs


VARIANTS: Mapping[str, Variant] = {
    "paper": Variant(
        (96, 256, 384, 384, 256), 2, "lrn", 0, "gaussian_0.01", True, None, dropout_first=False
    ),
    # The single column of Krizhevsky 2014 (arXiv:1404.5997, fig. 1), as torchvision ships it.
    "torchvision": Variant(
        (64, 192, 384, 256, 256), 1, "none", 2, "torch_default", False, 6, dropout_first=True
    ),
}


class Features(nn.Module):
    """Five convolutional layers, pools after the first, second and fifth (section 3.5, fig. 2)."""

    widths: tuple[int, ...]
    groups: int
    small: bool
    stem_padding: int
    norm: NormFactory
    norm_after: bool
    pool: PoolName
    pool_window: int
    activation: Activation
    kernel_init: Initializer
    unit_biases: bool
    without: tuple[str, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        x = self._conv(x, 1, 5 if self.small else 11, train=train)
        x = self._conv(self._pool(x, 1), 2, 5, train=train)
        x = self._pool(x, 2)
        for i in (3, 4, 5):
            if f"conv{i}" not in self.without:
                x = self._conv(x, i, 3, train=train)
        return self._pool(x, 5)

    def _conv(self, x: Array, i: int, window: int, *, train: bool) -> Array:
        """Convolution i with its activation, and the norm where the kind of norm belongs."""
        one = self.unit_biases and i in (2, 4, 5)
        whole = i == 1 and not self.small
        x = Conv(
            self.widths[i - 1],
            window,
            stride=4 if whole else 1,
            padding=self.stem_padding if whole else window // 2,
            groups=self.groups if i in (2, 4, 5) else 1,
            kernel_init=self.kernel_init,
            bias_init=nn.initializers.ones if one else nn.initializers.zeros,
            name=f"conv{i}",
        )(x)
        if not self.norm_after:
            x = self.norm(name=f"norm{i}")(x, train=train)
        x = self.activation(x)
        if self.norm_after and i < 3:
            x = self.norm(name=f"norm{i}")(x, train=train)
        return capture(self, f"stage{i}", x)

    def _pool(self, x: Array, i: int) -> Array:
        pool = Pool(self.pool, self.pool_window, 2, name=f"pool{i}")
        return capture(self, f"pool{i}_out", pool(x))


class Classifier(nn.Module):
    """Two hidden fully connected layers under dropout, then the logits."""

    num_classes: int
    dense: int
    dropout: float
    dropout_first: bool
    grid: int | None
    activation: Activation
    kernel_init: Initializer
    unit_biases: bool

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        if self.grid is not None:
            x = ops.adaptive_avg_pool(x, self.grid)
        x = flatten(x)
        bias = nn.initializers.ones if self.unit_biases else nn.initializers.zeros
        for i in (6, 7):
            drop = Dropout(self.dropout, name=f"dropout{i}")
            hidden = Dense(self.dense, kernel_init=self.kernel_init, bias_init=bias, name=f"fc{i}")
            if self.dropout_first:
                x = self.activation(hidden(drop(x, train=train)))
            else:
                x = drop(self.activation(hidden(x)), train=train)
            x = capture(self, f"fc{i}_out", x)
        return Dense(self.num_classes, kernel_init=self.kernel_init, name="fc8")(x)


def alexnet(
    *,
    num_classes: Annotated[int, Ge(1)] = 1000,
    input_shape: tuple[int, ...] = (227, 227, 3),
    variant: Literal["paper", "torchvision"] = "paper",
    groups: Annotated[int, Ge(1)] | None = None,
    norm: NormName | None = None,
    norm_momentum: Annotated[float, Ge(0), Lt(1)] | None = None,
    norm_eps: Annotated[float, Gt(0)] | None = None,
    pool: PoolName = "max",
    pool_window: Literal[2, 3] = 3,
    activation: ActivationName = "relu",
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.5,
    dense: Annotated[int, Ge(1)] = 4096,
    width: Annotated[float, Gt(0)] = 1.0,
    without: tuple[Omitted, ...] = (),
    initializer: InitializerName | None = None,
    unit_biases: bool | None = None,
    stem: Literal["auto", "imagenet", "small"] = "auto",
) -> nn.Module:
    """AlexNet on images of `input_shape`; None stands for what the variant says.

    `variant="paper"`: 96-256-384-384-256 maps, conv2, conv4 and conv5 in two groups (the two
    GPUs of section 3.5), local response normalisation after the activation of the first two
    layers (3.3), 3x3 pools of stride 2 (3.4), dropout on the outputs of fc6 and fc7 (4.2),
    N(0, 0.01) kernels and biases of one in conv2, conv4, conv5, fc6 and fc7 (5). The paper's
    figures follow from images of 227, not 224, pixels. `groups=1` is the one-tower net of the same
    widths; with `width=0.5` it has half the kernels, as in the comparison of section 3.5.

    `variant="torchvision"`: the one column of Krizhevsky 2014 (arXiv:1404.5997), 64-192-384-256-256
    maps without groups and norm, padding of 2 on the first layer, a 6x6 adaptive average pool, and
    dropout on the inputs of fc6 and fc7.

    `norm="lrn"` stands after the activation of layers 1 and 2; any other norm stands before the
    activation of all five (Ioffe & Szegedy 2015, section 3.2). `pool_window=2` takes the overlap
    away; the stride stays 2. `without` leaves convolutions out (section 7 removes a middle one).
    `width` multiplies the convolutional widths and `dense`.

    `stem`: "imagenet" is the 11x11 convolution of stride 4; "small" is 5x5 of stride 1, padded by
    2, and no adaptive pool, which suits 28x28 and 32x32; "auto" takes "small" up to 64 pixels.
    """
    v = VARIANTS[variant]
    small = (stem_of(input_shape) if stem == "auto" else stem) == "small"
    norm = norm or v.norm
    groups = groups or v.groups
    kernel_init = INITIALIZERS[initializer or v.initializer]
    unit_biases = v.unit_biases if unit_biases is None else unit_biases
    features = Features(
        widths=tuple(scaled(w, width, multiple=groups) for w in v.widths),
        groups=groups,
        small=small,
        stem_padding=v.stem_padding,
        norm=norm_factory(norm, momentum=norm_momentum, eps=norm_eps),
        norm_after=norm == "lrn",
        pool=pool,
        pool_window=pool_window,
        activation=ops.ACTIVATIONS[activation],
        kernel_init=kernel_init,
        unit_biases=unit_biases,
        without=without,
    )
    classifier = Classifier(
        num_classes=num_classes,
        dense=scaled(dense, width),
        dropout=dropout,
        dropout_first=v.dropout_first,
        grid=None if small else v.grid,
        activation=ops.ACTIVATIONS[activation],
        kernel_init=kernel_init,
        unit_biases=unit_biases,
    )
    return Network(features, classifier)
