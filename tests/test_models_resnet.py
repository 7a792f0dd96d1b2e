"""The residual networks against He et al. 2015 and 2016, torchvision, timm and Keras."""

import json
import re
from functools import cache, partial

import filled
import flax.linen as nn
import jax
import jax.numpy as jnp
import libraries
import numpy as np
import pytest
from flax.errors import InvalidRngError

from cnnjax import layers, ops
from cnnjax.errors import ShapeError, SpecError
from cnnjax.layers import Network
from cnnjax.models import build
from cnnjax.models.residual import Design, Head, ShortcutPath, Stem, Unit
from cnnjax.models.resnet import resnet, resnet_cifar

SMALL = {"depth": 18, "stages": (1, 1), "width": 0.125, "num_classes": 5}
ONE_EACH = (1, 1, 1, 1)
CIFAR = {"depth": 8, "width": 0.25}
BASIC = ((4, 3, 1), (4, 3, 1))
BOTTLENECK = ((2, 1, 1), (2, 3, 1), (4, 1, 1))
ORDERS = {  # He et al. 2016, figure 4 (a) to (e), read downwards, for two convolutions
    "original": "conv1 norm1 relu conv2 norm2 add relu",
    "bn_after_add": "conv1 norm1 relu conv2 add norm2 relu",
    "relu_before_add": "conv1 norm1 relu conv2 norm2 relu add",
    "relu_preactivation": "relu conv1 norm1 relu conv2 norm2 add",
    "full_preactivation": "norm1 relu conv1 norm2 relu conv2 add",
}


def design(**options):
    given = {
        "norm": layers.norm_factory("batch"),
        "normalizes": True,
        "activation": jax.nn.relu,
        "kernel_init": nn.initializers.constant(0.1),
        "shortcut": "identity",
    }
    return Design(**{**given, **options})


@cache
def of_depth_14(shortcut):
    return resnet_cifar(depth=14, shortcut=shortcut)


@cache
def one_each(**options):
    return resnet(stages=ONE_EACH, **options)


def shapes(module, image):
    return filled.abstract(module, (1, *image))


def scrambled(module, x, seed=0):
    """Variables by shape alone, every leaf random, variances positive."""
    rng = np.random.default_rng(seed)

    def value(path, leaf):
        if path[-1].key in ("var", "scale"):
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32))
        return jnp.asarray(np.float32(0.3) * rng.standard_normal(leaf.shape, np.float32))

    init = module.init if isinstance(module, Network) else partial(module.init, train=False)
    return jax.tree_util.tree_map_with_path(value, jax.eval_shape(init, jax.random.key(0), x))


def images(*shape, seed=1):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def started(module, x):
    """The output of a module just initialised, compiled as a whole."""
    init = jax.jit(lambda key, x: module.init_with_output(key, x, False)[0])
    return np.asarray(init(jax.random.key(0), x))


def applied(module, variables, x):
    """The module's output in evaluation, compiled as a whole."""
    return np.asarray(jax.jit(lambda v, x: module.apply(v, x, False))(variables, x))


@partial(jax.jit, static_argnames="padding")
def convolved(x, kernel, padding):
    return ops.conv(x, kernel, padding=padding)


def by_definition(steps, variables, x, shortcut=None):
    """`steps` one after the other; "add" adds the shortcut, by default the input."""
    x, variables = np.asarray(x), jax.device_get(variables)
    start, y = x if shortcut is None else np.asarray(shortcut), x
    for step in steps.split():
        if step == "relu":
            y = np.maximum(y, 0)
        elif step == "add":
            y = y + start
        elif step.startswith("conv"):
            kernel = variables["params"][step]["kernel"]
            y = np.asarray(convolved(y, kernel, padding=kernel.shape[0] // 2))
        else:
            gamma, stats = variables["params"][step], variables["batch_stats"][step]
            y = (y - stats["mean"]) / np.sqrt(stats["var"] + np.float32(1e-5))
            y = y * gamma["scale"] + gamma["bias"]
    return y


@pytest.mark.parametrize("order", ORDERS)
def test_a_unit_follows_its_column_of_figure_4(order):
    x = images(2, 5, 5, 4)
    unit = Unit(design(order=order), BASIC)
    variables = scrambled(unit, x)
    expected = by_definition(ORDERS[order], variables, x)
    np.testing.assert_allclose(applied(unit, variables, x), expected, atol=1e-5)


def test_a_bottleneck_is_1x1_3x3_1x1():
    x = images(2, 5, 5, 4)
    unit = Unit(design(), BOTTLENECK)
    variables = scrambled(unit, x)
    steps = "conv1 norm1 relu conv2 norm2 relu conv3 norm3 add relu"
    expected = by_definition(steps, variables, x)
    np.testing.assert_allclose(applied(unit, variables, x), expected, atol=1e-5)
    kernels = {n: v["kernel"].shape for n, v in variables["params"].items() if "conv" in n}
    assert kernels == {"conv1": (1, 1, 4, 2), "conv2": (3, 3, 2, 2), "conv3": (1, 1, 2, 4)}


@pytest.mark.parametrize("order", ["relu_preactivation", "full_preactivation"])
def test_the_first_preactivation_of_a_net_serves_both_paths(order):
    x = images(2, 5, 5, 4)
    unit = Unit(design(order=order), BASIC, opens=True)
    variables = scrambled(unit, x)
    first = "norm1 relu" if order == "full_preactivation" else "relu"
    entered = by_definition(first, variables, x)
    rest = ORDERS[order].removeprefix(first)
    expected = by_definition(rest, variables, entered)
    np.testing.assert_allclose(applied(unit, variables, x), expected, atol=1e-5)


def test_a_projection_of_a_preactivated_unit_reads_the_activated_map_and_has_no_norm():
    x = images(2, 5, 5, 4)
    unit = Unit(design(order="full_preactivation", shortcut="projection"), BASIC, projects=True)
    variables = scrambled(unit, x)
    assert set(variables["params"]["shortcut"]) == {"conv"}
    entered = by_definition("norm1 relu", variables, x)
    kernel = variables["params"]["shortcut"]["conv"]["kernel"]
    shortcut = convolved(entered, kernel, padding=0)
    expected = by_definition(ORDERS["full_preactivation"], variables, x, shortcut)
    np.testing.assert_allclose(applied(unit, variables, x), expected, atol=1e-5)


def test_option_a_keeps_every_other_position_and_appends_zeros():
    x = images(2, 5, 6, 3)
    path = ShortcutPath(design(), features=5, stride=2, widen=2)
    h, variables = path.init_with_output(jax.random.key(0), x, False)
    assert not jax.tree.leaves(variables)
    np.testing.assert_array_equal(h[..., :3], np.asarray(x)[:, [0, 2, 4]][:, :, [0, 2, 4]])
    np.testing.assert_array_equal(h[..., 3:], 0)


def test_a_projection_is_a_strided_1x1_convolution_and_a_norm():
    x = images(2, 6, 6, 3)
    path = ShortcutPath(design(shortcut="projection"), features=5, stride=2, projects=True)
    variables = scrambled(path, x)
    kernel = variables["params"]["conv"]["kernel"]
    taken = np.einsum("nhwi,io->nhwo", np.asarray(x)[:, ::2, ::2], np.asarray(kernel)[0, 0])
    expected = by_definition("norm", variables, taken)
    np.testing.assert_allclose(applied(path, variables, x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("shortcut", "projecting"),
    [
        ("identity", set()),
        ("projection", {"stage2_block1", "stage3_block1"}),
        ("projection_all", {f"stage{s}_block{b}" for s in (1, 2, 3) for b in (1, 2)}),
        ("none", set()),
    ],
)
def test_shortcut_options_project_where_the_paper_says(shortcut, projecting):
    features = shapes(of_depth_14(shortcut), (32, 32, 3))["params"]["features"]
    found = {unit for unit, parts in features.items() if "shortcut" in parts}
    assert found == projecting


def test_a_plain_net_has_the_same_tensors_as_its_twin_of_option_a():
    plain, residual = (
        shapes(of_depth_14(shortcut), (32, 32, 3)) for shortcut in ("none", "identity")
    )
    assert plain == residual


def unit_output(x, **options):
    unit = Unit(design(**options), BASIC)
    variables = scrambled(unit, x)
    return applied(unit, variables, x), variables


def branch(variables, x):
    """F(x) of the original order, before the addition."""
    return by_definition("conv1 norm1 relu conv2 norm2", variables, x)


def test_a_scaled_shortcut_weighs_both_paths():
    x = images(2, 5, 5, 4)
    y, variables = unit_output(x, shortcut_scale=0.5, residual_scale=0.25)
    expected = np.maximum(0.5 * np.asarray(x) + 0.25 * branch(variables, x), 0)
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("gate", ["exclusive", "shortcut_only"])
def test_a_gate_is_a_sigmoid_of_a_1x1_convolution(gate):
    x = images(2, 5, 5, 4)
    y, variables = unit_output(x, gate=gate)
    x, owned = np.asarray(x), jax.device_get(variables["params"]["gate"])
    z = np.einsum("nhwi,io->nhwo", x, owned["kernel"][0, 0]) + owned["bias"]
    g = 1 / (1 + np.exp(-z))
    f = branch(variables, x) * (g if gate == "exclusive" else 1)
    np.testing.assert_allclose(y, np.maximum(x * (1 - g) + f, 0), atol=1e-5)


def test_a_gate_starts_at_the_sigmoid_of_its_bias():
    given = design(gate="shortcut_only", gate_bias=-6.0, kernel_init=nn.initializers.zeros)
    x = np.abs(images(2, 5, 5, 4))
    y = started(Unit(given, BASIC), x)
    np.testing.assert_allclose(y, x * (1 - 1 / (1 + np.exp(6.0))), rtol=1e-5)


def test_a_dropout_shortcut_drops_in_training_alone():
    path = ShortcutPath(design(shortcut_dropout=0.5), features=4)
    x = jnp.asarray(np.ones((2, 16, 16, 4), np.float32))
    np.testing.assert_array_equal(applied(path, {}, x), x)
    train = jax.jit(lambda x, key: path.apply({}, x, True, rngs={"dropout": key}))
    dropped = np.asarray(train(x, jax.random.key(0)))
    assert set(np.unique(dropped)) == {0.0, 2.0}
    assert abs(float((dropped == 0).mean()) - 0.5) < 0.05


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_zero_init_starts_every_branch_at_zero(order, norm):
    x = images(2, 5, 5, 4)
    parts = {"norm": layers.norm_factory(norm), "normalizes": norm != "none"}
    unit = Unit(design(order=order, zero_init=True, **parts), BASIC)
    y, x = started(unit, x), np.asarray(x)
    after = "relu" if order in ("original", "bn_after_add") else ""
    if order == "bn_after_add" and norm == "batch":
        x = x / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(y, by_definition(after, {}, x), rtol=1e-6)


def test_a_preactivated_net_normalises_once_between_stem_and_first_unit_and_once_at_the_end():
    features = shapes(one_each(order="full_preactivation"), (224, 224, 3))
    features = features["params"]["features"]
    assert set(features["stem"]) == {"conv"}
    assert features["stage1_block1"]["norm1"]["scale"].shape == (64,)
    assert features["norm"]["scale"].shape == (2048,)


@pytest.mark.parametrize(
    ("options", "where"),
    [({}, "conv1"), ({"variant": "keras"}, "conv1"), ({"variant": "torchvision"}, "conv2"),
     ({"variant": "timm"}, "conv2"), ({"order": "full_preactivation"}, "conv2"),
     ({"variant": "torchvision", "stride_in": "1x1"}, "conv1")],
)  # fmt: skip
def test_a_bottleneck_strides_where_its_variant_says(options, where):
    module = resnet(stages=(1, 1), **options)
    unit = module.features.stages[1][0]
    strides = {f"conv{i}": stride for i, (_, _, stride) in enumerate(unit.args[1], 1)}
    assert strides == {n: 2 if n == where else 1 for n in ("conv1", "conv2", "conv3")}


def test_keras_preactivated_nets_halve_the_map_at_the_end_of_a_stage():
    first, last = (
        filled.feature_shapes(one_each(order="full_preactivation", **options), (1, 224, 224, 3))
        for options in ({}, {"variant": "keras"})
    )
    assert [first[f"stage{i}"][0] for i in (1, 2, 3, 4)] == [56, 28, 14, 7]
    assert [last[f"stage{i}"][0] for i in (1, 2, 3, 4)] == [28, 14, 7, 7]


def test_keras_preactivated_nets_pool_zeros_at_the_border():
    given = design(order="full_preactivation")
    x = images(1, 8, 8, 3)
    negative = {"params": {"conv": {"kernel": np.full((7, 7, 3, 2), -1, np.float32)}}}
    x = np.abs(x)  # so that every response is negative

    def responses(zero_padding):
        stem = Stem(given, 2, "imagenet", zero_padding=zero_padding)
        return np.asarray(jax.jit(partial(stem.apply, train=False))(negative, x))

    ignoring, zeros = responses(False), responses(True)
    assert float(ignoring.max()) < 0
    np.testing.assert_array_equal(zeros[:, 0], 0)
    np.testing.assert_array_equal(zeros[:, 1:, 1:], ignoring[:, 1:, 1:])


def test_maps_have_the_sizes_of_table_1():
    maps = filled.feature_shapes(one_each(), (1, 224, 224, 3))
    assert maps["stem_out"] == (56, 56, 64)
    assert [maps[f"stage{i}"] for i in (1, 2, 3, 4)] == [
        (56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048)
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_the_small_stem_keeps_the_map(shape):
    maps = filled.feature_shapes(resnet(depth=18, stages=ONE_EACH, input_shape=shape), (1, *shape))
    assert maps["stem_out"] == (*shape[:2], 64)
    assert maps["stage4"] == (4, 4, 512)


def test_a_cifar_net_has_its_small_stem_at_every_size():
    maps = filled.feature_shapes(resnet_cifar(depth=8, input_shape=(96, 96, 3)), (1, 96, 96, 3))
    assert maps["stem_out"] == (96, 96, 16)


def test_stages_and_width_set_units_and_maps():
    module = resnet(stages=(1, 2, 1, 1, 1), block="basic", width=0.5)
    features = shapes(module, (224, 224, 3))["params"]["features"]
    units = [sum(name.startswith(f"stage{i}_") for name in features) for i in range(1, 6)]
    maps = [features[f"stage{i}_block1"]["conv1"]["kernel"].shape[-1] for i in range(1, 6)]
    assert (units, maps) == ([1, 2, 1, 1, 1], [32, 64, 128, 256, 512])


def test_a_depth_that_is_none_names_its_neighbours():
    with pytest.raises(SpecError, match=r"depth 21 is not 6n \+ 2.* 20 and 26"):
        resnet_cifar(depth=21)
    with pytest.raises(SpecError, match=r"depth 21 is not 9n \+ 2.*bottleneck.* 20 and 29"):
        resnet_cifar(depth=21, block="bottleneck")


def test_an_image_that_vanishes_names_the_layer():
    module = resnet(**{**SMALL, "stages": (1,)}, stem="imagenet", pool="avg")
    with pytest.raises(ShapeError, match="stem"):
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 0, 8, 3)))


def test_remat_changes_neither_names_nor_gradients():
    x = images(2, 8, 8, 3)
    kept, redone = (resnet_cifar(**CIFAR, stages=(1,), remat=r) for r in (False, True))
    variables = scrambled(kept, x)
    assert jax.tree.structure(shapes(redone, (8, 8, 3))) == jax.tree.structure(dict(variables))

    def gradient(module):
        def loss(params):
            y, _ = module.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return (y**2).sum()

        return jax.jit(jax.grad(loss))(variables["params"])

    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-4), gradient(kept), gradient(redone)
    )


def test_torch_variants_keep_the_unbiased_variance():
    x = images(2, 4, 4, 3)

    def running(variant):
        module = resnet(**{**SMALL, "stages": (1,)}, variant=variant, stem="small")
        variables = scrambled(module, x)

        def variance(variables):
            return variables["batch_stats"]["features"]["stem"]["norm"]["var"]

        @jax.jit
        def updated(variables):  # the stem alone: the compiler drops the rest
            return variance(module.apply(variables, x, train=True, mutable=["batch_stats"])[1])

        old, new = jax.device_get((variance(variables), updated(variables)))
        return new - 0.9 * old  # a tenth of the batch's variance

    np.testing.assert_allclose(running("torchvision"), running("paper") * 32 / 31, rtol=1e-4)


@pytest.mark.parametrize("norm", ["layer", "group", "none"])
def test_norms_are_exchanged_everywhere(norm):
    variables = shapes(resnet_cifar(**CIFAR, norm=norm), (32, 32, 3))
    assert "batch_stats" not in variables
    stem = variables["params"]["features"]["stem"]
    assert set(stem["conv"]) == ({"kernel", "bias"} if norm == "none" else {"kernel"})


def test_dropout_in_front_of_the_classifier_needs_a_key_in_training_alone():
    head = Head(3, layers.initializer("he_normal"), dropout=0.5)
    x = images(2, 4, 4, 6)
    variables = scrambled(head, x)
    y = jax.jit(partial(head.apply, train=False))(variables, x)
    fc = variables["params"]["fc"]
    expected = np.asarray(x).mean((1, 2)) @ np.asarray(fc["kernel"]) + np.asarray(fc["bias"])
    np.testing.assert_allclose(y, expected, atol=1e-5)
    with pytest.raises(InvalidRngError):
        head.apply(variables, x, train=True)


def test_one_axis_is_enough():
    module = resnet_cifar(**CIFAR, input_shape=(32, 2))
    variables = shapes(module, (32, 2))
    assert filled.logits_shape(module, (2, 32, 2)) == (2, 10)
    assert variables["params"]["features"]["stem"]["conv"]["kernel"].shape == (3, 2, 4)


V2 = {"order": "full_preactivation"}


@pytest.mark.parametrize(
    ("network", "options", "mark"),
    [
        ("timm/resnetv2_bottleneck", {"depth": 50, **V2}, 1e-10),
        ("timm/resnetv2_basic", {"depth": 18, **V2}, 1e-10),
        # Keras computes its batch norm in float32 at every floatx.
        ("keras/resnet", {"depth": 50}, 1e-6),
        ("keras/resnet_v2", {"depth": 50, **V2}, 1e-6),
    ],
)
def test_two_stages_give_the_librarys_logits(network, options, mark):
    entry = json.loads((libraries.GOLDENS / "resnets.json").read_text())["models"][network]
    layout = network.partition("/")[0]
    if layout == "keras":
        state = {n: libraries._keras_fill(n, shape, 1.0) for n, shape in entry["state"]}
    else:
        state = {n: libraries.fill.fill(n, tuple(shape)) for n, shape in entry["state"]}
    model = {"name": "resnet", "stages": [2, 2], "variant": layout, "num_classes": 10,
             "stem": "imagenet", **options}  # fmt: skip
    with jax.enable_x64(True):
        logits, _ = libraries.run(layout, model, state, 33)
    assert libraries.relative(logits, np.array(entry["logits"])) < mark


def test_ready_names_are_rows_of_the_family():
    assert build({"name": "plain34"}).features.design.shortcut == "none"
    assert build({"name": "resnet101v2"}).features.design.order == "full_preactivation"
    assert [len(s) for s in build({"name": "resnet1202"}).features.stages] == [200, 200, 200]


@pytest.mark.parametrize("order", ["original", "bn_after_add", "relu_before_add"])
@pytest.mark.parametrize("train", [False, True])
def test_no_unit_computes_those_before_it_again(order, train):
    """Else the nth of a stage would read the maps of n units."""
    module = resnet_cifar(stages=(8,), width=2.0, order=order)
    x = images(2, 8, 8, 3)
    variables = scrambled(module, x)

    def forward(variables, x):
        return module.apply(variables, x, train=train, mutable=["batch_stats"])

    program = jax.jit(forward).lower(variables, x).compile().as_text()
    read = [
        len(re.findall(r"= f32\[2,8,8,32\]\S* parameter\(", computation))
        for computation in program.split("\n}\n")
    ]
    assert 1 <= max(read) <= 3
