"""Network in Network against Lin et al. 2013 and the nets its authors published."""

import jax
import jax.numpy as jnp
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

from cnnjax.models.nin import nin

NARROW = {"width": 0.0625, "input_shape": (28, 28, 1)}
SHAPE = (2, 28, 28, 1)
NET = nin(**NARROW)


@pytest.mark.parametrize(
    ("options", "shape", "params"),
    [
        # 5x5x3-192-160-96, 5x5-192-192-192, 3x3-192-192-10, layer by layer with biases.
        (
            {},
            (32, 32, 3),
            14_592 + 30_880 + 15_456 + 460_992 + 2 * 37_056 + 331_968 + 37_056 + 1_930,
        ),
        # 11x11x3-96-96-96, 5x5-256-256-256, 3x3-384-384-384, 3x3-1024-1024-1000.
        (
            {"num_classes": 1000},
            (224, 224, 3),
            34_944 + 2 * 9_312 + 614_656 + 2 * 65_792 + 885_120 + 2 * 147_840
            + 3_539_968 + 1_049_600 + 1_025_000,
        ),
        # Section 4.6: a fully connected layer on the ten 8x8 class maps.
        ({"head": "dense"}, (32, 32, 3), 966_986 + 640 * 10 + 10),
    ],
)  # fmt: skip
def test_parameters_are_those_published(options, shape, params):
    module = nin(input_shape=shape, **options)
    assert count(abstract(module, (1, *shape))["params"]) == params


def test_maps_have_the_sizes_of_the_published_nets():
    shapes = feature_shapes(nin(), (1, 32, 32, 3))
    assert [shapes[f"stage{i}"] for i in (1, 2, 3)] == [(32, 32, 96), (16, 16, 192), (8, 8, 192)]
    assert shapes["class_maps"] == (8, 8, 10)
    large = nin(num_classes=1000, input_shape=(224, 224, 3))
    shapes = feature_shapes(large, (1, 224, 224, 3))
    assert [shapes[f"stage{i}"][0] for i in (1, 2, 3, 4)] == [54, 27, 13, 6]
    assert shapes["class_maps"] == (6, 6, 1000)


def test_small_stem_suits_28_pixels():
    for module in (NET, nin(**NARROW, head="dense")):
        assert logits_shape(module, SHAPE) == (2, 10)


def test_a_logit_is_the_mean_of_its_class_map():
    x = images(SHAPE)
    variables = filled(NET, SHAPE)
    found = captured(NET, variables, x, "class_maps", "logits")
    maps = found["class_maps"]
    assert maps.min() == 0  # rectified, as equation 2 has it on every layer
    np.testing.assert_allclose(found["logits"], maps.mean((1, 2)), rtol=1e-5)
    unrectified = captured(nin(**NARROW, rectify_maps=False), variables, x, "logits")
    assert unrectified["logits"].min() < 0


def test_an_mlpconv_layer_is_a_perceptron_on_every_window():
    variables, x = filled(NET, SHAPE), images(SHAPE)
    stage1 = captured(NET, variables, x, "stage1")["stage1"]
    layer = variables["params"]["features"]["mlpconv1"]
    window = np.asarray(x)[1, 8:13, 3:8, 0].reshape(-1)  # centred on (10, 5)
    for name in ("conv", "mlp1", "mlp2"):
        kernel = np.asarray(layer[name]["kernel"])
        window = np.maximum(window @ kernel.reshape(-1, kernel.shape[-1]) + 0.1, 0)
    np.testing.assert_allclose(stage1[1, 10, 5], window, rtol=1e-4, atol=1e-5)


def test_dropout_follows_all_mlpconv_layers_but_the_last():
    variables, x = filled(NET, SHAPE), images(SHAPE)

    def first_stages(dropout):
        rngs = {"dropout": jax.random.key(1)}
        module = nin(**NARROW, dropout=dropout)
        return captured(module, variables, x, "stage1", "stage2", train=True, rngs=rngs)

    dropped, whole = first_stages(0.5), first_stages(0.0)
    np.testing.assert_array_equal(dropped["stage1"], whole["stage1"])
    assert not np.allclose(dropped["stage2"], whole["stage2"])


def test_batch_norm_dense_head_and_remat_leave_every_parameter_a_gradient():
    options = {"head": "dense", "norm": "batch", "remat": True}
    found = gradients(nin(**NARROW, **options), SHAPE)
    assert all(np.isfinite(g).all() and np.any(g != 0) for g in jax.tree.leaves(found))


def test_half_precision_in_half_precision_out():
    x = jax.ShapeDtypeStruct(SHAPE, jnp.bfloat16)
    assert jax.eval_shape(NET.apply, abstract(NET, SHAPE), x).dtype == jnp.bfloat16
