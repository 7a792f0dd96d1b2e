"""The networks, one file per paper, and the one table that names them.

A factory takes keyword arguments alone, its defaults are the paper's, and it returns a Linen module
whose `module(x, train=...)` is the logits. Auxiliary logits ("auxiliary"), captured features
("intermediates") and constants ("fixed") travel in Flax collections.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn

from cnnjax import schema
from cnnjax.models.convnet import convnet
from cnnjax.models.lenet import lenet1, lenet5
from cnnjax.models.linear import linear
from cnnjax.models.mlp import mlp

MODELS: Mapping[str, schema.Factory] = {
    "linear": linear,
    "mlp": mlp,
    "convnet": convnet,
    "lenet1": lenet1,
    "lenet5": lenet5,
}


def build(
    model: Mapping[str, Any],
    *,
    num_classes: int | None = None,
    input_shape: Sequence[int] | None = None,
    where: str = "model",
) -> nn.Module:
    """The Linen module that `model`, `{"name": .., option: value, ..}`, describes.

    `num_classes` and `input_shape` (of one image, channels last) are those of the data set; they
    hold where the dict does not say otherwise. `where` stands in front of every error.

    Raises SpecError for an unknown name or option, a wrong type or a value out of range.
    """
    given = {
        "num_classes": num_classes,
        "input_shape": None if input_shape is None else [int(n) for n in input_shape],
    }
    return schema.construct(
        MODELS, model, where, **{k: v for k, v in given.items() if v is not None}
    )
