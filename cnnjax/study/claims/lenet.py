"""Claims of LeCun et al. 1998, and of what came after about their parts."""

from cnnjax.study.claims.claim import Claim, Contrast, Setting
from cnnjax.study.claims.measures import FinalError, Rise
from cnnjax.study.claims.settings import adamw, cifar10, fashion, fashion_12k, passes

LECUN = "LeCun, Bottou, Bengio and Haffner 1998"
# The layout of LeNet-5 with rectifiers and max pooling, 61,706 parameters, as nested lists: an
# empty list of stages is a multi-layer perceptron, so that one model has every arm.
LENET = {
    "name": "convnet",
    "stages": [[6, "pool"], [{"features": 16, "padding": "VALID"}, "pool"]],
    "dense": [120, 84],
    "kernel_size": 5,
}
MLP = {"model": {"name": "convnet", "stages": [], "dense": [300, 100]}}
DEEPER = {
    "name": "convnet",
    "stages": [[32, 32, "pool"], [64, 64, "pool"], [128, 128, "pool"]],
    "dense": [256],
}
SHIFTED = {"shifted": {"split": "test", "augment": [{"name": "shift", "max": 4}]}}

CONVNET_BEATS_MLP = Claim(
    id="convnet-beats-mlp",
    statement="A convolutional network errs less than a multi-layer perceptron of four times its"
    " weights.",
    paper=LECUN,
    where="section III.C",
    published=(
        "LeNet-5 has 60,000 trainable parameters, the perceptron 784-300-100-10 has 266,610"
        " (counted from the layers).",
    ),
    contrasts=(
        Contrast("LeNet-5 against 300-100", "lenet5", "mlp", FinalError(), 1.0),
    ),
    settings={
        "cpu": Setting(
            "Rectifiers, max pooling and softmax in place of the paper's units; 10,000 images of"
            " Fashion-MNIST for 6 passes, not 60,000 digits.",
            {"model": LENET, "dataset": fashion_12k(), "schedule": adamw(960)},
            {"lenet5": {}, "mlp": MLP},
            seeds=6,
        ),
        "gpu": Setting(
            "As the small tier, on all of Fashion-MNIST for 20 passes.",
            {"model": LENET, "dataset": fashion(), "schedule": passes(20, 0.05, 5e-4)},
            {"lenet5": {}, "mlp": MLP},
            seeds=10,
        ),
    },
)  # fmt: skip

CONNECTION_TABLE = Claim(
    id="connection-table",
    statement="Joining only 60 of the 96 pairs of maps between S2 and C3 costs no accuracy.",
    paper=LECUN,
    where="section II.B, table I",
    published=(
        "No error is given. C3 has 1,516 parameters with the table and 2,416 without (counted).",
    ),
    contrasts=(
        Contrast("table against full connection", "table", "full", FinalError(), 1.0, "equal"),
    ),
    settings={
        "cpu": Setting(
            "LeNet-5 with its own units and a softmax; whether the table helps to break symmetry is"
            " not looked at. A random table of the same size is not among the arms.",
            {
                "model": {"name": "lenet5", "output": "softmax", "connections": "full"},
                "dataset": fashion_12k(normalize="lecun1998"),
                "schedule": adamw(800, 3e-3),
            },
            {"full": {}, "table": {"model.connections": "table"}},
            seeds=6,
        ),
        "gpu": Setting(
            "All of Fashion-MNIST for 20 passes.",
            {
                "model": {"name": "lenet5", "output": "softmax", "connections": "full"},
                "dataset": fashion(normalize="lecun1998"),
                "schedule": passes(20, 0.05, 0.0),
            },
            {"full": {}, "table": {"model.connections": "table"}},
            seeds=10,
        ),
    },
)

_POOLS = {
    "trainable": {},
    "average": {"model.pool": "avg"},
    "max": {"model.pool": "max"},
}
TRAINABLE_SUBSAMPLING = Claim(
    id="trainable-subsampling",
    statement="Max pooling errs less than averaging, trainable or not.",
    paper="Mishkin, Sergievskiy and Matas 2016 (arXiv:1606.02228); LeCun et al. 1998 subsample by a"
    " trainable sum",
    where="pooling; section II.B",
    published=(
        "CaffeNet at 128 pixels, one run each: max pooling 47.1 % accuracy, average 43.5 %.",
    ),
    contrasts=(
        Contrast("max against trainable sums", "max", "trainable", FinalError(), 0.5),
        Contrast("max against plain averages", "max", "average", FinalError(), 0.5),
    ),
    settings={
        "cpu": Setting(
            "LeNet-5 with scaled tanh and softmax. The trainable sum is squashed as in the paper,"
            " the other two are not.",
            {
                "model": {"name": "lenet5", "output": "softmax"},
                "dataset": fashion_12k(normalize="lecun1998"),
                "schedule": adamw(800, 3e-3),
            },
            _POOLS,
            seeds=5,
        ),
        "cluster": Setting(
            "AlexNet on ImageNet at 128 pixels; without the trainable sum, which it does not have.",
            {
                "model": {"name": "alexnet", "groups": 1, "dense": 2048},
                "dataset": {
                    "name": "imagenet2012", "image_size": 128, "shorter_side": 144,
                    "batch_size": 256, "normalize": "imagenet", "augment": [{"name": "flip"}],
                },
                "schedule": passes(60, 0.01, 5e-4),
            },
            {"max": {}, "average": {"model.pool": "avg"}},
            seeds=3,
            contrasts=(
                Contrast("max against plain averages", "max", "average", FinalError(), 0.5),
            ),
        ),
    },
)  # fmt: skip

LOCALITY_AND_TRANSLATION = Claim(
    id="locality-and-translation",
    statement="Local shared kernels make a network robust to translation, and pooling makes it more"
    " so.",
    paper=LECUN,
    where="section II.A",
    published=("Argued, not measured, in the paper.",),
    contrasts=(
        Contrast("convolutions against a perceptron", "max pooling", "mlp",
                 Rise("test", "shifted"), 5.0),
        Contrast("pooling against mere subsampling", "max pooling", "subsampling",
                 Rise("test", "shifted"), 2.0),
    ),
    settings={
        "cpu": Setting(
            "Trained on images as they are, scored on the same test images moved by up to 4 pixels"
            " each way. Subsampling keeps the first value of each window, so that the two networks"
            " have the same sizes and weights.",
            {
                "model": LENET,
                "dataset": fashion_12k(evaluations=SHIFTED),
                "schedule": adamw(800),
            },
            {"max pooling": {}, "subsampling": {"model.pool": "stride"}, "mlp": MLP},
            seeds=4,
        ),
        "gpu": Setting(
            "Six convolutions on CIFAR-10 without augmentation.",
            {
                "model": DEEPER,
                "dataset": cifar10(augment=[], evaluations=SHIFTED),
                "schedule": passes(30, 0.02, 5e-4),
            },
            {
                "max pooling": {},
                "subsampling": {"model.pool": "stride"},
                "mlp": {"model": {"name": "convnet", "stages": [], "dense": [2048, 512]}},
            },
            seeds=5,
        ),
    },
)  # fmt: skip
