"""Data sets and schedules that several claims share, as the dicts of an experiment file."""

from typing import Any

Dict = dict[str, Any]
CROP_AND_FLIP = [{"name": "pad_crop", "pad": 4}, {"name": "flip"}]


def fashion_12k(**more: Any) -> Dict:
    """The bundled 10,000 + 2,000 images, in batches of 64: 156.25 steps a pass."""
    return {
        "name": "fashion_mnist_12k", "batch_size": 64, "normalize": "fashion_mnist", **more
    }  # fmt: skip


def fashion(**more: Any) -> Dict:
    """The 60,000 + 10,000 images."""
    return {"name": "fashion_mnist", "batch_size": 128, "normalize": "fashion_mnist", **more}


def cifar10(**more: Any) -> Dict:
    """He et al. 2015, section 4.2: batches of 128, crops of images padded by 4, and flips."""
    return {
        "name": "cifar10", "batch_size": 128, "normalize": "cifar10", "augment": CROP_AND_FLIP,
        **more,
    }  # fmt: skip


def imagenet(size: int = 224, **more: Any) -> Dict:
    """Crops of random area and flips; scored on the centre of the picture."""
    return {
        "name": "imagenet2012", "image_size": size, "batch_size": 256, "normalize": "imagenet",
        "augment": [{"name": "random_resized_crop"}, {"name": "flip"}], **more,
    }  # fmt: skip


def adamw(steps: int, value: float = 2e-3, **more: Any) -> Dict:
    """Decoupled weight decay under a cosine: the schedule of the small tier, where none is said."""
    return {
        "steps": steps,
        "optimizer": {"name": "adamw", "weight_decay": 0.01},
        "learning_rate": {"name": "cosine", "value": value, "warmup": 0.05},
        **rare(steps),
        **more,
    }


def momentum(steps: int, value: float, weight_decay: float = 0.0, **more: Any) -> Dict:
    """Plain momentum of 0.9 at a constant rate, for claims about optimisation."""
    return {
        "steps": steps,
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": weight_decay},
        "learning_rate": {"name": "constant", "value": value},
        **rare(steps),
        **more,
    }


def rare(steps: int) -> Dict:
    """Scored and saved at the end alone."""
    return {"eval_every": steps, "checkpoint_every": steps}


def he2015(**more: Any) -> Dict:
    """He et al. 2015, section 4.2: 64,000 steps, the rate of 0.1 divided by 10 at 32 and 48 k."""
    return {
        "steps": 64_000,
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
        "learning_rate": {
            "name": "piecewise", "value": 0.1, "drop_at": [32_000, 48_000], "factor": 0.1
        },
        **more,
    }  # fmt: skip


def he2016() -> Dict:
    """He et al. 2016: as in 2015, after 400 steps at a rate of 0.01."""
    rate = {
        "name": "piecewise", "value": 0.1, "drop_at": [32_000, 48_000], "factor": 0.1,
        "warmup": 400, "warmup_from": 0.01,
    }  # fmt: skip
    return he2015(learning_rate=rate)


def passes(epochs: int, value: float, weight_decay: float, drops: int = 3, **more: Any) -> Dict:
    """Momentum with the rate divided by 10 in equal parts of the run, as on a plateau by hand."""
    share = [round((i + 1) / (drops + 1), 3) for i in range(drops)]
    return {
        "epochs": epochs,
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": weight_decay},
        "learning_rate": {"name": "piecewise", "value": value, "drop_at": share, "factor": 0.1},
        **more,
    }
