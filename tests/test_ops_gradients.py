"""Gradients of every primitive against finite differences, in float64; and vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

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


@pytest.mark.parametrize("name", CASES)
def test_gradient_agrees_with_finite_differences(name):
    function, shapes = CASES[name]
    with jax.enable_x64():
        check_grads(jax.jit(function), arguments(shapes), order=1, modes=["rev"], rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("activation")])
def test_vmap_is_a_loop_over_the_first_axis(name):
    function, shapes = CASES[name]
    with jax.enable_x64():
        stacked = arguments([(3, *shape) for shape in shapes])
        together = jax.jit(jax.vmap(function))(*stacked)
        one_by_one = jax.jit(lambda *a: [function(*(x[i] for x in a)) for i in range(3)])(*stacked)
        for batched, *singles in zip(*map(jax.tree.leaves, (together, *one_by_one)), strict=True):
            np.testing.assert_allclose(batched, np.stack(singles), rtol=1e-10, atol=1e-12)


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
