"""What holds a network together: base and top, the head, features and auxiliary logits by name."""

import flax.linen as nn
from jaxtyping import Array, Float

from cnnjax.layers.conv import Dense
from cnnjax.layers.named import INITIALIZERS, Initializer
from cnnjax.layers.pool import GlobalPool
from cnnjax.ops.lowering import between_stages


class Dropout(nn.Module):
    """Zeroes a share `rate` in training and scales the rest up by 1 / (1 - rate)."""

    rate: float

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        return nn.Dropout(self.rate, name="dropout")(x, deterministic=not train)


class PooledReadout(nn.Module):
    """The mean of each map, dropout, one linear layer `fc` (Szegedy et al. 2014, table 1)."""

    num_classes: int
    dropout: float = 0.0
    kernel_init: Initializer = INITIALIZERS["he_normal"]

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c"], *, train: bool = False) -> Array:
        x = Dropout(self.dropout, name="dropout")(GlobalPool("avg", name="pool")(x), train=train)
        return Dense(self.num_classes, kernel_init=self.kernel_init, name="fc")(x)


class Network(nn.Module):
    """A base and a top: `features`, then `classifier`, the two subtrees of every parameter tree."""

    features: nn.Module
    classifier: nn.Module

    def __call__(self, x: Float[Array, "n *space c"], *, train: bool = False) -> Array:
        return self.classifier(self.features(x, train=train), train=train)


def flatten(x: Float[Array, "n *space c"]) -> Float[Array, "n d"]:
    """Rows, then columns, then channels: the order of NHWC memory."""
    return x.reshape(x.shape[0], -1)


def capture(module: nn.Module, name: str, x: Array) -> Array:
    """Offer `x` under `name` in the "intermediates" collection; free unless it is asked for.

    Go on with what it returns, and with nothing that was computed before: there an evaluation may
    change from a few images at a time to all. What it makes of one must not depend on the others,
    or on how many there are.
    """
    module.sow("intermediates", name, x)
    return between_stages(x)


def wants_auxiliary(module: nn.Module, train: bool) -> bool:
    """Whether auxiliary heads run: in training, at initialisation, or when someone asks for them.

    To ask is to apply with `mutable=["auxiliary"]`.
    """
    return train or module.is_initializing() or module.is_mutable_collection("auxiliary")


def offer_auxiliary(module: nn.Module, name: str, logits: Array) -> None:
    """Put the logits of the head `name` in the "auxiliary" collection, if it is mutable."""
    if module.is_mutable_collection("auxiliary") and not module.is_initializing():
        # Not `sow`: it refuses the name that the head's own subtree has.
        module.put_variable("auxiliary", name, logits)
