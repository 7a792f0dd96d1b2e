"""Where torchvision's GoogLeNet keeps each layer."""

import re
from collections.abc import Mapping
from typing import Any

from cnnjax.layers import scaled

_STEM = {"conv1": "conv1", "conv2_reduce": "conv2", "conv2": "conv3"}
_BRANCHES = {
    "conv1x1": "branch1",
    "reduce3x3": "branch2.0",
    "conv3x3": "branch2.1",
    "reduce5x5": "branch3.0",
    "conv5x5": "branch3.1",
    "pool_proj": "branch4.1",
}
_LEAVES = {"conv": "conv", "norm": "bn"}


def torchvision(module: str, options: Mapping[str, Any]) -> str | None:
    """torchvision's key; None for factored windows and the naive block, which it has not."""
    if module == "classifier/fc":
        return "fc"
    if head := re.fullmatch(r"(aux[12])/(fc[12])", module):
        return f"{head[1]}.{head[2]}"
    if head := re.fullmatch(r"(aux[12])/conv/(conv|norm)", module):
        return f"{head[1]}.conv.{_LEAVES[head[2]]}"
    if stem := re.fullmatch(r"features/(conv1|conv2_reduce|conv2)/(conv|norm)", module):
        return f"{_STEM[stem[1]]}.{_LEAVES[stem[2]]}"
    place = re.fullmatch(r"features/(inception\d[a-e])/(\w+)/(conv|norm)", module)
    if place is None or place[2] not in _BRANCHES or options.get("inception") == "naive":
        return None
    return f"{place[1]}.{_BRANCHES[place[2]]}.{_LEAVES[place[3]]}"


def flattened(options: Mapping[str, Any]) -> dict[str, tuple[int, int, int]]:
    """The heads' first dense layers read a flattened 4x4 grid: (channels, height, width)."""
    grid = (scaled(128, options.get("width", 1.0)), 4, 4)
    return {"aux1/fc1": grid, "aux2/fc1": grid}
