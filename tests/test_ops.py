"""Output sizes and convolution against the definition, written out as loops over windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import correlate2d
from windows import few, geometries, padded_map, random, windows_of

from cnnjax import ops


def conv_by_definition(x, kernel, geometry, groups, fill=0.0):
    padded = padded_map(x, geometry[-1], fill)
    shape, windows = windows_of(geometry)
    y = np.zeros((len(x), *shape, kernel.shape[-1]))
    c_group, per_group = kernel.shape[-2], kernel.shape[-1] // groups
    for index, positions in windows:
        for tap in np.ndindex(*kernel.shape[:-2]):
            seen = padded[(slice(None), *(p[t] for p, t in zip(positions, tap, strict=True)))]
            for out in range(kernel.shape[-1]):
                first = out // per_group * c_group
                products = seen[:, first : first + c_group] * kernel[(*tap, slice(None), out)]
                y[(slice(None), *index, out)] += products.sum(axis=-1)
    return y


@few
@given(geometries(), st.sampled_from([(1, 2, 3), (2, 4, 2), (3, 3, 6)]), st.sampled_from([0, 1.5]))
def test_conv_is_its_definition(drawn, channels, fill):
    padding, geometry = drawn
    size, window, stride, dilation, _ = geometry
    groups, c_in, c_out = channels
    x, kernel = random((2, *size, c_in)), random((*window, c_in // groups, c_out), 1)
    with jax.enable_x64():
        y = ops.conv(
            jnp.asarray(x),
            jnp.asarray(kernel),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            padding_value=fill,
        )
    wanted = conv_by_definition(x, kernel, geometry, groups, fill)
    np.testing.assert_allclose(y, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("window", "stride", "wanted"), [(2, 1, [3, 5, 7, 4]), (3, 2, [6, 7]), (4, 1, [6, 10, 9, 7])]
)
def test_same_padding_puts_the_odd_element_after(window, stride, wanted):
    x, kernel = jnp.arange(1.0, 5).reshape(1, 4, 1), jnp.ones((window, 1, 1))
    assert ops.conv(x, kernel, stride=stride).ravel().tolist() == wanted


def test_the_signal_of_the_textbook_gives_its_steps():
    x = jnp.array([0, 0, 0, 0, 1, 2, 3, 3.0]).reshape(1, 8, 1)
    kernel = jnp.array([-1, 1.0]).reshape(2, 1, 1)
    assert ops.conv(x, kernel, padding="VALID").ravel().tolist() == [0, 0, 0, 1, 1, 1, 0]


def test_a_vertical_edge_filter_answers_at_the_step():
    image = jnp.concatenate([jnp.full((6, 3), 10.0), jnp.zeros((6, 3))], axis=1)
    kernel = jnp.tile(jnp.array([1.0, 0.0, -1.0]), (3, 1))
    y = ops.conv(image[None, :, :, None], kernel[:, :, None, None], padding="VALID")
    assert y[0, :, :, 0].tolist() == [[0, 30, 30, 0]] * 4


def test_rgb_is_summed_over_its_channels():
    image, kernel = random((8, 9, 3)), random((3, 3, 3), 1)
    wanted = sum(correlate2d(image[..., c], kernel[..., c], mode="valid") for c in range(3))
    y = ops.conv(
        jnp.asarray(image, jnp.float32)[None],
        jnp.asarray(kernel, jnp.float32)[..., None],
        padding="VALID",
    )
    np.testing.assert_allclose(y[0, ..., 0], wanted, rtol=1e-5, atol=1e-5)


def test_depthwise_outputs_of_one_input_lie_together():
    x, kernel = random((1, 5, 5, 3)), random((3, 3, 1, 6), 1)
    y = ops.depthwise_conv(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32))
    for out in range(6):
        wanted = correlate2d(x[0, ..., out // 2], kernel[..., 0, out], mode="same")
        np.testing.assert_allclose(y[0, ..., out], wanted, rtol=1e-5, atol=1e-5)


def test_separable_conv_is_a_full_conv_with_the_product_of_its_kernels():
    x, dw, pw = random((2, 7, 6, 3)), random((3, 3, 1, 6), 1), random((1, 1, 6, 4), 2)
    full = np.einsum("hwcm,cmo->hwco", dw.reshape(3, 3, 3, 2), pw.reshape(3, 2, 4))
    geometry = ((7, 6), (3, 3), (2, 2), (1, 1), [(1, 1), (1, 1)])
    y = ops.separable_conv(*(jnp.asarray(a, jnp.float32) for a in (x, dw, pw)), stride=2, padding=1)
    np.testing.assert_allclose(y, conv_by_definition(x, full, geometry, 1), rtol=1e-4, atol=1e-5)


def test_a_connection_table_cuts_inputs_off():
    x, kernel = random((1, 6, 6, 3)), random((3, 3, 3, 2), 1)
    table = [[True, False], [True, True], [False, True]]
    xs, kernels = jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)
    y = ops.connection_conv(xs, kernels, table, padding="VALID")
    for out, inputs in enumerate([(0, 1), (1, 2)]):
        wanted = sum(correlate2d(x[0, ..., c], kernel[..., c, out], mode="valid") for c in inputs)
        np.testing.assert_allclose(y[0, ..., out], wanted, rtol=1e-5, atol=1e-5)
    gradient = jax.grad(lambda k: jnp.sum(ops.connection_conv(xs, k, table) ** 2))(kernels)
    assert (np.abs(gradient).sum(axis=(0, 1)) > 0).tolist() == table


@pytest.mark.parametrize(
    ("size", "window", "options", "wanted"),
    [
        (32, 5, {}, 28),  # LeNet-5's C1
        (224, 11, {"stride": 4, "padding": 2}, 55),  # torchvision's AlexNet: 54.25, floored
        (227, 11, {"stride": 4}, 55),
        (224, 7, {"stride": 2, "padding": 3}, 112),  # ResNet's stem
        (224, 7, {"stride": 2, "padding": "SAME"}, 112),
        (112, 3, {"stride": 2}, 55),
        (112, 3, {"stride": 2, "ceil_mode": True}, 56),  # GoogLeNet's pools
        (7, 2, {"stride": 3, "padding": 1, "ceil_mode": True}, 3),  # the last would start outside
        (5, 3, {"dilation": 2}, 1),
        (6, 2, {"padding": (0, 1)}, 6),
    ],
)
def test_output_sizes_of_the_papers(size, window, options, wanted):
    assert ops.output_size(size, window, **options) == wanted
