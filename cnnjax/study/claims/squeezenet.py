"""Claims of Iandola et al. 2016 (arXiv:1602.07360)."""

from cnnjax.study.claims.claim import Arms, Claim, Contrast, Setting, Tier
from cnnjax.study.claims.measures import FinalError
from cnnjax.study.claims.settings import cifar10, imagenet

IANDOLA = "Iandola et al. 2016 (arXiv:1602.07360)"
CIFAR = {"name": "squeezenet", "norm": "batch"}
LINEAR = {
    "epochs": 68,
    "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 2e-4},
    "learning_rate": {"name": "polynomial", "value": 0.04},
}


def _full_size(arms: Arms) -> dict[Tier, Setting]:
    """The settings of the larger tiers, which differ in their arms alone."""
    return {
        "gpu": Setting(
            "SqueezeNet 1.0 with batch norm, on CIFAR-10.",
            {"model": CIFAR, "dataset": cifar10(), "schedule": LINEAR},
            arms,
            seeds=5,
        ),
        "cluster": Setting(
            "The paper's network, 68 passes in batches of 512.",
            {
                "model": {"name": "squeezenet"},
                "dataset": imagenet(227, batch_size=512),
                "schedule": LINEAR,
            },
            arms,
            seeds=3,
        ),
    }


_BYPASSES = {
    "none": {},
    "simple": {"model.bypass": "simple"},
    "complex": {"model.bypass": "complex"},
}
BYPASS = Claim(
    id="bypass",
    statement="Simple bypass errs less than complex bypass, and both less than none.",
    paper=IANDOLA,
    where="section 6, table 3",
    published=(
        "Accuracy on ImageNet, top-1 and top-5: none 57.5 and 80.3, complex 58.8 and 82.0, simple"
        " 60.4 and 82.5 %.",
    ),
    contrasts=(
        Contrast("simple against none", "simple", "none", FinalError(), 0.5),
        Contrast("complex against none", "complex", "none", FinalError(), 0.5),
        Contrast("simple against complex", "simple", "complex", FinalError(), 0.3),
    ),
    settings=_full_size(_BYPASSES),
)

_RATIOS = {f"{ratio:g}": {"model.squeeze_ratio": ratio} for ratio in (0.125, 0.5, 0.75, 1.0)}
SQUEEZE_RATIO = Claim(
    id="squeeze-ratio",
    statement="Accuracy grows with the squeeze ratio up to 0.75 and not beyond.",
    paper=IANDOLA,
    where="section 5.2, figure 3a",
    published=(
        "Top-5 accuracy on ImageNet: 80.3 % at a ratio of 0.125, 86.0 % from 0.75 on.",
    ),
    contrasts=(
        Contrast("0.75 against 0.125", "0.75", "0.125", FinalError(), 0.5),
        Contrast("1 against 0.75", "1", "0.75", FinalError(), 1.0, "equal"),
    ),
    settings=_full_size(_RATIOS),
)  # fmt: skip
