"""Pooling against the definition, written out as loops over windows."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from windows import few, geometries, padded_map, random, windows_of

from cnnjax import ops


def pool_by_definition(x, geometry, statistic, *, fill, ceil_mode):
    """`statistic(values, real)` of each window: taps beyond the padding do not exist."""
    sides = geometry[-1]
    padded = padded_map(x, sides, fill)
    real = padded_map(np.ones_like(x), sides, 0)[0, ..., 0].astype(bool)
    shape, windows = windows_of(geometry, ceil_mode)
    y = np.zeros((len(x), *shape, x.shape[-1]))
    for index, positions in windows:
        taps = [
            tap
            for tap in product(*positions)
            if all(t < n for t, n in zip(tap, real.shape, strict=True))
        ]
        values = np.stack([padded[(slice(None), *tap)] for tap in taps])
        y[(slice(None), *index)] = statistic(values, np.array([real[tap] for tap in taps]))
    return y


@few
@given(geometries(covered=True), st.booleans(), st.sampled_from([None, 0.5]))
def test_max_pool_is_its_definition(drawn, ceil_mode, fill):
    padding, geometry = drawn
    size, window, stride, dilation, _ = geometry
    x = random((2, *size, 2)) - 1
    y = ops.max_pool(
        jnp.asarray(x, jnp.float32),
        window,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        padding_value=fill,
    )
    value = -np.inf if fill is None else fill
    wanted = pool_by_definition(
        x, geometry, lambda v, real: v.max(axis=0), fill=value, ceil_mode=ceil_mode
    )
    np.testing.assert_array_equal(y, wanted.astype(np.float32))


@pytest.mark.parametrize("options", [{}, {"stride": 1, "padding": 1}, {"padding_value": -1.5}])
def test_min_pool_is_minus_the_max_pool_of_minus_x(options):
    x = random((2, 7, 6, 2))
    geometry = ((7, 6), (3, 3), (2, 2), (1, 1), [(1, 1), (1, 1)])
    options = {"stride": 2, "padding": 1, **options}
    geometry = (*geometry[:2], (options["stride"],) * 2, *geometry[3:])
    fill = options.get("padding_value", np.inf)
    y = ops.min_pool(jnp.asarray(x, jnp.float32), 3, **options)
    wanted = pool_by_definition(
        x, geometry, lambda v, real: v.min(axis=0), fill=fill, ceil_mode=False
    )
    np.testing.assert_array_equal(y, wanted.astype(np.float32))


def mean_of_real(values, real):
    return values[real].sum(axis=0) / real.sum()


def mean_of_all(values, real):
    return values.mean(axis=0)


@few
@given(geometries(dilated=False, covered=True), st.booleans(), st.booleans())
def test_avg_pool_is_its_definition(drawn, ceil_mode, include):
    padding, geometry = drawn
    size, window, stride, *_ = geometry
    x = random((2, *size, 2))
    with jax.enable_x64():
        y = ops.avg_pool(
            jnp.asarray(x),
            window,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=include,
            padding_value=0.5,
        )
    statistic = mean_of_all if include else mean_of_real
    wanted = pool_by_definition(x, geometry, statistic, fill=0.5, ceil_mode=ceil_mode)
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-12)


def test_padding_counts_in_the_mean_only_where_asked():
    x = jnp.ones((1, 3, 1))
    options = {"stride": 1, "padding": 1}
    assert ops.avg_pool(x, 3, **options).ravel().tolist() == [1, 1, 1]
    with_zeros = ops.avg_pool(x, 3, count_include_pad=True, **options).ravel()
    np.testing.assert_allclose(with_zeros, [2 / 3, 1, 2 / 3], rtol=1e-6)


def test_a_divisor_replaces_the_count():
    x = jnp.arange(4.0).reshape(1, 4, 1)
    assert ops.avg_pool(x, 2, divisor=4).ravel().tolist() == [0.25, 1.25]


@few
@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 6)), min_size=1, max_size=3),
    st.sampled_from(["avg", "max"]),
)
def test_adaptive_pooling_covers_the_cells_torch_names(axes, kind):
    sizes, cells = tuple(n for n, _ in axes), tuple(m for _, m in axes)
    x = random((2, *sizes, 2))
    pool, statistic = (
        (ops.adaptive_avg_pool, np.mean) if kind == "avg" else (ops.adaptive_max_pool, np.max)
    )
    wanted = np.zeros((2, *cells, 2))
    for index in np.ndindex(*cells):
        inside = tuple(
            slice(int(np.floor(i * n / m)), int(np.ceil((i + 1) * n / m)))
            for i, (n, m) in zip(index, axes, strict=True)
        )
        taps = x[(slice(None), *inside)]
        wanted[(slice(None), *index)] = statistic(taps, axis=tuple(range(1, taps.ndim - 1)))
    with jax.enable_x64():
        y = jax.jit(pool, static_argnums=1)(jnp.asarray(x), cells)
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-14)


def test_global_pooling_leaves_one_number_per_map():
    x = random((2, 3, 4, 5, 6)).astype(np.float32)
    maps = x.reshape(2, 60, 6)
    np.testing.assert_array_equal(ops.global_max_pool(jnp.asarray(x)), maps.max(1))
    np.testing.assert_array_equal(ops.global_min_pool(jnp.asarray(x)), maps.min(1))
    np.testing.assert_allclose(ops.global_avg_pool(jnp.asarray(x)), maps.mean(1), atol=1e-6)


def test_subsampling_scales_the_sum_of_each_window():
    x = random((2, 6, 7, 3)).astype(np.float32)
    scale, bias = np.float32([1, -0.5, 2]), np.float32([0, 1, 2])
    y = ops.subsample(jnp.asarray(x), jnp.asarray(scale), jnp.asarray(bias))
    wanted = sum(x[:, i:6:2, j:6:2] for i in (0, 1) for j in (0, 1)) * scale + bias
    assert y.shape == (2, 3, 3, 3)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)
