"""SqueezeNet against Iandola et al. 2016 and torchvision."""

import jax
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
from cnnjax.models import build
from cnnjax.models.squeezenet import squeezenet

NARROW = {"width": 0.125, "input_shape": (28, 28, 1), "num_classes": 10}
KEY = "torchvision/squeezenet1_1"
MODEL = {"name": "squeezenet1_1", "variant": "torchvision"}
SHAPE = (2, 28, 28, 1)


def test_fire_modules_have_the_widths_of_table_1():
    fires = squeezenet().features.fires
    assert fires == (
        (16, 64, 64), (16, 64, 64), (32, 128, 128), (32, 128, 128),
        (48, 192, 192), (48, 192, 192), (64, 256, 256), (64, 256, 256),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "fire9"),
    [
        # Section 5.1: e = base + incr * floor(7 / freq), split by pct3x3, squeezed by the ratio.
        ({"squeeze_ratio": 0.5}, (256, 256, 256)),
        ({"pct3x3": 0.25}, (64, 384, 128)),
        ({"freq": 4, "base_e": 64, "incr_e": 32}, (12, 48, 48)),
        ({"pct3x3": 0.01}, (64, 507, 5)),
        ({"width": 0.5}, (32, 128, 128)),
    ],
)
def test_metaparameters_give_the_widths(options, fire9):
    assert squeezenet(**options).features.fires[-1] == fire9


@pytest.mark.parametrize("name", ["squeezenet1_0", "squeezenet1_1"])
def test_simple_bypass_adds_no_parameter(name):
    plain, simple = (
        abstract(build({"name": name, "bypass": bypass}), (1, 64, 64, 3))["params"]
        for bypass in ("none", "simple")
    )
    assert jax.tree.map(lambda a: a.shape, plain) == jax.tree.map(lambda a: a.shape, simple)


def test_complex_bypass_projects_where_the_channels_change():
    params = abstract(squeezenet(bypass="complex"), (1, 224, 224, 3))["params"]
    projected = {n: f["bypass"] for n, f in params["features"].items() if "bypass" in f}
    shapes = {name: layer["kernel"].shape[2:] for name, layer in projected.items()}
    assert shapes == {"fire2": (96, 128), "fire4": (128, 256), "fire6": (256, 384),
                      "fire8": (384, 512)}  # fmt: skip
    assert count(params) == 1_248_424 + sum((i + 1) * o for i, o in shapes.values())


def test_a_bypass_adds_the_input_to_the_output():
    x = images(SHAPE)
    variables = filled(squeezenet(**NARROW), SHAPE)
    plain, simple = (
        captured(squeezenet(**NARROW, bypass=b), variables, x, "fire2_out", "fire3_out")
        for b in ("none", "simple")
    )
    np.testing.assert_array_equal(simple["fire2_out"], plain["fire2_out"])
    np.testing.assert_allclose(
        simple["fire3_out"], plain["fire3_out"] + plain["fire2_out"], rtol=1e-6
    )


def test_maps_have_the_sizes_of_table_1_on_227_pixels():
    shapes = feature_shapes(squeezenet(), (1, 227, 227, 3))
    assert shapes["pool1_out"] == (55, 55, 96)
    assert shapes["pool4_out"] == (27, 27, 256)
    assert shapes["pool8_out"] == (13, 13, 512)
    assert shapes["class_maps"] == (13, 13, 1000)


def test_torchvisions_pools_keep_a_partial_window():
    # 109 -> 54 where the floor gives the same, then 54 -> 27 by ceil(51 / 2) + 1, not 26.
    shapes = feature_shapes(squeezenet(variant="torchvision"), (1, 224, 224, 3))
    assert [shapes[f"pool{i}_out"][0] for i in (1, 4, 8)] == [54, 27, 13]


@pytest.mark.parametrize(("version", "shape"), [("1.0", (28, 28, 1)), ("1.1", (32, 32, 3))])
def test_small_stem_suits_small_images(version, shape):
    module = squeezenet(**{**NARROW, "input_shape": shape, "version": version})
    assert logits_shape(module, (2, *shape)) == (2, 10)
    assert feature_shapes(module, (2, *shape))["class_maps"][0] == shape[0] // 4


def test_bypasses_batch_norm_and_remat_leave_every_parameter_a_gradient():
    options = {"bypass": "complex", "norm": "batch", "remat": True}
    found = gradients(squeezenet(**NARROW, **options), SHAPE)
    assert all(np.isfinite(g).all() and np.any(g != 0) for g in jax.tree.leaves(found))


@pytest.fixture(scope="module")
def reference():
    """The tensors of torchvision's network, and our variables loaded from them."""
    state = libraries.torch_state(KEY)
    return state, weights.load("torchvision", MODEL, state)


def test_the_tensors_come_back_bit_for_bit_in_torchvisions_order(reference):
    libraries.assert_comes_back("torchvision", MODEL, *reference)
