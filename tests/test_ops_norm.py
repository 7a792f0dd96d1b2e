"""Normalisation and activations against their formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from cnnjax import ops


def random(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def affine(channels):
    return random(channels, 1), random(channels, 2)


@pytest.mark.parametrize("shape", [(7, 3), (4, 5, 3), (2, 3, 4, 3), (2, 2, 2, 2, 3)])
def test_batch_norm_in_training_uses_the_statistics_of_the_batch(shape):
    x, (scale, bias) = 2 * random(shape) + 3, affine(3)
    mean, var = random(3, 3), random(3, 4) ** 2
    rows = x.reshape(-1, 3)
    with jax.enable_x64():
        given = [jnp.asarray(a) for a in (x, mean, var, scale, bias)]
        y, (new_mean, new_var) = ops.batch_norm_train(*given, eps=1e-3, momentum=0.8)
        _, (_, unbiased) = ops.batch_norm_train(*given, momentum=0.8, unbiased=True)
    wanted = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-3) * scale + bias
    np.testing.assert_allclose(y, wanted.reshape(shape), rtol=1e-10)
    np.testing.assert_allclose(new_mean, 0.8 * mean + 0.2 * rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(new_var, 0.8 * var + 0.2 * rows.var(0), rtol=1e-12)
    np.testing.assert_allclose(unbiased, 0.8 * var + 0.2 * rows.var(0, ddof=1), rtol=1e-12)


def test_batch_norm_in_evaluation_uses_the_statistics_it_is_given():
    x, mean, var = random((2, 3, 4, 5)), random(5, 3), random(5, 4) ** 2
    with jax.enable_x64():
        y = ops.batch_norm(*(jnp.asarray(a) for a in (x, mean, var)), eps=1e-2)
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-2), rtol=1e-12)


def test_a_large_mean_costs_the_variance_no_digits():
    x = (1e4 + random((8, 4, 4, 2))).astype(np.float32)
    zeros = jnp.zeros(2)
    _, (_, var) = ops.batch_norm_train(jnp.asarray(x), zeros, zeros, momentum=0.0)
    np.testing.assert_allclose(var, x.astype(np.float64).var(axis=(0, 1, 2)), rtol=1e-5)


def test_layer_norm_standardises_each_position():
    x, (scale, bias) = random((2, 3, 4, 6)), affine(6)
    centred = x - x.mean(-1, keepdims=True)
    wanted = centred / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale + bias
    with jax.enable_x64():
        y = ops.layer_norm(*(jnp.asarray(a) for a in (x, scale, bias)))
    np.testing.assert_allclose(y, wanted, rtol=1e-10)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm_standardises_each_example_and_group(groups):
    x, (scale, bias) = random((2, 3, 4, 6)), affine(6)
    wanted, width = np.zeros_like(x), 6 // groups
    for n in range(2):
        for g in range(groups):
            part = x[n, ..., g * width : (g + 1) * width]
            standard = (part - part.mean()) / np.sqrt(part.var() + 1e-5)
            wanted[n, ..., g * width : (g + 1) * width] = standard
    with jax.enable_x64():
        y = ops.group_norm(*(jnp.asarray(a) for a in (x, scale, bias)), groups=groups)
    np.testing.assert_allclose(y, wanted * scale + bias, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("size", "convention"), [(5, "paper"), (3, "torch"), (4, "paper")])
def test_local_response_norm_looks_at_neighbouring_channels(size, convention):
    x, wanted = random((2, 2, 3, 8)), np.zeros((2, 2, 3, 8))
    alpha = 0.5 / size if convention == "torch" else 0.5
    for i in range(8):
        near = range(max(0, i - size // 2), min(7, i + (size - 1) // 2) + 1)
        total = sum(x[..., j] ** 2 for j in near)
        wanted[..., i] = x[..., i] / (2 + alpha * total) ** 0.75
    with jax.enable_x64():
        y = ops.local_response_norm(jnp.asarray(x), size=size, alpha=0.5, convention=convention)
    np.testing.assert_allclose(y, wanted, rtol=1e-12)


FORMULAS = {
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "gelu": lambda x: x * norm.cdf(x),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "hardsigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hardswish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "identity": lambda x: x,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "scaled_tanh": lambda x: 1.7159 * np.tanh(2 * x / 3),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "tanh": np.tanh,
}


def test_every_activation_has_its_formula():
    assert ops.ACTIVATIONS.keys() == FORMULAS.keys()
    x = np.linspace(-8, 8, 65)
    with jax.enable_x64():
        for name, formula in FORMULAS.items():
            y = ops.ACTIVATIONS[name](jnp.asarray(x))
            np.testing.assert_allclose(y, formula(x), rtol=1e-9, atol=1e-12, err_msg=name)


def test_scaled_tanh_passes_through_plus_and_minus_one():
    np.testing.assert_allclose(ops.scaled_tanh(jnp.array([-1.0, 1.0])), [-1, 1], atol=1e-4)


def test_softmax_gives_probabilities_along_the_last_axis():
    x = random((2, 3, 4))
    with jax.enable_x64():
        y = ops.softmax(jnp.asarray(x))
    np.testing.assert_allclose(y, np.exp(x) / np.exp(x).sum(-1, keepdims=True), rtol=1e-12)


ones = jnp.ones(4)
HALF = {
    "conv": lambda x: ops.conv(x, jnp.ones((3, 3, 4, 4), x.dtype)),
    "max_pool": lambda x: ops.max_pool(x, 3, stride=2, padding=1),
    "dilated min_pool": lambda x: ops.min_pool(x, 2, dilation=2),
    "avg_pool": lambda x: ops.avg_pool(x, 2),
    "global_avg_pool": ops.global_avg_pool,
    "adaptive_avg_pool": lambda x: ops.adaptive_avg_pool(x, 3),
    "subsample": lambda x: ops.subsample(x, ones, ones),
    "batch_norm": lambda x: ops.batch_norm(x, ones, ones, ones, ones),
    "batch_norm_train": lambda x: ops.batch_norm_train(x, ones, ones, ones, ones)[0],
    "layer_norm": lambda x: ops.layer_norm(x, ones, ones),
    "group_norm": lambda x: ops.group_norm(x, ones, ones, groups=2),
    "local_response_norm": ops.local_response_norm,
    **ops.ACTIVATIONS,
}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_comes_out_as_it_went_in(dtype):
    x = jax.ShapeDtypeStruct((2, 8, 8, 4), dtype)
    assert {name: jax.eval_shape(f, x).dtype for name, f in HALF.items()} == dict.fromkeys(
        HALF, jnp.dtype(dtype)
    )


def test_long_means_of_half_precision_do_not_saturate():
    x = jnp.ones((1, 64, 64, 1), jnp.bfloat16)  # summed in bfloat16 this stops at 256
    assert ops.global_avg_pool(x).item() == 1
    assert ops.avg_pool(x, 64).item() == 1
    _, (mean, _) = ops.batch_norm_train(x, jnp.zeros(1), jnp.zeros(1), momentum=0.0)
    assert mean.item() == 1
