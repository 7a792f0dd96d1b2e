"""linear, mlp, convnet and the LeNets against their papers' numbers and the shapes they promise."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from filled import captured, filled

from cnnjax import ops
from cnnjax.errors import ShapeError, SpecError
from cnnjax.models import build
from cnnjax.models.lenet import LENET1_H3, LENET5_C3, codes

KEY = jax.random.key(0)


def shapes(model, shape=(28, 28, 1)):
    """Output shape and variables of `model`, by shape evaluation alone."""
    module = build(model, input_shape=shape)
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    return jax.eval_shape(lambda x: module.init_with_output(KEY, x), x)


def noise(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


@cache
def lenet5():
    """The paper's network, and its variables as the paper starts them."""
    module = build({"name": "lenet5"})
    return module, jax.jit(module.init)(KEY, noise(1, 28, 28, 1))


def applied(module, variables, x, **options):
    """The output, compiled as a whole: operation by operation each would be compiled alone."""
    return np.asarray(jax.jit(lambda v, x: module.apply(v, x, **options))(variables, x))


def size(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("model", "count"),
    [
        ({"name": "linear"}, 7_850),
        # LeCun et al. 1998, sections III.C.3 and III.C.4.
        ({"name": "mlp", "hidden": [300]}, 238_510),
        ({"name": "mlp", "hidden": [1000]}, 795_010),
        ({"name": "mlp"}, 266_610),
        ({"name": "mlp", "hidden": [500, 150]}, 469_160),
        ({"name": "mlp", "hidden": []}, 7_850),
        ({"name": "convnet", "stages": [], "dense": []}, 7_850),
        ({"name": "convnet", "stages": [], "dense": [300, 100]}, 266_610),
        # The "LeNet" of Caffe: 20-50-500, 5x5, unpadded.
        ({"name": "convnet", "stages": [[20, "pool"], [50, "pool"]], "dense": [500],
          "kernel_size": 5, "padding": "VALID"}, 431_080),
        ({"name": "lenet1"}, 2_578),
        ({"name": "lenet5"}, 60_000),
        ({"name": "lenet5", "variant": "modern"}, 61_706),
        # CONV -> ReLU -> FC, and the CIFAR-like [[CONV ReLU]*2 POOL]*3 [FC ReLU]*2 FC by hand.
        ({"name": "convnet", "stages": [[8]], "dense": []}, 80 + 10 * (28 * 28 * 8 + 1)),
        ({"name": "convnet", "stages": [[8, 8, "pool"]] * 3, "dense": [16, 16]},
         80 + 5 * (9 * 64 + 8) + 16 * (3 * 3 * 8 + 1) + 16 * 17 + 170),
    ],
)  # fmt: skip
def test_parameter_counts_are_the_published_ones(model, count):
    logits, variables = shapes(model)
    assert size(variables["params"]) == count
    assert logits.shape == (2, 10)


def test_layers_of_lenet5_have_the_papers_counts():
    _, variables = shapes({"name": "lenet5"})
    base, top = variables["params"]["features"], variables["params"]["classifier"]
    counts = {name: size(tree) for name, tree in (base | top).items()}
    assert counts == {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert size(variables["fixed"]) == 840


def test_table_one_joins_three_four_four_and_six_maps():
    table = np.array(LENET5_C3)
    assert table.sum(axis=0).tolist() == [3] * 6 + [4] * 9 + [6]
    contiguous = [sorted((start + i) % 6 for i in range(3)) for start in range(6)]
    assert [np.flatnonzero(column).tolist() for column in table.T[:6]] == contiguous
    assert table.sum(axis=1).tolist() == [10] * 6  # every map of S2 is read equally often


def test_lenet1s_table_splits_the_maps_in_two_halves():
    table = np.array(LENET1_H3)
    assert table.sum() == 20
    assert not table[:2, 6:].any()
    assert not table[2:, :6].any()


def test_maps_of_the_lenets_have_the_papers_sizes():
    expected = {
        "lenet1": {"h1": (24, 24, 4), "h2": (12, 12, 4), "h3": (8, 8, 12), "h4": (4, 4, 12)},
        "lenet5": {"c1": (28, 28, 6), "s2": (14, 14, 6), "c3": (10, 10, 16), "s4": (5, 5, 16),
                   "c5": (1, 1, 120)},
    }  # fmt: skip
    for name, maps in expected.items():
        module = build({"name": name})
        x = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)
        _, state = jax.eval_shape(lambda x, m=module: m.init_with_output(KEY, x, mutable=True), x)
        captured = state["intermediates"]["features"]
        assert {k: captured[f"{k}_out"][0].shape[1:] for k in maps} == maps


def test_codes_are_signs_and_apart_for_any_number_of_classes():
    for classes in (2, 10, 100):
        centers = codes(classes)
        assert centers.shape == (classes, 84)
        assert set(np.unique(centers)) == {-1.0, 1.0}
        differing = (centers[:, None] != centers[None]).sum(axis=-1)
        assert differing[~np.eye(classes, dtype=bool)].min() >= 10
    np.testing.assert_array_equal(codes(100)[:10], codes(10))


def test_code_of_one_is_a_vertical_stroke():
    one = codes(10)[1].reshape(12, 7)
    assert (one[1:-1, 3] == 1).all()
    assert (one[:, 6] == -1).all()


def test_logits_of_the_paper_are_minus_the_distances_to_the_codes():
    found = captured(*lenet5(), noise(3, 28, 28, 1), "f6_out", "logits")
    f6, logits = found["f6_out"], found["logits"]
    by_hand = -np.square(f6[:, None, :] - codes(10)[None]).sum(axis=-1)
    np.testing.assert_allclose(logits, by_hand, rtol=1e-5)
    assert np.abs(f6).max() <= 1.7159


def test_frame_around_28_pixels_holds_the_background():
    """A 28x28 image equals the 32x32 one framed by hand, in the paper's grey and in another."""
    x = noise(2, 28, 28, 1)
    large = build({"name": "lenet5"}, input_shape=(32, 32, 1))
    variables = filled(large, (2, 32, 32, 1))
    run = jax.jit(large.apply)
    for background in (-0.1, 0.7):
        small = build({"name": "lenet5", "background": background})
        frame = ((0, 0), (2, 2), (2, 2), (0, 0))
        framed = np.pad(x, frame, constant_values=background)
        np.testing.assert_array_equal(applied(small, variables, x), run(variables, framed))


def test_modern_lenet5_is_the_textbooks_sequence():
    module = build({"name": "lenet5", "variant": "modern", "activation": "tanh", "pool": "avg"})
    x = noise(2, 28, 28, 1)
    variables = filled(module, x.shape)

    @jax.jit
    def sequence(params, h):
        base, top = params["features"], params["classifier"]
        for conv, padding, pool in (("c1", 2, True), ("c3", 0, True), ("c5", 0, False)):
            h = jnp.tanh(ops.conv(h, base[conv]["kernel"], padding=padding) + 0.1)
            h = ops.avg_pool(h, 2) if pool else h
        h = jnp.tanh(h.reshape(2, -1) @ top["f6"]["kernel"] + 0.1)
        return h @ top["output"]["kernel"] + 0.1

    np.testing.assert_allclose(
        applied(module, variables, x), sequence(variables["params"], x), rtol=1e-5, atol=1e-6
    )


def test_initial_weights_of_the_paper_stay_in_their_bound():
    """Section III.B: uniform within 2.4 over the fan-in of the unit, table and coefficient too."""
    params = jax.device_get(lenet5()[1])["params"]["features"]
    readers = np.array(LENET5_C3).sum(axis=0)
    bound = 2.4 / (25 * readers[np.nonzero(LENET5_C3)[1]])
    ratio = np.abs(params["c3"]["kernel"]) / bound
    assert 0.95 < ratio.max() <= 1.0
    assert np.abs(params["s2"]["scale"]).max() <= 0.6
    assert 0.9 < np.abs(params["c1"]["kernel"]).max() * 25 / 2.4 <= 1.0


@pytest.mark.parametrize("shape", [(32,), (8, 2), (28, 28, 1), (32, 32, 3), (8, 8, 8, 1)])
def test_convnet_takes_one_two_and_three_axes(shape):
    model = {"name": "convnet", "stages": [[4, "pool"], [8]], "dense": [5]}
    if len(shape) == 1:
        with pytest.raises(SpecError, match="one to three axes"):
            build(model, input_shape=shape)
        return
    logits, variables = shapes(model, shape)
    kernel = variables["params"]["features"]["stage1"]["conv1"]["kernel"]
    assert kernel.shape == (*(3,) * (len(shape) - 1), shape[-1], 4)
    assert logits.shape == (2, 10)


def test_one_layers_own_options_stand_over_the_networks():
    stages = [[{"features": 4, "stride": 2, "kernel_size": [5, 3]}, 6],
              [{"pool": "avg", "window": 3, "stride": 2}, "pool"]]  # fmt: skip
    model = {"name": "convnet", "stages": stages, "dense": [], "global_pool": "avg"}
    _, variables = shapes(model)
    stage = variables["params"]["features"]["stage1"]
    assert stage["conv1"]["kernel"].shape == (5, 3, 1, 4)
    assert stage["conv2"]["kernel"].shape == (3, 3, 4, 6)
    assert variables["params"]["classifier"]["output"]["kernel"].shape == (6, 10)
    _, flat = shapes(model | {"global_pool": None})
    # 28 -> 14 by the stride, -> 6 by the overlapping window, -> 3 by the network's own pool.
    assert flat["params"]["classifier"]["output"]["kernel"].shape == (3 * 3 * 6, 10)


def test_convnet_computes_the_pattern():
    model = {"name": "convnet", "stages": [[4, 4, "pool"]], "dense": [6], "pool": "min"}
    module = build(model, input_shape=(8, 8, 2))
    x = noise(2, 8, 8, 2)
    variables = filled(module, x.shape)

    @jax.jit
    def pattern(params, h):
        for conv in ("conv1", "conv2"):
            h = jnp.maximum(ops.conv(h, params["features"]["stage1"][conv]["kernel"]) + 0.1, 0)
        h = h.reshape(2, 4, 2, 4, 2, 4).min(axis=(2, 4)).reshape(2, -1)
        h = jnp.maximum(h @ params["classifier"]["fc1"]["kernel"] + 0.1, 0)
        return h @ params["classifier"]["output"]["kernel"] + 0.1

    np.testing.assert_allclose(
        applied(module, variables, x), pattern(variables["params"], x), rtol=1e-5, atol=1e-6
    )


def test_remat_changes_no_gradient_and_no_name():
    model = {"name": "convnet", "stages": [[4, "pool"], [4]], "dense": [], "norm": "batch"}
    x = noise(2, 8, 8, 1)
    gradients = []
    for remat in (False, True):
        module = build(model | {"remat": remat}, input_shape=(8, 8, 1))
        variables = filled(module, x.shape)

        def loss(params, module=module, variables=variables):
            out, _ = module.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return jnp.sum(out**2)

        gradients.append(jax.device_get(jax.jit(jax.grad(loss))(variables["params"])))
    assert jax.tree.structure(gradients[0]) == jax.tree.structure(gradients[1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *gradients)


def test_dropout_acts_in_training_alone():
    for model in (
        {"name": "mlp", "hidden": [32], "dropout": 0.5},
        {"name": "convnet", "stages": [[4]], "dense": [8], "dropout": 0.5},
    ):
        module = build(model, input_shape=(8, 8, 1))
        x = noise(2, 8, 8, 1)
        variables = filled(module, x.shape)
        still = jax.jit(module.apply)
        np.testing.assert_array_equal(still(variables, x), still(variables, x))
        train = jax.jit(
            lambda v, key, m=module, x=x: m.apply(v, x, train=True, rngs={"dropout": key})
        )
        one, two = (train(variables, jax.random.key(i)) for i in range(2))
        assert not np.allclose(one, two)


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        ({"name": "lenet5"}, "features/c3"),
        ({"name": "lenet1"}, "features/h3"),
        ({"name": "convnet", "stages": [["pool"]] * 4}, "features/stage4/pool1"),
    ],
)
def test_an_image_too_small_is_refused_by_the_layer_where_it_vanishes(model, layer):
    with pytest.raises(ShapeError, match=f"^{layer}: "):
        shapes(model, (8, 8, 1))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "lenet"}, "unknown name 'lenet'. Did you mean 'lenet5'"),
        ({"name": "lenet5", "variant": "moder"}, "expected one of 'paper', 'modern', got 'moder'"),
        ({"name": "linear", "hidden": [3]}, "model: unknown key 'hidden'"),
        ({"name": "mlp", "dropout": 1.0}, "model.dropout: expected a number >= 0 and < 1, got 1.0"),
        ({"name": "convnet", "stages": [[16, "poool"]]}, "model.stages: expected"),
        ({"name": "convnet", "stages": [[{"features": 3, "strid": 2}]]}, "model.stages: expected"),
        ({"name": "convnet", "dense": [0]}, "model.dense: expected a list"),
    ],
)
def test_wrong_options_are_refused_in_words(model, message):
    with pytest.raises(SpecError) as caught:
        build(model)
    assert message in str(caught.value)
