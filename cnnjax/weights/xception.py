"""Where timm and Keras keep each layer of Xception."""

import re
from collections.abc import Mapping
from typing import Any

MIDDLE = 8
"""Blocks of the middle flow, where the options do not say."""


def _block(name: str, options: Mapping[str, Any]) -> int:
    """The number of a block, from 1, counted through the three flows as timm does."""
    if name == "exit":
        return 4 + int(options.get("middle", MIDDLE))
    flow, number = re.fullmatch(r"(entry|middle)(\d+)", name).groups()  # type: ignore[union-attr]
    return int(number) + (3 if flow == "middle" else 0)


_PLACE = re.compile(
    r"features/(?:(entry\d+|middle\d+|exit)/)?(conv|sepconv|shortcut)(\d*)/"
    r"(conv/depthwise|conv/pointwise|conv|norm)"
)


def timm(module: str, options: Mapping[str, Any]) -> str | None:
    """timm's key of legacy_xception."""
    if module == "classifier/fc":
        return "fc"
    place = _PLACE.fullmatch(module)
    if place is None:
        return None
    name, kind, number, leaf = place.groups()
    step = {"conv/depthwise": ".conv1", "conv/pointwise": ".pointwise"}.get(leaf, "")
    if name is None:
        top = int(number) + (2 if kind == "sepconv" else 0)
        return f"bn{top}" if leaf == "norm" else f"conv{top}{step}"
    block = _block(name, options)
    if kind == "shortcut":
        return f"block{block}.{'skipbn' if leaf == 'norm' else 'skip'}"
    # A block is a list of activation, convolution, norm; the first block starts without the first.
    position = 3 * (int(number) - 1) + (block > 1) + (leaf == "norm")
    return f"block{block}.rep.{position}{step}"


def keras(module: str, options: Mapping[str, Any]) -> str | None:
    """Keras's layer name; the shortcuts are numbered as they are made."""
    if module == "classifier/fc":
        return "predictions"
    place = _PLACE.fullmatch(module)
    if place is None:
        return None
    name, kind, number, leaf = place.groups()
    if kind == "shortcut":
        assert name is not None
        made = int(name.removeprefix("entry")) - 1 if name.startswith("entry") else 3
        layer = "batch_normalization" if leaf == "norm" else "conv2d"
        return f"{layer}_{made}" if made else layer
    if name is None:
        block = 1 if kind == "conv" else _block("exit", options) + 2
    else:
        block = _block(name, options) + 1
    layer = f"block{block}_{kind}{number}"
    return f"{layer}_bn" if leaf == "norm" else layer
