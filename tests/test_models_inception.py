"""Inception v3 against Szegedy et al. 2015, torchvision and Keras."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import libraries
import numpy as np
import pytest
from filled import count, filled

from cnnjax import layers, weights
from cnnjax.errors import ShapeError, SpecError
from cnnjax.models.inception import inception_v3
from cnnjax.models.inception_blocks import InceptionA, InceptionC, Parts

NATIVE = (299, 299, 3)
SMALL = {"blocks": [1, 1, 1], "width": 0.0625}
KEY = "torchvision/inception_v3"
TORCHVISION = {"name": "inception_v3", "variant": "torchvision"}
KERAS = {"name": "inception_v3", "variant": "keras", "input_shape": [96, 96, 3]}
IMAGES = jnp.asarray(np.random.default_rng(0).standard_normal((2, 28, 28, 1)), jnp.float32)


def _parts(**options):
    unit = partial(layers.ConvUnit, use_bias=True)
    defaults = {
        "unit": unit, "inner": unit, "pool": "avg", "count_include_pad": False,
        "branch5": "5x5", "branch7": "1x7_7x1", "width": 1.0,
    }  # fmt: skip
    return Parts(**defaults | options)


def _kernels(block, shape, name):
    """Path -> shape of every kernel under `name` of a block on a map of `shape`."""
    x = jax.ShapeDtypeStruct((1, *shape), np.float32)
    params = jax.eval_shape(partial(block.init, train=False), jax.random.key(0), x)["params"]
    named = jax.tree_util.tree_leaves_with_path(params[name])
    return {jax.tree_util.keystr(path[:-2], simple=True, separator="/"): leaf.shape
            for path, leaf in named if leaf.ndim > 1}  # fmt: skip


@pytest.fixture(scope="module")
def torchvision():
    """The tensors of the reference network, and our variables loaded from them."""
    state = libraries.torch_state(KEY)
    return state, weights.load("torchvision", TORCHVISION, state)


@pytest.fixture(scope="module")
def keras():
    """Tensors and logits of the reference network, and our variables loaded from them."""
    state, logits, _ = libraries.keras_network("inception_v3")
    return state, logits, weights.load("keras", KERAS, state)


def test_parameters_are_those_published(torchvision):
    # torchvision's own metadata: 27,161,264.
    for variables in (libraries.traced("inception_v3", NATIVE), torchvision[1]):
        params = dict(variables["params"])
        assert count(params.pop("aux")) == 3_326_696
        assert count(params) == 23_834_568


def test_keras_counts_its_running_statistics_too(keras):
    variables = keras[2]
    assert set(variables["params"]) == {"features", "classifier"}
    assert count(variables["params"]) == 23_817_352  # without gamma: 17,216 fewer
    shown = libraries.keras_entry("inception_v3")["count_params"]
    assert count(variables["params"]) + count(variables["batch_stats"]) == shown == 23_851_784


def test_maps_have_the_sizes_of_table_1():
    maps = libraries.captured("inception_v3", NATIVE)
    assert maps == {
        "pool1": (73, 73, 64),
        "pool2": (35, 35, 192),
        "stage3": (35, 35, 288),
        "stage4": (17, 17, 768),
        "stage5": (8, 8, 2048),
    }


# The first rows of table 3; the sizes of the maps are the same with a block of each kind.
EARLY = {"stem_conv": "7x7", "aux_norm": False, "blocks": [1, 1, 1]}


def test_first_7x7_leaves_the_map_its_three_factors_leave():
    maps = libraries.captured("inception_v3", NATIVE, **EARLY)
    assert maps == libraries.captured("inception_v3", NATIVE)


def test_norm_of_the_auxiliary_layer_is_an_option():
    # Table 3, "BN auxiliary": scale and bias of 768 maps against a bias.
    def head(**options):
        return libraries.traced("inception_v3", NATIVE, **options)["params"]["aux"]

    assert "norm" in head()["conv1"]
    plain = head(**EARLY)["conv1"]
    assert set(plain) == {"conv"}
    assert plain["conv"]["bias"].shape == (768,)


@pytest.mark.parametrize(
    ("branch5", "kernels"),
    [
        ("5x5", {"": (5, 5, 48, 64)}),
        ("two_3x3", {"conv1": (3, 3, 48, 48), "conv2": (3, 3, 48, 64)}),
        ("1x5_5x1", {"row": (1, 5, 48, 48), "column": (5, 1, 48, 64)}),
    ],
)
def test_5x5_of_block_a_is_factored_as_named(branch5, kernels):
    block = InceptionA(_parts(branch5=branch5), 32)
    assert _kernels(block, (35, 35, 192), "conv5x5") == kernels


@pytest.mark.parametrize(
    ("branch7", "kernels"),
    [
        ("7x7", {"": (7, 7, 128, 192)}),
        ("three_3x3", {"conv1": (3, 3, 128, 128), "conv2": (3, 3, 128, 128),
                       "conv3": (3, 3, 128, 192)}),
        ("1x7_7x1", {"row": (1, 7, 128, 128), "column": (7, 1, 128, 192)}),
    ],
)  # fmt: skip
def test_7x7_of_block_c_is_factored_as_named(branch7, kernels):
    block = InceptionC(_parts(branch7=branch7), 128)
    assert _kernels(block, (17, 17, 768), "conv7x7") == kernels


@pytest.mark.parametrize("include", [True, False])
def test_average_pooling_counts_the_zeros_around_the_map_or_not(include):
    class Branch(nn.Module):
        @nn.compact
        def __call__(self, x):
            return _parts(count_include_pad=include, width=1 / 8).pooled(x, 8, False)

    x = jnp.ones((1, 4, 4, 1))
    variables = {"params": {"pool_proj": {"conv": {"kernel": jnp.ones((1, 1, 1, 1)),
                                                   "bias": jnp.zeros(1)}}}}  # fmt: skip
    pooled = Branch().apply(variables, x)[0, :, :, 0]
    edge, corner = (6 / 9, 4 / 9) if include else (1, 1)
    expected = [[corner, edge, edge, corner], [edge, 1, 1, edge]]
    np.testing.assert_allclose(pooled[:2], expected, rtol=1e-6)


def test_fewer_or_more_blocks_keep_the_last_widths():
    found = libraries.traced("inception_v3", NATIVE, blocks=[1, 5, 1], aux_heads=0)
    params = found["params"]["features"]
    assert params["inception_a1"]["pool_proj"]["conv"]["kernel"].shape[-1] == 64
    sevens = [params[f"inception_c{i}"]["reduce7x7"]["conv"]["kernel"].shape[-1]
              for i in range(1, 6)]  # fmt: skip
    assert sevens == [128, 160, 160, 160, 192]
    assert "inception_c6" not in params


@pytest.mark.parametrize(
    ("shape", "sizes"), [((28, 28, 1), (28, 13, 6)), ((32, 32, 3), (32, 15, 7))]
)
def test_small_stem_keeps_the_size_of_the_image(shape, sizes):
    maps = libraries.captured("inception_v3", shape, **SMALL)
    assert [maps[f"stage{i}"][0] for i in (3, 4, 5)] == list(sizes)


@pytest.mark.parametrize(("n", "window"), [(28, 3), (8, 1)])
def test_windows_of_the_head_shrink_with_its_map(n, window):
    head = libraries.traced("inception_v3", (n, n, 1), **SMALL)["params"]["aux"]
    assert head["conv1"]["conv"]["kernel"].shape[:2] == (window, window)


NARROW = {"input_shape": (28, 28, 1), "num_classes": 10, "blocks": (1, 1, 1), "width": 0.0625}


@pytest.fixture(scope="module")
def narrow():
    """A narrow net and its variables."""
    module = inception_v3(**NARROW)
    return module, jax.device_get(filled(module, IMAGES.shape))


def test_head_reads_the_last_map_of_the_blocks_c(narrow):
    module, variables = narrow
    asked = jax.jit(lambda v: module.apply(v, IMAGES, mutable=["auxiliary"]))
    before = jax.device_get(asked(variables))
    assert before[1]["auxiliary"]["aux"].shape == before[0].shape == (2, 10)
    features = variables["params"]["features"]
    for block, moves in (("inception_c1", True), ("reduction_d", False)):
        louder = jax.tree.map(lambda a: np.float32(1.5) * a, features[block])
        params = {**variables["params"], "features": {**features, block: louder}}
        after = jax.device_get(asked({**variables, "params": params}))
        assert not np.allclose(before[0], after[0])
        assert np.array_equal(before[1]["auxiliary"]["aux"], after[1]["auxiliary"]["aux"]) != moves


def test_remat_wraps_every_block_and_keeps_their_names(narrow):
    blocks, shapes = libraries.checkpoints(inception_v3(**NARROW, remat=True), IMAGES)
    assert blocks == 5
    assert jax.tree.map(np.shape, narrow[1]) == jax.tree.map(np.shape, dict(shapes))


def test_an_image_that_vanishes_names_the_layer():
    with pytest.raises(ShapeError, match="features/"):
        libraries.traced("inception_v3", (24, 24, 3), stem="imagenet", **SMALL)


def test_local_response_norm_has_no_place():
    with pytest.raises(SpecError, match="no place for 'lrn'"):
        inception_v3(norm="lrn")


@pytest.mark.slow
def test_logits_are_kerass(keras):
    _, logits, variables = keras
    ours, _ = libraries.logits_of(KERAS, variables, size=96)
    assert libraries.relative(ours[:, :32], logits) < 2e-5


def test_torchvisions_tensors_come_back_bit_for_bit_in_their_order(torchvision):
    libraries.assert_comes_back("torchvision", TORCHVISION, *torchvision)


def test_kerass_tensors_come_back_bit_for_bit(keras):
    state, _, variables = keras
    libraries.assert_comes_back("keras", KERAS, state, variables)
