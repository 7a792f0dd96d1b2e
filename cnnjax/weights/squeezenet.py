"""Where torchvision's SqueezeNet keeps each layer."""

import re
from collections.abc import Mapping
from typing import Any

from cnnjax.models.squeezenet import VERSIONS


def torchvision(module: str, options: Mapping[str, Any]) -> str | None:
    """torchvision's key; None for norms and the convolutions of bypasses, which it has not."""
    if module == "features/conv1":
        return "features.0"
    if module == "classifier/conv10":
        return "classifier.1"
    place = re.fullmatch(r"features/fire(\d+)/(squeeze|expand1x1|expand3x3)", module)
    if place is None:
        return None
    fire = int(place[1])
    pools = sum(p < fire for p in VERSIONS[options["version"]].pooled)
    return f"features.{fire + 1 + pools}.{place[2]}"
