"""Claims of Simonyan and Zisserman 2014 (arXiv:1409.1556), and of how its deep nets are started."""

from cnnjax.study.claims.claim import Claim, Contrast, Setting
from cnnjax.study.claims.measures import FinalError, TrainingLoss
from cnnjax.study.claims.settings import adamw, cifar10, fashion_12k, imagenet, momentum, passes

SIMONYAN = "Simonyan and Zisserman 2014 (arXiv:1409.1556)"
SMALL = {
    "name": "vgg", "widths": [8, 16, 32, 32], "dense": 64, "dropout": 0.0,
    "initializer": "he_normal",
}  # fmt: skip
LENGTH = passes(74, 0.01, 5e-4)
# The paper starts its deep nets from a trained net A; He's initialiser takes the place of that.
FULL = {"name": "vgg", "initializer": "he_normal"}
CIFAR = FULL | {"width": 0.5, "dense": 1024}


def _stages(*counts: int) -> list[list[int]]:
    return [[3] * count for count in counts]


_DEPTHS = {"6": (1, 1, 2, 2), "8": (2, 2, 2, 2), "10": (2, 2, 3, 3), "12": (2, 2, 4, 4)}
_CONFIGS = {"A": "11", "B": "13", "D": "16", "E": "19"}


def _deeper(depths: tuple[str, str, str, str]) -> tuple[Contrast, ...]:
    first, second, third, last = (f"{depth} layers" for depth in depths)
    return (
        Contrast(f"{second} against {first}", second, first, FinalError(), 0.3),
        Contrast(f"{third} against {second}", third, second, FinalError(), 0.3),
        Contrast(f"{last} against {third}", last, third, FinalError(), 0.5, "equal"),
    )


DEPTH_HELPS = Claim(
    id="depth-helps",
    statement="The error falls with depth from 11 to 16 layers, and no further at 19.",
    paper=SIMONYAN,
    where="table 3",
    published=("Top-1 error at a single scale: A 29.6, B 28.7, D 27.0, E 27.3 %.",),
    contrasts=_deeper(("11", "13", "16", "19")),
    settings={
        "cpu": Setting(
            "6, 8, 10 and 12 convolutions of 3x3 in four stages of 8 to 32 maps, no batch norm; one"
            " hidden layer size of 64 in the head.",
            {
                "model": SMALL | {"stages": _stages(*_DEPTHS["6"])},
                "dataset": fashion_12k(),
                "schedule": adamw(500, 1e-3),
            },
            {f"{n} layers": {"model.stages": _stages(*counts)} for n, counts in _DEPTHS.items()},
            seeds=4,
            contrasts=_deeper(("6", "8", "10", "12")),
        ),
        "gpu": Setting(
            "Half as wide, on CIFAR-10.",
            {
                "model": CIFAR | {"config": "A"},
                "dataset": cifar10(),
                "schedule": passes(100, 0.01, 5e-4),
            },
            {f"{n} layers": {"model.config": config} for config, n in _CONFIGS.items()},
            seeds=5,
        ),
        "cluster": Setting(
            "The paper's networks at one training scale, from He's initialiser, not in stages.",
            {"model": FULL | {"config": "A"}, "dataset": imagenet(), "schedule": LENGTH},
            {f"{n} layers": {"model.config": config} for config, n in _CONFIGS.items()},
            seeds=2,
        ),
    },
)  # fmt: skip

TWO_3X3_AGAINST_5X5 = Claim(
    id="two-3x3-against-5x5",
    statement="Two convolutions of 3x3 err less than one of 5x5 with the same receptive field.",
    paper=SIMONYAN,
    where="section 4.1",
    published=("7 points of top-1 error between net B and a shallow net of 5x5 on ImageNet.",),
    contrasts=(
        Contrast("pairs of 3x3 against 5x5", "3x3 twice", "5x5", FinalError(), 0.5),
    ),
    settings={
        "cpu": Setting(
            "Two stages of 16 and 32 maps; weights and multiply-adds are not matched, as in the"
            " paper.",
            {
                "model": SMALL | {"widths": [12, 24], "stages": [[5], [5]]},
                "dataset": fashion_12k(),
                "schedule": adamw(500),
            },
            {"5x5": {}, "3x3 twice": {"model.stages": [[3, 3], [3, 3]]}},
            seeds=6,
        ),
        "cluster": Setting(
            "Net B against the same with each pair replaced by one 5x5.",
            {
                "model": FULL | {"config": "B", "stages": [[5]] * 5},
                "dataset": imagenet(),
                "schedule": LENGTH,
            },
            {"5x5": {}, "3x3 twice": {"model.stages": [[3, 3]] * 5}},
            seeds=2,
        ),
    },
)  # fmt: skip

_B, _C, _D = [[3, 3]] * 4, [[3, 3]] * 2 + [[3, 3, 1]] * 2, [[3, 3]] * 2 + [[3, 3, 3]] * 2
SPATIAL_CONTEXT = Claim(
    id="spatial-context",
    statement="At one depth 3x3 convolutions err less than 1x1 ones in their place (D, C), and the"
    " 1x1 ones less than none (C, B).",
    paper=SIMONYAN,
    where="section 4.1, table 3",
    published=("Top-1 error at a single scale: B 28.7, C 28.1, D 27.0 %.",),
    contrasts=(
        Contrast("D against C", "D", "C", FinalError(), 0.3),
        Contrast("C against B", "C", "B", FinalError(), 0.3),
    ),
    settings={
        "cpu": Setting(
            "8 and 10 convolutions in four stages of 8 to 32 maps, no batch norm.",
            {
                "model": SMALL | {"stages": _B},
                "dataset": fashion_12k(),
                "schedule": adamw(500, 1e-3),
            },
            {"B": {}, "C": {"model.stages": _C}, "D": {"model.stages": _D}},
            seeds=4,
        ),
        "gpu": Setting(
            "Half as wide, on CIFAR-10.",
            {
                "model": CIFAR | {"config": "B"},
                "dataset": cifar10(),
                "schedule": passes(100, 0.01, 5e-4),
            },
            {name: {"model.config": name} for name in "BCD"},
            seeds=5,
        ),
        "cluster": Setting(
            "The paper's networks at one training scale, from He's initialiser, not in stages.",
            {"model": FULL | {"config": "B"}, "dataset": imagenet(), "schedule": LENGTH},
            {name: {"model.config": name} for name in "BCD"},
            seeds=2,
        ),
    },
)  # fmt: skip

_STARTS = {
    "N(0, 0.01)": {},
    "He": {"model.initializer": "he_normal"},
    "batch norm": {"model.norm": "batch"},
}
DEEP_VGG_START = Claim(
    id="deep-vgg-start",
    statement="A deep plain network started from N(0, 0.01) stalls; He's initialiser or batch norm"
    " lets it train.",
    paper=SIMONYAN,
    where="section 3.1, which starts deep nets from a shallow trained one for that reason",
    published=(
        "Tensorpack's VGG-16: 29 to 30 % error without batch norm, with a large variation over"
        " random seeds; 28 % with it.",
    ),
    contrasts=(
        Contrast("He against N(0, 0.01)", "He", "N(0, 0.01)", TrainingLoss(), 0.3),
        Contrast("batch norm against N(0, 0.01)", "batch norm", "N(0, 0.01)", TrainingLoss(), 0.3),
    ),
    settings={
        "cpu": Setting(
            "Net D with 4 to 32 maps, training loss after 300 steps of momentum at one rate; on"
            " longer runs N(0, 0.01) may come loose. A pooled head, so that the convolutions alone"
            " are at issue.",
            {
                "model": {"name": "vgg", "width": 0.0625, "head": "average", "dropout": 0.0},
                "dataset": fashion_12k(),
                "schedule": momentum(300, 0.01),
            },
            _STARTS,
            seeds=3,
        ),
        "cluster": Setting(
            "Net D on ImageNet, final test error.",
            {"model": {"name": "vgg", "config": "D"}, "dataset": imagenet(), "schedule": LENGTH},
            _STARTS,
            seeds=3,
            contrasts=(
                Contrast("He against N(0, 0.01)", "He", "N(0, 0.01)", FinalError(), 0.5),
                Contrast("batch norm against N(0, 0.01)", "batch norm", "N(0, 0.01)",
                         FinalError(), 0.5),
            ),
        ),
    },
)  # fmt: skip
