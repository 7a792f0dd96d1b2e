"""Softmax regression: the baseline of LeCun et al. 1998, section III.C.1."""

from typing import Annotated

import flax.linen as nn
from annotated_types import Ge
from jaxtyping import Array, Float

from cnnjax.layers import INITIALIZERS, Dense, Initializer, InitializerName, Network, flatten


class Flatten(nn.Module):
    """Rows, columns, channels laid out in one vector: a base without parameters."""

    def __call__(self, x: Float[Array, "n *space c"], *, train: bool = False) -> Array:
        return flatten(x)


class Readout(nn.Module):
    """One linear layer from features to logits."""

    num_classes: int
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "n d"], *, train: bool = False) -> Array:
        return Dense(self.num_classes, kernel_init=self.kernel_init, name="output")(x)


def linear(
    *,
    num_classes: Annotated[int, Ge(1)] = 10,
    input_shape: tuple[int, ...] = (28, 28, 1),
    initializer: InitializerName = "lecun_normal",
) -> nn.Module:
    """INPUT -> FC: every pixel joined to every class.

    The parameters of `Readout` follow the images it is initialised with; `input_shape` is the size
    that summaries assume.
    """
    return Network(Flatten(), Readout(num_classes, INITIALIZERS[initializer]))
