"""Convolution on the CPU, written as what XLA:CPU runs fast: matrix products and shifted sums.

Every function takes complete arguments, one number or pair per spatial axis, already checked.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial, wraps
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from cnnjax.ops.cpu_rows import fenced
from cnnjax.ops.numeric import across
from cnnjax.ops.window import Pairs, pad

Ints = tuple[int, ...]
SHARE = 2**20  # bytes of a map
ROWS = 8  # of a map whose products are added up in one go
PARTS = 4  # with 16, a step of LeNet-5 takes 1.1 of the time, one of ResNet-20 1.04 to 1.08


def library(
    x: Array, kernel: Array, strides: Ints, sides: Pairs, dilations: Ints, groups: int
) -> Array:
    """XLA's own convolution, channels last."""
    space = "DHW"[3 - (x.ndim - 2) :]
    layout = f"N{space}C"
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=strides,
        padding=sides,
        rhs_dilation=dilations,
        dimension_numbers=(layout, f"{space}IO", layout),
        feature_group_count=groups,
    )


# -- convolutions that are one matrix product ------------------------------------------------------


def pointwise(x: Array, kernel: Array, strides: Ints, *_: Any) -> Array:
    """A 1x1 convolution; a stride skips what it would not read."""
    if any(s > 1 for s in strides):
        x = x[:, *(slice(None, None, s) for s in strides), :]
    return rows_product(x, kernel.reshape(kernel.shape[-2:]))


def covering(x: Array, kernel: Array, *_: Any) -> Array:
    """A window as large as the map, which it sees once: a linear layer."""
    ones = (1,) * (x.ndim - 2)
    return rows_product(x.reshape(x.shape[0], *ones, -1), kernel.reshape(-1, kernel.shape[-1]))


@jax.custom_vjp
def rows_product(
    x: Float[Array, "n *space c_in"], kernel: Float[Array, "c_in c_out"]
) -> Float[Array, "n *space c_out"]:
    """x @ kernel over the last axis, with a weight gradient that uses every core."""
    return lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def _rows_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return rows_product(x, kernel), (x, kernel)


def _rows_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    g = fenced(g)
    gx = lax.dot_general(g, kernel, (((g.ndim - 1,), (1,)), ((), ())))
    return gx, _summed_products(x, g)


rows_product.defvjp(_rows_forward, _rows_backward)


def _summed_products(x: Array, g: Array) -> Array:
    """The sum over rows of x^T g, as up to PARTS products that run beside each other.

    One product would contract a very long axis into a small matrix, on one core; many would write
    as many matrices to be added. The narrow matrix comes first: the other way round a product of
    256 with 64 channels takes 1.5 of the time. One with fewer rows than its result stays whole.
    """
    n, (a, b) = x.shape[0], (x.shape[-1], g.shape[-1])
    if a >= 2 * b:
        return _summed_products(g, x).T
    rows = x.size // a
    most = PARTS if rows > max(a, b) else 1
    parts = max(k for k in range(1, most + 1) if n % k == 0)
    x, g = x.reshape(parts, -1, a), g.reshape(parts, -1, b)
    return lax.dot_general(x, g, (((1,), (1,)), ((0,), (0,)))).sum(0)


# -- gradients as products and plain convolutions --------------------------------------------------


def with_gradients(
    input_gradient: Callable[..., Array], weight_gradient: Callable[..., Array]
) -> Callable[..., Callable[..., Array]]:
    """Give a convolution these gradients.

    They take the gradient, kernel and input's shape, and the input, gradient and kernel's shape;
    then strides, sides and dilations.
    """

    def decorate(forward: Callable[..., Array]) -> Callable[..., Array]:
        @partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
        @wraps(forward)
        def convolution(x: Array, kernel: Array, *where: Any) -> Array:
            return forward(x, kernel, *where)

        def run(x: Array, kernel: Array, *where: Any) -> tuple[Array, tuple[Array, Array]]:
            return forward(x, kernel, *where), (x, kernel)

        def back(
            strides: Ints,
            sides: Pairs,
            dilations: Ints,
            groups: int,
            saved: tuple[Array, Array],
            g: Array,
        ) -> tuple[Array, Array]:
            x, kernel = saved
            g = fenced(g)
            gx = fenced(input_gradient(g, kernel, x.shape, strides, sides, dilations))
            return gx, weight_gradient(x, g, kernel.shape, strides, sides, dilations)

        convolution.defvjp(run, back)
        return convolution

    return decorate


def _input_gradient(
    g: Array, kernel: Array, shape: Ints, strides: Ints, sides: Pairs, dilations: Ints
) -> Array:
    """XLA's own, but for a stride of 2, where it would convolve with a gradient full of zeros.

    Places s m + r of the padded map, for a residue r of the stride s, are seen by the taps s t + r
    alone: a convolution of the gradient at stride 1, for each r.
    """
    if max(strides) != 2 or max(dilations) > 1:
        plain = partial(
            library, kernel=kernel, strides=strides, sides=sides, dilations=dilations, groups=1
        )
        (gx,) = jax.linear_transpose(plain, jax.ShapeDtypeStruct(shape, g.dtype))(g)
        return gx
    rank, c_in, ones = len(strides), shape[-1], (1,) * len(strides)
    places = [-(-(n + low) // s) for n, s, (low, _) in zip(shape[1:], strides, sides, strict=False)]
    residues = []
    for residue in product(*map(range, strides)):
        seen = kernel[*(slice(r, None, s) for r, s in zip(residue, strides, strict=True))]
        edges = tuple(
            (taps - 1, n - m) for taps, n, m in zip(seen.shape, places, g.shape[1:], strict=False)
        )
        if 0 in seen.shape:
            residues.append(jnp.zeros((shape[0], *places, c_in), g.dtype))
        else:
            turned = jnp.flip(seen, range(rank)).swapaxes(-1, -2)
            residues.append(fenced(library(g, fenced(turned), ones, edges, ones, 1)))
    y = jnp.stack(residues, axis=-2).reshape(shape[0], *places, *strides, c_in)
    inside = (slice(low, low + n) for n, (low, _) in zip(shape[1:], sides, strict=False))
    return _woven(y, rank)[:, *inside]


def _woven(a: Array, rank: int) -> Array:
    """Places and the residues within each, (first, *places, *residues, last), as one axis each."""
    order = [axis for i in range(rank) for axis in (1 + i, 1 + rank + i)]
    a = a.transpose(0, *order, 2 * rank + 1)
    sizes = [n * s for n, s in zip(a.shape[1:-1:2], a.shape[2:-1:2], strict=True)]
    return a.reshape(a.shape[0], *sizes, a.shape[-1])


def _weight_gradient(
    x: Array, g: Array, kernel: Ints, strides: Ints, sides: Pairs, dilations: Ints
) -> Array:
    """The sum over images and places of what each tap saw times the gradient there."""
    of_images = _of_skipping_taps if max(strides) > 1 else _of_neighbouring_taps

    def gradient(x: Array, g: Array) -> Array:
        return of_images(x, g, kernel, strides, sides, dilations)

    images = _images_at_a_time(x.shape, kernel, x.dtype.itemsize)
    steps = x.shape[0] // images
    if steps == 1:
        return gradient(x, g)
    # Every `steps`-th image: on a mesh that splits a batch, each device has some of every share.
    shares = [v.reshape(images, steps, *v.shape[1:]) for v in (x, g)]

    def add(step: Array, total: Array) -> Array:
        share = [lax.dynamic_index_in_dim(v, step, 1, keepdims=False) for v in shares]
        return total + gradient(*share)

    return lax.fori_loop(0, steps, add, jnp.zeros(kernel, x.dtype))


def _images_at_a_time(shape: Ints, kernel: Ints, itemsize: int) -> int:
    """Into how large shares a batch is cut.

    What is put beside each other for a product is several times as large as the map; that of a few
    images is still in the cache when the product reads it. One image would leave a core idle, and
    each share adds to all of the kernel.
    """
    n, *image = shape
    size = math.prod(image)
    sizes = [m for m in range(2, n + 1) if n % m == 0] or [n]
    images = max([m for m in sizes if m * size * itemsize <= SHARE] or sizes[:1])
    return images if images * size >= math.prod(kernel) else n


def _of_skipping_taps(
    x: Array, g: Array, kernel: Ints, strides: Ints, sides: Pairs, dilations: Ints
) -> Array:
    """One product of all that the taps saw with the gradient."""
    window = kernel[:-2]
    x = fenced(pad(x, sides, 0))
    seen = [tap_of(x, tap, window, strides, dilations) for tap in product(*map(range, window))]
    wide = fenced(jnp.concatenate(seen, axis=-1))
    return _summed_products(wide, g).reshape(kernel)


def _of_neighbouring_taps(
    x: Array, g: Array, kernel: Ints, _: Ints, sides: Pairs, dilations: Ints
) -> Array:
    """One product of a few taps' maps with a few taps' gradients.

    What x[p] is to tap t of an axis, g[p - t d] is. So the map moves along the last axis and the
    gradient along the others.
    """
    *first, last = kernel[:-2]
    here = (0,) * len(first)
    starts = [sides[-1][0] - t * dilations[-1] for t in range(last)]
    size = (*x.shape[1:-2], g.shape[-2])
    maps = _beside([_placed(x, (*here, start), size) for start in starts])
    lows = [
        [t * d - before for t, d, (before, _) in zip(tap, dilations, sides, strict=False)]
        for tap in product(*map(range, first))
    ]
    moved = _beside([_placed(g, low, x.shape[1:-2]) for low in lows])
    found = _summed_products(maps, moved).reshape(last, kernel[-2], -1, kernel[-1])
    return found.transpose(2, 0, 1, 3).reshape(kernel)


def _beside(maps: Sequence[Array]) -> Array:
    """The channels of all maps in one vector for each place."""
    wide = jnp.stack(maps, axis=-2)
    return fenced(wide.reshape(*wide.shape[:-2], -1))


def _placed(a: Array, low: Sequence[int], size: Sequence[int]) -> Array:
    """`a` with `low` zeros before it along its first axes of space, cut or filled up to `size`."""
    high = [n - m - k for n, m, k in zip(size, a.shape[1:], low, strict=False)]
    edges = [(k, h, 0) for k, h in zip(low, high, strict=True)]
    rest = [(0, 0, 0)] * (a.ndim - 1 - len(edges))
    return lax.pad(a, jnp.zeros((), a.dtype), [(0, 0, 0), *edges, *rest])


@with_gradients(_input_gradient, _weight_gradient)
def with_summed_products(
    x: Array, kernel: Array, strides: Ints, sides: Pairs, dilations: Ints, groups: int
) -> Array:
    """XLA's convolution."""
    return library(x, kernel, strides, sides, dilations, groups)


# -- tiny channel counts ---------------------------------------------------------------------------


def banded(x: Array, kernel: Array, _: Ints, sides: Pairs, *__: Any) -> Array:
    """A piece of a row of outputs at once from the inputs that it sees, in one product.

    A piece of width w and c channels is one vector of w c numbers, and its convolution with a row
    of the kernel a banded matrix. The zeros beside the band cost less than vectors of c numbers
    would, and least where a piece is as wide as the window reaches: it reads twice what it writes.
    """
    *first, last = kernel.shape[:-2]
    before, after = sides[-1]
    outputs = x.shape[-2] + before + after - last + 1
    pieces = max(1, outputs // (last - 1))
    piece = -(-outputs // pieces)
    width = piece + last - 1
    x = fenced(pad(x, (*sides[:-1], (before, after + pieces * piece - outputs)), 0))
    n, *space = x.shape[:-2]
    starts = range(0, pieces * piece, piece)
    rows = jnp.stack([x[..., i : i + width, :].reshape(n, *space, -1) for i in starts], axis=-2)
    heights = [m - k + 1 for m, k in zip(space, first, strict=True)]
    seen = [
        rows[:, *(slice(t, t + m) for t, m in zip(tap, heights, strict=True))]
        for tap in product(*map(range, first))
    ]
    p, r, i = np.ogrid[:width, :piece, :last]
    band = jnp.asarray(p == r + i, kernel.dtype)
    taps = kernel.reshape(-1, last, *kernel.shape[-2:])
    matrix = jnp.einsum("pri,kicd->kpcrd", band, taps).reshape(-1, piece * kernel.shape[-1])
    y = rows_product(fenced(jnp.concatenate(seen, -1)), matrix)
    return y.reshape(n, *heights, pieces * piece, kernel.shape[-1])[..., :outputs, :]


# -- depthwise convolution ------------------------------------------------------------------------


def depthwise(
    x: Array, kernel: Array, strides: Ints, sides: Pairs, dilations: Ints, groups: int
) -> Array:
    """A sum of shifted products, one for each tap."""
    if _is_at_every_place(x, kernel, strides, sides, dilations):
        return _of_taps(x, kernel, strides, sides, dilations, groups)
    return _of_shifted(x, kernel, strides, sides, dilations)


def depthwise_of_library(
    x: Array, kernel: Array, strides: Ints, sides: Pairs, dilations: Ints, groups: int
) -> Array:
    """The library's where it has gradients too, for programs in which that is not XLA."""
    everywhere = _is_at_every_place(x, kernel, strides, sides, dilations)
    run = _of_library if everywhere else depthwise
    return run(x, kernel, strides, sides, dilations, groups)


def _is_at_every_place(
    x: Array, kernel: Array, strides: Ints, sides: Pairs, dilations: Ints
) -> bool:
    """Whether each channel has one output, and the input gradient is a convolution like it."""
    reach = [d * (k - 1) for d, k in zip(dilations, kernel.shape, strict=False)]
    within = all(max(side) <= r for side, r in zip(sides, reach, strict=True))
    return max(strides) == 1 and kernel.shape[-1] == x.shape[-1] and within


# Backward pads anew: a padded copy of every map would be kept until then.
@partial(jax.checkpoint, static_argnums=(2, 3, 4))
def _of_shifted(x: Array, kernel: Array, strides: Ints, sides: Pairs, dilations: Ints) -> Array:
    x = pad(x, sides, 0)
    multiplier = kernel.shape[-1] // x.shape[-1]
    if multiplier > 1:
        x = jnp.repeat(x, multiplier, axis=-1)
    total = None
    for tap in product(*map(range, kernel.shape[:-2])):
        seen = tap_of(x, tap, kernel.shape[:-2], strides, dilations)
        term = seen * across(kernel[*tap, 0], seen)
        total = term if total is None else total + term
    assert total is not None
    return total


def _turned(convolution: Callable[..., Array]) -> Callable[..., Array]:
    """The input gradient at stride 1: the same convolution, with the kernel turned round."""

    def gradient(
        g: Array, kernel: Array, shape: Ints, strides: Ints, sides: Pairs, dilations: Ints
    ) -> Array:
        window = kernel.shape[:-2]
        opposite = tuple(
            (d * (k - 1) - low, d * (k - 1) - high)
            for (low, high), k, d in zip(sides, window, dilations, strict=True)
        )
        turned = fenced(jnp.flip(kernel, range(len(window))))  # or XLA turns the convolution
        return convolution(g, turned, strides, opposite, dilations, shape[-1])

    return gradient


def _depthwise_weight_gradient(
    x: Array, g: Array, kernel: Ints, strides: Ints, sides: Pairs, dilations: Ints
) -> Array:
    """The sum over images and places of what each tap saw times the gradient there.

    Of every ROWS rows the products are added up before they are written, and what is written is
    added up by XLA's library: its own loop for the whole sum is not a vector's.
    """
    outputs, window = g.shape[1:-1], kernel[:-2]
    x = fenced(pad(x, sides, 0))
    blocks = outputs[0] // ROWS
    # The first row of each block, the second, .., and the rows that fill no block.
    starts = [slice(r, r + (blocks - 1) * ROWS + 1, ROWS) for r in range(ROWS) if blocks]
    parts = [starts, [slice(r, r + 1) for r in range(blocks * ROWS, outputs[0])]]
    found = []
    for tap in product(*map(range, window)):
        first, *others = (t * d for t, d in zip(tap, dilations, strict=True))
        seen = x[:, first : first + outputs[0]]
        seen = seen[:, :, *(slice(o, o + n) for o, n in zip(others, outputs[1:], strict=True))]
        terms = [[seen[:, r] * g[:, r] for r in rows] for rows in parts if rows]
        added = [fenced(sum(more, one)) for one, *more in terms]
        found.append(sum(jnp.sum(a, range(x.ndim - 1)) for a in added))
    return jnp.stack(found).reshape(kernel)


def _gradient_as_kernel(
    x: Array, g: Array, kernel: Ints, strides: Ints, sides: Pairs, dilations: Ints
) -> Array:
    """What slides over an image is its gradient; the taps are the places where it fits.

    Of small images the sum of products takes as long: they stay in the cache between its taps.
    """
    if math.prod(x.shape[1:]) * x.dtype.itemsize < SHARE:
        return _depthwise_weight_gradient(x, g, kernel, strides, sides, dilations)
    ones = (1,) * len(sides)

    def add(index: Array, total: Array) -> Array:
        image = lax.dynamic_slice_in_dim(x, index, 1)
        window = lax.dynamic_index_in_dim(g, index, keepdims=False)[..., None, :]
        found = library(image, window, dilations, sides, ones, kernel[-1])
        return total + fenced(found).reshape(kernel)

    return lax.fori_loop(0, x.shape[0], add, jnp.zeros(kernel, x.dtype))


@with_gradients(_turned(depthwise), _depthwise_weight_gradient)
def _of_taps(
    x: Array, kernel: Array, strides: Ints, sides: Pairs, dilations: Ints, groups: int
) -> Array:
    """At stride 1."""
    return _of_shifted(x, kernel, strides, sides, dilations)


@with_gradients(_turned(depthwise_of_library), _gradient_as_kernel)
def _of_library(
    x: Array, kernel: Array, strides: Ints, sides: Pairs, dilations: Ints, groups: int
) -> Array:
    """At stride 1."""
    return library(x, kernel, strides, sides, dilations, groups)


def tap_of(
    x: Array,
    tap: Ints,
    window: Ints,
    strides: Ints,
    dilations: Ints,
) -> Array:
    """What the position `tap` of every window sees of an already padded map."""
    index = []
    for size, t, k, s, d in zip(x.shape[1:-1], tap, window, strides, dilations, strict=True):
        outputs = (size - d * (k - 1) - 1) // s + 1
        index.append(slice(t * d, t * d + (outputs - 1) * s + 1, s))
    return x[:, *index, :]
