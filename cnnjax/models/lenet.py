"""LeNet-1 (LeCun et al. 1990) and LeNet-5 (LeCun et al. 1998, "Gradient-based learning ..").

LeNet-1 is the network of "Handwritten digit recognition with a back-propagation network", NIPS 2.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge
from jaxtyping import Array, Float

from cnnjax import ops
from cnnjax.layers import (
    INITIALIZERS,
    Activation,
    ActivationName,
    Conv,
    Dense,
    Initializer,
    InitializerName,
    Network,
    Pool,
    PoolName,
    capture,
    flatten,
)

Connections = tuple[tuple[int, ...], ...]
"""Rows are the maps a layer reads, columns the maps it makes; 1 where a kernel joins the two."""


def _table(*rows: str) -> Connections:
    return tuple(tuple(int(mark == "X") for mark in row) for row in rows)


# LeNet-1's H2 -> H3: each half of the maps reads one pair of H2. In a half one map reads the first
# of the pair alone, one the second alone, and four read both: 20 kernels.
LENET1_H3 = _table(
    "XXX.XX......",
    ".XXXXX......",
    "......XXX.XX",
    ".......XXXXX",
)
# LeNet-5's S2 -> C3: LeCun et al. 1998, table I, 60 kernels.
LENET5_C3 = _table(
    "X...XXX..XXXX.XX",
    "XX...XXX..XXXX.X",
    "XXX...XXX..X.XXX",
    ".XXX..XXXX..X.XX",
    "..XXX..XXXX.XX.X",
    "...XXX..XXXX.XXX",
)

# The ten digits as 7x12 bitmaps in the manner of LeCun et al. 1998, figure 3. The drawing is ours:
# the paper prints its own as a picture.
_DIGITS = """
..###.. ...#... ..###.. .#####. ....##. ####### ..####. ####### ..###.. ..###..
.##.##. ..##... .##.##. ##...## ...###. ##..... .##..## ##...## .##.##. .##.##.
##...## .###... ##...## ......# ...###. ##..... ##..... .....## ##...## ##...##
##...## ..##... ##...## .....## ..#.##. ##..... ##..... ....##. ##...## ##...##
##...## ..##... .....## ....##. ..#.##. ######. ##.###. ....##. .##.##. ##...##
##...## ..##... ....##. ..###.. .#..##. ##..### ###..## ...##.. ..###.. .##..##
##...## ..##... ...##.. ....##. .#..##. .....## ##...## ...##.. .##.##. ..###.#
##...## ..##... ..##... .....## ####### .....## ##...## ..##... ##...## .....##
##...## ..##... .##.... ......# ....##. .....## ##...## ..##... ##...## .....##
##...## ..##... ##..... ##...## ....##. ##...## ##...## .##.... ##...## ##...##
.##.##. ..##... ##..... ##..##. ....##. ##..##. .##.##. .##.... .##.##. .##.##.
..###.. .#####. ####### .####.. ....##. .####.. ..###.. .##.... ..###.. ..###..
"""
CODE = 84  # 7 x 12, the size of F6 and of every code


def codes(num_classes: int) -> Float[np.ndarray, "classes 84"]:
    """The fixed centres of LeNet-5's output units, +1 where there is ink and -1 elsewhere.

    Classes 0 to 9 have the bitmaps of the digits. Any further class has a pattern of random signs,
    the same in every process, which differs from the others in about half of the 84 places.
    """
    lines = [line.split() for line in _DIGITS.split("\n") if line]
    digits = np.array([[[c == "#" for c in cell] for cell in line] for line in lines])
    digits = np.where(digits.transpose(1, 0, 2).reshape(10, CODE), 1.0, -1.0)
    further = np.random.default_rng(1998).choice([-1.0, 1.0], (max(0, num_classes - 10), CODE))
    return np.concatenate([digits, further])[:num_classes].astype(np.float32)


def _connected(init: Initializer, scheme: str, table: Connections | None) -> Initializer:
    """`init` for a connection table: section III.B's bound is that of each map's own inputs."""
    if scheme != "uniform_fan_in" or table is None:
        return init

    def uniform(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        fan_in = math.prod(shape[:-2]) * np.sum(table, axis=0)
        return jax.random.uniform(key, shape, dtype, -1.0, 1.0) * jnp.broadcast_to(
            2.4 / fan_in, shape
        ).astype(dtype)

    return uniform


def _subsampling(scheme: str) -> Initializer | None:
    """A subsampling unit reads four values; None is the average that `Pool` starts from."""
    if scheme != "uniform_fan_in":
        return None
    return lambda key, shape: jax.random.uniform(key, shape, minval=-2.4 / 4, maxval=2.4 / 4)


class Trunk(nn.Module):
    """Convolution, subsampling, convolution, subsampling, and the layer after it if there is one.

    A trainable subsampling is squashed as well; other kinds of pooling are not.
    """

    names: tuple[str, ...]
    maps: tuple[int, ...]
    table: Connections | None
    activation: Activation
    pool: PoolName
    scheme: InitializerName
    pad: int = 0
    background: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        init = INITIALIZERS[self.scheme]
        if self.pad:
            edges = ((0, 0), (self.pad, self.pad), (self.pad, self.pad), (0, 0))
            x = jnp.pad(x, edges, constant_values=self.background)
        for i, name in enumerate(self.names):
            if i % 2:  # subsampling
                x = Pool(self.pool, 2, scale_init=_subsampling(self.scheme), name=name)(x)
                x = self.activation(x) if self.pool == "trainable" else x
            else:
                table = self.table if i == 2 else None
                x = Conv(
                    self.maps[i // 2],
                    5,
                    padding="VALID",
                    connections=table,
                    kernel_init=_connected(init, self.scheme, table),
                    name=name,
                )(x)
                x = self.activation(x)
            x = capture(self, f"{name}_out", x)
        return flatten(x)


class Softmax(nn.Module):
    """F6, where `hidden` gives it a size, and a linear layer to the logits."""

    num_classes: int
    hidden: int | None
    activation: Activation
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "n d"], *, train: bool = False) -> Array:
        if self.hidden:
            x = self.activation(Dense(self.hidden, kernel_init=self.kernel_init, name="f6")(x))
            x = capture(self, "f6_out", x)
        return Dense(self.num_classes, kernel_init=self.kernel_init, name="output")(x)


class RadialBasis(nn.Module):
    """F6 and one Euclidean radial basis unit per class (LeCun et al. 1998, equation 7).

    The centres are constants, in the collection "fixed". The logits are minus the distances.
    """

    num_classes: int
    activation: Activation
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "n d"], *, train: bool = False) -> Array:
        x = self.activation(Dense(CODE, kernel_init=self.kernel_init, name="f6")(x))
        x = capture(self, "f6_out", x)
        centers = self.variable("fixed", "centers", lambda: jnp.asarray(codes(self.num_classes)))
        return -ops.rbf_distances(x, centers.value.astype(x.dtype))


def lenet1(
    *,
    num_classes: Annotated[int, Ge(1)] = 10,
    input_shape: tuple[int, int, int] = (28, 28, 1),
    activation: ActivationName = "scaled_tanh",
    pool: PoolName = "trainable",
    connections: Literal["table", "full"] = "table",
    initializer: InitializerName = "uniform_fan_in",
) -> nn.Module:
    """LeNet-1 on 28x28: H1 4@24x24, H2 4@12x12, H3 12@8x8, H4 12@4x4, output; 2,578 parameters.

    H2 and H4 sum a window of two by two, times a trainable coefficient, plus a bias, squashed. The
    paper squashes its output units as well and trains on squared errors; here the logits are what
    goes into that squashing, which ranks the classes alike. Other sizes flow through unpadded.
    """
    table = LENET1_H3 if connections == "table" else None
    act = ops.ACTIVATIONS[activation]
    trunk = Trunk(("h1", "h2", "h3", "h4"), (4, 12), table, act, pool, initializer)
    return Network(trunk, Softmax(num_classes, None, act, INITIALIZERS[initializer]))


@dataclass(frozen=True)
class _Variant:
    activation: ActivationName
    pool: PoolName
    connections: Literal["table", "full"]
    output: Literal["rbf", "softmax"]
    initializer: InitializerName
    background: float


_VARIANTS = {
    # Section II.B; the background of the normalised images is -0.1 (section II.B).
    "paper": _Variant("scaled_tanh", "trainable", "table", "rbf", "uniform_fan_in", -0.1),
    # What is taught as LeNet-5: every pair of maps joined, rectifiers, max pooling, softmax.
    "modern": _Variant("relu", "max", "full", "softmax", "he_normal", 0.0),
}


def lenet5(
    *,
    variant: Literal["paper", "modern"] = "paper",
    num_classes: Annotated[int, Ge(1)] = 10,
    input_shape: tuple[int, int, int] = (28, 28, 1),
    activation: ActivationName | None = None,
    pool: PoolName | None = None,
    connections: Literal["table", "full"] | None = None,
    output: Literal["rbf", "softmax"] | None = None,
    initializer: InitializerName | None = None,
    background: float | None = None,
) -> nn.Module:
    """LeNet-5: C1 6@28x28, S2, C3 16@10x10, S4, C5 120, F6 84, output; 60,000 parameters.

    `variant="paper"`: table I between S2 and C3, trainable subsampling, 1.7159 tanh(2/3 x), radial
    basis outputs on fixed codes (logits are minus the distances). `variant="modern"`: full C3,
    rectifiers, max pooling and a softmax head, 61,706 parameters. None means as the variant says.

    Images under 32 pixels are framed by two pixels on every side (28 to the paper's 32); the frame
    holds `background`, the value of an empty pixel after normalisation: -0.1 in the paper, where
    ink is 1.175 (section II.B), and 0 in the modern variant. Larger images flow through unpadded.
    """
    default = _VARIANTS[variant]
    act = ops.ACTIVATIONS[activation or default.activation]
    scheme = initializer or default.initializer
    kernel_init = INITIALIZERS[scheme]
    trunk = Trunk(
        ("c1", "s2", "c3", "s4", "c5"),
        (6, 16, 120),
        LENET5_C3 if (connections or default.connections) == "table" else None,
        act,
        pool or default.pool,
        scheme,
        pad=2 if max(input_shape[:-1]) < 32 else 0,
        background=default.background if background is None else background,
    )
    if (output or default.output) == "rbf":
        return Network(trunk, RadialBasis(num_classes, act, kernel_init))
    return Network(trunk, Softmax(num_classes, CODE, act, kernel_init))
