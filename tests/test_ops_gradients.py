"""Gradients of every primitive against finite differences, in float64; and vmap."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import ops

LABELS = jnp.array([0, 2, 1])
TABLE = [[True, False, True], [True, True, False]]

# name: (function, shapes of its differentiable arguments)
CASES = {
    "conv 1-D": (lambda x, k: ops.conv(x, k, padding=((2, 0),)), [(2, 6, 2), (3, 2, 3)]),
    "conv strided, in groups": (
        lambda x, k: ops.conv(x, k, stride=2, padding=1, groups=2),
        [(2, 5, 6, 4), (3, 3, 2, 4)],
    ),
    "conv dilated": (
        lambda x, k: ops.conv(x, k, dilation=(1, 2), padding="VALID"),
        [(1, 5, 6, 2), (2, 3, 2, 3)],
    ),
    "conv 3-D, padded with 1": (
        lambda x, k: ops.conv(x, k, padding=1, padding_value=1.0),
        [(1, 3, 3, 2, 2), (2, 2, 2, 2, 2)],
    ),
    "depthwise_conv": (
        lambda x, k: ops.depthwise_conv(x, k, stride=2),
        [(2, 5, 5, 2), (3, 3, 1, 4)],
    ),
    "separable_conv": (ops.separable_conv, [(2, 4, 4, 2), (3, 3, 1, 2), (1, 1, 2, 3)]),
    "connection_conv": (
        lambda x, k: ops.connection_conv(x, k, TABLE),
        [(1, 4, 4, 2), (3, 3, 2, 3)],
    ),
    "max_pool": (
        lambda x: ops.max_pool(x, 3, stride=2, padding=1, ceil_mode=True),
        [(2, 6, 7, 2)],
    ),
    "max_pool dilated": (lambda x: ops.max_pool(x, 2, stride=1, dilation=2), [(1, 5, 6, 2)]),
    "max_pool padded with 0": (
        lambda x: ops.max_pool(x, 3, padding=1, padding_value=0.0),
        [(1, 5, 5, 2)],
    ),
    "min_pool": (lambda x: ops.min_pool(x, 2), [(2, 4, 4, 2)]),
    "avg_pool": (lambda x: ops.avg_pool(x, 3, stride=2, padding="SAME"), [(2, 5, 6, 2)]),
    "avg_pool with padding": (
        lambda x: ops.avg_pool(x, 3, stride=1, padding=1, count_include_pad=True),
        [(1, 4, 4, 2)],
    ),
    "global_max_pool": (ops.global_max_pool, [(2, 3, 3, 2)]),
    "global_min_pool": (ops.global_min_pool, [(2, 3, 3, 2)]),
    "global_avg_pool": (ops.global_avg_pool, [(2, 3, 3, 2)]),
    "adaptive_avg_pool": (lambda x: ops.adaptive_avg_pool(x, (3, 2)), [(1, 5, 4, 2)]),
    "adaptive_max_pool": (lambda x: ops.adaptive_max_pool(x, (3, 2)), [(1, 5, 4, 2)]),
    "subsample": (ops.subsample, [(2, 4, 4, 3), (3,), (3,)]),
    "batch_norm": (
        lambda x, m, v, s, b: ops.batch_norm(x, m, 1 + v**2, s, b),
        [(2, 3, 3, 2), (2,), (2,), (2,), (2,)],
    ),
    "batch_norm_train": (
        lambda x, s, b: ops.batch_norm_train(x, jnp.zeros(2), jnp.ones(2), s, b, unbiased=True),
        [(3, 2, 2, 2), (2,), (2,)],
    ),
    "layer_norm": (ops.layer_norm, [(2, 3, 4), (4,), (4,)]),
    "group_norm": (
        lambda x, s, b: ops.group_norm(x, s, b, groups=2),
        [(2, 2, 2, 4), (4,), (4,)],
    ),
    "local_response_norm": (
        lambda x: ops.local_response_norm(x, alpha=0.5, size=3),
        [(2, 2, 2, 5)],
    ),
    "cross_entropy": (lambda x: ops.cross_entropy(x, LABELS, label_smoothing=0.1), [(3, 4)]),
    "rbf_loss": (
        lambda x, c: ops.rbf_loss(ops.rbf_distances(x, c), LABELS, j=0.5),
        [(3, 2), (4, 2)],
    ),
    "rbf_loss, eq. 8": (lambda d: ops.rbf_loss(d, LABELS, form="mse"), [(3, 4)]),
    **{f"activation {name}": (f, [(12,)]) for name, f in ops.ACTIVATIONS.items()},
}


def arguments(shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(shape)) for shape in shapes]


def slopes(function, *args):
    """The slope along one random direction: by the gradient, and by a central difference."""
    rng = np.random.default_rng(1)

    def value(*args):  # a random mixture of all outputs, so that none can hide
        outputs = jax.tree.leaves(function(*args))
        mixing = np.random.default_rng(2)
        return sum(jnp.sum(y * mixing.standard_normal(y.shape)) for y in outputs)

    direction = [rng.standard_normal(a.shape) for a in args]
    gradients = jax.grad(value, argnums=tuple(range(len(args))))(*args)
    slope = sum(jnp.sum(g * d) for g, d in zip(gradients, direction, strict=True))
    ahead, behind = (
        value(*(a + h * d for a, d in zip(args, direction, strict=True))) for h in (1e-5, -1e-5)
    )
    return slope, (ahead - behind) / 2e-5


@pytest.mark.parametrize("name", CASES)
def test_gradient_agrees_with_finite_differences(name):
    function, shapes = CASES[name]
    with jax.enable_x64():
        both = jax.jit(partial(slopes, function))(*arguments(shapes))
    by_gradient, by_difference = map(float, both)
    assert abs(by_gradient) > 1e-3
    np.testing.assert_allclose(by_gradient, by_difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("activation")])
def test_vmap_is_a_loop_over_the_first_axis(name):
    function, shapes = CASES[name]

    def both(*stacked):
        singles = [function(*(x[i] for x in stacked)) for i in range(2)]
        return jax.vmap(function)(*stacked), jax.tree.map(lambda *y: jnp.stack(y), *singles)

    with jax.enable_x64():
        together, one_by_one = jax.jit(both)(*arguments([(2, *shape) for shape in shapes]))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), together, one_by_one)


@pytest.mark.parametrize("dilation", [1, 2])
def test_of_equal_values_the_first_takes_the_gradient_of_a_max_pool(dilation):
    gradient = jax.grad(lambda x: ops.max_pool(x, 2, dilation=dilation).sum())
    wanted = {1: [1, 0, 1, 0], 2: [1, 0, 0, 0]}[dilation]
    assert gradient(jnp.ones((1, 4, 1))).ravel().tolist() == wanted


@pytest.mark.parametrize("dilation", [1, 2])
def test_nan_passes_through_a_max_pool(dilation):
    x = jnp.ones((1, 4, 1)).at[0, 2].set(jnp.nan)
    y = ops.max_pool(x, 2, stride=1, dilation=dilation).ravel()
    assert np.isnan(y).tolist() == {1: [False, True, True], 2: [True, False]}[dilation]
