"""Separable and factored convolutions against what they are products of."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from filled import abstract, filled

from cnnjax import ops
from cnnjax.errors import ShapeError, SpecError
from cnnjax.layers import Conv, ConvUnit, FactoredConv, SeparableConv
from cnnjax.models.convnet import convnet

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(2, 9, 8, 3)).astype(np.float32))
plain = partial(Conv, use_bias=False)


def _filled(module, x=X):
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    return jax.tree.map(lambda s: RNG.normal(size=s.shape).astype(np.float32), shapes)


def _applied(module, variables, x=X):
    """The output, compiled as a whole."""
    return np.asarray(jax.jit(module.apply)(variables, x))


def _by_hand(x, window, features):
    """A SAME convolution of stride 1 as a loop over the window."""
    kh, kw = window.shape[:2]
    padded = np.pad(np.asarray(x), ((0, 0), (kh // 2,) * 2, (kw // 2,) * 2, (0, 0)))
    h, w = x.shape[1:3]
    y = np.zeros((*x.shape[:3], features))
    for i in range(kh):
        for j in range(kw):
            y += padded[:, i : i + h, j : j + w] @ np.asarray(window[i, j])
    return y


@pytest.mark.parametrize("activation", [ops.identity, ops.relu, ops.elu])
def test_separable_convolution_is_a_window_per_map_then_a_1x1(activation):
    module = SeparableConv(4, 3, multiplier=2, activation=activation)
    variables = _filled(module)
    own = variables["params"]
    maps = []
    for c in range(3):
        for m in range(2):
            window = np.asarray(own["depthwise"]["kernel"])[:, :, :, 2 * c + m][..., None]
            maps.append(_by_hand(np.asarray(X)[..., c : c + 1], window, 1))
    between = np.asarray(activation(jnp.asarray(np.concatenate(maps, axis=-1))))
    expected = between @ np.asarray(own["pointwise"]["kernel"])[0, 0]
    expected = expected + np.asarray(own["pointwise"]["bias"])
    np.testing.assert_allclose(_applied(module, variables), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("column_first", [False, True])
def test_linear_row_and_column_are_the_window_of_their_product(column_first):
    module = FactoredConv(4, 5, "asymmetric", unit=plain, column_first=column_first)
    variables = _filled(module)
    row = np.asarray(variables["params"]["row"]["kernel"])[0]
    column = np.asarray(variables["params"]["column"]["kernel"])[:, 0]
    window = (np.einsum("hcm,wmf->hwcf", column, row) if column_first
              else np.einsum("wcm,hmf->hwcf", row, column))  # fmt: skip
    np.testing.assert_allclose(
        _applied(module, variables), _by_hand(X, window, 4), rtol=1e-4, atol=1e-4
    )


def test_linear_stack_is_the_window_of_its_product_inside_the_map():
    module = FactoredConv(4, 5, "stack", unit=plain, padding="VALID")
    variables = _filled(module)
    first, second = (np.asarray(variables["params"][f"conv{i}"]["kernel"]) for i in (1, 2))
    window = np.zeros((5, 5, 3, 4))
    for i in range(3):
        for j in range(3):
            window[i : i + 3, j : j + 3] += np.einsum("cm,hwmf->hwcf", first[i, j], second)
    expected = _by_hand(X, window, 4)[:, 2:-2, 2:-2]
    np.testing.assert_allclose(_applied(module, variables), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("factorization", "weights"),
    # Szegedy et al. 2015, sections 3.1 and 3.2: 18/25 and 10/25 of the weights for equal maps.
    [("none", 25 * 64), ("stack", 18 * 64), ("asymmetric", 10 * 64), ("depthwise", 25 * 8 + 64)],
)
def test_factors_of_a_5x5_have_the_weights_they_save(factorization, weights):
    module = FactoredConv(8, 5, factorization, unit=plain)
    x = jax.ShapeDtypeStruct((1, 9, 9, 8), np.float32)
    params = jax.eval_shape(module.init, jax.random.key(0), x)
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == weights


@pytest.mark.parametrize("factorization", ["stack", "asymmetric", "depthwise"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_factors_leave_the_map_that_the_whole_window_leaves(factorization, padding, stride):
    for size in (9, 10, 11):
        x = jax.ShapeDtypeStruct((1, size, size + 1, 2), np.float32)

        def shape(form, x=x):
            module = FactoredConv(4, 7, form, stride=stride, padding=padding)
            return jax.eval_shape(module.init_with_output, jax.random.key(0), x)[0].shape

        assert shape(factorization) == shape("none")


@pytest.mark.parametrize("factorization", ["stack", "asymmetric", "depthwise"])
def test_inner_unit_stands_for_all_factors_but_the_last(factorization):
    linear = partial(ConvUnit, activation=ops.identity)
    module = FactoredConv(4, 7, factorization, unit=ConvUnit, inner=linear)
    found = {}

    def note(call, args, kwargs, context):
        if isinstance(context.module, ConvUnit):
            found[context.module.name] = context.module.activation
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(module.init, jax.random.key(0), X)
    *inner, last = found.values()
    assert set(inner) == {ops.identity}
    assert last is ops.relu


def test_an_even_window_is_no_stack_of_3x3():
    with pytest.raises(ShapeError, match="odd size, not 4x4"):
        jax.eval_shape(FactoredConv(4, 4, "stack").init, jax.random.key(0), X)


@pytest.mark.parametrize(
    ("factorization", "kernels"),
    [
        ("stack", {"conv1": (3, 3, 2, 2), "conv2": (3, 3, 2, 6)}),
        ("asymmetric", {"row": (1, 5, 2, 2), "column": (5, 1, 2, 6)}),
        ("depthwise", {"depthwise": (5, 5, 1, 2), "pointwise": (1, 1, 2, 6)}),
    ],
)
def test_convnet_factors_its_windows(factorization, kernels):
    module = convnet(
        stages=((2, {"features": 6, "factorization": factorization}),), dense=(),
        kernel_size=5, input_shape=(8, 8, 1),
    )  # fmt: skip
    params = abstract(module, (1, 8, 8, 1))["params"]["features"]["stage1"]
    assert params["conv1"]["kernel"].shape == (5, 5, 1, 2)
    assert {k: v["conv"]["kernel"].shape for k, v in params["conv2"].items()} == kernels


@pytest.mark.parametrize("between", [False, True])
def test_convnet_puts_the_activation_between_factors_where_asked(between):
    module = convnet(
        stages=((4,),), dense=(), factorization="asymmetric", norm="batch",
        factor_activation=between, input_shape=(8, 8, 1),
    )  # fmt: skip
    x = np.abs(RNG.normal(size=(1, 8, 8, 1)).astype(np.float32))
    variables = jax.device_get(filled(module, x.shape))
    stage = variables["params"]["features"]["stage1"]["conv1"]
    assert ("norm" in stage["row"]) == between
    negated = jax.tree.map(lambda a: -np.abs(a), stage["row"]["conv"])
    zeroed = {**variables, "params": {**variables["params"], "features": {"stage1": {"conv1": {
        **stage, "row": {**stage["row"], "conv": negated}}}}}}  # fmt: skip
    # Behind a ReLU, nothing of a positive image passes a negative row.
    bright, dark = (_applied(module, zeroed, image) for image in (x, 2 * x))
    assert np.allclose(bright, dark) == between


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": (3, 5), "factorization": "asymmetric"},
        {"padding": 1, "factorization": "depthwise"},
        {"kernel_size": 4, "factorization": "stack"},
        {"input_shape": (8, 1), "factorization": "stack"},
    ],
)
def test_convnet_refuses_what_cannot_be_factored(options):
    with pytest.raises(SpecError, match="convnet: factorization"):
        convnet(**{"input_shape": (8, 8, 1), **options})
