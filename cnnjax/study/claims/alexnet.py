"""Claims of Krizhevsky, Sutskever and Hinton 2012."""

from itertools import product

from cnnjax.study.claims.claim import Claim, Contrast, Setting
from cnnjax.study.claims.measures import FinalError, Rise, StepsTo
from cnnjax.study.claims.settings import adamw, cifar10, fashion_12k, imagenet, momentum, passes

KRIZHEVSKY = "Krizhevsky, Sutskever and Hinton 2012"
FOUR_LAYERS = {
    "name": "convnet",
    "stages": [[8, "pool"], [16, "pool"], [32, "pool"]],
    "dense": [],
    "kernel_size": 5,
}
CIFAR_FOUR_LAYERS = FOUR_LAYERS | {"stages": [[32, "pool"], [32, "pool"], [64, "pool"]]}
# AlexNet's five convolutions in one tower, an eighth or a sixteenth as wide. N(0, 0.01) kernels and
# biases of one would need more passes than the small tier has.
NARROW = {
    "name": "alexnet", "groups": 1, "width": 0.0625, "dense": 2048, "norm": "none",
    "dropout": 0.0, "initializer": "he_normal", "unit_biases": False,
}  # fmt: skip
ALEXNET = passes(90, 0.01, 5e-4)
RATES = (0.01, 0.03, 0.1)
_UNITS = {"relu": "he_normal", "tanh": "lecun_normal"}


def _units(rates: tuple[float, ...]) -> dict[str, dict[str, object]]:
    return {
        f"{unit} at {rate:g}": {
            "model.activation": unit,
            "model.initializer": _UNITS[unit],
            "schedule.learning_rate.value": rate,
        }
        for unit, rate in product(_UNITS, rates)
    }


def _at(unit: str, rates: tuple[float, ...]) -> tuple[str, ...]:
    return tuple(f"{unit} at {rate:g}" for rate in rates)


RELU_FASTER_THAN_TANH = Claim(
    id="relu-faster-than-tanh",
    statement="A network of rectifiers reaches a training error several times sooner than the same"
    " network of tanh units, each at its own best learning rate.",
    paper=KRIZHEVSKY,
    where="section 3.1, figure 1",
    published=(
        "Six times faster to 25 % training error, four-layer network on CIFAR-10: 2.6 doublings.",
        "CaffeNet at 128 pixels, one run each: ReLU 47.1 % accuracy, tanh 40.1 %"
        " (arXiv:1606.02228).",
    ),
    contrasts=(
        Contrast("ReLU against tanh, best rate of three each",
                 _at("relu", RATES), _at("tanh", RATES), StepsTo(15.0), 0.58),
    ),
    settings={
        "cpu": Setting(
            "15 % training error on 10,000 images of Fashion-MNIST, where 25 % is passed within one"
            " pass over the data. No regularisation. Each seed's rate is the one that was best on"
            " the other seeds. 0.58 doublings are half as many steps again.",
            {
                "model": FOUR_LAYERS,
                "dataset": fashion_12k(),
                "schedule": momentum(600, 0.03),
            },
            _units(RATES),
            seeds=3,
        ),
        "gpu": Setting(
            "The paper's task: 25 % training error of a four-layer network on CIFAR-10. The widths"
            " are ours.",
            {
                "model": CIFAR_FOUR_LAYERS,
                "dataset": cifar10(augment=[]),
                "schedule": momentum(30_000, 0.01),
            },
            _units(RATES),
            seeds=5,
            contrasts=(
                Contrast("ReLU against tanh, best rate of three each",
                         _at("relu", RATES), _at("tanh", RATES), StepsTo(25.0), 0.58),
            ),
        ),
    },
)  # fmt: skip


def _pooled(widths: tuple[int, ...], window: int) -> list[list[object]]:
    pool = {"pool": "max", "window": window, "stride": 2, "padding": "SAME"}
    return [[width, pool] for width in widths]


OVERLAPPING_POOLING = Claim(
    id="overlapping-pooling",
    statement="Pooling windows of 3 at a stride of 2 err less than windows of 2 at that stride.",
    paper=KRIZHEVSKY,
    where="section 3.4",
    published=("0.4 points of top-1 and 0.3 of top-5 error on ImageNet.",),
    contradictions=(
        "CaffeNet at 128 pixels, one run each: 2x2 windows 48.4 % accuracy, 3x3 windows 47.1 %; the"
        " maps differ in size (arXiv:1606.02228).",
    ),
    contrasts=(
        Contrast("windows of 3 against 2", "overlapping", "apart", FinalError(), 0.3),
    ),
    settings={
        "cpu": Setting(
            "Three convolutions; both windows are padded so that the maps have the same sizes.",
            {
                "model": FOUR_LAYERS | {"stages": _pooled((8, 16, 32), 2)},
                "dataset": fashion_12k(),
                "schedule": adamw(600),
            },
            {"apart": {}, "overlapping": {"model.stages": _pooled((8, 16, 32), 3)}},
            seeds=8,
        ),
        "cluster": Setting(
            "The paper's network; maps of windows of 2 are one pixel larger.",
            {
                "model": {"name": "alexnet", "pool_window": 2},
                "dataset": imagenet(227, batch_size=128),
                "schedule": ALEXNET,
            },
            {"apart": {}, "overlapping": {"model.pool_window": 3}},
            seeds=3,
        ),
    },
)  # fmt: skip

LOCAL_RESPONSE_NORM = Claim(
    id="local-response-norm",
    statement="Local response normalisation after the first two layers lowers the error.",
    paper=KRIZHEVSKY,
    where="section 3.3",
    published=(
        "1.4 points of top-1 and 1.2 of top-5 error on ImageNet.",
        "13 % to 11 % with a four-layer network on CIFAR-10.",
    ),
    contradictions=(
        "VGG: net A 29.6 % error, net A-LRN 29.7 % (arXiv:1409.1556, table 3).",
        "CaffeNet at 128 pixels, one run each: 47.1 % accuracy with it, 47.0 % without"
        " (arXiv:1606.02228).",
    ),
    contrasts=(
        Contrast("with against without", "with", "without", FinalError(), 0.5),
    ),
    settings={
        "cpu": Setting(
            "AlexNet's layout in one tower, a sixteenth as wide, at stride 1 on 28x28.",
            {"model": NARROW, "dataset": fashion_12k(), "schedule": adamw(500, 1e-3)},
            {"without": {}, "with": {"model.norm": "lrn"}},
            seeds=6,
        ),
        "gpu": Setting(
            "AlexNet's layout at a quarter of the width on CIFAR-10, not the paper's four layers.",
            {
                "model": {"name": "alexnet", "groups": 1, "width": 0.25, "norm": "none",
                          "initializer": "he_normal", "unit_biases": False},
                "dataset": cifar10(),
                "schedule": passes(60, 0.01, 5e-4),
            },
            {"without": {}, "with": {"model.norm": "lrn"}},
            seeds=10,
        ),
        "cluster": Setting(
            "The paper's network.",
            {
                "model": {"name": "alexnet", "norm": "none"},
                "dataset": imagenet(227, batch_size=128),
                "schedule": ALEXNET,
            },
            {"without": {}, "with": {"model.norm": "lrn"}},
            seeds=3,
        ),
    },
)  # fmt: skip

MIDDLE_LAYERS = Claim(
    id="middle-layers",
    statement="Removing any middle convolution raises the error.",
    paper=KRIZHEVSKY,
    where="section 7",
    published=("About 2 points of top-1 error for each of them on ImageNet.",),
    contrasts=tuple(
        Contrast(f"whole against without {layer}", "whole", f"without {layer}", FinalError(), 0.5)
        for layer in ("conv3", "conv4", "conv5")
    ),
    settings={
        "cpu": Setting(
            "AlexNet's layout in one tower, a sixteenth as wide, at stride 1 on 28x28.",
            {"model": NARROW, "dataset": fashion_12k(), "schedule": adamw(500, 1e-3)},
            {"whole": {}} | {
                f"without {layer}": {"model.without": [layer]}
                for layer in ("conv3", "conv4", "conv5")
            },
            seeds=5,
        ),
        "cluster": Setting(
            "The paper's network.",
            {
                "model": {"name": "alexnet"},
                "dataset": imagenet(227, batch_size=128),
                "schedule": ALEXNET,
            },
            {"whole": {}} | {
                f"without {layer}": {"model.without": [layer]}
                for layer in ("conv3", "conv4", "conv5")
            },
            seeds=3,
        ),
    },
)  # fmt: skip

_SEEN = {"seen": {"split": "train"}}
DROPOUT = Claim(
    id="dropout",
    statement="Dropout of one half in the fully connected layers lessens overfitting.",
    paper=KRIZHEVSKY,
    where="section 4.2",
    published=("The paper's figure was not re-read.",),
    contrasts=(
        Contrast("test less training error, with against without", "with", "without",
                 Rise("seen", "test"), 1.0),
        Contrast("test error, with against without", "with", "without", FinalError(), 0.3),
    ),
    settings={
        "cpu": Setting(
            "2,500 training images for 30 passes and a hidden layer of 256. Training error is that"
            " of the finished network without dropout, on the images it was trained on.",
            {
                "model": FOUR_LAYERS | {"stages": [[8, "pool"], [16, "pool"]], "dense": [256]},
                "dataset": fashion_12k(split={"train": "train[:2500]"}, evaluations=_SEEN),
                "schedule": adamw(1200),
            },
            {"without": {}, "with": {"model.dropout": 0.5}},
            seeds=6,
        ),
        "cluster": Setting(
            "The paper's network.",
            {
                "model": {"name": "alexnet", "dropout": 0.0},
                "dataset": imagenet(
                    227, batch_size=128,
                    evaluations={"seen": {"split": "train[:50000]"}},
                ),
                "schedule": ALEXNET,
            },
            {"without": {}, "with": {"model.dropout": 0.5}},
            seeds=3,
        ),
    },
)  # fmt: skip
