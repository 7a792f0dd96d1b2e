"""Xception against Chollet 2016, timm and Keras."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import libraries
import numpy as np
import pytest
from filled import abstract, count, filled

from cnnjax import layers, ops, weights
from cnnjax.errors import ShapeError, SpecError
from cnnjax.models.xception import Block, xception

NATIVE = (299, 299, 3)
SMALL = {"middle": 1, "width": 0.0625}
KEY = "timm/legacy_xception"
TIMM = {"name": "xception", "variant": "timm"}
KERAS = {"name": "xception", "variant": "keras", "input_shape": [96, 96, 3]}


@pytest.mark.parametrize(
    ("options", "params"),
    [
        ({}, 22_855_952),  # table 3
        ({"variant": "timm"}, 22_855_952),
        # The four 1x1 shortcuts, 972,800 weights, and their norms, 4,272.
        ({"residual": False}, 22_855_952 - 977_072),
    ],
)
def test_parameters_are_those_published(options, params):
    assert count(libraries.traced("xception", NATIVE, **options)["params"]) == params


def test_keras_counts_its_running_statistics_too():
    variables = libraries.traced("xception", NATIVE)
    _, _, keras = libraries.keras_network("xception")
    assert count(variables["batch_stats"]) == 2 * 27_264
    assert count(variables["params"]) + 2 * 27_264 == keras == 22_910_480


@pytest.mark.parametrize("variant", ["paper", "timm"])
def test_maps_have_the_sizes_of_figure_5(variant):
    options = {} if variant == "paper" else {"variant": variant}
    assert libraries.captured("xception", NATIVE, **options) == {
        "stage1": (147, 147, 64),
        "stage2": (74, 74, 128),
        "stage3": (37, 37, 256),
        "stage4": (19, 19, 728),
        "stage5": (19, 19, 728),
        "stage6": (10, 10, 1024),
        "stage7": (10, 10, 2048),
    }


@pytest.mark.parametrize(("shape", "size"), [((28, 28, 1), 7), ((32, 32, 3), 8)])
def test_small_stem_leaves_the_middle_flow_a_quarter_of_the_image(shape, size):
    maps = libraries.captured("xception", shape, **SMALL)
    assert maps["stage2"][:2] == shape[:2]
    assert maps["stage5"][:2] == (size, size)


@pytest.mark.parametrize("between", ["none", "relu", "elu"])
def test_every_separable_convolution_has_the_activation_asked_for(between):
    found = []

    def note(call, args, kwargs, context):
        if isinstance(context.module, layers.SeparableConv):
            found.append(context.module.activation)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        libraries.traced("xception", (8, 8, 1), middle_activation=between, **SMALL)
    asked = {"none": ops.identity, "relu": ops.relu, "elu": ops.elu}[between]
    entry, middle, exit_block, top = 6, 3, 2, 2
    assert found == [asked] * (entry + middle + exit_block + top)


def _block(x, **options):
    """A block of linear parts, so that its output can be said in one line, and its variables."""
    unit = partial(layers.ConvUnit, activation=ops.identity)
    separable = partial(unit, conv=layers.SeparableConv)
    block = Block((4, 4), unit, separable, ops.relu, **options)
    shapes = jax.eval_shape(partial(block.init, train=False), jax.random.key(0), x)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), jnp.float32), shapes)
    return jax.jit(partial(block.apply, train=False))(variables, x), variables["params"]


def _separable(params, x):
    own = params["conv"]
    x = ops.conv(x, own["depthwise"]["kernel"], groups=x.shape[-1])
    return ops.conv(x, own["pointwise"]["kernel"])


@pytest.mark.parametrize("residual", [True, False])
def test_block_is_relu_and_convolution_twice_plus_its_input(residual):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 6, 4)), jnp.float32)
    y, params = _block(x, residual=residual)
    expected = _separable(params["sepconv1"], ops.relu(x))
    expected = _separable(params["sepconv2"], ops.relu(expected))
    np.testing.assert_allclose(y, expected + x if residual else expected, rtol=1e-4, atol=1e-4)


def test_first_block_starts_without_activation_and_projects_its_shortcut():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 6, 3)), jnp.float32)
    y, params = _block(x, projected=True, stride=2, activate_first=False, pool_padding=1)
    expected = _separable(params["sepconv2"], ops.relu(_separable(params["sepconv1"], x)))
    expected = ops.max_pool(expected, 3, stride=2, padding=1)
    expected += ops.conv(x[:, ::2, ::2], params["shortcut"]["conv"]["kernel"])
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_remat_wraps_every_block_and_keeps_their_names():
    def narrow(**options):
        return xception(input_shape=(28, 28, 1), num_classes=10, middle=1, width=0.0625, **options)

    variables = filled(narrow(), (1, 28, 28, 1))
    remat = narrow(remat=True)
    assert libraries.checkpoints(remat, variables, jnp.ones((1, 28, 28, 1))) == 3 + 1 + 1
    shapes = jax.tree.map(jnp.shape, dict(abstract(remat, (1, 28, 28, 1))))
    assert jax.tree.map(jnp.shape, variables) == shapes


def test_an_image_that_vanishes_names_the_layer():
    with pytest.raises(ShapeError, match="features/conv2/conv"):
        libraries.traced("xception", (4, 4, 3), stem="imagenet", **SMALL)


def test_local_response_norm_has_no_place():
    with pytest.raises(SpecError, match="no place for 'lrn'"):
        xception(norm="lrn")


def test_logits_are_timms():
    logits, _ = libraries.run("timm", TIMM, libraries.torch_state(KEY), size=299)
    assert libraries.relative(logits, libraries.torch_logits(KEY)) < 2e-5


def test_logits_are_kerass():
    state, logits, _ = libraries.keras_network("xception")
    ours, _ = libraries.run("keras", KERAS, state, size=96)
    assert libraries.relative(ours[:, :32], logits) < 2e-5


@pytest.mark.parametrize("model", [TIMM, KERAS], ids=["timm", "keras"])
def test_tensors_come_back_bit_for_bit(model):
    layout = model["variant"]
    state = libraries.torch_state(KEY)
    if layout == "keras":
        state, _, _ = libraries.keras_network("xception")
    back = weights.save(layout, model, weights.load(layout, model, state))
    assert (list(back) == list(state)) if layout == "timm" else (set(back) == set(state))
    assert all(back[name].tobytes() == state[name].tobytes() for name in state
               if not name.endswith("num_batches_tracked"))  # fmt: skip
