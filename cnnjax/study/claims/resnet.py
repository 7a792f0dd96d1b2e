"""Claims of He et al. 2015 (arXiv:1512.03385) and He et al. 2016 (arXiv:1603.05027)."""

from cnnjax.study.claims.claim import Arms, Claim, Contrast, Setting
from cnnjax.study.claims.measures import FinalError, TrainingLoss
from cnnjax.study.claims.settings import (
    cifar10,
    fashion_12k,
    he2015,
    he2016,
    imagenet,
    momentum,
    passes,
)

HE2015 = "He, Zhang, Ren and Sun 2015 (arXiv:1512.03385)"
HE2016 = "He, Zhang, Ren and Sun 2016 (arXiv:1603.05027)"
# Half of the paper's 16 to 64 maps; the stem of large images makes them 7x7, 4x4 and 2x2.
NARROW = {"name": "resnet_cifar", "width": 0.5, "stem": "imagenet"}
IMAGENET = passes(90, 0.1, 1e-4, drops=2)


def _small(depth: int, steps: int, **model: object) -> dict[str, dict[str, object]]:
    return {
        "model": NARROW | {"depth": depth} | model,
        "dataset": fashion_12k(),
        "schedule": momentum(steps, 0.05, 1e-4),
    }


DEGRADATION = Claim(
    id="resnet-degradation",
    statement="A deeper plain network has a higher training error than a shallower one; residual"
    " connections cure it.",
    paper=HE2015,
    where="section 4.1, table 2; section 4.2, figure 6",
    published=(
        "Top-1 error on ImageNet: plain 18 layers 27.94, 34 layers 28.54; residual 27.88 and"
        " 25.03 %.",
    ),
    contrasts=(
        Contrast("shallow against deep plain", "plain, shallow", "plain, deep", TrainingLoss(),
                 0.05),
        Contrast("deep residual against deep plain", "residual, deep", "plain, deep",
                 TrainingLoss(), 0.05),
    ),
    settings={
        "cpu": Setting(
            "8 and 44 layers, half as wide, training loss at the end of two passes. Early training"
            " says nothing of where long training ends.",
            _small(8, 300),
            {
                "plain, shallow": {"model.shortcut": "none"},
                "plain, deep": {"model.shortcut": "none", "model.depth": 44},
                "residual, shallow": {},
                "residual, deep": {"model.depth": 44},
            },
            seeds=3,
        ),
        "gpu": Setting(
            "The paper's networks of 20 and 56 layers on CIFAR-10.",
            {
                "model": {"name": "resnet_cifar", "depth": 20},
                "dataset": cifar10(),
                "schedule": he2015(),
            },
            {
                "plain, shallow": {"model.shortcut": "none"},
                "plain, deep": {"model.shortcut": "none", "model.depth": 56},
                "residual, shallow": {},
                "residual, deep": {"model.depth": 56},
            },
            seeds=5,
        ),
        "cluster": Setting(
            "The paper's networks of 18 and 34 layers; the rate falls at fixed passes, not on a"
            " plateau.",
            {
                "model": {"name": "resnet", "depth": 18, "shortcut": "identity"},
                "dataset": imagenet(),
                "schedule": IMAGENET,
            },
            {
                "plain, shallow": {"model.shortcut": "none"},
                "plain, deep": {"model.shortcut": "none", "model.depth": 34},
                "residual, shallow": {},
                "residual, deep": {"model.depth": 34},
            },
            seeds=2,
        ),
    },
)  # fmt: skip

_OPTIONS: Arms = {
    "A": {},
    "B": {"model.shortcut": "projection"},
    "C": {"model.shortcut": "projection_all"},
}
SHORTCUT_OPTIONS = Claim(
    id="shortcut-options",
    statement="Shortcuts without parameters (A) do as well as projections where sizes change (B) or"
    " everywhere (C).",
    paper=HE2015,
    where="section 4.1, table 3",
    published=("Top-1 error of 34 layers on ImageNet: A 25.03, B 24.52, C 24.19 %.",),
    contradictions=("C fails at 110 layers: 12.22 against 6.61 % (arXiv:1603.05027, table 1).",),
    contrasts=(
        Contrast("A against B", "A", "B", FinalError(), 1.0, "equal"),
        Contrast("A against C", "A", "C", FinalError(), 1.0, "equal"),
    ),
    settings={
        "cpu": Setting("14 layers, half as wide.", _small(14, 500), _OPTIONS, seeds=5),
        "gpu": Setting(
            "56 layers on CIFAR-10.",
            {
                "model": {"name": "resnet_cifar", "depth": 56},
                "dataset": cifar10(),
                "schedule": he2015(),
            },
            _OPTIONS,
            seeds=5,
        ),
        "cluster": Setting(
            "34 layers on ImageNet; the rate falls at fixed passes, not on a plateau.",
            {
                "model": {"name": "resnet", "depth": 34, "shortcut": "identity"},
                "dataset": imagenet(),
                "schedule": IMAGENET,
            },
            _OPTIONS,
            seeds=3,
        ),
    },
)

_HINDERED: Arms = {
    "identity": {},
    "scaled": {"model.shortcut_scale": 0.5, "model.residual_scale": 0.5},
    "gated": {"model.gate": "exclusive", "model.gate_bias": -6.0},
    "dropped": {"model.shortcut_dropout": 0.5},
}
CLEAN_SHORTCUTS = Claim(
    id="clean-shortcuts",
    statement="Scaling, gating or dropping out the shortcut is worse than the identity.",
    paper=HE2016,
    where="section 3.1, table 1",
    published=(
        "Error of 110 layers on CIFAR-10: identity 6.61; scaled by 0.5 with the branch 12.35;"
        " exclusive gate at bias -6 8.70 %; dropout of one half fails.",
    ),
    contradictions=(
        "An independent replication at 20 layers found gates and 1x1 convolutions harmless: depth"
        " matters.",
    ),
    contrasts=tuple(
        Contrast(f"identity against {arm}", "identity", arm, FinalError(), 0.5)
        for arm in ("scaled", "gated", "dropped")
    ),
    settings={
        "cpu": Setting(
            "32 layers, half as wide, training loss at the end of two passes.",
            _small(32, 300),
            _HINDERED,
            seeds=3,
            contrasts=tuple(
                Contrast(f"identity against {arm}", "identity", arm, TrainingLoss(), 0.05)
                for arm in ("scaled", "gated", "dropped")
            ),
        ),
        "gpu": Setting(
            "The paper's network of 110 layers on CIFAR-10.",
            {
                "model": {"name": "resnet_cifar", "depth": 110},
                "dataset": cifar10(),
                "schedule": he2016(),
            },
            _HINDERED,
            seeds=5,
        ),
    },
)

_ORDERS: Arms = {
    "original": {},
    "norm after addition": {"model.order": "bn_after_add"},
    "rectifier before addition": {"model.order": "relu_before_add"},
    "rectifier first": {"model.order": "relu_preactivation"},
    "full pre-activation": {"model.order": "full_preactivation"},
}
_PAIRS = (
    ("full pre-activation", "original"),
    ("original", "norm after addition"),
    ("original", "rectifier before addition"),
)
ACTIVATION_ORDER = Claim(
    id="activation-order",
    statement="Full pre-activation is best; batch norm after the addition, or a rectifier before"
    " it, is worse than the original unit.",
    paper=HE2016,
    where="section 4.1, table 2",
    published=(
        "Error of 110 layers on CIFAR-10: original 6.61, norm after addition 8.17, rectifier before"
        " addition 7.84, rectifier first 6.71, full pre-activation 6.37 %.",
        "At 164 layers: 5.93, 6.50, 6.14, 5.91 and 5.46 %.",
    ),
    contrasts=tuple(
        Contrast(f"{a} against {b}", a, b, FinalError(), 0.2) for a, b in _PAIRS
    ),
    settings={
        "cpu": Setting(
            "20 layers, half as wide, training loss at the end of two passes.",
            _small(20, 300),
            _ORDERS,
            seeds=3,
            contrasts=tuple(
                Contrast(f"{a} against {b}", a, b, TrainingLoss(), 0.02) for a, b in _PAIRS
            ),
        ),
        "gpu": Setting(
            "The paper's network of 110 layers on CIFAR-10.",
            {
                "model": {"name": "resnet_cifar", "depth": 110},
                "dataset": cifar10(),
                "schedule": he2016(),
            },
            _ORDERS,
            seeds=5,
        ),
    },
)  # fmt: skip

_DEPTHS: Arms = {
    "original": {},
    "pre-activation": {"model.order": "full_preactivation"},
}
PREACTIVATION_AT_DEPTH = Claim(
    id="preactivation-at-depth",
    statement="In very deep networks full pre-activation trains better than the original order.",
    paper=HE2016,
    where="section 4.2, table 3",
    published=(
        "Error on CIFAR-10, original and pre-activation: 6.61 and 6.37 % at 110 layers, 5.93 and"
        " 5.46 % at 164; pre-activation 4.92 % at 1001.",
    ),
    contrasts=(
        Contrast("pre-activation against original", "pre-activation", "original", FinalError(),
                 0.2),
    ),
    settings={
        "cpu": Setting(
            "56 layers, not 1001, half as wide; training loss at the end of two passes.",
            _small(56, 300),
            _DEPTHS,
            seeds=4,
            contrasts=(
                Contrast("pre-activation against original", "pre-activation", "original",
                         TrainingLoss(), 0.02),
            ),
        ),
        "gpu": Setting(
            "164 layers of bottlenecks on CIFAR-10.",
            {
                "model": {"name": "resnet_cifar", "depth": 164, "block": "bottleneck",
                          "shortcut": "projection"},
                "dataset": cifar10(),
                "schedule": he2016(),
            },
            _DEPTHS,
            seeds=5,
        ),
        "cluster": Setting(
            "The paper's 1001 layers on CIFAR-10, 1.49 G multiply-adds an image.",
            {
                "model": {"name": "resnet_cifar", "depth": 1001, "block": "bottleneck",
                          "shortcut": "projection", "remat": True},
                "dataset": cifar10(),
                "schedule": he2016(),
            },
            _DEPTHS,
            seeds=3,
        ),
    },
)  # fmt: skip
