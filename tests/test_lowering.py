"""Every formulation against XLA's own operation: values, derivatives and transformations."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnnjax import cost, ops
from cnnjax.errors import SpecError
from cnnjax.models import build
from cnnjax.ops import cpu_conv, cpu_rows, cpu_winograd, lowering
from cnnjax.ops.window import pairs

# What each formulation is chosen for: input, kernel, stride, padding, dilation, groups.
CASES = {
    "depthwise": ((2, 7, 6, 5), (3, 3, 1, 10), 2, "SAME", 1, 5),
    "pointwise": ((3, 5, 6, 4), (1, 1, 4, 7), 2, "VALID", 1, 1),
    "covering": ((2, 3, 4, 5), (3, 4, 5, 6), 1, "VALID", 1, 1),
    "banded": ((2, 9, 8, 3), (5, 4, 3, 2), 1, "SAME", 1, 1),
    "winograd": ((2, 7, 6, 64), (3, 3, 64, 66), 1, "SAME", 1, 1),
    "with_summed_products": ((3, 7, 8, 32), (3, 2, 32, 4), 1, "SAME", 2, 1),
    "_by_group": ((2, 7, 7, 6), (3, 3, 3, 4), 1, "SAME", 1, 2),
    "library": ((2, 7, 7, 6), (3, 3, 6, 4), 2, "SAME", 1, 1),
}

PLAIN = ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)  # stride, sides, dilation and groups of a 3x3 "SAME"


@pytest.fixture(autouse=True)
def small_maps(monkeypatch):
    """The batches of these tests are cut as large ones are, their maps given to Winograd."""
    monkeypatch.setattr(cpu_conv, "SHARE", 256)
    monkeypatch.setattr(cpu_rows, "LARGE", 0)
    monkeypatch.setattr(cpu_winograd, "PLACES", 1)
    monkeypatch.setattr(cpu_winograd, "PLACES_EACH", 0)


def arrays(*shapes, seed=0, dtype=np.float32):
    generator = np.random.default_rng(seed)
    return [jnp.asarray(generator.standard_normal(s).astype(dtype)) for s in shapes]


def both(function, *args):
    """What `function` gives by our choice and by XLA's own operations."""
    ours = jax.jit(function)(*args)
    with lowering.native():
        theirs = jax.jit(lambda *a: function(*a))(*args)
    return ours, theirs


def agree(ours, theirs, tolerance=2e-5):
    for a, b in zip(*map(jax.tree.leaves, jax.device_get((ours, theirs))), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.max(np.abs(b), initial=1.0))


def convolve(stride, padding, dilation, groups):
    return lambda x, k: ops.conv(
        x, k, stride=stride, padding=padding, dilation=dilation, groups=groups
    )


def with_gradients(function):
    """The value and the gradients of a curved function of it, so that no cotangent is constant."""

    def result(*args):
        y, pull_back = jax.vjp(function, *args)
        return y, pull_back(jnp.cos(y))  # the gradients of sum(sin(y))

    return result


def chosen(case, dtype=np.float32):
    shape, kernel, stride, padding, dilation, groups = CASES[case]
    rank = len(shape) - 2
    sides = pairs(
        padding, shape[1:-1], kernel[:-2], stride=(stride,) * rank, dilation=(dilation,) * rank
    )
    x = jnp.zeros(shape, dtype)
    return lowering._choose(x, kernel, (stride,) * rank, sides, (dilation,) * rank, groups)


@pytest.mark.parametrize("case", CASES)
def test_each_case_is_given_its_formulation(case):
    assert chosen(case).__name__ == case


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_and_theirs_are_those_of_the_plain_operation(case):
    shape, kernel, *options = CASES[case]
    first = with_gradients(convolve(*options))

    def norm_of_gradient(x, k):
        y, gradients = first(x, k)
        return sum(jnp.sum(jnp.square(g)) for g in gradients), (y, gradients)

    x, k = arrays(shape, kernel)
    agree(*both(jax.grad(norm_of_gradient, (0, 1), has_aux=True), x, 0.3 * k))


@pytest.mark.parametrize(
    ("shape", "outputs", "images"),
    [
        ((128, 32, 32, 16), 16, 16),  # 1 MiB
        ((8, 56, 56, 64), 64, 2),  # less than 2 MiB, but two images at least
        ((9, 112, 112, 64), 64, 3),
        ((128, 4, 4, 16), 16, 128),  # all are less than 1 MiB
        ((8, 7, 7, 512), 512, 8),  # the kernel is larger than the map
        ((127, 32, 32, 16), 16, 127),
        ((1, 112, 112, 64), 64, 1),
    ],
)
def test_a_weight_gradient_takes_the_images_that_stay_in_the_cache(
    shape, outputs, images, monkeypatch
):
    monkeypatch.undo()
    kernel = (3, 3, shape[-1], outputs)
    assert cpu_conv._images_at_a_time(shape, kernel, 4) == images


@pytest.mark.parametrize(
    ("shape", "outputs", "formulation"),
    [
        ((1, 16, 16, 64), 32, "winograd"),
        ((1, 16, 15, 64), 32, "with_summed_products"),  # fewer than 256 places
        ((4, 8, 8, 64), 32, "winograd"),
        ((1, 9, 12, 12, 64), 32, "winograd"),
        ((1, 9, 12, 11, 64), 32, "with_summed_products"),  # fewer than 6 for each of 216 products
        ((99, 9, 3, 64), 64, "with_summed_products"),  # no room for a tile
        ((1, 20, 20, 64), 31, "with_summed_products"),
        ((1, 20, 20, 32), 32, "winograd"),
        ((1, 20, 20, 31), 512, "with_summed_products"),
    ],
)
def test_tiles_are_for_deep_and_large_maps(shape, outputs, formulation, monkeypatch):
    monkeypatch.undo()
    ones = (1,) * (len(shape) - 2)
    kernel, sides = (*(3 for _ in ones), shape[-1], outputs), ((1, 1),) * len(ones)
    assert lowering._choose(jnp.zeros(shape), kernel, ones, sides, ones, 1).__name__ == formulation


@pytest.mark.parametrize(
    ("window", "options", "formulation"),
    [
        ((5, 5), {}, "winograd"),
        ((1, 7), {}, "winograd"),
        ((7, 3), {}, "winograd"),
        ((5, 7), {}, "with_summed_products"),  # too many digits lost
        ((1, 1), {}, "with_summed_products"),  # no sum to save anything in
        ((3, 4), {}, "with_summed_products"),
        ((5, 5), {"strides": (1, 2)}, "with_summed_products"),
        ((5, 5), {"dilations": (2, 1)}, "with_summed_products"),
        ((3,), {}, "winograd"),
        ((1, 5, 5), {}, "winograd"),
        ((3, 3, 3), {}, "winograd"),
        ((5, 3, 5), {}, "with_summed_products"),
    ],
)
def test_tiles_are_for_odd_windows_that_keep_digits(window, options, formulation):
    rank = len(window)
    ones, sides = (1,) * rank, ((1, 1),) * rank
    x = jnp.zeros((2, *(12,) * rank, 32))
    options = {"strides": ones, "dilations": ones, **options}
    found = lowering._choose(x, (*window, 32, 32), sides=sides, groups=1, **options)
    assert found.__name__ == formulation


def test_an_axis_with_one_tap_may_be_shorter_than_a_tile():
    x, sides = jnp.zeros((2, 2, 16, 32)), ((0, 0), (3, 3))
    assert lowering._choose(x, (1, 7, 32, 32), (1, 1), sides, (1, 1), 1).__name__ == "winograd"


@pytest.mark.parametrize("window", [(1, 1), (3, 3), (3, 4)])
def test_two_types_are_refused_as_by_the_plain_operation(window):
    x, k = jnp.zeros((2, 8, 8, 32)), jnp.zeros((*window, 32, 32), jnp.bfloat16)
    with pytest.raises(TypeError, match="same dtypes"):
        ops.conv(x, k)


def test_half_types_keep_their_digits():
    assert chosen("winograd", jnp.bfloat16).__name__ == "with_summed_products"


def of_definition(x, k, g, sides):
    """A convolution and its two gradients, as sums over taps of what each sees; float64."""
    x, k, g = (np.asarray(a, np.float64) for a in (x, k, g))
    padded = np.pad(x, ((0, 0), *sides, (0, 0)))
    y, to_x, to_k = np.zeros_like(g), np.zeros_like(padded), np.zeros_like(k)
    for tap in np.ndindex(k.shape[:-2]):
        seen = (slice(None), *(slice(t, t + n) for t, n in zip(tap, g.shape[1:-1], strict=True)))
        y += padded[seen] @ k[tap]
        to_x[seen] += g @ k[tap].T
        to_k[tap] = np.tensordot(padded[seen], g, (range(g.ndim - 1),) * 2)
    inside = (slice(low, low + n) for n, (low, _) in zip(x.shape[1:-1], sides, strict=True))
    return y, to_x[:, *inside], to_k


def by_tiles(x, k, sides):
    """The shape of a convolution's output, and the convolution and its gradients by Winograd."""
    ones = (1,) * len(sides)
    assert lowering._choose(x, k.shape, ones, sides, ones, 1).__name__ == "winograd"
    function = convolve(1, sides, 1, 1)
    shape = jax.eval_shape(function, x, k).shape

    @jax.jit
    def run(x, k, g):
        y, pull_back = jax.vjp(function, x, k)
        return y, *pull_back(g)

    return shape, run


@pytest.mark.parametrize(
    "window",
    [(3,), (7,), (3, 3), (5, 5), (1, 7), (5, 1), (7, 3), (1, 5, 3), (3, 1, 1), (3, 1, 3),
     (3, 3, 3)],
)  # fmt: skip
@settings(max_examples=2, deadline=None, derandomize=True)
@given(data=st.data())
def test_tiles_cover_maps_of_any_size_and_padding(window, data):
    sides = [(data.draw(st.integers(0, k)), data.draw(st.integers(0, k))) for k in window]
    # An axis with one tap may be shorter than a tile.
    low = [4 * (k > 1) + k - 1 - sum(side) for k, side in zip(window, sides, strict=True)]
    space = [max(1, n) + data.draw(st.integers(0, 6)) for n in low]
    x, k = arrays((2, *space, 32), (*window, 32, 33))
    shape, run = by_tiles(x, k, tuple(sides))
    (g,) = arrays(shape, seed=1)
    agree(run(x, k, g), of_definition(x, k, g, sides), 4e-6 if max(window) == 3 else 1e-5)


@pytest.mark.parametrize(
    ("window", "channels", "bounds"),
    [
        ((3, 3), 64, (3e-6, 3e-6, 2e-6)),
        ((3, 3), 512, (8e-6, 3e-6, 3e-6)),
        ((5, 5), 64, (1e-5, 1e-5, 9e-6)),
        ((1, 7), 64, (6e-6, 5e-6, 8e-6)),
        ((3, 3, 3), 64, (6e-6, 6e-6, 4e-6)),
    ],
)
def test_tiles_are_as_exact_as_their_points_allow(window, channels, bounds):
    """Output and gradients; at whole numbers, the usual points, each is wrong by more."""
    space = (14,) * len(window)
    x, k, g = arrays((2, *space, channels), (*window, channels, 64), (2, *space, 64))
    sides = tuple((n // 2, n // 2) for n in window)
    _, run = by_tiles(x, k, sides)
    for a, b, bound in zip(run(x, k, g), of_definition(x, k, g, sides), bounds, strict=True):
        assert np.max(np.abs(np.asarray(a, np.float64) - b)) < bound * np.max(np.abs(b))


def test_tiles_keep_the_digits_of_float64():
    shape, kernel, *options = CASES["winograd"]
    with jax.enable_x64(True):
        args = arrays(shape, kernel, dtype=np.float64)
        assert chosen("winograd", np.float64).__name__ == "winograd"
        agree(*both(with_gradients(convolve(*options)), *args), 1e-13)


def test_tiles_are_mapped_recomputed_and_sharded():
    shape, kernel, *options = CASES["winograd"]
    function = with_gradients(convolve(*options))
    devices = len(jax.devices())
    x, k = arrays((devices, *shape[1:]), kernel)
    k = k / 24  # outputs of about 1, whose cosine keeps their digits
    whole = jax.jit(function)(x, k)
    agree(jax.jit(with_gradients(jax.checkpoint(convolve(*options))))(x, k), whole, 1e-6)
    mesh = Mesh(np.asarray(jax.devices()), ("data",))
    rows, copied = (NamedSharding(mesh, PartitionSpec(*a)) for a in (("data",), ()))
    agree(jax.jit(function, in_shardings=(rows, copied))(x, k), whole, 2e-6)
    xs = x.reshape(2, -1, *shape[1:])
    y, (to_x, to_k) = jax.jit(jax.vmap(function, (0, None)))(xs, k)
    agree((y.reshape(x.shape[:3] + (-1,)), (to_x.reshape(x.shape), to_k.sum(0))), whole, 2e-6)


# Map, window, padding, stride, dilation: odd and even, lopsided, a window less than its stride.
GRADIENTS = [
    ((6, 7), (3, 3), ((1, 1), (1, 1)), (1, 1), (1, 1)),
    ((5, 6), (2, 4), ((0, 1), (2, 1)), (1, 1), (1, 1)),
    ((7, 2), (3, 3), ((2, 2), (3, 0)), (1, 1), (2, 1)),
    ((6, 9), (1, 3), ((0, 0), (2, 2)), (1, 1), (1, 2)),
    ((9, 8), (7, 7), ((3, 3), (3, 3)), (2, 2), (1, 1)),
    ((7, 8), (3, 3), ((0, 1), (1, 1)), (2, 2), (1, 1)),
    ((8, 5), (3, 1), ((4, 0), (0, 0)), (1, 2), (1, 1)),
    ((9, 9), (3, 3), ((0, 0), (0, 0)), (3, 2), (1, 1)),
    ((9,), (7,), ((3, 3),), (2,), (1,)),
    ((3, 4, 5), (2, 3, 3), ((0, 0), (1, 1), (1, 1)), (1, 2, 1), (1, 1, 1)),
]


# More rows than are added up in one go, fewer, some left over; padding beyond the window's reach.
DEPTHWISE = [
    ((19, 6), (3, 3), ((1, 1), (1, 1)), (1, 1), (1, 1)),
    ((16, 5), (3, 2), ((2, 0), (0, 1)), (1, 1), (1, 1)),
    ((5, 7), (2, 3), ((0, 1), (2, 2)), (1, 1), (1, 2)),
    ((4, 5), (3, 3), ((3, 1), (1, 1)), (1, 1), (1, 1)),
    ((17,), (5,), ((2, 2),), (1,), (1,)),
    ((9, 3, 4), (3, 2, 3), ((1, 1), (0, 1), (1, 1)), (1, 1, 1), (1, 1, 1)),
]


def depthwise_gradients(x, k, g, sides, dilation):
    """At stride 1, in double precision: each channel by itself."""
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), *sides, (0, 0)))
    to_x, to_k = np.zeros(padded.shape), np.zeros(k.shape)
    for tap in np.ndindex(*k.shape[:-2]):
        places = zip(tap, dilation, g.shape[1:-1], strict=True)
        seen = (slice(None), *(slice(t * d, t * d + n) for t, d, n in places))
        to_k[tap] = np.sum(padded[seen] * g, tuple(range(x.ndim - 1)))
        to_x[seen] += np.asarray(g, np.float64) * np.asarray(k)[*tap, 0]
    inside = (slice(low, low + n) for (low, _), n in zip(sides, x.shape[1:-1], strict=True))
    return to_x[:, *inside], to_k


@pytest.mark.parametrize(("space", "window", "sides", "stride", "dilation"), DEPTHWISE)
def test_depthwise_gradients_are_their_definition(space, window, sides, stride, dilation):
    """And the gradients of a gradient are those of the plain operation."""
    x, k = arrays((3, *space, 6), (*window, 1, 6))
    conv = convolve(stride, sides, dilation, 6)
    (g,) = arrays(jax.eval_shape(conv, x, k).shape, seed=1)
    found = jax.jit(lambda x, k, g: jax.vjp(conv, x, k)[1](g))(x, k, g)
    agree(found, depthwise_gradients(x, k, g, sides, dilation), 2e-6)
    squares = lambda x, k: sum(jnp.sum(a**2) for a in with_gradients(conv)(x, k)[1])  # noqa: E731
    agree(*both(jax.grad(squares, (0, 1)), x, k))


@pytest.mark.parametrize("c_in", [3, 16], ids=["few channels", "many"])
@pytest.mark.parametrize(("space", "window", "sides", "stride", "dilation"), GRADIENTS)
def test_gradients_are_their_definition(space, window, sides, stride, dilation, c_in):
    """What a tap saw, times the gradient there; and the gradient, spread to what each tap saw."""
    x, k = arrays((4, *space, c_in), (*window, c_in, 5))
    conv = convolve(stride, sides, dilation, 1)
    (g,) = arrays(jax.eval_shape(conv, x, k).shape, seed=1)
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), *sides, (0, 0)))
    to_x, to_k = np.zeros(padded.shape), np.zeros(k.shape)
    for tap in np.ndindex(*window):
        seen = (slice(None), *(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, s, n in zip(tap, dilation, stride, g.shape[1:-1], strict=True)
        ))  # fmt: skip
        to_k[tap] = np.tensordot(padded[seen], g, (range(x.ndim - 1),) * 2)
        to_x[seen] += np.asarray(g, np.float64) @ np.asarray(k[tap], np.float64).T
    inside = (slice(low, low + n) for (low, _), n in zip(sides, space, strict=True))
    expected = (to_x[:, *inside], to_k)
    agree(jax.jit(lambda x, k, g: jax.vjp(conv, x, k)[1](g))(x, k, g), expected)


# The same shapes every time: XLA:CPU itself aborts on a few of its own convolutions.
@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.data())
def test_random_convolutions_agree_with_the_plain_operation(data):
    rank = data.draw(st.integers(1, 3), "rank")
    draw = lambda low, high: tuple(  # noqa: E731
        data.draw(st.integers(low, high)) for _ in range(rank)
    )
    window, stride, dilation = draw(1, 5 if rank < 3 else 3), draw(1, 3), draw(1, 2)
    groups = data.draw(st.sampled_from([1, 1, 1, 2, 4]), "groups")
    c_group = data.draw(st.sampled_from([1, 3, 33]), "channels of a group")
    c_out = groups * data.draw(st.integers(1, 3), "outputs of a group")
    n = data.draw(st.sampled_from([1, 3, 33]), "n")
    padding = data.draw(st.sampled_from(["SAME", "VALID"]) | st.just([(1, 2)] * rank), "padding")
    space = tuple(
        d * (k - 1) + 1 + data.draw(st.integers(0, 4))
        for k, d in zip(window, dilation, strict=True)
    )
    shape, kernel = (n, *space, c_group * groups), (*window, c_group, c_out)
    function = convolve(stride, padding, dilation, groups)
    agree(*both(with_gradients(function), *arrays(shape, kernel, seed=n)))


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.data())
def test_random_max_pools_agree_with_the_plain_operation(data):
    rank = data.draw(st.integers(1, 3), "rank")
    window = tuple(data.draw(st.integers(1, 4)) for _ in range(rank))
    stride = tuple(data.draw(st.integers(1, 3)) for _ in range(rank))
    padding = [(k // 2, (k - 1) // 2) for k in window] if data.draw(st.booleans()) else "VALID"
    space = tuple(k + data.draw(st.integers(0, 4)) for k in window)
    (x,) = arrays((3, *space, 2))
    # Rounded values tie often: the first of equals must take the whole gradient.
    pool = with_gradients(lambda x: ops.max_pool(x, window, stride=stride, padding=padding))
    agree(*both(pool, jnp.round(2 * x)))


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.data())
def test_random_average_pools_agree_with_the_plain_operation(data):
    rank = data.draw(st.integers(1, 3), "rank")
    window = tuple(data.draw(st.integers(1, 9 if rank == 1 else 4)) for _ in range(rank))
    stride = tuple(data.draw(st.integers(1, 3)) for _ in range(rank))
    padding = data.draw(st.sampled_from(["SAME", "VALID"]), "padding")
    space = tuple(k + data.draw(st.integers(0, 4)) for k in window)
    (x,) = arrays((3, *space, 5))
    pool = lambda x: ops.avg_pool(x, window, stride=stride, padding=padding)  # noqa: E731
    agree(*both(with_gradients(pool), x), 1e-6)


@pytest.mark.parametrize(
    "shape", [(5,), (3, 5), (2, 7, 16), (2, 7, 17), (2, 3, 5, 6), (2, 3, 1, 1), (2, 2, 3, 4, 3)]
)
def test_arithmetic_on_maps_is_that_of_the_definition(shape):
    """In rows of few channels or not: numpy's broadcasting says what goes beside what."""
    x, y, a, b = map(np.asarray, arrays(shape, shape, shape[-1:], shape[-1:]))

    def apply(x, y, a, b):
        return lowering.elementwise(lambda x, y, a, b: x * y + a * b, x, y, channels=(a, b))

    found, pull = jax.vjp(jax.jit(apply), x, y, a, b)
    np.testing.assert_allclose(found, x * y + a * b, rtol=1e-6, atol=1e-6)
    all_but_last = tuple(range(len(shape) - 1))
    expected = (x * y, x * x, np.sum(x, all_but_last) * b, np.sum(x, all_but_last) * a)
    agree(pull(x), expected)


def test_maps_of_few_channels_are_rows_and_empty_ones_stay():
    (x,) = arrays((2, 3, 5, 6))
    assert "f32[6,30] = tanh" in primitives(ops.tanh, x)
    assert ops.tanh(jnp.zeros((0, 3, 5, 6))).shape == (0, 3, 5, 6)


@pytest.mark.parametrize(
    ("space", "window"), [((6,), (3,)), ((4, 6), (2, 3)), ((5, 6), (1, 2)), ((2, 4, 9), (2, 2, 3))]
)
def test_means_of_windows_side_by_side_are_their_definition(space, window):
    (x,) = arrays((3, *space, 5))
    found, pull = jax.vjp(jax.jit(lambda x: ops.avg_pool(x, window)), x)
    split = [size for n, k in zip(space, window, strict=True) for size in (n // k, k)]
    taps = range(2, 2 + 2 * len(space), 2)
    agree(found, np.asarray(x, np.float64).reshape(3, *split, 5).mean(tuple(taps)))
    spread = np.asarray(found, np.float64)
    for axis, k in enumerate(window, 1):
        spread = spread.repeat(k, axis) / k
    agree(pull(found)[0], spread)


def test_a_pool_passes_on_what_is_not_a_number():
    (x,) = arrays((1, 4, 4, 1))
    ours, theirs = both(lambda x: ops.max_pool(x, 2), x.at[0, 1, 0, 0].set(jnp.nan))
    assert jnp.isnan(ours[0, 0, 0, 0])
    np.testing.assert_array_equal(ours, theirs)


def normed(x):
    zeros = jnp.zeros(x.shape[-1], x.dtype)
    return ops.batch_norm_train(x, zeros, zeros, zeros + 1, zeros)[0]


@pytest.mark.parametrize(
    "shape",
    [(5,), (9, 4), (3, 17, 5), (2, 7, 3, 4), (2, 8, 3, 4), (2, 19, 3, 4), (2, 4, 4, 20),
     (2, 5, 7, 20)],
)  # fmt: skip
def test_batch_norm_and_its_gradients_see_every_place(shape):
    def scaled(x, scale, bias):
        return ops.batch_norm_train(x, bias, scale, scale, bias)[0]

    with jax.enable_x64():
        args = arrays(shape, shape[-1:], shape[-1:], dtype=np.float64)
        agree(*both(with_gradients(scaled), *args), 1e-12)


@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 2)])
def test_a_pool_has_second_derivatives_where_the_first_of_equals_is(window, stride):
    """Of the sum of sin(y): -sin(y) at the largest of a window, once for each window."""
    generator = np.random.default_rng(0)
    x, v = generator.integers(0, 3, (1, 7, 7, 1)).astype(np.float64), generator.random((1, 7, 7, 1))
    wanted = np.zeros_like(x)
    for i, j in itertools.product(range(0, 8 - window, stride), repeat=2):
        seen = x[0, i : i + window, j : j + window, 0]
        a, b = np.unravel_index(np.argmax(seen), seen.shape)
        wanted[0, i + a, j + b, 0] -= np.sin(seen[a, b]) * v[0, i + a, j + b, 0]
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(ops.max_pool(x, window, stride=stride))))
    with jax.enable_x64():
        x, v = jnp.asarray(x), jnp.asarray(v)
        forward = jax.jvp(gradient, (x,), (v,))[1]
        reverse = jax.vjp(gradient, x)[1](v)[0]
    np.testing.assert_allclose(forward, wanted, atol=1e-12)
    np.testing.assert_allclose(reverse, wanted, atol=1e-12)


def network(x, k1, k2, k3):
    """Every formulation but Winograd's in one function."""
    x = ops.tanh(normed(ops.conv(x, k1)))
    x = ops.max_pool(x, 3, stride=2, padding="SAME")
    x = ops.tanh(normed(ops.conv(x, k2, stride=2)))
    x = ops.depthwise_conv(lowering.elementwise(jnp.add, x, channels=(k3[0, 0, 0],)), k3)
    x = ops.avg_pool(x, (x.shape[1], 1))
    return ops.conv(x, jnp.full((*x.shape[1:-1], x.shape[-1], 3), 0.1, x.dtype), padding="VALID")


NETWORK = [(8, 9, 9, 2), (5, 5, 2, 32), (3, 3, 32, 6), (3, 3, 1, 6)]


one_by_one = jax.jit(with_gradients(network))  # compiled once for the tests below


def test_vmap_agrees_with_one_at_a_time():
    xs, *kernels = arrays((3, *NETWORK[0]), *NETWORK[1:])
    mapped = jax.jit(jax.vmap(with_gradients(network), (0, None, None, None)))(xs, *kernels)
    mapped = jax.device_get(mapped)
    for i in range(3):
        agree(jax.tree.map(lambda a, i=i: a[i], mapped), one_by_one(xs[i], *kernels))


def test_recomputed_activations_give_the_same_gradients():
    args = arrays(*NETWORK)
    agree(jax.jit(with_gradients(jax.checkpoint(network)))(*args), one_by_one(*args), 1e-6)


def test_a_sharded_batch_gives_the_gradients_of_a_whole_one():
    args = arrays(*NETWORK)
    mesh = Mesh(np.asarray(jax.devices()), ("data",))
    rows, whole = (NamedSharding(mesh, PartitionSpec(*a)) for a in (("data",), ()))
    sharded = jax.jit(with_gradients(network), in_shardings=(rows, whole, whole, whole))
    agree(sharded(*args), one_by_one(*args))


def test_a_mesh_of_explicit_axes_is_left_to_its_owner():
    """There JAX refuses to merge an axis that is split with one that is not."""
    mesh = jax.make_mesh((len(jax.devices()),), ("data",))
    x, k = arrays((2 * len(jax.devices()), 4, 4, 16), (3, 3, 16, 8))
    functions = [
        ops.tanh,
        normed,
        lambda x: ops.avg_pool(x, 2),
        lambda x: ops.max_pool(x, 3, stride=2),
        lambda x: ops.conv(x, k),
        lambda x: ops.conv(x, k, stride=2),
        lambda x: ops.conv(x, k[:1, :1]),
        lambda x: ops.depthwise_conv(x, jnp.ones((3, 3, 1, 16))),
    ]
    with jax.set_mesh(mesh):
        split = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
        for function in map(with_gradients, functions):
            agree(jax.device_get(function(split)), jax.device_get(function(x)))


def test_bfloat16_stays_bfloat16_and_near_float32():
    args = arrays(*NETWORK)
    coarse = [a.astype(jnp.bfloat16) for a in args]
    ours, theirs = both(with_gradients(network), *coarse)
    assert {a.dtype for a in jax.tree.leaves(ours)} == {jnp.dtype(jnp.bfloat16)}
    found = (ours, theirs, one_by_one(*args))
    for a, b, e in zip(*(map(np.float32, jax.tree.leaves(f)) for f in found), strict=True):
        off = [np.linalg.norm(np.ravel(v - e)) / np.linalg.norm(e.ravel()) for v in (a, b)]
        assert off[0] < max(0.02, 1.5 * off[1])


def test_float64_agrees_to_fifteen_digits():
    with jax.enable_x64(True):
        agree(*both(with_gradients(network), *arrays(*NETWORK, dtype=np.float64)), 1e-13)


def test_counts_do_not_depend_on_the_lowering(monkeypatch):
    module = build({"name": "lenet5"}, num_classes=10, input_shape=(28, 28, 1))
    ours = cost.cost(module, (28, 28, 1))
    monkeypatch.setenv("CNNJAX_LOWERING", "native")
    assert cost.cost(module, (28, 28, 1)) == ours


def primitives(function, *args):
    return str(jax.make_jaxpr(function)(*args))


def test_the_plain_operation_runs_where_it_is_asked_for(monkeypatch):
    x, k = arrays((2, 6, 6, 4), (1, 1, 4, 4))
    convolve = lambda x, k: ops.conv(x, k)  # noqa: E731
    assert "conv_general_dilated" not in primitives(convolve, x, k)
    with lowering.native():
        assert "conv_general_dilated" in primitives(lambda x, k: ops.conv(x, k), x, k)
    monkeypatch.setenv("CNNJAX_LOWERING", "native")
    assert "conv_general_dilated" in primitives(lambda x, k: ops.conv(x, k), x, k)
    monkeypatch.setenv("CNNJAX_LOWERING", "natve")
    with pytest.raises(SpecError, match=r"CNNJAX_LOWERING: unknown lowering 'natve'.*'native'"):
        ops.conv(x, k)


def test_another_platform_keeps_the_plain_operation(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    x, k = arrays((2, 6, 6, 4), (3, 3, 1, 4))
    assert "conv_general_dilated" in primitives(lambda x, k: ops.depthwise_conv(x, k), x, k)
    assert "reduce_window" in primitives(lambda x: ops.max_pool(x, 2), x)
    assert "reduce_window" in primitives(lambda x: ops.avg_pool(x, 2), x)
    for function in (ops.tanh, normed, lowering.stored, jax.grad(lambda x: normed(x).sum())):
        assert "optimization_barrier" not in primitives(function, x)
        assert "[12,24]" not in primitives(function, x)
        assert "custom_vjp" not in primitives(function, x)


def test_a_stack_of_convolutions_stays_near_float64():
    """Sixteen 3x3 layers, as deep as VGG-19's, by Winograd: its errors do not build up."""
    shapes = [(3, 3, 64, 64)] * 16
    x, *kernels = arrays((2, 8, 8, 64), *shapes)
    assert lowering._choose(x, shapes[0], *PLAIN).__name__ == "winograd"

    def stack(x, *kernels):
        for kernel in kernels:
            x = jax.nn.relu(ops.conv(x, kernel * math.sqrt(2 / 576)))
        return x

    ours = jax.jit(stack)(x, *kernels)
    with jax.enable_x64(True), lowering.native():
        exact = stack(*(jnp.asarray(np.asarray(a), jnp.float64) for a in (x, *kernels)))
    scale = np.max(np.abs(np.asarray(exact)))
    assert np.max(np.abs(np.asarray(ours, np.float64) - np.asarray(exact))) < 2e-5 * scale
