"""VGG against Simonyan & Zisserman 2014, torchvision and Keras."""

import functools
import json

import jax
import jax.numpy as jnp
import libraries
import numpy as np
import pytest
from filled import (
    abstract,
    captured,
    count,
    feature_shapes,
    filled,
    gradients,
    images,
    logits_shape,
)

from cnnjax import weights
from cnnjax.errors import ShapeError
from cnnjax.models import build
from cnnjax.models.vgg import CONFIGS, staged_init, vgg
from cnnjax.weights import convert

NARROW = {"width": 0.0625, "dense": 128, "input_shape": (28, 28, 1), "num_classes": 10}
SHAPE = (2, 28, 28, 1)
TORCHVISION = {
    "torchvision/vgg16": {"name": "vgg16", "variant": "torchvision"},
    "torchvision/vgg11_bn": {"name": "vgg11", "variant": "torchvision", "norm": "batch"},
}


@functools.cache
def narrow(config):
    return vgg(config=config, **NARROW)


def test_parameters_of_the_average_head_are_a_linear_layers():
    # 14,714,688 in the convolutions of D and one linear layer of 512 x 1000 + 1000.
    params = abstract(vgg(head="average"), (1, 224, 224, 3))["params"]
    assert count(params) == 14_714_688 + 513_000


@pytest.mark.parametrize(
    ("config", "layers"), [("A", 11), ("A-LRN", 11), ("B", 13), ("C", 16), ("D", 16), ("E", 19)]
)
def test_configurations_have_the_weight_layers_of_table_1(config, layers):
    params = abstract(narrow(config), SHAPE)["params"]
    assert sum(leaf.ndim > 1 for leaf in jax.tree.leaves(params)) == layers


def test_ready_names_are_the_configurations_of_their_depth():
    for name, config in {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}.items():
        assert build({"name": name}).features.stages == CONFIGS[config]


def test_each_pool_halves_the_map():
    shapes = feature_shapes(vgg(), (1, 224, 224, 3))
    assert shapes["pool1"] == (112, 112, 64)
    assert shapes["pool3"] == (28, 28, 256)
    assert shapes["pool5"] == (7, 7, 512)


@pytest.mark.parametrize(
    ("variant", "shape", "last"),
    [("paper", (28, 28, 1), 1), ("torchvision", (32, 32, 3), 2), ("keras", (32, 32, 3), 2)],
)
def test_small_stem_suits_small_images(variant, shape, last):
    module = vgg(**{**NARROW, "input_shape": shape, "variant": variant})
    assert feature_shapes(module, (2, *shape))["pool5"] == (last, last, 32)
    assert logits_shape(module, (2, *shape)) == (2, 10)


def test_a_small_image_with_the_papers_stem_names_the_layer():
    with pytest.raises(ShapeError, match="features/stage5/pool"):
        abstract(vgg(**NARROW, stem="imagenet"), SHAPE)


def test_lrn_follows_the_first_convolution_of_a_lrn_alone():
    x = 30 * images(SHAPE)
    variables = filled(narrow("A"), SHAPE)
    plain, normalised = (
        captured(narrow(config), variables, x, "pool1")["pool1"] for config in ("A", "A-LRN")
    )
    stage = variables["params"]["features"]["stage1"]["conv1"]
    y = jax.lax.conv_general_dilated(
        x, stage["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    y = np.maximum(np.asarray(y, np.float64) + 0.1, 0)
    # Krizhevsky et al. 2012, section 3.3, over the four maps of this narrow net.
    power = [(y[..., max(0, i - 2) : i + 3] ** 2).sum(-1) for i in range(4)]
    y = y / (2 + 1e-4 * np.stack(power, -1)) ** 0.75
    expected = y.reshape(2, 14, 2, 14, 2, 4).max((2, 4))
    np.testing.assert_allclose(normalised, expected, rtol=2e-5, atol=1e-5)
    assert not np.allclose(plain, expected, rtol=1e-2)


def test_small_studies_choose_their_stages():
    module = vgg(stages=((5,), (5,)), widths=(4, 8), dense=16, input_shape=(28, 28, 1))
    params = abstract(module, SHAPE)["params"]
    assert params["features"]["stage1"]["conv1"]["kernel"].shape == (5, 5, 1, 4)
    assert params["features"]["stage2"]["conv1"]["kernel"].shape == (5, 5, 4, 8)
    assert params["classifier"]["fc6"]["kernel"].shape == (7 * 7 * 8, 16)
    with pytest.raises(ShapeError, match="3 stages need as many widths"):
        vgg(stages=((3,),) * 3, widths=(4, 8))


def test_kernels_start_as_the_variants_say():
    def spread(part):
        kernel = part.kernel_init(jax.random.key(0), (3, 3, 64, 256), jnp.float32)
        return float(np.std(np.asarray(kernel)))

    paper, torchvision = vgg(), vgg(variant="torchvision")
    assert spread(paper.features) == pytest.approx(0.01, rel=0.02)
    assert spread(paper.classifier) == pytest.approx(0.01, rel=0.02)
    # He et al. 2015, eq. 14: sqrt(2 / (kernel area * maps out)).
    assert spread(torchvision.features) == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.02)
    assert spread(torchvision.classifier) == pytest.approx(0.01, rel=0.02)


def test_staged_initialisation_takes_four_convolutions_and_the_dense_layers_from_a():
    shallow = filled(narrow("A"), SHAPE, seed=1)
    for config in ("B", "C", "D", "E"):
        deep = filled(narrow(config), SHAPE, seed=2)
        if config == "B":  # A's third stage has two convolutions, as B's
            assert deep["params"]["features"]["stage3"].keys() == {"conv1", "conv2"}
        started = staged_init(shallow, deep)
        taken = set()
        for path, leaf in jax.tree_util.tree_leaves_with_path(started["params"]):
            name = "/".join(k.key for k in path)
            origin = shallow["params"]
            for key in path:
                origin = origin.get(key.key, {})
            if leaf.ndim > 1 and not isinstance(origin, dict) and np.array_equal(leaf, origin):
                taken.add(name.removesuffix("/kernel"))
        assert taken == {
            "features/stage1/conv1", "features/stage2/conv1", "features/stage3/conv1",
            "features/stage3/conv2", "classifier/fc6", "classifier/fc7", "classifier/fc8",
        }  # fmt: skip
        drawn, kept = (v["params"]["features"]["stage4"]["conv1"] for v in (deep, started))
        np.testing.assert_array_equal(kept["kernel"], drawn["kernel"])


def test_staged_initialisation_refuses_another_width():
    shallow = filled(narrow("A"), SHAPE)
    deep = filled(vgg(config="D", **{**NARROW, "width": 0.125}), SHAPE)
    with pytest.raises(ShapeError, match="has the shape"):
        staged_init(shallow, deep)


SHALLOW = {**NARROW, "stages": ((3, 3), (3,)), "norm": "batch"}


def test_batch_norm_mean_head_and_remat_leave_every_parameter_a_gradient():
    found = gradients(vgg(**SHALLOW, head="average", remat=True), SHAPE)
    assert all(np.isfinite(g).all() and np.any(g != 0) for g in jax.tree.leaves(found))


def test_remat_changes_no_value():
    variables, x = filled(vgg(**SHALLOW), SHAPE), images(SHAPE)
    kept, redone = (
        captured(vgg(**SHALLOW, remat=remat), variables, x, "logits") for remat in (False, True)
    )
    np.testing.assert_array_equal(kept["logits"], redone["logits"])


def test_table_1_as_a_whole():
    depths = {config: [len(s) for s in stages] for config, stages in CONFIGS.items()}
    assert depths["E"] == [2, 2, 4, 4, 4]
    assert [s[-1] for s in CONFIGS["C"]] == [3, 3, 1, 1, 1]


@pytest.mark.parametrize("key", sorted(TORCHVISION))
def test_the_tensors_are_torchvisions_in_its_order(key):
    state = json.loads((libraries.GOLDENS / "goldens_dev.json").read_text())["models"][key]["state"]
    slots = convert.slots_of(weights.FAMILIES, "torchvision", TORCHVISION[key])
    assert [[s.name, list(s.shape)] for s in slots] == [
        [name, shape] for name, shape, _ in state if shape
    ]


def test_a_round_trip_changes_no_bit():
    model = {**TORCHVISION["torchvision/vgg11_bn"], "width": 0.03125, "dense": 64}
    rng = np.random.default_rng(0)
    slots = convert.slots_of(weights.FAMILIES, "torchvision", model)
    state = {s.name: rng.standard_normal(s.shape, np.float32) for s in slots}
    back = weights.save("torchvision", model, weights.load("torchvision", model, state))
    back = {k: v for k, v in back.items() if not k.endswith("num_batches_tracked")}
    assert list(back) == list(state)
    assert all(np.array_equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("name", ["VGG16", pytest.param("VGG19", marks=pytest.mark.slow)])
def test_logits_are_those_of_keras(name):
    state, logits, params = libraries.keras_network(name, "keras_vgg.json")
    model = {
        "name": name.lower(), "variant": "keras", "stem": "imagenet", "num_classes": 10,
        "input_shape": [32, 32, 3],
    }  # fmt: skip
    variables = weights.load("keras", model, state)
    ours, _ = libraries.logits_of(model, variables, size=32)
    assert libraries.relative(ours, logits) < 2e-5
    assert count(variables["params"]) == params


@pytest.mark.parametrize(
    ("factorization", "kernels"),
    [
        ("asymmetric", {"row": (1, 3, 16, 16), "column": (3, 1, 16, 32)}),
        ("depthwise", {"depthwise": (3, 3, 1, 16), "pointwise": (1, 1, 16, 32)}),
    ],
)
def test_a_window_can_be_written_as_a_product(factorization, kernels):
    """In stage 2 of A, a quarter as wide, 16 maps become 32: by rows and columns, or map by map."""
    module = vgg(
        config="A", width=0.25, dense=16, factorization=factorization, input_shape=(28, 28, 1)
    )
    stage = abstract(module, (1, 28, 28, 1))["params"]["features"]["stage2"]["conv1"]
    assert {name: leaf["kernel"].shape for name, leaf in stage.items()} == kernels
