"""Weights of other libraries in and out, by their own names for the tensors.

A layout is a library's set of names: "torchvision", "timm" or "keras" (Keras 3's `variable.path`
after `clear_session`). `load` and `save` convert, `certificate` says what was loaded from where and
how near the logits come, `read` and `write` hold the tensors in .safetensors and .npz files.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax import models, schema
from cnnjax.weights import alexnet, convert, googlenet, inception, resnet, squeezenet, vgg, xception
from cnnjax.weights.certify import certify
from cnnjax.weights.convert import Family
from cnnjax.weights.files import State, digest, read, write

__all__ = ["FAMILIES", "Family", "certificate", "digest", "load", "read", "save", "write"]

# The factory of a family -> its names; a ready name such as "resnet50" is found by its factory.
FAMILIES: Mapping[schema.Factory, Family] = {
    models.MODELS["alexnet"]: Family(
        layouts={"torchvision": alexnet.torchvision}, flattened=alexnet.flattened
    ),
    models.MODELS["vgg"]: Family(
        layouts={"torchvision": vgg.torchvision, "keras": vgg.keras}, flattened=vgg.flattened
    ),
    models.MODELS["googlenet"]: Family(
        layouts={"torchvision": googlenet.torchvision}, flattened=googlenet.flattened
    ),
    models.MODELS["inception_v3"]: Family(
        layouts={"torchvision": inception.torchvision, "keras": inception.keras},
        order=inception.order,
    ),
    models.MODELS["resnet"]: Family(
        layouts={
            "torchvision": resnet.torchvision,
            "timm": resnet.timm,
            "keras": resnet.keras,
        },
        pointwise={"timm": resnet.timm_pointwise},
        order=resnet.order,
    ),
    models.MODELS["resnet_cifar"]: Family(
        layouts={"torchvision": resnet.torchvision, "timm": resnet.timm}
    ),
    models.MODELS["squeezenet"]: Family(layouts={"torchvision": squeezenet.torchvision}),
    models.MODELS["xception"]: Family(layouts={"timm": xception.timm, "keras": xception.keras}),
}


def load(
    layout: str,
    model: Mapping[str, Any],
    state: State | str | Path,
    *,
    ignore: Collection[str] = (),
) -> dict[str, Any]:
    """Flax variables for `model` from the tensors of `state`, by the names of `layout`.

    `state` is a mapping name -> NumPy array or a .safetensors or .npz file, never a pickle.
    torch's `num_batches_tracked` is passed over, and so are tensors whose name begins with one of
    `ignore` that the model does not have. Arrays come out in float32.

    Raises DataError with every missing, unexpected and misshapen tensor: the model's tree (-)
    beside the file's (+). Raises SpecError where the layout has no such network.

    The names and shapes cannot tell variants apart that differ in strides, padding or eps: name
    the variant of the library in `model`, and compare logits with `certificate`.
    """
    return convert.load(FAMILIES, layout, model, state, ignore=ignore)


def save(
    layout: str, model: Mapping[str, Any], variables: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The tensors of `layout` from Flax variables, in the library's order; undoes `load` exactly.

    `num_batches_tracked`, which torch's state dicts hold, is written as 0.

    Raises DataError where `variables` are not those of `model`.
    """
    return convert.save(FAMILIES, layout, model, variables)


def certificate(
    layout: str,
    model: Mapping[str, Any],
    source: State | str | Path,
    *,
    images: np.ndarray | None = None,
    logits: np.ndarray | None = None,
    ignore: Collection[str] = (),
) -> dict[str, Any]:
    """What was loaded from where, as plain values, and how near it comes to reference `logits`.

    `sha256` of the file (or of the tensors of a mapping), `tensors` mapped, `passed_over`,
    `parameters`; with `images` (n, h, w, c) and the `logits` (n, classes) that the library gives
    for them: `max_abs_difference`, `relative_l2` and `same_argmax`.

    Raises what `load` raises.
    """
    variables = load(layout, model, source, ignore=ignore)
    facts = certify(models.build(model), variables, source, images=images, logits=logits)
    return {"layout": layout, "model": dict(model), **facts}
