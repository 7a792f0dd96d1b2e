"""Every exact count of the ImageNet and CIFAR networks, by shape evaluation alone.

Sources: the papers' tables; torchvision's weight metadata (`num_params`, and `_ops` to its three
decimals of 10^9); Keras' `count_params`, which adds moving statistics; timm's table of activations
in 10^6. Where a source rounds, the integer is the sum over the layers of the paper's table.
"""

import functools
import json
from typing import NamedTuple

import pytest

from cnnjax.audit import FACTS, models_long
from cnnjax.cost import cost, parameters, summary, variables_of
from cnnjax.models import build

IMAGENET = {"inception_v3": (299, 299, 3), "xception": (299, 299, 3), "alexnet": (227, 227, 3)}


@functools.cache
def _params(text, shape):
    return parameters(variables_of(build(json.loads(text), input_shape=shape), shape))


@functools.cache
def _totals(text):
    return summary(json.loads(text), estimates=False).totals


def params(name, shape=None, **options):
    shape = shape or IMAGENET.get(name, (224, 224, 3))
    return _params(json.dumps({"name": name, **options}), shape)


def totals(name, **options):
    return _totals(json.dumps({"name": name, **options}))


def cifar(name, **options):
    return params(name, (32, 32, 3), **options).trainable


class Sums(NamedTuple):
    weights: int
    statistics: int
    macs: int
    activations: int

    def plus(self, other, times=1):
        return Sums(*(a + times * b for a, b in zip(self, other, strict=True)))


PREACTIVATION = {"order": "full_preactivation"}

# The network whose units those of another are, only more of them, and the options it takes.
SAME_UNITS = {f"resnet{depth}": ("resnet_cifar", {}) for depth in (20, 32, 44, 56, 110, 1202)}
SAME_UNITS |= {name: ("resnet50", {}) for name in ("resnet", "resnet101", "resnet152")}
SAME_UNITS |= {f"resnet{depth}v2": ("resnet50", PREACTIVATION) for depth in (50, 101, 152)}
SAME_UNITS |= {"resnet34": ("resnet18", {}), "plain34": ("plain18", {})}


@functools.cache
def _two_units(text):
    """Counts of a residual network with two units in a stage, and what the second ones add."""
    found = summary(json.loads(text), estimates=False)
    second = {}
    total = Sums(0, 0, 0, 0)
    for row in found.layers:
        counts = Sums(row.params, row.buffers, row.macs, row.activations)
        total = total.plus(counts)
        stage = row.name.removeprefix("features/").split("_block2/")
        if len(stage) == 2:
            second[stage[0]] = second.get(stage[0], Sums(0, 0, 0, 0)).plus(counts)
    assert total.macs == found.totals.macs
    return total, list(second.values())


def deep(name, **options):
    """The counts of a deep residual network, unit by unit.

    Every unit of a stage after the first adds what the second does; how many there are is read off
    the network as built. This spares the suite minutes of tracing equal blocks.
    """
    stages = [len(stage) for stage in build({"name": name, **options}).features.stages]
    other, given = SAME_UNITS.get(name, (name, {}))
    shallow = {"name": other, **given, **options, "stages": [2] * len(stages)}
    shallow.pop("depth", None)
    total, second = _two_units(json.dumps(shallow, sort_keys=True))
    for units, added in zip(stages, second, strict=True):
        total = total.plus(added, units - 2)
    return total


# name, options, trainable parameters, multiply-adds
FULL = [
    # Krizhevsky et al. 2012; ungrouped; Krizhevsky 2014 as torchvision ships it.
    ("alexnet", {}, 60_965_224, 724_406_816),
    ("alexnet", {"groups": 1}, 62_378_344, 1_135_256_096),
    ("alexnet", {"variant": "torchvision", "input_shape": [224, 224, 3]}, 61_100_840, 714_188_480),
    # Simonyan & Zisserman 2014, table 1.
    ("vgg11", {}, 132_863_336, 7_609_090_048),
    ("vgg", {"config": "A-LRN"}, 132_863_336, 7_609_090_048),
    ("vgg13", {}, 133_047_848, 11_308_466_176),
    ("vgg", {"config": "C"}, 133_638_952, 11_770_888_192),
    ("vgg16", {}, 138_357_544, 15_470_264_320),
    ("vgg19", {}, 143_667_240, 19_632_062_464),
    # Szegedy et al. 2014, table 1, with biases; torchvision's with batch norm and 3x3 for 5x5.
    ("googlenet", {}, 6_998_552, 1_582_671_872),
    ("googlenet", {"variant": "torchvision"}, 6_624_904, 1_498_376_192),
    # Szegedy et al. 2015, table 1 as torchvision ships it.
    ("inception_v3", {}, 23_834_568, 5_713_216_096),
    # He et al. 2015, table 1: option B shortcuts, stride in the first 1x1.
    ("resnet18", {}, 11_689_512, 1_814_073_344),
    ("resnet34", {}, 21_797_672, 3_663_761_408),
    ("plain18", {}, 11_515_688, 1_794_805_760),
    ("resnet50", {}, 25_557_032, 3_857_973_248),
    # Iandola et al. 2016, table 1 and section 6.
    ("squeezenet1_0", {}, 1_248_424, 818_924_576),
    ("squeezenet1_0", {"bypass": "simple"}, 1_248_424, 818_924_576),
    ("squeezenet1_0", {"bypass": "complex"}, 1_589_672, 1_165_298_720),
    ("squeezenet1_1", {}, 1_235_496, 349_151_936),
    # Chollet 2016, table 3.
    ("xception", {}, 22_855_952, 8_357_403_496),
    # He et al. 2015, table 6: option A.
    ("resnet20", {}, 269_722, 40_551_040),
]


@pytest.mark.parametrize(
    ("name", "options", "weights", "macs"), FULL, ids=[" ".join(map(str, row[:2])) for row in FULL]
)
def test_parameters_and_multiply_adds_are_exact(name, options, weights, macs):
    found = totals(name, **options)
    assert found.params.trainable == weights
    assert found.macs == macs
    assert found.weight_mib == weights * 4 / 2**20


WEIGHTS = [
    # Batch norm adds two numbers per map; torchvision keeps the biases beside it.
    ("vgg11", {"norm": "batch"}, 132_868_840),
    ("vgg13", {"norm": "batch"}, 133_053_736),
    ("vgg16", {"norm": "batch"}, 138_365_992),
    ("vgg19", {"norm": "batch"}, 143_678_248),
    ("googlenet", {"variant": "torchvision", "branch5": "5x5"}, 7_005_832),
]


@pytest.mark.parametrize(
    ("name", "options", "weights"), WEIGHTS, ids=[" ".join(map(str, row[:2])) for row in WEIGHTS]
)
def test_parameters_are_exact(name, options, weights):
    assert params(name, **options).trainable == weights


@pytest.mark.parametrize(
    ("name", "options", "heads", "macs"),
    [
        ("googlenet", {}, 13_378_280 - 6_998_552, 8_372_224),
        ("googlenet", {"variant": "torchvision"}, 13_004_888 - 6_624_904, None),
        ("inception_v3", {}, 27_161_264 - 23_834_568, 5_683_200),
    ],
)
def test_auxiliary_heads_are_exact(name, options, heads, macs):
    found = totals(name, **options)
    assert found.params.auxiliary == heads
    if macs is not None:
        assert found.macs_auxiliary == macs


@pytest.mark.parametrize(
    ("name", "options", "millions"),
    [
        ("vgg16", {}, 13.56),
        ("resnet18", {}, 2.48),
        ("inception_v3", {}, 8.97),
        ("xception", {}, 35.83),
        ("alexnet", {}, 0.66),
        ("googlenet", {}, 3.23),
        ("squeezenet1_0", {}, 4.35),
    ],
)
def test_activations_are_timms(name, options, millions):
    assert round(totals(name, **options).activations / 1e6, 2) == millions


@pytest.mark.parametrize(("name", "millions"), [("resnet50", 11.11), ("resnet152", 22.56)])
def test_activations_of_deep_residual_networks_are_timms(name, millions):
    assert round(deep(name, variant="torchvision").activations / 1e6, 2) == millions


def test_neurons_of_alexnet_add_up_to_what_the_figure_shows():
    """55 * 55 * 96 + 27 * 27 * 256 + 13 * 13 * (384 + 384 + 256) + 4096 + 4096 + 1000."""
    assert totals("alexnet").activations == 659_272


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("inception_v3", 23_851_784),
        ("xception", 22_910_480),
        ("vgg16", 138_357_544),
        ("vgg19", 143_667_240),
    ],
)
def test_keras_counts_moving_statistics_too(name, shown):
    found = params(name, variant="keras")
    assert found.trainable + found.batch_stats == shown
    assert found.auxiliary == 0


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("resnet50", 25_636_712),
        ("resnet50v2", 25_613_800),
        ("resnet101", 44_707_176),
        ("resnet152", 60_419_944),
    ],
)
def test_keras_counts_moving_statistics_of_the_deep_nets_too(name, shown):
    found = deep(name, variant="keras")
    assert found.weights + found.statistics == shown


def test_keras_inception_trains_no_batch_norm_scale():
    assert params("inception_v3", variant="keras").trainable == 23_834_568 - 17_216
    assert params("inception_v3", variant="keras").batch_stats == 34_432


def test_biases_of_keras_resnet50_are_as_many_as_its_maps():
    keras, paper = deep("resnet50", variant="keras"), deep("resnet50")
    assert keras.weights - paper.weights == 26_560
    assert keras.statistics == paper.statistics == 2 * 26_560


BOTTLENECK = {"block": "bottleneck", "shortcut": "projection"}

DEEP = [
    # The same two nets in both ways of counting.
    ("resnet34", {}, 21_797_672, 3_663_761_408),
    ("resnet50", {}, 25_557_032, 3_857_973_248),
    ("plain34", {}, 21_623_848, 3_644_493_824),
    # Shortcut options A and C of table 2 and section 4.1.
    ("resnet18", {"shortcut": "identity"}, 11_515_688, None),
    ("resnet18", {"shortcut": "projection_all"}, 12_043_816, None),
    ("resnet34", {"shortcut": "identity"}, 21_623_848, None),
    ("resnet34", {"shortcut": "projection_all"}, 22_716_840, None),
    # ResNet 1.5 is torchvision's: stride in the 3x3.
    ("resnet50", {"variant": "torchvision"}, 25_557_032, 4_089_184_256),
    # He et al. 2016: pre-activation, one batch norm between stem and first unit.
    ("resnet50v2", {}, 25_549_352, 4_089_184_256),
    ("resnet101", {}, 44_549_160, 7_570_194_432),
    ("resnet101", {"variant": "torchvision"}, 44_549_160, 7_801_405_440),
    ("resnet152", {}, 60_192_808, 11_282_415_616),
    ("resnet152", {"variant": "torchvision"}, 60_192_808, 11_513_626_624),
    ("resnet101v2", {}, 44_541_480, 7_801_405_440),
    ("resnet152v2", {}, 60_185_128, 11_513_626_624),
    ("resnet", {"depth": 200}, 64_673_832, None),
    ("resnet", {"depth": 200, **PREACTIVATION}, 64_666_152, 15_007_481_856),
    # He et al. 2015, table 6: option A.
    ("resnet20", {}, 269_722, 40_551_040),
    ("resnet32", {}, 464_154, 68_862_592),
    ("resnet44", {}, 658_586, 97_174_144),
    ("resnet56", {}, 853_018, 125_485_696),
    ("resnet110", {}, 1_727_962, 252_887_680),
    ("resnet1202", {}, 19_421_274, 2_829_238_912),
    ("resnet_cifar", {"depth": 110, "shortcut": "projection"}, 1_730_714, None),
    ("resnet_cifar", {"depth": 110, "shortcut": "projection_all"}, 1_826_202, None),
    # He et al. 2016, tables 2 and 4.
    ("resnet_cifar", {"depth": 110, **PREACTIVATION}, 1_727_962, None),
    ("resnet_cifar", {"depth": 164, **BOTTLENECK}, 1_704_154, None),
    ("resnet_cifar", {"depth": 1001, **BOTTLENECK}, 10_328_602, None),
    ("resnet_cifar", {"depth": 164, **BOTTLENECK, **PREACTIVATION}, 1_703_258, None),
    ("resnet_cifar", {"depth": 1001, **BOTTLENECK, **PREACTIVATION}, 10_327_706, None),
]


@pytest.mark.parametrize(
    ("name", "options", "weights", "macs"), DEEP, ids=[" ".join(map(str, row[:2])) for row in DEEP]
)
def test_deep_residual_networks_are_exact(name, options, weights, macs):
    found = deep(name, **options)
    assert found.weights == weights
    if macs is not None:
        assert found.macs == macs


def test_stride_in_the_3x3_costs_231_million_multiply_adds():
    for name in ("resnet50", "resnet101", "resnet152"):
        later, first = deep(name, variant="torchvision"), deep(name)
        assert later.macs - first.macs == 231_211_008
        assert later.weights == first.weights


def test_plain_twins_of_option_a_nets_have_their_parameters():
    for depth in (20, 56, 110):
        plain = deep("resnet_cifar", depth=depth, shortcut="none")
        assert plain.weights == deep("resnet_cifar", depth=depth).weights


def test_resnet18_at_32_pixels_is_no_net_of_the_papers_section_4_2():
    """What many repositories train on CIFAR-10 is 41 times as large as ResNet-20."""
    wide = build({"name": "resnet18", "num_classes": 10}, input_shape=(32, 32, 3))
    found = cost(wide, (32, 32, 3), estimates=False).totals
    assert round(found.params.trainable / 1e6, 2) == 11.17
    assert round(found.macs / 1e9, 2) == 0.56
    assert found.params.trainable // cifar("resnet20") == 41


def test_separable_stem_is_the_first_row_of_googlenets_table():
    """2.7 thousand parameters and 34 million operations fit no dense 7x7 of 64 maps."""
    found = summary({"name": "googlenet", "stem_conv": "separable"}, estimates=False)
    rows = [row for row in found.layers if row.output_shape[:2] == (112, 112) and row.macs]
    weights = sum(row.macs for row in rows) / 112**2
    assert weights == 7 * 7 * 3 * 8 + 24 * 64
    assert round(weights * 112**2 / 1e6) == 34


def test_long_list_of_models_shows_the_counted_numbers():
    for row in models_long():
        if row["name"].startswith(("resnet", "plain")):
            found = deep(row["name"])
            counted = found.weights, found.macs
        else:
            found = totals(row["name"])
            counted = found.params.trainable, found.macs
        assert (row["params"], row["macs"]) == counted, row["name"]
        assert row["weight_mib"] == 4 * row["params"] / 2**20
        assert bool(row["source"]) == any(row[k] is not None for k in ("top1_error", "top5_error"))


def test_audited_residual_networks_have_what_was_published():
    checked = 0
    for fact in FACTS:
        if fact.model.startswith("resnet") and "MiB" not in fact.quantity:
            found = deep(fact.model, **fact.form)
            ours = {
                "parameters": found.weights,
                "parameters with moving statistics": found.weights + found.statistics,
                "multiply-adds": found.macs,
            }[fact.quantity]
            assert abs(ours - fact.value) <= fact.unit / 2, (fact.model, fact.source)
            checked += 1
    assert checked >= 20
