"""Where torchvision and Keras keep each layer of VGG."""

import re
from collections.abc import Mapping
from typing import Any

from cnnjax.models.vgg import CONFIGS
from cnnjax.weights.dense import flattened_map

_DENSE = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
_KERAS_DENSE = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}


def torchvision(module: str, options: Mapping[str, Any]) -> str | None:
    """torchvision's key: it numbers every layer of `features`, pools and activations included."""
    part, _, rest = module.partition("/")
    if part == "classifier":
        return None if options["head"] == "average" else _DENSE.get(rest)
    place = re.fullmatch(r"stage(\d+)/(conv|norm)(\d+)", rest)
    if place is None:
        return None
    stage, kind, position = int(place[1]), place[2], int(place[3])
    stages = options["stages"] or CONFIGS[options["config"]]
    step = 2 if options["norm"] == "none" else 3
    before = sum(step * len(kernels) + 1 for kernels in stages[: stage - 1])
    return f"features.{before + step * (position - 1) + (kind == 'norm')}"


def keras(module: str, options: Mapping[str, Any]) -> str | None:
    """Keras's layer name, block1_conv1 to predictions."""
    part, _, rest = module.partition("/")
    if part == "classifier":
        return None if options["head"] == "average" else _KERAS_DENSE.get(rest)
    place = re.fullmatch(r"stage(\d+)/conv(\d+)", rest)
    return f"block{place[1]}_conv{place[2]}" if place else None


def flattened(options: Mapping[str, Any]) -> dict[str, tuple[int, int, int]]:
    """fc6 reads the last map, which torch flattens by channels, rows, columns."""
    if options["head"] == "average":
        return {}
    return {"classifier/fc6": flattened_map("vgg", options)}
