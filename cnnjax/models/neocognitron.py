"""Neocognitron: Fukushima 1980, "Neocognitron: A Self-organizing Neural Network Model for a
Mechanism of Pattern Recognition Unaffected by Shift in Position" (Biol. Cybernetics 36)."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt, Lt, MinLen
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from cnnjax import ops
from cnnjax.errors import ShapeError
from cnnjax.layers import INITIALIZERS, Dense, InitializerName, Network, capture, flatten, scaled


@dataclass(frozen=True)
class Level:
    """One S-layer and the C-layer behind it.

    `selectivity` is r, `rate` q, `saturation` alpha; `spread` and `blur` are the factors by which
    the fixed weights c and d fall with each pixel of distance from the middle of their windows.
    """

    planes: int
    s_window: int = 5
    c_window: int = 5
    c_stride: int = 2
    selectivity: float = 4.0
    rate: float = 1.0
    spread: float = 0.9
    blur: float = 0.9
    saturation: float = 0.5
    column: int = 5


def falling(window: int, factor: float) -> Float[np.ndarray, "window window"]:
    """Weights factor ** distance from the middle, which sum to one: the paper's c and d."""
    place = np.arange(window) - (window - 1) / 2
    weights = factor ** np.hypot(place[:, None], place[None, :])
    return weights / weights.sum()


def shunting_input(
    x: Float[Array, "n h w c"], *, window: int, spread: float
) -> Float[Array, "n h w 1"]:
    """The inhibitory cell v_C: the weighted root mean square of a window of `x`.

    The weights c sum to one over the window and all planes.
    """
    c = jnp.asarray(falling(window, spread) / x.shape[-1], x.dtype)
    kernel = jnp.broadcast_to(c[:, :, None, None], (window, window, x.shape[-1], 1))
    power = ops.conv(jnp.square(x), kernel)
    seen = power > 0  # no infinite slope where a window is empty
    return jnp.where(seen, jnp.sqrt(jnp.where(seen, power, 1)), 0)


def s_cells(
    x: Float[Array, "n h w c_in"],
    kernel: Float[Array, "s s c_in k"],
    inhibition: Float[Array, " k"],
    *,
    selectivity: float,
    spread: float,
) -> Float[Array, "n h w k"]:
    """Feature-extracting cells, their inhibition dividing, not subtracting.

    r * relu((1 + a x) / (1 + 2r / (1 + r) * b v) - 1), where `kernel` is a, `inhibition` b and v
    the `shunting_input`. For a trained cell a x / (2 b v) is the cosine of `x` and its pattern
    (in the metric c), so that it fires where that exceeds r / (1 + r), its contrast regardless.
    """
    excitation = ops.conv(x, kernel)
    v = shunting_input(x, window=kernel.shape[0], spread=spread)
    factor = 2 * selectivity / (1 + selectivity)
    shunt = factor * inhibition[None, None, None, :] * v
    return selectivity * ops.relu((1 + excitation) / (1 + shunt) - 1)


def c_cells(
    s: Float[Array, "n h w k"], *, window: int, stride: int, blur: float, saturation: float
) -> Float[Array, "n h_out w_out k"]:
    """Cells that answer wherever in their window an S-cell of their plane fires.

    psi((1 + d s) / (1 + v_S) - 1) with psi(x) = x / (alpha + x) above zero; v_S, the mean over the
    planes, inhibits all of them alike. Each `stride`-th position is kept, the paper's thinning out.
    """
    d = jnp.asarray(falling(window, blur) * window**2, s.dtype)
    kernel = jnp.broadcast_to(d[:, :, None, None], (window, window, 1, s.shape[-1]))
    excitation = ops.depthwise_conv(s, kernel, stride=stride, padding=window // 2)
    inhibition = jnp.mean(excitation, axis=-1, keepdims=True)
    y = ops.relu((1 + excitation) / (1 + inhibition) - 1)
    return y / (saturation + y)


def representatives(
    s: Float[Array, "h w k"], *, column: int
) -> tuple[Int[Array, "k 2"], Bool[Array, " k"]]:
    """The winning cell of each plane, and whether the plane has one.

    An S-column holds the cells of all planes within `column` x `column` positions. From each the
    strongest cell, if it fires at all, is a candidate; of several candidates of one plane the
    strongest wins. So a plane has at most one winner, and no feature near another's winner.
    """
    best = jnp.max(s, axis=-1, keepdims=True)[None]
    half = column // 2
    peak = ops.max_pool(best, column, stride=1, padding=half)
    # A cell tops some column that holds it where the least of those columns' peaks is its own.
    lowest = ops.min_pool(peak, column, stride=1, padding=half)[0]
    candidate = jnp.where((s > 0) & (s >= lowest), s, 0)
    flat = candidate.reshape(-1, s.shape[-1])
    place = jnp.argmax(flat, axis=0)
    positions = jnp.stack(jnp.unravel_index(place, s.shape[:2]), axis=-1)
    return positions, jnp.max(flat, axis=0) > 0


def reinforce(
    kernel: Float[Array, "s s c_in k"],
    inhibition: Float[Array, " k"],
    x: Float[Array, "h w c_in"],
    *,
    selectivity: float,
    spread: float,
    rate: float,
    column: int,
) -> tuple[Float[Array, "s s c_in k"], Float[Array, " k"]]:
    """One presentation of `x`: the winners, and they alone, learn what they saw.

    a += q c x and b += q / 2 v at the place of each plane's representative, all cells of a plane
    sharing a and b. Without winners nothing changes.
    """
    window = kernel.shape[0]
    s = s_cells(x[None], kernel, inhibition, selectivity=selectivity, spread=spread)[0]
    positions, found = representatives(s, column=column)
    half = (window - 1) // 2
    padded = jnp.pad(x, ((half, window - 1 - half),) * 2 + ((0, 0),))
    v = shunting_input(x[None], window=window, spread=spread)[0, :, :, 0]
    c = jnp.asarray(falling(window, spread) / x.shape[-1], x.dtype)[:, :, None]

    def seen(place: Int[Array, "2"]) -> Float[Array, "s s c_in"]:
        return lax.dynamic_slice(padded, (place[0], place[1], 0), (window, window, x.shape[-1]))

    patches = jax.vmap(seen, out_axes=-1)(positions)
    gain = rate * found.astype(x.dtype)
    kernel = kernel + gain[None, None, None, :] * c[..., None] * patches
    return kernel, inhibition + gain / 2 * v[positions[:, 0], positions[:, 1]]


class SCLayer(nn.Module):
    """S-cells and C-cells of one level; a and b live in the collection "fixed".

    They start with a positive and random and b zero, as in the paper, so that every cell answers
    to everything until its plane has won once. Here a starts as large as one reinforcement at
    q = 1; the paper starts smaller, which reads shifted digits worse (the benchmark beside tests).
    """

    level: Level

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out k"]:
        level = self.level
        shape = (level.s_window, level.s_window, x.shape[-1], level.planes)

        def start() -> Float[Array, "s s c k"]:
            c = jnp.asarray(falling(level.s_window, level.spread) / x.shape[-1], jnp.float32)
            return c[:, :, None, None] * jax.random.uniform(self.make_rng("params"), shape)

        kernel = self.variable("fixed", "kernel", start).value
        inhibition = self.variable("fixed", "inhibition", jnp.zeros, (level.planes,)).value
        s = s_cells(
            x, kernel.astype(x.dtype), inhibition.astype(x.dtype),
            selectivity=level.selectivity, spread=level.spread,
        )  # fmt: skip
        s = capture(self, "s", s)
        return c_cells(
            s, window=level.c_window, stride=level.c_stride, blur=level.blur,
            saturation=level.saturation,
        )  # fmt: skip


class Features(nn.Module):
    """U_S1, U_C1, U_S2, ... : S- and C-layers in turn."""

    levels: tuple[Level, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        for i, level in enumerate(self.levels, 1):
            x = SCLayer(level, name=f"level{i}")(x)
            x = capture(self, f"stage{i}", x)
        return x


class Readout(nn.Module):
    """One linear layer on the last C-layer, the only part that a gradient trains."""

    num_classes: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Array:
        return Dense(self.num_classes, kernel_init=self.kernel_init, name="output")(flatten(x))


def neocognitron(
    *,
    num_classes: Annotated[int, Ge(1)] = 10,
    input_shape: tuple[int, ...] = (28, 28, 1),
    planes: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (24, 24, 24),
    s_windows: tuple[Annotated[int, Ge(1)], ...] = (5, 5, 5),
    c_windows: tuple[Annotated[int, Ge(1)], ...] = (5, 5, 5),
    c_strides: tuple[Annotated[int, Ge(1)], ...] = (2, 2, 2),
    selectivity: tuple[Annotated[float, Gt(0)], ...] = (4.0, 1.5, 1.5),
    rates: tuple[Annotated[float, Gt(0)], ...] = (1.0, 16.0, 16.0),
    column: Annotated[int, Ge(1)] = 5,
    spread: Annotated[float, Gt(0), Lt(1)] = 0.9,
    blur: Annotated[float, Gt(0), Lt(1)] = 0.9,
    saturation: Annotated[float, Gt(0)] = 0.5,
    width: Annotated[float, Gt(0)] = 1.0,
    initializer: InitializerName = "lecun_normal",
) -> nn.Module:
    """Three levels of S- and C-cells and a linear read-out, for images that are not negative.

    The planes, 5x5 windows, selectivities r, rates q and saturation alpha are those of the paper's
    simulation (from the paper, unverified). The rest is ours: how the fixed weights fall off
    (`spread`, `blur`), the `column` in which cells compete, padding that keeps the size of
    S-layers, and thinning by `c_strides` on images of any size, where the paper ends at one cell
    per plane on 16x16. A linear layer reads the last C-layer; in the paper its strongest cell is
    the answer. One value per level in each tuple; `width` multiplies the planes.

    `self_organise` trains the S-cells; a and b lie in "fixed", where no gradient reaches them.

    Raises ShapeError where the tuples have different lengths or a C-window is even.
    """
    parts = {
        "s_windows": s_windows, "c_windows": c_windows, "c_strides": c_strides,
        "selectivity": selectivity, "rates": rates,
    }  # fmt: skip
    for name, values in parts.items():
        if len(values) != len(planes):
            raise ShapeError(
                f"neocognitron: {len(planes)} levels of planes, but {len(values)} {name}."
            )
    if any(window % 2 == 0 for window in (*c_windows, column)):
        raise ShapeError(f"neocognitron: c_windows {c_windows} and column {column} must be odd.")
    levels = tuple(
        Level(
            scaled(k, width), *windows, selectivity=r, rate=q, spread=spread, blur=blur,
            saturation=saturation, column=column,
        )
        for k, windows, r, q in zip(
            planes, zip(s_windows, c_windows, c_strides, strict=True), selectivity, rates,
            strict=True,
        )
    )  # fmt: skip
    return Network(Features(levels), Readout(num_classes, INITIALIZERS[initializer]))


def self_organise(
    module: nn.Module,
    variables: dict[str, Any],
    images: Float[Array, "n h w c"],
    *,
    epochs: int = 1,
) -> dict[str, Any]:
    """The variables after its S-cells have organised themselves on `images`, without labels.

    Level by level, each on the final C-cells below it (the paper trains all at once): every image,
    in the order given, `epochs` times, is one `reinforce`. Nothing is changed in place, and the
    result depends on nothing but the arguments.
    """
    features: Any = module.features
    fixed = dict(variables["fixed"]["features"])
    x = images
    for i, level in enumerate(features.levels, 1):
        name = f"level{i}"
        kernel, inhibition = _organise(
            level, fixed[name]["kernel"], fixed[name]["inhibition"], x, epochs
        )
        fixed[name] = {"kernel": kernel, "inhibition": inhibition}
        x = jax.jit(SCLayer(level).apply)({"fixed": fixed[name]}, x)
    return {**variables, "fixed": {**variables["fixed"], "features": fixed}}


@partial(jax.jit, static_argnames=("level", "epochs"))
def _organise(
    level: Level,
    kernel: Float[Array, "s s c_in k"],
    inhibition: Float[Array, " k"],
    x: Float[Array, "n h w c_in"],
    epochs: int,
) -> tuple[Float[Array, "s s c_in k"], Float[Array, " k"]]:
    """Present every image in turn to the S-cells of one level."""
    learn = partial(
        reinforce, selectivity=level.selectivity, spread=level.spread, rate=level.rate,
        column=level.column,
    )  # fmt: skip

    def present(
        state: tuple[Array, Array], index: Int[Array, ""]
    ) -> tuple[tuple[Array, Array], None]:
        return learn(*state, x[index]), None

    order = jnp.tile(jnp.arange(x.shape[0]), epochs)
    return lax.scan(present, (kernel, inhibition), order)[0]
