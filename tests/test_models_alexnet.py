"""AlexNet against Krizhevsky et al. 2012 and torchvision."""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import libraries
import numpy as np
import pytest
from filled import abstract, captured, feature_shapes, filled, gradients, images, logits_shape

from cnnjax import weights
from cnnjax.errors import ShapeError
from cnnjax.models.alexnet import alexnet
from cnnjax.weights import convert

NARROW = {"width": 0.0625, "dense": 512, "input_shape": (28, 28, 1), "num_classes": 10}
SHAPE = (2, 28, 28, 1)
KEY = "torchvision/alexnet"
MODEL = {"name": "alexnet", "variant": "torchvision"}


def test_maps_have_the_sizes_of_figure_2():
    shapes = feature_shapes(alexnet(), (1, 227, 227, 3))
    assert shapes["stage1"] == (55, 55, 96)
    assert shapes["stage2"] == (27, 27, 256)
    assert shapes["stage3"] == shapes["stage4"] == (13, 13, 384)
    assert shapes["stage5"] == (13, 13, 256)
    assert shapes["pool5_out"] == (6, 6, 256)
    assert shapes["fc7_out"] == (4096,)


@functools.cache
def narrow(**options):
    return alexnet(**NARROW, **options)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
@pytest.mark.parametrize("variant", ["paper", "torchvision"])
def test_small_stem_suits_small_images(shape, variant):
    module = alexnet(input_shape=shape, variant=variant, num_classes=10, width=0.25)
    assert logits_shape(module, (2, *shape)) == (2, 10)


def test_biases_start_at_one_where_section_5_says():
    module = alexnet(**{**NARROW, "dense": 16})
    module = module.clone(  # kernels of zeros are drawn at once
        features=module.features.clone(kernel_init=nn.initializers.zeros),
        classifier=module.classifier.clone(kernel_init=nn.initializers.zeros),
    )
    init = jax.jit(module.init)
    params = jax.device_get(init(jax.random.key(0), np.zeros((1, 28, 28, 1), np.float32)))["params"]
    layers = {**params["features"], **params["classifier"]}
    ones = {name for name, layer in layers.items() if np.all(layer["bias"] == 1)}
    zeros = {name for name, layer in layers.items() if np.all(layer["bias"] == 0)}
    assert ones == {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert zeros == {"conv1", "conv3", "fc8"}


def test_kernels_start_with_a_deviation_of_a_hundredth():
    module = alexnet()
    for part in (module.features, module.classifier):
        kernel = part.kernel_init(jax.random.key(0), (100, 100), jnp.float32)
        assert np.std(np.asarray(kernel)) == pytest.approx(0.01, rel=0.05)


def test_response_normalisation_follows_the_activation_of_the_first_two_layers():
    x = 30 * images(SHAPE)
    variables = filled(narrow(), SHAPE)
    normalised = captured(narrow(), variables, x, "stage1")["stage1"]
    rectified = np.float64(captured(narrow(norm="none"), variables, x, "stage1")["stage1"])
    assert rectified.min() == 0
    # Section 3.3, its formula written out: n = 5 adjacent maps, k = 2, alpha = 1e-4, beta = 0.75.
    expected = np.empty_like(rectified)
    maps = rectified.shape[-1]
    for i in range(maps):
        near = rectified[..., max(0, i - 2) : min(maps - 1, i + 2) + 1]
        expected[..., i] = rectified[..., i] / (2 + 1e-4 * (near**2).sum(-1)) ** 0.75
    np.testing.assert_allclose(normalised, expected, rtol=1e-5)
    assert not any(name.startswith("norm") for name in variables["params"]["features"])


def test_each_half_of_conv2_sees_its_own_half_of_conv1():
    module = narrow(norm="none")
    x = jnp.asarray(np.ones((1, 28, 28, 1), np.float32))
    variables = filled(module, SHAPE)
    kernel = variables["params"]["features"]["conv2"]["kernel"]
    assert kernel.shape == (5, 5, 3, 16)  # 6 maps come in, each kernel sees 3

    def second_half(conv1_bias):
        params = jax.tree.map(lambda a: a, variables["params"])
        params["features"]["conv1"]["bias"] = conv1_bias
        _, state = module.apply({"params": params}, x, mutable=["intermediates"])
        return state["intermediates"]["features"]["stage2"][0][..., 8:].sum()

    gradient = jax.device_get(jax.jit(jax.grad(second_half))(np.ones(6, np.float32)))
    assert np.all(gradient[:3] == 0)
    assert np.all(gradient[3:] != 0)


def test_dropout_is_on_outputs_in_the_paper_and_on_inputs_in_torchvision():
    x = images(SHAPE)

    def hidden(variant, *, train):
        module, rngs = narrow(variant=variant), {"dropout": jax.random.key(2)}
        variables = filled(module, SHAPE)
        return captured(module, variables, x, "fc6_out", train=train, rngs=rngs)["fc6_out"]

    trained, evaluated = hidden("paper", train=True), hidden("paper", train=False)
    kept = trained != 0
    np.testing.assert_allclose(trained[kept], 2 * evaluated[kept], rtol=1e-6)
    assert not kept.all()
    trained, evaluated = hidden("torchvision", train=True), hidden("torchvision", train=False)
    kept = trained != 0
    assert not np.allclose(trained[kept], 2 * evaluated[kept], rtol=1e-3)


def test_batch_norm_stands_before_every_activation():
    module = narrow(norm="batch", activation="identity")
    variables = filled(module, (8, 28, 28, 1))
    assert set(variables["batch_stats"]["features"]) == {f"norm{i}" for i in range(1, 6)}
    _, state = jax.jit(
        lambda v, x: module.apply(
            v, x, train=True, mutable=["intermediates", "batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )
    )(variables, images((8, 28, 28, 1)))  # fmt: skip
    for i in (1, 3, 5):
        stage = np.asarray(state["intermediates"]["features"][f"stage{i}"][0])
        np.testing.assert_allclose(stage.mean((0, 1, 2)), 0.1, atol=1e-4)


def test_pools_of_2_do_not_overlap():
    shapes = feature_shapes(alexnet(input_shape=(28, 28, 1), pool_window=2), (1, 28, 28, 1))
    assert shapes["pool1_out"][:2] == (14, 14)
    shapes = feature_shapes(alexnet(input_shape=(28, 28, 1)), (1, 28, 28, 1))
    assert shapes["pool1_out"][:2] == (13, 13)


def test_a_layer_left_out_is_gone():
    whole = abstract(narrow(), SHAPE)["params"]["features"]
    cut = abstract(narrow(without=("conv3", "conv4")), SHAPE)["params"]
    assert set(whole) - set(cut["features"]) == {"conv3", "conv4"}


def test_every_parameter_has_a_finite_gradient():
    found = gradients(alexnet(**{**NARROW, "dense": 64}), SHAPE)
    assert all(np.isfinite(g).all() and np.any(g != 0) for g in jax.tree.leaves(found))


def test_an_image_that_vanishes_names_the_layer():
    module = alexnet(input_shape=(40, 40, 3), stem="imagenet")
    with pytest.raises(ShapeError, match="features/pool5"):
        abstract(module, (1, 40, 40, 3))


def test_the_tensors_are_torchvisions_in_its_order():
    state = json.loads((libraries.GOLDENS / "goldens_dev.json").read_text())["models"][KEY]["state"]
    slots = convert.slots_of(weights.FAMILIES, "torchvision", MODEL)
    assert [[s.name, list(s.shape)] for s in slots] == [[name, shape] for name, shape, _ in state]


def test_a_round_trip_changes_no_bit():
    model = {**MODEL, "width": 0.0625, "dense": 64}
    rng = np.random.default_rng(0)
    slots = convert.slots_of(weights.FAMILIES, "torchvision", model)
    state = {s.name: rng.standard_normal(s.shape, np.float32) for s in slots}
    back = weights.save("torchvision", model, weights.load("torchvision", model, state))
    assert list(back) == list(state)
    assert all(np.array_equal(back[name], state[name]) for name in state)
