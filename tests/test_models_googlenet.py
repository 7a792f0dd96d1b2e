"""GoogLeNet against Szegedy et al. 2014 and torchvision."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import libraries
import numpy as np
import pytest
from filled import count, filled

from cnnjax import layers, ops, weights
from cnnjax.errors import ShapeError
from cnnjax.models.googlenet import BLOCKS, Inception, Widths, googlenet

NATIVE = (224, 224, 3)
SMALL = {"input_shape": (28, 28, 1), "num_classes": 10, "width": 0.0625}
KEY = "torchvision/googlenet"
TORCHVISION = {"name": "googlenet", "variant": "torchvision"}
IMAGES = jnp.asarray(np.random.default_rng(0).standard_normal((2, 28, 28, 1)), jnp.float32)


@pytest.mark.parametrize(
    ("options", "trunk", "whole"),
    [
        ({}, 6_998_552, 13_378_280),  # table 1's channels, with biases
        ({"variant": "torchvision"}, 6_624_904, 13_004_888),  # torchvision's own metadata
    ],
)
def test_parameters_are_those_published(options, trunk, whole):
    params = libraries.traced("googlenet", NATIVE, **options)["params"]
    assert count(params) == whole
    assert count({k: params[k] for k in ("features", "classifier")}) == trunk


def test_maps_have_the_sizes_of_table_1():
    maps = libraries.captured("googlenet", NATIVE)
    assert maps["pool1"] == (56, 56, 64)
    assert maps["stage2"] == (56, 56, 192)
    assert maps["pool2"] == (28, 28, 192)
    assert maps["stage3"] == (28, 28, 480)
    assert maps["pool3"] == (14, 14, 480)
    assert maps["stage4"] == (14, 14, 832)
    assert maps["pool4"] == (7, 7, 832)
    assert maps["stage5"] == (7, 7, 1024)


def test_torchvision_poolings_give_the_same_sizes_at_224():
    torchvision = libraries.captured("googlenet", NATIVE, variant="torchvision")
    assert torchvision == libraries.captured("googlenet", NATIVE)


def _block_3a(**options):
    unit = partial(layers.ConvUnit, use_bias=False)
    block = Inception(BLOCKS["3a"], unit, unit, **options)
    images = jax.ShapeDtypeStruct((1, 28, 28, 192), np.float32)
    y, variables = jax.eval_shape(
        partial(block.init_with_output, train=False), jax.random.key(0), images
    )
    return y.shape[-1], count(variables)


def test_reduction_cuts_the_weights_of_block_3a():
    assert _block_3a(reduced=False) == (64 + 128 + 32 + 192, 387_072)
    assert _block_3a(reduced=True) == (256, 163_328)


def test_separable_stem_has_the_2712_weights_of_table_1():
    stem = libraries.traced("googlenet", NATIVE, stem_conv="separable")["params"]["features"]
    kernels = {k: v["kernel"].shape for k, v in stem["conv1"]["conv"].items()}
    assert kernels == {"depthwise": (7, 7, 1, 24), "pointwise": (1, 1, 24, 64)}
    assert 7 * 7 * 24 + 24 * 64 == 2_712


@pytest.mark.parametrize(
    ("branch5", "kernels"),
    [
        ("5x5", {"conv/kernel": (5, 5, 16, 32)}),
        ("3x3", {"conv/kernel": (3, 3, 16, 32)}),
        ("two_3x3", {"conv1/conv/kernel": (3, 3, 16, 16), "conv2/conv/kernel": (3, 3, 16, 32)}),
        ("1x5_5x1", {"row/conv/kernel": (1, 5, 16, 16), "column/conv/kernel": (5, 1, 16, 32)}),
    ],
)
def test_fifth_branch_is_factored_as_named(branch5, kernels):
    unit = partial(layers.ConvUnit, use_bias=True)
    block = Inception(BLOCKS["3a"], unit, unit, branch5=branch5)
    images = jax.ShapeDtypeStruct((1, 28, 28, 192), np.float32)
    shapes = jax.eval_shape(partial(block.init, train=False), jax.random.key(0), images)
    branch = shapes["params"]["conv5x5"]
    named = jax.tree_util.tree_leaves_with_path(branch)
    found = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
             for path, leaf in named if leaf.ndim > 1}  # fmt: skip
    assert found == kernels


def test_block_is_its_four_branches_side_by_side():
    unit = partial(layers.ConvUnit, use_bias=True)
    block = Inception(Widths(2, 3, 4, 2, 3, 1), unit, unit)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 6, 6, 5)), jnp.float32)
    shapes = jax.eval_shape(partial(block.init, train=False), jax.random.key(0), x)
    variables = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), jnp.float32), shapes)

    def conv(name, x):
        own = variables["params"][name]["conv"]
        return ops.relu(ops.conv(x, own["kernel"]) + own["bias"].reshape(1, 1, 1, -1))

    def expected(x):
        return [
            conv("conv1x1", x),
            conv("conv3x3", conv("reduce3x3", x)),
            conv("conv5x5", conv("reduce5x5", x)),
            conv("pool_proj", ops.max_pool(x, 3, stride=1, padding=1)),
        ]

    y = jax.jit(partial(block.apply, train=False))(variables, x)
    np.testing.assert_allclose(y, np.concatenate(jax.jit(expected)(x), axis=-1), rtol=1e-4)


@pytest.fixture(scope="module")
def narrow():
    """A narrow net, its variables, and a compiled (variables) -> (logits, auxiliary logits)."""
    module = googlenet(**SMALL)
    variables = jax.device_get(filled(module, IMAGES.shape))
    asked = jax.jit(lambda v: module.apply(v, IMAGES, mutable=["auxiliary"]))
    return module, variables, asked


def test_auxiliary_logits_come_only_where_asked_for(narrow):
    module, variables, asked = narrow
    assert "auxiliary" not in variables
    logits, state = asked(variables)
    assert {k: v.shape for k, v in state["auxiliary"].items()} == {"aux1": (2, 10), "aux2": (2, 10)}
    unasked = jax.eval_shape(module.apply, variables, IMAGES)
    assert unasked.shape == logits.shape


@pytest.fixture(scope="module")
def trained(narrow):
    """Path -> module of all that a step of training calls."""
    module, variables, _ = narrow
    found = {}

    def note(call, args, kwargs, context):
        if not isinstance(context.module, layers.Dropout) or kwargs["train"]:
            found["/".join(context.module.path)] = context.module
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(
            partial(module.apply, train=True, rngs={"dropout": jax.random.key(2)}),
            variables, IMAGES,
        )  # fmt: skip
    return found


def test_heads_run_in_training_with_dropout_of_their_own(trained):
    rates = {path: m.rate for path, m in trained.items() if isinstance(m, layers.Dropout)}
    assert rates == {"aux1/dropout": 0.7, "aux2/dropout": 0.7, "classifier/dropout": 0.4}


def test_paper_normalises_local_responses_twice_in_the_stem(trained):
    found = [path for path, m in trained.items() if isinstance(m, layers.LocalResponseNorm)]
    assert found == ["features/norm1", "features/norm2"]


@pytest.mark.parametrize(
    ("block", "unmoved"), [("4a", []), ("4b", ["aux1"]), ("4d", ["aux1"]), ("4e", ["aux1", "aux2"])]
)
def test_heads_read_the_outputs_of_4a_and_4d(narrow, block, unmoved):
    _, variables, asked = narrow
    params = variables["params"]
    moved = jax.tree.map(lambda a: np.float32(1.5) * a, params["features"][f"inception{block}"])
    features = {**params["features"], f"inception{block}": moved}
    before, after = asked(variables), asked({"params": {**params, "features": features}})
    assert not np.allclose(before[0], after[0])
    still = [name for name, logits in before[1]["auxiliary"].items()
             if np.array_equal(logits, after[1]["auxiliary"][name])]  # fmt: skip
    assert still == unmoved


def test_one_head_is_the_upper_one_and_pools_a_whole_map_smaller_than_its_window():
    params = libraries.traced("googlenet", (8, 8, 1), aux_heads=1, width=0.125)["params"]
    assert set(params) == {"aux2", "features", "classifier"}
    assert params["aux2"]["fc1"]["kernel"].shape == (1 * 1 * 16, 128)


@pytest.mark.parametrize(
    ("variant", "shape"), [("paper", (28, 28, 1)), ("torchvision", (32, 32, 3))]
)
def test_small_stem_meets_stage_4_at_half_the_image(variant, shape):
    maps = libraries.captured("googlenet", shape, variant=variant, width=0.125)
    n = shape[0]
    assert maps["stage3"] == (n, n, 60)
    assert maps["stage4"] == (n // 2, n // 2, 104)
    assert maps["stage5"] == (n // 4, n // 4, 128)
    params = libraries.traced("googlenet", shape, variant=variant, width=0.125)["params"]
    grid = params["aux1"]["fc1"]["kernel"]
    assert grid.shape == (4 * 4 * 16, 128)


def test_remat_wraps_the_nine_blocks_and_keeps_their_names(narrow):
    _, variables, _ = narrow
    blocks, shapes = libraries.checkpoints(googlenet(remat=True, **SMALL), IMAGES)
    assert blocks == 9
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, dict(shapes))


def test_an_image_that_vanishes_names_the_layer():
    with pytest.raises(ShapeError, match="features/max_pool2"):
        libraries.traced("googlenet", (8, 8, 1), variant="torchvision", stem="imagenet")


@pytest.fixture(scope="module")
def torchvision():
    """The tensors of the reference network, and our variables loaded from them."""
    state = libraries.torch_state(KEY)
    return state, weights.load("torchvision", TORCHVISION, state)


def test_torchvisions_tensors_come_back_bit_for_bit_in_their_order(torchvision):
    libraries.assert_comes_back("torchvision", TORCHVISION, *torchvision)
