"""Xception against Chollet 2016, timm and Keras."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import libraries
import numpy as np
import pytest
from filled import count

from cnnjax import layers, ops, weights
from cnnjax.errors import ShapeError, SpecError
from cnnjax.models.xception import Block, xception

NATIVE = (299, 299, 3)
SMALL = {"middle": 1, "width": 0.0625}
KEY = "timm/legacy_xception"
TIMM = {"name": "xception", "variant": "timm"}
KERAS = {"name": "xception", "variant": "keras", "input_shape": [96, 96, 3]}


@pytest.fixture(scope="module")
def timm():
    """The tensors of the reference network, and our variables loaded from them."""
    state = libraries.torch_state(KEY)
    return state, weights.load("timm", TIMM, state)


@pytest.fixture(scope="module")
def keras():
    """Tensors and logits of the reference network, and our variables loaded from them."""
    state, logits, _ = libraries.keras_network("xception")
    return state, logits, weights.load("keras", KERAS, state)


def test_parameters_are_those_published(timm, keras):
    whole = count(libraries.traced("xception", NATIVE)["params"])
    assert whole == 22_855_952  # table 3
    assert count(timm[1]["params"]) == count(keras[2]["params"]) == whole
    # The four 1x1 shortcuts, 972,800 weights, and their norms, 4,272: as many with a middle block
    # as with eight, each of three 728-map separable convolutions and their norms.
    plain = libraries.traced("xception", NATIVE, residual=False, middle=1)["params"]
    assert count(plain) == whole - 977_072 - 7 * 3 * (9 * 728 + 728 * 728 + 2 * 728)


def test_keras_counts_its_running_statistics_too():
    variables = libraries.traced("xception", NATIVE)
    keras = libraries.keras_entry("xception")["count_params"]
    assert count(variables["batch_stats"]) == 2 * 27_264
    assert count(variables["params"]) + 2 * 27_264 == keras == 22_910_480


@pytest.mark.parametrize("variant", ["paper", "timm"])
def test_maps_have_the_sizes_of_figure_5(variant):
    options = {} if variant == "paper" else {"variant": variant, "middle": 1}
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
    maps = libraries.captured("xception", shape, num_classes=10, **SMALL)
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

    @jax.jit
    def expected(x, params):
        h = _separable(params["sepconv1"], ops.relu(x))
        h = _separable(params["sepconv2"], ops.relu(h))
        return h + x if residual else h

    np.testing.assert_allclose(y, expected(x, params), rtol=1e-4, atol=1e-4)


def test_first_block_starts_without_activation_and_projects_its_shortcut():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 6, 3)), jnp.float32)
    y, params = _block(x, projected=True, stride=2, activate_first=False, pool_padding=1)

    @jax.jit
    def expected(x, params):
        h = _separable(params["sepconv2"], ops.relu(_separable(params["sepconv1"], x)))
        h = ops.max_pool(h, 3, stride=2, padding=1)
        return h + ops.conv(x[:, ::2, ::2], params["shortcut"]["conv"]["kernel"])

    np.testing.assert_allclose(y, expected(x, params), rtol=1e-4, atol=1e-4)


def test_remat_wraps_every_block_and_keeps_their_names():
    narrow = {"input_shape": (28, 28, 1), "num_classes": 10, "middle": 1, "width": 0.0625}
    image = jax.ShapeDtypeStruct((1, 28, 28, 1), np.float32)
    blocks, shapes = libraries.checkpoints(xception(**narrow, remat=True), image)
    assert blocks == 3 + 1 + 1
    whole = libraries.traced("xception", (28, 28, 1), num_classes=10, **SMALL)
    for part in ("params", "batch_stats"):
        assert jax.tree.map(np.shape, shapes[part]) == jax.tree.map(np.shape, whole[part])


def test_an_image_that_vanishes_names_the_layer():
    with pytest.raises(ShapeError, match="features/conv2/conv"):
        libraries.traced("xception", (4, 4, 3), stem="imagenet", **SMALL)


def test_local_response_norm_has_no_place():
    with pytest.raises(SpecError, match="no place for 'lrn'"):
        xception(norm="lrn")


def test_logits_are_kerass(keras):
    _, logits, variables = keras
    ours, _ = libraries.logits_of(KERAS, variables, size=96)
    assert libraries.relative(ours[:, :32], logits) < 2e-5


def test_timms_tensors_come_back_bit_for_bit_in_their_order(timm):
    libraries.assert_comes_back("timm", TIMM, *timm)


def test_kerass_tensors_come_back_bit_for_bit(keras):
    state, _, variables = keras
    libraries.assert_comes_back("keras", KERAS, state, variables)
