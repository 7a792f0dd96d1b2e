"""Where torchvision's AlexNet keeps each layer."""

from collections.abc import Mapping
from typing import Any

from cnnjax.weights.dense import flattened_map

_TORCHVISION = {
    "features/conv1": "features.0",
    "features/conv2": "features.3",
    "features/conv3": "features.6",
    "features/conv4": "features.8",
    "features/conv5": "features.10",
    "classifier/fc6": "classifier.1",
    "classifier/fc7": "classifier.4",
    "classifier/fc8": "classifier.6",
}


def torchvision(module: str, options: Mapping[str, Any]) -> str | None:
    """torchvision's key of our module; None for a norm, which its AlexNet has not."""
    return _TORCHVISION.get(module)


def flattened(options: Mapping[str, Any]) -> dict[str, tuple[int, int, int]]:
    """fc6 reads the last map, which torch flattens by channels, rows, columns."""
    return {"classifier/fc6": flattened_map("alexnet", options)}
