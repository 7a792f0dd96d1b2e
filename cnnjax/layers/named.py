"""What a dict can call by name: activations, initialisers, and the size rules of the families."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from cnnjax import ops

Initializer = Callable[..., Array]
Activation = Callable[[Array], Array]
ActivationName = Literal[
    "relu", "tanh", "scaled_tanh", "sigmoid", "elu", "gelu", "silu", "relu6", "identity"
]
InitializerName = Literal[
    "he_normal", "he_uniform", "he_fan_out", "glorot_normal", "glorot_uniform",
    "lecun_normal", "lecun_uniform", "gaussian_0.01", "uniform_fan_in", "torch_default",
]  # fmt: skip

INITIALIZERS: Mapping[str, Initializer] = {
    "he_normal": nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
    "he_uniform": nn.initializers.variance_scaling(2.0, "fan_in", "uniform"),
    # He et al. 2015 (arXiv:1502.01852), eq. 14: keeps the variance of gradients.
    "he_fan_out": nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
    "glorot_normal": nn.initializers.variance_scaling(1.0, "fan_avg", "normal"),
    "glorot_uniform": nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"),
    "lecun_normal": nn.initializers.variance_scaling(1.0, "fan_in", "normal"),
    "lecun_uniform": nn.initializers.variance_scaling(1.0, "fan_in", "uniform"),
    # What torch gives convolutions and linear layers: uniform in +-1 / sqrt(fan_in).
    "torch_default": nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
    # Krizhevsky et al. 2012, section 5; Simonyan & Zisserman 2014, section 3.1.
    "gaussian_0.01": nn.initializers.normal(0.01),
    # LeCun et al. 1998, section III.B: uniform in +-2.4 / fan_in.
    "uniform_fan_in": lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -2.4 / math.prod(shape[:-1]), 2.4 / math.prod(shape[:-1])
    ),
}


def activation(name: ActivationName) -> Activation:
    """The activation function called `name`."""
    return ops.ACTIVATIONS[name]


def initializer(name: InitializerName) -> Initializer:
    """The kernel initialiser called `name`."""
    return INITIALIZERS[name]


def stem_of(input_shape: Sequence[int], *, small: int = 64) -> Literal["imagenet", "small"]:
    """The stem that `stem="auto"` means: "small" up to `small` pixels, else the paper's."""
    return "small" if max(input_shape[:-1]) <= small else "imagenet"


def scaled(features: int, width: float, *, multiple: int = 1) -> int:
    """`features` times a width multiplier, to the nearest positive multiple of `multiple`."""
    return max(multiple, math.floor(features * width / multiple + 0.5) * multiple)
