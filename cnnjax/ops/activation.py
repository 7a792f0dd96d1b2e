"""The non-linearities, and the one table of their names."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from cnnjax.ops.lowering import elementwise

Values = Float[Array, "*shape"]


def identity(x: Values) -> Values:
    """x."""
    return x


def relu(x: Values) -> Values:
    """max(x, 0) (Nair & Hinton 2010); its gradient at 0 is 0."""
    return elementwise(jax.nn.relu, x)


def relu6(x: Values) -> Values:
    """min(max(x, 0), 6) (Krizhevsky 2010, "Convolutional deep belief networks on CIFAR-10")."""
    return elementwise(jax.nn.relu6, x)


def leaky_relu(x: Values, *, slope: float = 0.01) -> Values:
    """x where positive, else slope * x (Maas et al. 2013, sec. 2)."""
    return elementwise(partial(jax.nn.leaky_relu, negative_slope=slope), x)


def elu(x: Values, *, alpha: float = 1.0) -> Values:
    """x where positive, else alpha * (exp(x) - 1) (Clevert et al. 2015, eq. 15)."""
    return elementwise(partial(jax.nn.elu, alpha=alpha), x)


def sigmoid(x: Values) -> Values:
    """1 / (1 + exp(-x))."""
    return elementwise(jax.nn.sigmoid, x)


def tanh(x: Values) -> Values:
    """The hyperbolic tangent."""
    return elementwise(jnp.tanh, x)


def scaled_tanh(x: Values) -> Values:
    """1.7159 tanh(2x/3): near 1 at 1 and -1 at -1 (LeCun et al. 1998, app. A)."""
    return elementwise(lambda v: 1.7159 * jnp.tanh(v * (2 / 3)), x)


def softplus(x: Values) -> Values:
    """log(1 + exp(x)) (Dugas et al. 2000)."""
    return elementwise(jax.nn.softplus, x)


def gelu(x: Values, *, approximate: bool = False) -> Values:
    """x times the normal distribution's CDF at x, or its tanh form (Hendrycks & Gimpel 2016)."""
    return elementwise(partial(jax.nn.gelu, approximate=approximate), x)


def gelu_tanh(x: Values) -> Values:
    """`gelu` with the tanh approximation."""
    return gelu(x, approximate=True)


def silu(x: Values) -> Values:
    """x * sigmoid(x), also called swish (Ramachandran et al. 2017; EfficientNet)."""
    return elementwise(jax.nn.silu, x)


def hardsigmoid(x: Values) -> Values:
    """relu6(x + 3) / 6 (Howard et al. 2019, sec. 5.2)."""
    return elementwise(jax.nn.hard_sigmoid, x)


def hardswish(x: Values) -> Values:
    """x * relu6(x + 3) / 6 (Howard et al. 2019, sec. 5.2)."""
    return elementwise(jax.nn.hard_swish, x)


def softmax(x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
    """Probabilities along the last axis."""
    return jax.nn.softmax(x, axis=-1)


ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "elu": elu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "hardsigmoid": hardsigmoid,
    "hardswish": hardswish,
    "identity": identity,
    "leaky_relu": leaky_relu,
    "relu": relu,
    "relu6": relu6,
    "scaled_tanh": scaled_tanh,
    "sigmoid": sigmoid,
    "silu": silu,
    "softplus": softplus,
    "tanh": tanh,
}
"""Element-wise functions by name; `softmax` is not one, as it needs to know the axis."""
