"""What torchvision, timm and Keras call the modules of `cnnjax.models.resnet`."""

import re

from cnnjax.weights.convert import Options

_UNIT = re.compile(r"features/stage(\d+)_block(\d+)/(conv|norm|shortcut/conv|shortcut/norm)(\d*)")


def torchvision(module: str, options: Options) -> str | None:
    """torchvision's names, also those of timm's ResNets; it has no pre-activated ones."""
    if options["order"] == "full_preactivation":
        return None
    ends = {"features/stem/conv": "conv1", "features/stem/norm": "bn1", "classifier/fc": "fc"}
    unit = _UNIT.fullmatch(module)
    if unit is None:
        return ends.get(module)
    stage, block, part, number = unit.groups()
    parts = {"conv": "conv", "norm": "bn", "shortcut/conv": "downsample.0",
             "shortcut/norm": "downsample.1"}  # fmt: skip
    return f"layer{stage}.{int(block) - 1}.{parts[part]}{number}"


def timm(module: str, options: Options) -> str | None:
    """timm's names: `resnet50` and its kin as torchvision, `resnetv2_50` and its kin here."""
    if options["order"] != "full_preactivation":
        return torchvision(module, options)
    ends = {"features/stem/conv": "stem.conv", "features/norm": "norm", "classifier/fc": "head.fc"}
    unit = _UNIT.fullmatch(module)
    if unit is None:
        return ends.get(module)
    stage, block, part, number = unit.groups()
    part = "downsample.conv" if part == "shortcut/conv" else part
    return f"stages.{int(stage) - 1}.blocks.{int(block) - 1}.{part}{number}"


def timm_pointwise(options: Options) -> tuple[str, ...]:
    """timm's pre-activated nets keep the classifier as a 1x1 convolution."""
    return ("classifier/fc",) if options["order"] == "full_preactivation" else ()


def order(name: str) -> tuple[int, int, int, bool]:
    """timm's pre-activated units define their projection first; all else is as it is called."""
    if name in ("norm", "head.fc"):
        return (2, 0, 0, False)
    if not name.startswith("stages."):
        return (0, 0, 0, False)
    _, stage, _, block, part = name.split(".", 4)
    return (1, int(stage), int(block), not part.startswith("downsample"))


def keras(module: str, options: Options) -> str | None:
    """The names of keras.applications' ResNet50 .. ResNet152 and ResNet50V2 .. ResNet152V2."""
    ends = {"features/stem/conv": "conv1_conv", "features/stem/norm": "conv1_bn",
            "features/norm": "post_bn", "classifier/fc": "predictions"}  # fmt: skip
    unit = _UNIT.fullmatch(module)
    if unit is None:
        return ends.get(module)
    stage, block, part, number = unit.groups()
    name = f"conv{int(stage) + 1}_block{block}"
    if part.startswith("shortcut"):
        return f"{name}_0_{'conv' if part.endswith('conv') else 'bn'}"
    if part == "conv":
        return f"{name}_{number}_conv"
    if options["order"] == "full_preactivation":
        return f"{name}_preact_bn" if number == "1" else f"{name}_{int(number) - 1}_bn"
    return f"{name}_{number}_bn"
