"""VGG: Simonyan & Zisserman 2014, "Very Deep Convolutional Networks for Large-Scale Image
Recognition" (arXiv:1409.1556)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
from annotated_types import Ge, Gt, Lt, MinLen
from flax import traverse_util
from jaxtyping import Array, Float

from cnnjax import ops
from cnnjax.errors import ShapeError
from cnnjax.layers import (
    INITIALIZERS,
    Activation,
    ActivationName,
    Conv,
    Dense,
    Dropout,
    FactoredConv,
    Factorization,
    GlobalPool,
    Initializer,
    InitializerName,
    LocalResponseNorm,
    Network,
    NormFactory,
    Pool,
    PoolName,
    capture,
    flatten,
    norm_factory,
    scaled,
    stem_of,
)

Stages = tuple[tuple[int, ...], ...]
Config = Literal["A", "A-LRN", "B", "C", "D", "E"]

# Table 1: the kernel size of each convolution, stage by stage.
CONFIGS: Mapping[str, Stages] = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "A-LRN": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
WIDTHS = (64, 128, 256, 512, 512)


@dataclass(frozen=True)
class Variant:
    """Where the published forms of the network differ."""

    conv_init: InitializerName
    dense_init: InitializerName
    dropout: float
    grid: int | None  # adaptive average pooling in front of the first dense layer


VARIANTS: Mapping[str, Variant] = {
    "paper": Variant("gaussian_0.01", "gaussian_0.01", 0.5, None),
    "torchvision": Variant("he_fan_out", "gaussian_0.01", 0.5, 7),
    "keras": Variant("glorot_uniform", "glorot_uniform", 0.0, None),
}


class Stage(nn.Module):
    """Convolutions of one width, [conv -> norm -> activation] * K, then a pool that halves."""

    kernels: tuple[int, ...]
    width: int
    factorization: Factorization
    norm: NormFactory
    lrn: bool
    pool: PoolName
    activation: Activation
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool = False) -> Array:
        for i, kernel in enumerate(self.kernels, 1):
            x = self._conv(kernel, name=f"conv{i}")(x)
            x = self.activation(self.norm(name=f"norm{i}")(x, train=train))
            if self.lrn:
                x = LocalResponseNorm(name=f"lrn{i}")(x)
        return Pool(self.pool, 2, 2, name="pool")(x)

    def _conv(self, kernel: int, name: str) -> nn.Module:
        """A convolution, or the product of smaller ones that it is written as."""
        unit = partial(Conv, kernel_init=self.kernel_init)
        if kernel == 1 or self.factorization == "none":
            return unit(self.width, kernel, padding=kernel // 2, name=name)
        return FactoredConv(self.width, kernel, self.factorization, unit=unit, name=name)


class Features(nn.Module):
    """The stages of Table 1; `remat` recomputes each in the backward pass."""

    stages: Stages
    widths: tuple[int, ...]
    factorization: Factorization
    norm: NormFactory
    lrn: bool
    pools: tuple[PoolName, ...]
    activation: Activation
    kernel_init: Initializer
    remat: bool

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        block = nn.remat(Stage, static_argnums=(2,)) if self.remat else Stage
        plan = zip(self.stages, self.widths, self.pools, strict=True)
        for i, (kernels, width, pool) in enumerate(plan, 1):
            x = block(
                kernels, width, self.factorization, self.norm, self.lrn and i == 1, pool,
                self.activation, self.kernel_init, name=f"stage{i}",
            )(x, train)  # fmt: skip
            x = capture(self, f"pool{i}", x)
        return x


class DenseHead(nn.Module):
    """FC-4096, FC-4096, FC-1000, dropout after the first two (sections 2.1, 3.1)."""

    num_classes: int
    dense: int
    dropout: float
    grid: int | None
    activation: Activation
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        if self.grid is not None:
            x = ops.adaptive_avg_pool(x, self.grid)
        x = flatten(x)
        for i in (6, 7):
            x = self.activation(Dense(self.dense, kernel_init=self.kernel_init, name=f"fc{i}")(x))
            x = capture(self, f"fc{i}_out", x)
            x = Dropout(self.dropout, name=f"dropout{i}")(x, train=train)
        return Dense(self.num_classes, kernel_init=self.kernel_init, name="fc8")(x)


class AverageHead(nn.Module):
    """Global average pooling and one linear layer, in place of the three dense ones."""

    num_classes: int
    dropout: float
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        x = GlobalPool("avg", name="pool")(x)
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        return Dense(self.num_classes, kernel_init=self.kernel_init, name="fc8")(x)


def vgg(
    *,
    num_classes: Annotated[int, Ge(1)] = 1000,
    input_shape: tuple[int, ...] = (224, 224, 3),
    config: Config = "D",
    factorization: Factorization = "none",
    variant: Literal["paper", "torchvision", "keras"] = "paper",
    norm: Literal["none", "batch", "group", "layer"] = "none",
    norm_momentum: Annotated[float, Ge(0), Lt(1)] | None = None,
    norm_eps: Annotated[float, Gt(0)] | None = None,
    head: Literal["dense", "average"] = "dense",
    pool: PoolName = "max",
    activation: ActivationName = "relu",
    dropout: Annotated[float, Ge(0), Lt(1)] | None = None,
    stages: Annotated[tuple[tuple[Annotated[int, Ge(1)], ...], ...], MinLen(1)] | None = None,
    widths: tuple[Annotated[int, Ge(1)], ...] = WIDTHS,
    dense: Annotated[int, Ge(1)] = 4096,
    width: Annotated[float, Gt(0)] = 1.0,
    initializer: InitializerName | None = None,
    stem: Literal["auto", "imagenet", "small"] = "auto",
    remat: bool = False,
) -> nn.Module:
    """VGG in one of the configurations of Table 1: A (11 layers) to E (19).

    `variant="paper"`: 3x3 convolutions padded by 1 (1x1 ones in C), 2x2 max pools, dropout of 0.5,
    N(0, 0.01) kernels. Section 3.1 writes a variance of 10^-2; it is read here as the standard
    deviation, AlexNet's, because with the variance as written every 3x3x512 layer would enlarge its
    signal about 4.8 times. `variant="torchvision"` adds a 7x7 adaptive average pool, which changes
    nothing at 224 pixels, and draws convolutions by He et al. 2015 (arXiv:1502.01852, fan-out);
    its `_bn` nets are `norm="batch"`. `variant="keras"` has no dropout and Glorot's initialiser.
    Given `initializer`, all kernels take it. How the paper starts the deep ones is `staged_init`.

    A norm stands between each convolution, whose bias stays, and its activation. `head="average"`
    replaces the dense layers by global average pooling (Lin et al. 2013) and one linear layer.
    For small studies, `stages` replaces the configuration by kernel sizes of one's own, stage by
    stage ([[5], [5]] against [[3, 3], [3, 3]] is the comparison of section 2.3), with the first of
    `widths`; `width` multiplies `widths` and `dense`. `factorization` writes each window larger
    than 1x1 as a product: "asymmetric" 1xn then nx1 (Szegedy et al. 2015, arXiv:1512.00567,
    section 3.2), "depthwise" one window for each map and then 1x1 (Chollet 2016), "stack" 3x3.

    `stem`: "imagenet" is the paper's five halvings; "small" leaves the fifth pool out and has no
    adaptive pool, so that 28x28 ends at 1x1 and 32x32 at 2x2; "auto" takes "small" up to 64 pixels.

    Raises ShapeError where there are more stages than widths.
    """
    v = VARIANTS[variant]
    small = (stem_of(input_shape) if stem == "auto" else stem) == "small"
    plan = CONFIGS[config] if stages is None else stages
    if len(plan) > len(widths):
        raise ShapeError(f"vgg: {len(plan)} stages need as many widths, given {len(widths)}.")
    features = Features(
        stages=plan,
        widths=tuple(scaled(w, width) for w in widths[: len(plan)]),
        factorization=factorization,
        norm=norm_factory(norm, momentum=norm_momentum, eps=norm_eps),
        lrn=config == "A-LRN",
        pools=tuple("none" if small and i == 4 else pool for i in range(len(plan))),
        activation=ops.ACTIVATIONS[activation],
        kernel_init=INITIALIZERS[initializer or v.conv_init],
        remat=remat,
    )
    dropout = v.dropout if dropout is None else dropout
    dense_init = INITIALIZERS[initializer or v.dense_init]
    if head == "average":
        return Network(features, AverageHead(num_classes, dropout, dense_init))
    grid = None if small else v.grid
    classifier = DenseHead(
        num_classes, scaled(dense, width), dropout, grid, ops.ACTIVATIONS[activation], dense_init
    )
    return Network(features, classifier)


STAGED = ("stage1/conv1", "stage2/conv1", "stage3/conv1", "stage3/conv2")
"""The first four convolutional layers of net A."""


def staged_init(shallow: Mapping[str, Any], deep: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a deep net started from those of net A (section 3.1).

    `deep`, fresh variables of any deeper configuration, comes back with the first four
    convolutional layers (and their norms, if both nets have them) and the fully connected layers of
    `shallow`, trained variables of A; the other layers keep their random start. Layers are matched
    by their place in Table 1, by stage and position, since A's second convolution has the shape of
    D's third and not of its second. Nothing is changed in place.

    Raises ShapeError where a layer to be copied is missing or has another shape.
    """
    source = traverse_util.flatten_dict(dict(shallow), sep="/")
    target = traverse_util.flatten_dict(dict(deep), sep="/")
    places = [f"/features/{place}/" for place in STAGED]
    places += [place.replace("conv", "norm") for place in places]
    for path, value in target.items():
        if not (any(p in path for p in places) or path.startswith("params/classifier/")):
            continue
        given = source.get(path)
        if given is None or given.shape != value.shape:
            found = "is absent" if given is None else f"has the shape {given.shape}"
            raise ShapeError(
                f"staged initialisation: {path} of shape {value.shape} {found} in the shallow net."
            )
        target[path] = jax.numpy.asarray(given, value.dtype)
    return traverse_util.unflatten_dict(target, sep="/")
