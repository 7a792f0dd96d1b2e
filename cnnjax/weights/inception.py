"""Where torchvision and Keras keep each layer of Inception v3."""

from collections.abc import Mapping
from functools import cache
from typing import Any

_STEM = {
    "conv1a": "Conv2d_1a_3x3",
    "conv2a": "Conv2d_2a_3x3",
    "conv2b": "Conv2d_2b_3x3",
    "conv3b": "Conv2d_3b_1x1",
    "conv4a": "Conv2d_4a_3x3",
}
# The order inside a block is that in which torchvision and Keras make the layers.
_A = {
    "conv1x1": "branch1x1",
    "reduce5x5": "branch5x5_1",
    "conv5x5": "branch5x5_2",
    "double_reduce": "branch3x3dbl_1",
    "double_conv1": "branch3x3dbl_2",
    "double_conv2": "branch3x3dbl_3",
    "pool_proj": "branch_pool",
}
_B = {
    "conv3x3": "branch3x3",
    "double_reduce": "branch3x3dbl_1",
    "double_conv1": "branch3x3dbl_2",
    "double_conv2": "branch3x3dbl_3",
}
_C = {
    "conv1x1": "branch1x1",
    "reduce7x7": "branch7x7_1",
    "conv7x7/row": "branch7x7_2",
    "conv7x7/column": "branch7x7_3",
    "double_reduce": "branch7x7dbl_1",
    "double_conv1/column": "branch7x7dbl_2",
    "double_conv1/row": "branch7x7dbl_3",
    "double_conv2/column": "branch7x7dbl_4",
    "double_conv2/row": "branch7x7dbl_5",
    "pool_proj": "branch_pool",
}
_D = {
    "reduce3x3": "branch3x3_1",
    "conv3x3": "branch3x3_2",
    "reduce7x7": "branch7x7x3_1",
    "conv7x7/row": "branch7x7x3_2",
    "conv7x7/column": "branch7x7x3_3",
    "conv7x7_3x3": "branch7x7x3_4",
}
_E = {
    "conv1x1": "branch1x1",
    "reduce3x3": "branch3x3_1",
    "row": "branch3x3_2a",
    "column": "branch3x3_2b",
    "double_reduce": "branch3x3dbl_1",
    "double_conv": "branch3x3dbl_2",
    "double_row": "branch3x3dbl_3a",
    "double_column": "branch3x3dbl_3b",
    "pool_proj": "branch_pool",
}
_BLOCKS = {
    "inception_a1": ("Mixed_5b", _A), "inception_a2": ("Mixed_5c", _A),
    "inception_a3": ("Mixed_5d", _A), "reduction_b": ("Mixed_6a", _B),
    "inception_c1": ("Mixed_6b", _C), "inception_c2": ("Mixed_6c", _C),
    "inception_c3": ("Mixed_6d", _C), "inception_c4": ("Mixed_6e", _C),
    "reduction_d": ("Mixed_7a", _D), "inception_e1": ("Mixed_7b", _E),
    "inception_e2": ("Mixed_7c", _E),
}  # fmt: skip


@cache
def _units() -> dict[str, str]:
    """Our convolution -> torchvision's, in the order in which both libraries make them."""
    stem = {f"features/{ours}": theirs for ours, theirs in _STEM.items()}
    blocks = {
        f"features/{block}/{ours}": f"{mixed}.{theirs}"
        for block, (mixed, branches) in _BLOCKS.items()
        for ours, theirs in branches.items()
    }
    return stem | blocks


def torchvision(module: str, options: Mapping[str, Any]) -> str | None:
    """torchvision's key; None for what an option changed beyond its layout."""
    if module in ("classifier/fc", "aux/fc"):
        return "fc" if module == "classifier/fc" else "AuxLogits.fc"
    unit, _, leaf = module.rpartition("/")
    if leaf not in ("conv", "norm"):
        return None
    key = {"aux/conv0": "AuxLogits.conv0", "aux/conv1": "AuxLogits.conv1"} | _units()
    return f"{key[unit]}.{'conv' if leaf == 'conv' else 'bn'}" if unit in key else None


def keras(module: str, options: Mapping[str, Any]) -> str | None:
    """Keras's layer name: it numbers convolutions and norms as they are made, from no number."""
    if module == "classifier/fc":
        return "predictions"
    unit, _, leaf = module.rpartition("/")
    if leaf not in ("conv", "norm") or unit not in _units():
        return None
    position = list(_units()).index(unit)
    kind = "conv2d" if leaf == "conv" else "batch_normalization"
    return f"{kind}_{position}" if position else kind


def order(key: str) -> int:
    """torchvision defines the auxiliary head between Mixed_6e, which feeds it, and Mixed_7a."""
    return 2 if key.startswith(("Mixed_7", "fc")) else int(key.startswith("AuxLogits"))
