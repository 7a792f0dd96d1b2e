"""AlexNet against Krizhevsky et al. 2012 and torchvision."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import libraries
import numpy as np
import pytest
from filled import abstract, count, feature_shapes, filled, gradients, logits_shape

from cnnjax import weights
from cnnjax.errors import ShapeError
from cnnjax.models import build
from cnnjax.models.alexnet import alexnet
from cnnjax.weights import convert

NARROW = {"width": 0.0625, "dense": 512, "input_shape": (28, 28, 1), "num_classes": 10}
KEY = "torchvision/alexnet"
MODEL = {"name": "alexnet", "variant": "torchvision"}


@pytest.mark.parametrize(
    ("options", "size", "params"),
    [
        ({}, 227, 60_965_224),  # section 3.5, fig. 2: "60 million"
        ({"groups": 1}, 227, 62_378_344),
        ({"variant": "torchvision"}, 224, 61_100_840),  # torchvision's own metadata
    ],
)
def test_parameters_are_those_published(options, size, params):
    module = build({"name": "alexnet", **options}, input_shape=(size, size, 3))
    assert count(abstract(module, (1, size, size, 3))["params"]) == params


def test_maps_have_the_sizes_of_figure_2():
    shapes = feature_shapes(alexnet(), (1, 227, 227, 3))
    assert shapes["stage1"] == (55, 55, 96)
    assert shapes["stage2"] == (27, 27, 256)
    assert shapes["stage3"] == shapes["stage4"] == (13, 13, 384)
    assert shapes["stage5"] == (13, 13, 256)
    assert shapes["pool5_out"] == (6, 6, 256)
    assert shapes["fc7_out"] == (4096,)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
@pytest.mark.parametrize("variant", ["paper", "torchvision"])
def test_small_stem_suits_small_images(shape, variant):
    module = alexnet(input_shape=shape, variant=variant, num_classes=10, width=0.25)
    assert logits_shape(module, (2, *shape)) == (2, 10)


def test_biases_start_at_one_where_section_5_says():
    module = alexnet(**NARROW)
    module = module.clone(  # kernels of zeros are drawn at once
        features=module.features.clone(kernel_init=nn.initializers.zeros),
        classifier=module.classifier.clone(kernel_init=nn.initializers.zeros),
    )
    params = module.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))["params"]
    layers = {**params["features"], **params["classifier"]}
    ones = {name for name, layer in layers.items() if np.all(layer["bias"] == 1)}
    zeros = {name for name, layer in layers.items() if np.all(layer["bias"] == 0)}
    assert ones == {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert zeros == {"conv1", "conv3", "fc8"}


def test_kernels_start_with_a_deviation_of_a_hundredth():
    module = alexnet()
    for part in (module.features, module.classifier):
        kernel = part.kernel_init(jax.random.key(0), (100, 100), jnp.float32)
        assert np.std(kernel) == pytest.approx(0.01, rel=0.05)


def test_response_normalisation_follows_the_activation_of_the_first_two_layers():
    x = 30 * jax.random.normal(jax.random.key(1), (2, 28, 28, 1))
    module = alexnet(**NARROW)
    variables = filled(module, x.shape)
    _, with_norm = module.apply(variables, x, mutable=["intermediates"])
    _, without = alexnet(**NARROW, norm="none").apply(variables, x, mutable=["intermediates"])
    rectified = np.asarray(without["intermediates"]["features"]["stage1"][0], np.float64)
    assert rectified.min() == 0
    # Section 3.3, its formula written out: n = 5 adjacent maps, k = 2, alpha = 1e-4, beta = 0.75.
    expected = np.empty_like(rectified)
    maps = rectified.shape[-1]
    for i in range(maps):
        near = rectified[..., max(0, i - 2) : min(maps - 1, i + 2) + 1]
        expected[..., i] = rectified[..., i] / (2 + 1e-4 * (near**2).sum(-1)) ** 0.75
    np.testing.assert_allclose(
        with_norm["intermediates"]["features"]["stage1"][0], expected, rtol=1e-5
    )
    assert not any(name.startswith("norm") for name in variables["params"]["features"])


def test_each_half_of_conv2_sees_its_own_half_of_conv1():
    module = alexnet(**NARROW, norm="none")
    x = jnp.ones((1, 28, 28, 1))
    variables = filled(module, x.shape)
    kernel = variables["params"]["features"]["conv2"]["kernel"]
    assert kernel.shape == (5, 5, 3, 16)  # 6 maps come in, each kernel sees 3

    def second_half(conv1_bias):
        params = jax.tree.map(lambda a: a, variables["params"])
        params["features"]["conv1"]["bias"] = conv1_bias
        _, state = module.apply({"params": params}, x, mutable=["intermediates"])
        return state["intermediates"]["features"]["stage2"][0][..., 8:].sum()

    gradient = jax.grad(second_half)(jnp.ones(6))
    assert np.all(gradient[:3] == 0)
    assert np.all(gradient[3:] != 0)


def test_dropout_is_on_outputs_in_the_paper_and_on_inputs_in_torchvision():
    x = jax.random.normal(jax.random.key(1), (2, 28, 28, 1))

    def hidden(variant, *, train):
        module = alexnet(**NARROW, variant=variant)
        variables = filled(module, x.shape)
        _, state = module.apply(
            variables, x, train=train, mutable=["intermediates"],
            rngs={"dropout": jax.random.key(2)},
        )  # fmt: skip
        return np.asarray(state["intermediates"]["classifier"]["fc6_out"][0])

    trained, evaluated = hidden("paper", train=True), hidden("paper", train=False)
    kept = trained != 0
    np.testing.assert_allclose(trained[kept], 2 * evaluated[kept], rtol=1e-6)
    assert not kept.all()
    trained, evaluated = hidden("torchvision", train=True), hidden("torchvision", train=False)
    kept = trained != 0
    assert not np.allclose(trained[kept], 2 * evaluated[kept], rtol=1e-3)


def test_batch_norm_stands_before_every_activation():
    variables = abstract(alexnet(**NARROW, norm="batch"), (2, 28, 28, 1))
    assert set(variables["batch_stats"]["features"]) == {f"norm{i}" for i in range(1, 6)}
    x = jax.random.normal(jax.random.key(1), (8, 28, 28, 1))
    module = alexnet(**NARROW, norm="batch", activation="identity")
    _, state = module.apply(
        filled(module, x.shape), x, train=True,
        mutable=["intermediates", "batch_stats"], rngs={"dropout": jax.random.key(0)},
    )  # fmt: skip
    for i in (1, 3, 5):
        stage = np.asarray(state["intermediates"]["features"][f"stage{i}"][0])
        np.testing.assert_allclose(stage.mean((0, 1, 2)), 0.1, atol=1e-4)


def test_pools_of_2_do_not_overlap():
    shapes = feature_shapes(alexnet(input_shape=(28, 28, 1), pool_window=2), (1, 28, 28, 1))
    assert shapes["pool1_out"][:2] == (14, 14)
    shapes = feature_shapes(alexnet(input_shape=(28, 28, 1)), (1, 28, 28, 1))
    assert shapes["pool1_out"][:2] == (13, 13)


def test_a_layer_left_out_is_gone():
    whole = abstract(alexnet(**NARROW), (1, 28, 28, 1))["params"]["features"]
    cut = abstract(alexnet(**NARROW, without=("conv3", "conv4")), (1, 28, 28, 1))["params"]
    assert set(whole) - set(cut["features"]) == {"conv3", "conv4"}


def test_every_parameter_has_a_finite_gradient():
    found = gradients(alexnet(**{**NARROW, "dense": 64}), (2, 28, 28, 1))
    assert all(np.isfinite(g).all() and np.any(g != 0) for g in jax.tree.leaves(found))


def test_an_image_that_vanishes_names_the_layer():
    module = alexnet(input_shape=(40, 40, 3), stem="imagenet")
    with pytest.raises(ShapeError, match="features/pool5"):
        abstract(module, (1, 40, 40, 3))


def test_logits_are_torchvisions():
    logits, _ = libraries.run("torchvision", MODEL, libraries.torch_state(KEY), size=224)
    assert libraries.relative(logits, libraries.torch_logits(KEY)) < 2e-5


def test_the_tensors_are_torchvisions_in_its_order():
    state = json.loads((libraries.GOLDENS / "goldens_dev.json").read_text())["models"][KEY]["state"]
    slots = convert.slots_of(weights.FAMILIES, "torchvision", MODEL)
    assert [[s.name, list(s.shape)] for s in slots] == [[name, shape] for name, shape, _ in state]


def test_a_round_trip_changes_no_bit():
    model = {**MODEL, "width": 0.0625}
    rng = np.random.default_rng(0)
    slots = convert.slots_of(weights.FAMILIES, "torchvision", model)
    state = {s.name: rng.standard_normal(s.shape).astype(np.float32) for s in slots}
    back = weights.save("torchvision", model, weights.load("torchvision", model, state))
    assert list(back) == list(state)
    assert all(np.array_equal(back[name], state[name]) for name in state)
