"""Counts against the papers' integers, the definitions and supports measured by gradients."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cnnjax.cost import cost, summary
from cnnjax.errors import ShapeError, SpecError
from cnnjax.layers import Conv, Dense, GlobalPool, Pool
from cnnjax.models import build

KEY = jax.random.key(0)


def counted(model, shape=(28, 28, 1), **options):
    return cost(build(model, input_shape=shape), shape, **options)


def quick(module, shape):
    return cost(module, shape, estimates=False)


def by_name(result):
    return {row.name.split("/")[-1]: row for row in result.layers}


def test_lenet5_has_the_papers_multiply_adds_per_layer():
    """C3 counts its 60 connected pairs alone."""
    result = counted({"name": "lenet5"}, batch_size=128)
    macs = {name: row.macs for name, row in by_name(result).items() if row.macs}
    assert macs == {"c1": 117_600, "c3": 150_000, "c5": 48_000, "f6": 10_080}
    assert result.totals.macs == 325_680
    params = result.totals.params
    assert (params.trainable, params.fixed) == (60_000, 840)
    assert (params.auxiliary, params.batch_stats) == (0, 0)
    modern = counted({"name": "lenet5", "variant": "modern"}, estimates=False)
    assert modern.totals.macs == 416_520


@pytest.mark.parametrize(("name", "connections"), [("lenet1", 98_442), ("lenet5", 340_068)])
def test_connections_of_the_lenets_are_the_papers(name, connections):
    """A unit's connections: one per multiply-add and one bias; in subsampling four and a bias."""
    total = 0
    for row in counted({"name": name}, estimates=False).layers:
        subsampling = np.prod(row.output_shape) * 5 if row.kind == "Pool" else 0
        total += row.macs + row.activations + subsampling
    assert total == connections


@pytest.mark.parametrize(
    ("model", "params", "macs"),
    [
        ({"name": "linear"}, 7_850, 7_840),
        ({"name": "mlp"}, 266_610, 784 * 300 + 300 * 100 + 1_000),
        ({"name": "convnet", "stages": [[20, "pool"], [50, "pool"]], "dense": [500],
          "kernel_size": 5, "padding": "VALID"}, 431_080, 2_293_000),
    ],
)  # fmt: skip
def test_small_nets_have_the_published_counts(model, params, macs):
    totals = counted(model, estimates=False).totals
    assert totals.params.trainable == params
    assert totals.macs == macs
    assert totals.weight_mib == params * 4 / 2**20


def test_receptive_fields_of_lenet5_are_those_of_its_figure():
    rows = by_name(counted({"name": "lenet5"}, estimates=False))
    fields = {name: (row.receptive_field[0], row.stride[0]) for name, row in rows.items()}
    assert fields["c1"] == (5, 1)
    assert fields["s2"] == (6, 2)
    assert fields["c3"] == (14, 2)
    assert fields["s4"] == (16, 4)
    assert fields["c5"][0] == 32
    assert fields["f6"][0] == 32


class Foreign(nn.Module):
    """Someone else's network: Flax's own layers, a residual join, no `train` argument."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), strides=(2, 2), name="stem")(x)
        y = nn.Conv(4, (3, 3), kernel_dilation=(2, 2), feature_group_count=2, name="wide")(x)
        y = nn.avg_pool(y, (3, 3), padding="SAME")
        x = x + jax.jit(jnp.sin)(y)
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.Conv(6, (1, 3), padding="VALID", name="flat")(x)
        return nn.Dense(5, name="output")(x.mean(axis=(1, 2)))


def test_a_network_of_foreign_modules_is_counted():
    result = quick(Foreign(), (32, 32, 3))
    rows = by_name(result)
    assert rows["stem"].macs == 16 * 16 * 4 * 9 * 3  # padded taps counted
    assert rows["wide"].macs == 16 * 16 * 4 * 9 * 2  # of four maps a group of two
    assert rows["flat"].macs == 8 * 6 * 6 * 3 * 4
    assert rows["output"].macs == 30
    assert result.totals.activations == 2 * 16 * 16 * 4 + 8 * 6 * 6 + 5
    assert rows["output"].output_shape == (5,)
    # 3, then 2 * 2 * 2 more by the dilated kernel, 2 * 2 by pooling, 2 by the stride-2 pool.
    assert rows["wide"].receptive_field == (11, 11)
    assert rows["flat"].receptive_field == (3 + 8 + 4 + 2, 3 + 8 + 4 + 2 + 2 * 4)
    assert rows["flat"].stride == (4, 4)


class Sums(nn.Module):
    """Stages whose kernels are positive, so that a gradient reaches whatever can reach it."""

    @nn.compact
    def __call__(self, x, *, train=False):
        def conv(x, name, **options):
            return Conv(1, kernel_init=nn.initializers.ones, name=name, **options)(x)

        x = conv(x, "a", kernel_size=5, stride=2, padding=2)
        y = conv(conv(x, "b", kernel_size=(3, 1)), "c", kernel_size=3, dilation=2)
        x = x + y
        x = Pool("avg", window=3, stride=2, padding=1, name="d")(x)
        return conv(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), "e", kernel_size=2, padding=0)


def test_receptive_field_and_stride_are_the_support_of_the_gradient():
    module, shape = Sums(), (96, 96, 1)
    row = by_name(quick(module, shape))["e"]
    x = jax.random.uniform(KEY, (1, *shape))
    variables = module.init(KEY, x)
    middle = row.output_shape[0] // 2

    def support(i, j):
        gradient = jax.grad(lambda x: module.apply(variables, x)[0, i, j, 0])(x)[0, :, :, 0]
        rows, columns = np.nonzero(np.asarray(gradient))
        return rows.min(), np.ptp(rows) + 1, columns.min(), np.ptp(columns) + 1

    top, height, left, width = support(middle, middle)
    below, _, _, _ = support(middle + 1, middle)
    _, _, right, _ = support(middle, middle + 1)
    assert row.receptive_field == (height, width)
    assert row.stride == (below - top, right - left)


def test_a_layer_after_the_whole_map_sees_the_whole_map():
    class Pooled(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = GlobalPool("avg", name="pool")(Conv(2, 3, name="conv")(x))
            return Dense(2, name="output")(x)

    rows = by_name(quick(Pooled(), (10, 12, 1)))
    # Twelve columns, each seen through a window of three.
    assert rows["pool"].receptive_field == (12, 14)
    assert rows["output"].receptive_field == (12, 14)


class Nested(nn.Module):
    """The same matrix product, reached in several ways."""

    way: str

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.ones, (8, 8))

        def product(x):
            return x @ kernel

        match self.way:
            case "plain":
                return product(x)
            case "jit":
                return jax.jit(product)(x)
            case "remat":
                return jax.checkpoint(product)(x)
            case "custom_vjp":
                f = jax.custom_vjp(lambda x, k: x @ k)
                f.defvjp(lambda x, k: (x @ k, (x, k)), lambda res, g: (g @ res[1].T, res[0].T @ g))
                return f(x, kernel)
            case "custom_jvp":
                f = jax.custom_jvp(lambda x, k: x @ k)
                f.defjvp(lambda primals, tangents: (primals[0] @ primals[1], tangents[0]))
                return f(x, kernel)
            case "cond":
                return lax.cond(x.sum() > 0, lambda x: product(product(x)), product, x)
            case "scan":
                return lax.scan(lambda c, _: (product(c), None), x, length=3)[0]
            case "while":
                return lax.while_loop(lambda x: x.sum() < 0, product, x)


@pytest.mark.parametrize(
    ("way", "times"),
    [("plain", 1), ("jit", 1), ("remat", 1), ("custom_vjp", 1), ("custom_jvp", 1), ("cond", 2),
     ("scan", 3), ("while", 1)],
)  # fmt: skip
def test_products_inside_control_flow_are_counted(way, times):
    result = quick(Nested(way), (8,))
    assert result.totals.macs == times * 64
    assert [row.params for row in result.layers] == [64]


def test_what_does_not_see_the_images_is_not_counted():
    class Orthogonal(nn.Module):
        """Its initialiser and its kernel come out of matrix products."""

        @nn.compact
        def __call__(self, x):
            kernel = self.param("kernel", nn.initializers.orthogonal(), (8, 8))
            return x @ (kernel @ kernel.T)

    assert quick(Orthogonal(), (8,)).totals.macs == 64


def test_a_kernel_that_starts_at_zero_is_counted():
    module = Conv(2, 3, kernel_init=nn.initializers.zeros, name="conv")
    assert quick(module, (6, 6, 1)).totals.macs == 6 * 6 * 2 * 9


class WithHead(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        x = Conv(4, 3, name="features")(x)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        flat = x.reshape(x.shape[0], -1)
        if train or self.is_initializing():
            self.sow("auxiliary", "aux1_logits", Dense(3, name="aux1")(flat))
        return Dense(3, name="classifier")(nn.Dropout(0.5)(flat, deterministic=not train))


def test_auxiliary_heads_stand_apart():
    totals = cost(WithHead(), (4, 4, 1), batch_size=2).totals
    head = 64 * 3 + 3
    assert totals.params.auxiliary == head
    assert totals.params.trainable == 40 + 8 + head
    assert totals.params.batch_stats == 8
    assert totals.macs_auxiliary == 64 * 3
    assert totals.macs == 16 * 9 * 4 + 64 * 3
    assert totals.activations_auxiliary == 3
    assert totals.activations == 64 + 3


class Sine(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x, *, train=False):
        return Dense(10, name="output")(jnp.sin(Dense(self.width, name="hidden")(x)))


def test_training_memory_is_what_the_backward_pass_needs():
    """Of sin(x W) V the backward pass needs the sine (for V) and the cosine (for W and x)."""
    for batch in (1, 64):
        totals = cost(Sine(32), (16,), batch_size=batch).totals
        assert totals.training_mib == 2 * 32 * batch * 4 / 2**20
        assert totals.batch_size == batch


def test_rematerialised_stages_keep_less():
    model = {"name": "convnet", "stages": [[8, 8, 8, "pool"], [8, 8, "pool"]], "dense": []}
    kept = [
        counted(model | {"remat": remat}, batch_size=16).totals.training_mib
        for remat in (False, True)
    ]
    assert kept[1] < kept[0] / 3


def test_xlas_estimate_is_twice_the_multiply_adds_where_nothing_is_padded():
    totals = counted({"name": "linear"}).totals
    assert totals.xla_flops == pytest.approx(2 * totals.macs, rel=0.01)


def test_cost_as_plain_values_has_the_documented_keys():
    plain = json.loads(json.dumps(counted({"name": "lenet5"}, batch_size=4).to_dict()))
    assert set(plain) == {"totals", "layers"}
    assert plain["totals"]["params"] == {
        "trainable": 60_000, "auxiliary": 0, "fixed": 840, "batch_stats": 0
    }  # fmt: skip
    assert {"macs", "activations", "weight_mib"} <= set(plain["totals"])
    first = plain["layers"][0]
    assert first["name"] == "features/c1"
    assert first["output_shape"] == [28, 28, 6]
    assert first["receptive_field"] == [5, 5]


def test_rows_add_up_to_the_totals():
    result = counted({"name": "convnet", "norm": "batch"}, estimates=False)
    assert sum(row.params for row in result.layers) == result.totals.params.trainable
    assert sum(row.buffers for row in result.layers) == result.totals.params.batch_stats
    assert sum(row.macs for row in result.layers) == result.totals.macs


def test_one_and_three_axes_are_counted():
    model = {"name": "convnet", "stages": [[4, "pool"]], "dense": []}
    for shape in ((16, 2), (8, 8, 8, 1)):
        row = by_name(counted(model, shape, estimates=False))["conv1"]
        rank = len(shape) - 1
        assert row.macs == np.prod(shape[:-1]) * 4 * 3**rank * shape[-1]
        assert row.receptive_field == (3,) * rank


def test_an_image_too_small_is_refused_before_counting():
    with pytest.raises(ShapeError, match="features/c3"):
        counted({"name": "lenet5"}, (8, 8, 1))


def test_summary_takes_names_shapes_and_classes_from_the_paper_unless_given():
    assert summary({"name": "linear"}, estimates=False).totals.params.trainable == 7_850
    wide = summary({"name": "linear"}, input_shape=[8, 8, 1], num_classes=3, estimates=False)
    assert wide.totals.params.trainable == 64 * 3 + 3
    own = summary({"name": "linear", "input_shape": [4, 4, 1]}, estimates=False)
    assert own.totals.params.trainable == 170
    assert summary(Dense(3), input_shape=(8,), estimates=False).totals.macs == 24
    with pytest.raises(SpecError, match="input_shape"):
        summary(Dense(3))
    with pytest.raises(SpecError, match="Did you mean 'linear'"):
        summary({"name": "lineer"})
