"""Which formulation of an operation runs on which platform.

XLA:CPU compiles some operations of convolutional networks badly; the same arithmetic written in
other primitives runs faster. On every other platform, and where `CNNJAX_LOWERING=native` or
`native()` says so, the plain `lax` operation runs. The choice is made while tracing, by platform
and shape alone; nothing is measured at run time. Time over that of the plain operation, as
tests/benchmarks/lowerings.py prints it on two cores with AVX-512 and memory in huge pages:

| operation | formulation | ratio |
|---|---|---|
| any convolution | fences around it, so that what made its input is not computed again | |
| 1x1 | a matrix product; the weight gradient as several | 0.4 to 0.7 |
| window as large as the map | a linear layer | 0.2 |
| 3x3, 5x5, 1x7, 3x3x3 at stride 1, 32 channels or more | Winograd's, all ways | 0.1 to 0.8 |
| 16 input channels and more | the weight gradient as products, a few images at a time | 1.0 (*) |
| a stride of 2 | the input gradient as a convolution for each residue | 0.9 to 1.0 (*) |
| 8 input channels at most, 4x4 and more, on a small map | a banded matrix | 0.2 to 0.6 |
| depthwise | a sum of shifted products; its weight gradient some rows at a time | 0.03 to 0.06 |
| other groups | each by itself | 0.01 to 0.1 |
| average pooling | one axis after the other | 0.7 to 1.1 side by side, 0.05 to 0.3 overlapping |
| max pooling | a running maximum; the gradient gathers, or spreads if none overlap | 0.15 |
| batch norm in training | a gradient of its own that goes over the maps twice | 0.6 |
| biases and activations of 16 channels at most | a row of the map is one vector | 0.7 |

(*) Both 0.7 to 0.8 with AVX2, and 0.7 to 0.9 with AVX-512 where oneDNN runs the convolutions that
stay XLA's: in a long training (cnnjax/training/onednn.py). It runs depthwise ones at stride 1 too,
forward and back in 0.4 to 0.9 of the time of the sum. In an evaluation it also adds the bias and
takes the maximum with zero, once batch norm is folded into the kernels.
"""

import inspect
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend.core import get_opaque_trace_state
from jaxtyping import Float

from cnnjax.errors import SpecError, did_you_mean
from cnnjax.ops import cpu_conv, cpu_norm, cpu_pool, cpu_rows, cpu_winograd
from cnnjax.ops.cpu_conv import Ints
from cnnjax.ops.cpu_rows import fenced
from cnnjax.ops.numeric import across, normalised, wide
from cnnjax.ops.window import Pairs, pad

_forced: ContextVar[bool] = ContextVar("native lowering", default=False)
_by_onednn: ContextVar[bool] = ContextVar("convolutions by oneDNN", default=False)


# Of a map and the bytes of the largest output that a convolution had since the map before.
Between = Callable[[Array, int], Array]


class _Convolution(NamedTuple):
    """The convolution traced last in an evaluation, and what it would be of another kernel."""

    output: Array  # of(kernel) + bias
    kernel: Array
    bias: Array | float
    of: Callable[[Array], Array]


@dataclass
class _Evaluation:
    """What is known of an evaluation while it is traced."""

    between: Between
    trace: object  # in which; what is recomputed or repeated is traced in one of its own
    last: _Convolution | None = None
    largest: int = 0  # bytes of a convolution's output in this stage


_evaluation: ContextVar[_Evaluation | None] = ContextVar("an evaluation", default=None)


@contextmanager
def _inside[T](setting: ContextVar[T], value: T) -> Iterator[None]:
    token = setting.set(value)
    try:
        yield
    finally:
        setting.reset(token)


def native() -> AbstractContextManager[None]:
    """Trace with the plain operations inside: for counting, exporting and comparing."""
    return _inside(_forced, True)


def for_onednn() -> AbstractContextManager[None]:
    """Trace inside for a program on one device whose convolutions oneDNN runs."""
    return _inside(_by_onednn, True)


@contextmanager
def for_evaluation(between: Between = lambda x, _: x) -> Iterator[None]:
    """Trace inside, for oneDNN, what needs no gradient: batch norm goes into kernels before it.

    `between` is given each map `between_stages`, and gives the one to go on with.
    """
    with for_onednn(), _inside(_evaluation, _Evaluation(between, _trace())):
        yield


def _trace() -> object:
    return get_opaque_trace_state(convention="cnnjax")


def between_stages(x: Float[Array, "n *shape"]) -> Float[Array, "n *shape"]:
    """`x`, where an evaluation may go on with all images after it began with a few at a time."""
    evaluation = _evaluation.get()
    if evaluation is None or _trace() != evaluation.trace:
        return x
    largest, evaluation.largest = evaluation.largest, 0
    return evaluation.between(x, largest)


def is_native() -> bool:
    """Whether what is traced now uses the plain operations; decided while tracing, never later."""
    wanted = os.environ.get("CNNJAX_LOWERING", "auto")
    if wanted not in ("auto", "native"):
        hint = did_you_mean(wanted, ["auto", "native"], label="Known lowerings")
        raise SpecError(f"CNNJAX_LOWERING: unknown lowering {wanted!r}. {hint}")
    return _forced.get() or wanted == "native" or jax.default_backend() != "cpu"


def _is_plain(x: Array) -> bool:
    """Whether the plain operation takes `x`: also where its axes may not be merged."""
    return is_native() or not cpu_rows.reshapes(x)


def convolution(
    x: Float[Array, "n *space c_in"],
    kernel: Float[Array, "*window c_group c_out"],
    strides: Ints,
    sides: Pairs,
    dilations: Ints,
    groups: int,
) -> Float[Array, "n *space_out c_out"]:
    """The convolution of checked and complete arguments, in the formulation that suits them."""
    if _is_plain(x) or 0 in kernel.shape or x.dtype != kernel.dtype:  # which it refuses
        return cpu_conv.library(x, kernel, strides, sides, dilations, groups)
    formulation = _choose(x, kernel.shape, strides, sides, dilations, groups)
    evaluation = _evaluation.get()
    if evaluation is not None:
        # A formulation with gradients of its own hides what it makes of the kernel.
        formulation = inspect.unwrap(formulation)
    x = fenced(x)

    def of(kernel: Array) -> Array:
        return formulation(x, kernel, strides, sides, dilations, groups)

    y = fenced(of(kernel))
    if evaluation is not None:
        evaluation.last = _Convolution(y, kernel, 0.0, of)
        evaluation.largest = max(evaluation.largest, y.size * y.dtype.itemsize)
    return y


def _choose(
    x: Array, kernel: Ints, strides: Ints, sides: Pairs, dilations: Ints, groups: int
) -> Callable[..., Array]:
    """The formulation for these shapes."""
    space, c_in, window = x.shape[1:-1], x.shape[-1], kernel[:-2]
    ones = (1,) * len(window)
    padded = any(map(any, sides))
    if groups == c_in > 1:
        theirs = _by_onednn.get() and len(window) == 2 and x.dtype.name == "float32"
        return cpu_conv.depthwise_of_library if theirs else cpu_conv.depthwise
    if groups > 1:
        return _by_group
    if window == ones and not padded:
        return cpu_conv.pointwise
    if window == space and not padded and dilations == ones:
        return cpu_conv.covering
    if c_in <= 8 and min(window) > 3 and space[-1] <= 32 and strides == dilations == ones:
        return cpu_conv.banded
    if strides == dilations == ones and cpu_winograd.pays(x, kernel, sides):
        return cpu_winograd.winograd
    if c_in >= 16:
        return cpu_conv.with_summed_products
    return cpu_conv.library


def _by_group(
    x: Array, kernel: Array, strides: Ints, sides: Pairs, dilations: Ints, groups: int
) -> Array:
    """Each group by the formulation that suits it alone."""
    shares = zip(jnp.split(x, groups, axis=-1), jnp.split(kernel, groups, axis=-1), strict=True)
    outputs = [convolution(a, b, strides, sides, dilations, 1) for a, b in shares]
    return jnp.concatenate(outputs, axis=-1)


def stored(x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
    """`x`, computed once for all that reads it, as is its gradient; never in passing."""
    return x if is_native() else fenced(x)


def elementwise(
    function: Callable[..., Array],
    *maps: Float[Array, "*batch c"],
    channels: Sequence[Float[Array, " c"]] = (),
) -> Float[Array, "*batch c"]:
    """`function` of maps of one shape and of one number per channel each, element by element."""
    x = maps[0]
    if is_native():
        return function(*maps, *(across(v, x) for v in channels))
    beside = [cpu_rows.along(v, x) for v in channels]
    return function(*map(cpu_rows.rows, maps), *beside).reshape(x.shape)


def biased(y: Float[Array, "*batch c"], bias: Float[Array, " c"]) -> Float[Array, "*batch c"]:
    """y + bias."""
    total = elementwise(jnp.add, y, channels=(bias,))
    evaluation = _evaluation.get()
    if evaluation is not None and (last := evaluation.last) and y is last.output:
        evaluation.last = last._replace(output=total, bias=last.bias + bias)
    return total


def standardise(
    x: Float[Array, "*batch c"],
    mean: Float[Array, " c"],
    var: Float[Array, " c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    eps: float | int,
) -> Float[Array, "*batch c"]:
    """(x - mean) / sqrt(var + eps) * scale + bias."""
    factor = lax.rsqrt(wide(var) + eps) * scale
    evaluation = _evaluation.get()
    last = evaluation and evaluation.last
    if evaluation and last and x is last.output and x.dtype == factor.dtype:
        # Fenced, both are computed once for all batches (cnnjax/training/hoist.py).
        kernel = fenced(last.kernel * across(factor, last.kernel))
        offset = fenced((bias + (last.bias - mean) * factor).astype(x.dtype))
        evaluation.last = None
        return elementwise(jnp.add, last.of(kernel), channels=(offset,))
    return elementwise(normalised, x, channels=(mean, factor, bias))


def normalise_by_batch(
    x: Float[Array, "*batch c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    eps: float | int,
) -> tuple[Float[Array, "*batch c"], Float[Array, " c"], Float[Array, " c"]]:
    """(x - mean) / sqrt(var + eps) * scale + bias, with the batch's mean and (biased) variance."""
    if not _is_plain(x):
        return cpu_norm.by_batch(x, scale, bias, eps)
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(wide(x), axis=axes)
    var = jnp.mean(jnp.square(wide(x) - across(mean, x)), axis=axes)
    return standardise(x, mean, var, scale, bias, eps), mean, var


def max_pool(
    x: Float[Array, "n *space c"], windows: Ints, strides: Ints, sides: Pairs
) -> Float[Array, "n *space_out c"]:
    """The largest of each window, padding never winning; the first of equals has the gradient."""
    worst = np.asarray(-math.inf, x.dtype)
    if _is_plain(x):
        return lax.reduce_window(
            x, worst, lax.max, (1, *windows, 1), (1, *strides, 1), ((0, 0), *sides, (0, 0))
        )
    return cpu_pool.max_pool(pad(fenced(x), sides, -math.inf), windows, strides)


def window_sum(
    x: Float[Array, "n *space c"], windows: Ints, strides: Ints
) -> Float[Array, "n *space_out c"]:
    """The sum of each window of an already padded map."""
    if not _is_plain(x) and cpu_pool.sums(x.shape[1:-1], windows, strides):
        return cpu_pool.window_sum(x, windows, strides)
    zero = np.zeros((), x.dtype)
    return lax.reduce_window(x, zero, lax.add, (1, *windows, 1), (1, *strides, 1), "VALID")
