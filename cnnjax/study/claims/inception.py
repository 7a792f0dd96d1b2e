"""Claims of GoogLeNet (Szegedy et al. 2014), Inception v3 (2015) and Network in Network (2013)."""

from cnnjax.study.claims.claim import Arms, Claim, Contrast, Setting
from cnnjax.study.claims.lenet import LENET
from cnnjax.study.claims.measures import FinalError
from cnnjax.study.claims.settings import adamw, cifar10, fashion_12k, imagenet, passes
from cnnjax.study.claims.vgg import CIFAR, LENGTH, SMALL

SZEGEDY = "Szegedy et al. 2014 (arXiv:1409.4842)"
RETHINKING = "Szegedy et al. 2015 (arXiv:1512.00567)"
# RMSProp as in section 8 of the paper; the rate decays exponentially, in 49 steps.
INCEPTION = {
    "epochs": 100,
    "optimizer": {"name": "rmsprop", "decay": 0.9, "eps": 1.0},
    "learning_rate": {
        "name": "piecewise", "value": 0.045, "factor": 0.94,
        "drop_at": [round(0.02 * i, 2) for i in range(1, 50)],
    },
    "clip": 2.0,
}  # fmt: skip

GLOBAL_POOLING_HEAD = Claim(
    id="global-pooling-head",
    statement="Global average pooling errs less than fully connected layers in the head.",
    paper=SZEGEDY + "; Lin, Chen and Yan 2013 (arXiv:1312.4400)",
    where="section 5; section 4.6",
    published=(
        "0.6 points of top-1 error (Szegedy et al. 2014).",
        "VGG net D with it has 15,227,688 parameters, 89 % fewer (counted).",
    ),
    contrasts=(
        Contrast("average pooling against dense", "average", "dense", FinalError(), 0.3),
        Contrast("average pooling against dense with dropout", "average", "dense, dropout",
                 FinalError(), 0.3),
    ),
    settings={
        "cpu": Setting(
            "Six convolutions of 3x3; dense layers of 128, with dropout of one half and without.",
            {
                "model": SMALL | {"widths": [8, 16, 32], "stages": [[3, 3]] * 3, "dense": 128},
                "dataset": fashion_12k(),
                "schedule": adamw(500),
            },
            {
                "dense": {},
                "dense, dropout": {"model.dropout": 0.5},
                "average": {"model.head": "average"},
            },
            seeds=5,
        ),
        "gpu": Setting(
            "VGG net D, half as wide, on CIFAR-10.",
            {
                "model": CIFAR | {"config": "D", "dropout": 0.0, "norm": "batch"},
                "dataset": cifar10(),
                "schedule": passes(100, 0.01, 5e-4),
            },
            {
                "dense": {},
                "dense, dropout": {"model.dropout": 0.5},
                "average": {"model.head": "average"},
            },
            seeds=5,
        ),
        "cluster": Setting(
            "VGG net D on ImageNet, not the papers' own networks.",
            {
                "model": {"name": "vgg", "config": "D", "dropout": 0.0, "norm": "batch"},
                "dataset": imagenet(),
                "schedule": LENGTH,
            },
            {
                "dense": {},
                "dense, dropout": {"model.dropout": 0.5},
                "average": {"model.head": "average"},
            },
            seeds=2,
        ),
    },
)  # fmt: skip

REDUCTION_1X1 = Claim(
    id="reduction-1x1",
    statement="1x1 reductions before large windows keep the accuracy at a fraction of the cost.",
    paper=SZEGEDY,
    where="section 4, figure 2",
    published=(
        "Block 3a has 163,328 weights with them and 387,072 without (counted); no error is given.",
    ),
    contrasts=(Contrast("reduced against naive", "reduced", "naive", FinalError(), 1.0, "equal"),),
    settings={
        "gpu": Setting(
            "A quarter as wide with batch norm, on CIFAR-10.",
            {
                "model": {"name": "googlenet", "width": 0.25, "norm": "batch", "aux_heads": 0},
                "dataset": cifar10(),
                "schedule": passes(60, 0.02, 2e-4),
            },
            {"reduced": {}, "naive": {"model.inception": "naive"}},
            seeds=5,
        ),
        "cluster": Setting(
            "The paper's network; the schedule is ours.",
            {
                "model": {"name": "googlenet"},
                "dataset": imagenet(),
                "schedule": passes(90, 0.01, 2e-4),
            },
            {"reduced": {}, "naive": {"model.inception": "naive"}},
            seeds=2,
        ),
    },
)

_HEADS = {"no heads": {"model.aux_heads": 0}, "one head": {"model.aux_heads": 1}, "two heads": {}}
AUXILIARY_HEADS = Claim(
    id="auxiliary-heads",
    statement="Auxiliary classifiers lower the error, and the lower one can be left out.",
    paper=f"{SZEGEDY}; {RETHINKING}",
    where="section 5; section 4",
    published=(
        "Szegedy et al. 2015: no effect early in training, a gain near its end, and none from the"
        " lower head.",
        "GoogLeNet at 128 pixels, one run: head 1 alone 52.0 % accuracy, head 2 57.1 %, main head"
        " 63.8 % (caffenet-benchmark).",
    ),
    contrasts=(
        Contrast("two heads against none", "two heads", "no heads", FinalError(), 0.5),
        Contrast("one head against two", "one head", "two heads", FinalError(), 1.0, "equal"),
    ),
    settings={
        "gpu": Setting(
            "A quarter as wide, on CIFAR-10.",
            {
                "model": {"name": "googlenet", "width": 0.25, "norm": "batch"},
                "dataset": cifar10(),
                "schedule": passes(60, 0.02, 2e-4),
            },
            _HEADS,
            seeds=5,
        ),
        "cluster": Setting(
            "The paper's network; the schedule is ours.",
            {
                "model": {"name": "googlenet"},
                "dataset": imagenet(),
                "schedule": passes(90, 0.01, 2e-4),
            },
            _HEADS,
            seeds=3,
        ),
    },
)

_SMOOTHED: Arms = {
    "hard": {},
    "smoothed": {"schedule.loss": {"name": "cross_entropy", "label_smoothing": 0.1}},
}
LABEL_SMOOTHING = Claim(
    id="label-smoothing",
    statement="Label smoothing of 0.1 lowers the error.",
    paper=RETHINKING,
    where="section 7",
    published=("0.2 points of top-1 and of top-5 error on ImageNet.",),
    contrasts=(
        Contrast("smoothed against hard labels", "smoothed", "hard", FinalError(), 0.2),
    ),
    settings={
        "cpu": Setting(
            "LeNet-5 for 4 passes. So small an effect takes many seeds.",
            {"model": LENET, "dataset": fashion_12k(), "schedule": adamw(625)},
            _SMOOTHED,
            seeds=12,
        ),
        "cluster": Setting(
            "Inception v3 with the paper's optimiser, in batches of 1,600.",
            {
                "model": {"name": "inception_v3"},
                "dataset": imagenet(299, shorter_side=342, batch_size=1600),
                "schedule": INCEPTION,
            },
            _SMOOTHED,
            seeds=5,
        ),
    },
)  # fmt: skip

_FACTORED = LENET | {
    "stages": [[12, "pool"], [24, "pool"]], "dense": [64], "factorization": "stack",
}  # fmt: skip
RELU_BETWEEN_FACTORS = Claim(
    id="relu-between-factors",
    statement="Where a 5x5 is written as two 3x3, a rectifier between the two is better than none.",
    paper=RETHINKING,
    where="section 3.1, figure 2",
    published=("The paper's figure finds the rectifier better; its numbers were not re-read.",),
    contrasts=(
        Contrast("rectifier against linear", "rectifier", "linear", FinalError(), 0.3),
    ),
    settings={
        "cpu": Setting(
            "Two factored convolutions of 12 and 24 maps; the first factor keeps the maps it reads,"
            " one in the first layer.",
            {"model": _FACTORED, "dataset": fashion_12k(), "schedule": adamw(500)},
            {"linear": {}, "rectifier": {"model.factor_activation": True}},
            seeds=8,
        ),
        "gpu": Setting(
            "GoogLeNet a quarter as wide with factored 5x5 branches, on CIFAR-10.",
            {
                "model": {
                    "name": "googlenet", "width": 0.25, "norm": "batch", "branch5": "two_3x3",
                    "factor_activation": False,
                },
                "dataset": cifar10(),
                "schedule": passes(60, 0.02, 2e-4),
            },
            {"linear": {}, "rectifier": {"model.factor_activation": True}},
            seeds=8,
        ),
    },
)  # fmt: skip
