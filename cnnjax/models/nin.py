"""Network in Network: Lin, Chen & Yan 2013 (arXiv:1312.4400)."""

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
    stem_of,
)


@dataclass(frozen=True)
class Mlpconv:
    """One mlpconv layer: a convolution, then 1x1 convolutions of the given widths."""

    window: int
    width: int
    mlp: tuple[int, ...]
    stride: int = 1
    padding: int | None = None  # None: half the window, which keeps the size


# The last mlpconv layer has one 1x1 convolution more, the class maps, in the classifier.
LAYERS: Mapping[str, tuple[Mlpconv, ...]] = {
    "small": (
        Mlpconv(5, 192, (160, 96)),
        Mlpconv(5, 192, (192, 192)),
        Mlpconv(3, 192, (192,)),
    ),
    "imagenet": (
        Mlpconv(11, 96, (96, 96), stride=4, padding=0),
        Mlpconv(5, 256, (256, 256)),
        Mlpconv(3, 384, (384, 384)),
        Mlpconv(3, 1024, (1024,)),
    ),
}


class MlpconvLayer(nn.Module):
    """A small perceptron slid over the map: each layer is rectified (equation 2)."""

    plan: Mlpconv
    width: float
    norm: NormFactory
    activation: Activation
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool = False) -> Array:
        plan = self.plan
        for i, features in enumerate((plan.width, *plan.mlp)):
            first = i == 0
            window = plan.window if first else 1
            name = "conv" if first else f"mlp{i}"
            x = Conv(
                scaled(features, self.width),
                window,
                stride=plan.stride if first else 1,
                padding=plan.padding if first and plan.padding is not None else window // 2,
                kernel_init=self.kernel_init,
                name=name,
            )(x)
            x = self.activation(self.norm(name=f"{name}_norm")(x, train=train))
        return x


class Features(nn.Module):
    """Mlpconv layers with a pool and dropout after all but the last (section 4.1)."""

    layers: tuple[Mlpconv, ...]
    width: float
    norm: NormFactory
    pool: PoolName
    dropout: float
    dropout_from: int
    activation: Activation
    kernel_init: Initializer
    remat: bool

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        block = nn.remat(MlpconvLayer, static_argnums=(2,)) if self.remat else MlpconvLayer
        for i, plan in enumerate(self.layers, 1):
            x = block(
                plan, self.width, self.norm, self.activation, self.kernel_init, name=f"mlpconv{i}"
            )(x, train)
            x = capture(self, f"stage{i}", x)
            if i == len(self.layers):
                return x
            x = Pool(self.pool, 3, 2, ceil_mode=True, name=f"pool{i}")(x)
            if i >= self.dropout_from:
                x = Dropout(self.dropout, name=f"dropout{i}")(x, train=train)
        return x


class Classifier(nn.Module):
    """One map per class; its mean is the logit (section 3.2), or a dense layer reads the maps."""

    num_classes: int
    head: Literal["average", "dense"]
    head_dropout: float
    activation: Activation
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        x = Conv(self.num_classes, 1, padding=0, kernel_init=self.kernel_init, name="maps")(x)
        x = capture(self, "class_maps", self.activation(x))
        if self.head == "average":
            return GlobalPool("avg", name="pool")(x)
        x = Dropout(self.head_dropout, name="dropout")(flatten(x), train=train)
        return Dense(self.num_classes, kernel_init=self.kernel_init, name="fc")(x)


def nin(
    *,
    num_classes: Annotated[int, Ge(1)] = 10,
    input_shape: tuple[int, ...] = (32, 32, 3),
    stem: Literal["auto", "imagenet", "small"] = "auto",
    head: Literal["average", "dense"] = "average",
    head_dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.5,
    norm: NormName = "none",
    norm_momentum: Annotated[float, Ge(0), Lt(1)] | None = None,
    norm_eps: Annotated[float, Gt(0)] | None = None,
    pool: PoolName = "max",
    activation: ActivationName = "relu",
    rectify_maps: bool = True,
    width: Annotated[float, Gt(0)] = 1.0,
    initializer: InitializerName = "he_normal",
    remat: bool = False,
) -> nn.Module:
    """NIN: mlpconv layers and global average pooling over one map per class.

    The widths, which the paper leaves to its supplement, are those its authors published:
    `stem="small"`, the CIFAR-10 net, has three mlpconv layers of 192 maps, pooled 3x3 with stride 2
    (ceil mode); `stem="imagenet"` has four, the first an 11x11 convolution of stride 4 as in
    AlexNet. "auto" takes "small" up to 64 pixels. Dropout follows the pool of every mlpconv layer
    but the last (section 4.1); the published ImageNet net has it only before its fourth, and so has
    this one. Pools are maxima as in the paper; the published CIFAR-10 net averages in its second.

    `head="dense"` replaces the mean of each class map by a fully connected layer over all of them,
    `head_dropout` under it, as in the comparison of section 4.6. `rectify_maps=False` leaves out
    the last activation, which keeps logits from below zero (equation 2 has it on every layer).
    The paper names no initialiser; ours is He's. A norm, which the paper has not, stands before
    each activation of `features`. `width` multiplies every width.
    """
    scale = stem_of(input_shape) if stem == "auto" else stem
    kernel_init = INITIALIZERS[initializer]
    features = Features(
        layers=LAYERS[scale],
        width=width,
        norm=norm_factory(norm, momentum=norm_momentum, eps=norm_eps),
        pool=pool,
        dropout=dropout,
        dropout_from=1 if scale == "small" else 3,
        activation=ops.ACTIVATIONS[activation],
        kernel_init=kernel_init,
        remat=remat,
    )
    last = ops.ACTIVATIONS[activation if rectify_maps else "identity"]
    return Network(features, Classifier(num_classes, head, head_dropout, last, kernel_init))
