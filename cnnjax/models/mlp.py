"""Multi-layer perceptron: LeCun et al. 1998, sections III.C.3 and III.C.4."""

from typing import Annotated

import flax.linen as nn
from annotated_types import Ge, Gt, Lt
from jaxtyping import Array, Float

from cnnjax import ops
from cnnjax.layers import (
    INITIALIZERS,
    Activation,
    ActivationName,
    Dense,
    Dropout,
    Initializer,
    InitializerName,
    Network,
    NormFactory,
    NormName,
    capture,
    flatten,
    norm_factory,
    scaled,
)


class Hidden(nn.Module):
    """[FC -> norm -> activation -> dropout] * K on the flattened image."""

    widths: tuple[int, ...]
    activation: Activation
    norm: NormFactory
    dropout: float
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c"], *, train: bool = False) -> Array:
        x = flatten(x)
        for i, width in enumerate(self.widths, 1):
            x = Dense(width, kernel_init=self.kernel_init, name=f"fc{i}")(x)
            x = self.norm(name=f"norm{i}")(x, train=train)
            x = capture(self, f"fc{i}_out", self.activation(x))
            x = Dropout(self.dropout, name=f"dropout{i}")(x, train=train)
        return x


class Readout(nn.Module):
    """One linear layer from features to logits."""

    num_classes: int
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "n d"], *, train: bool = False) -> Array:
        return Dense(self.num_classes, kernel_init=self.kernel_init, name="output")(x)


def mlp(
    *,
    hidden: tuple[Annotated[int, Ge(1)], ...] = (300, 100),
    num_classes: Annotated[int, Ge(1)] = 10,
    input_shape: tuple[int, ...] = (28, 28, 1),
    activation: ActivationName = "scaled_tanh",
    norm: NormName = "none",
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
    initializer: InitializerName = "lecun_normal",
    width: Annotated[float, Gt(0)] = 1.0,
) -> nn.Module:
    """INPUT -> [FC -> activation] * K -> FC; the paper's 28x28-300-100-10 by default.

    `width` multiplies the hidden sizes. `dropout` is the share of hidden units zeroed in training
    (Srivastava et al. 2014). Without hidden layers it is `linear`.
    """
    kernel_init = INITIALIZERS[initializer]
    widths = tuple(scaled(n, width) for n in hidden)
    base = Hidden(widths, ops.ACTIVATIONS[activation], norm_factory(norm), dropout, kernel_init)
    return Network(base, Readout(num_classes, kernel_init))
