"""The networks, one file per paper, and the one table that names them.

A factory takes keyword arguments alone, its defaults are the paper's, and it returns a Linen module
whose `module(x, train=...)` is the logits. Auxiliary logits ("auxiliary"), captured features
("intermediates") and constants ("fixed") travel in Flax collections.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn

from cnnjax import schema
from cnnjax.errors import SpecError
from cnnjax.models.alexnet import alexnet
from cnnjax.models.convnet import convnet
from cnnjax.models.googlenet import googlenet
from cnnjax.models.inception import inception_v3
from cnnjax.models.lenet import lenet1, lenet5
from cnnjax.models.linear import linear
from cnnjax.models.mlp import mlp
from cnnjax.models.neocognitron import neocognitron
from cnnjax.models.nin import nin
from cnnjax.models.resnet import resnet, resnet_cifar
from cnnjax.models.squeezenet import squeezenet
from cnnjax.models.vgg import vgg
from cnnjax.models.xception import xception

MODELS: Mapping[str, schema.Factory] = {
    "linear": linear,
    "mlp": mlp,
    "convnet": convnet,
    "lenet1": lenet1,
    "lenet5": lenet5,
    "resnet": resnet,
    "resnet18": partial(resnet, depth=18),
    "resnet34": partial(resnet, depth=34),
    "resnet50": partial(resnet, depth=50),
    "resnet101": partial(resnet, depth=101),
    "resnet152": partial(resnet, depth=152),
    "resnet50v2": partial(resnet, depth=50, order="full_preactivation"),
    "resnet101v2": partial(resnet, depth=101, order="full_preactivation"),
    "resnet152v2": partial(resnet, depth=152, order="full_preactivation"),
    "plain18": partial(resnet, depth=18, shortcut="none"),
    "plain34": partial(resnet, depth=34, shortcut="none"),
    "resnet_cifar": resnet_cifar,
    "resnet20": partial(resnet_cifar, depth=20),
    "resnet32": partial(resnet_cifar, depth=32),
    "resnet44": partial(resnet_cifar, depth=44),
    "resnet56": partial(resnet_cifar, depth=56),
    "resnet110": partial(resnet_cifar, depth=110),
    "resnet1202": partial(resnet_cifar, depth=1202),
    "neocognitron": neocognitron,
    "alexnet": alexnet,
    "vgg": vgg,
    "vgg11": partial(vgg, config="A"),
    "vgg13": partial(vgg, config="B"),
    "vgg16": partial(vgg, config="D"),
    "vgg19": partial(vgg, config="E"),
    "nin": nin,
    "googlenet": googlenet,
    "inception_v3": inception_v3,
    "xception": xception,
    "squeezenet": squeezenet,
    "squeezenet1_0": partial(squeezenet, version="1.0"),
    "squeezenet1_1": partial(squeezenet, version="1.1"),
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
    module = schema.construct(
        MODELS, model, where, **{k: v for k, v in given.items() if v is not None}
    )
    if not isinstance(module, nn.Module):
        raise SpecError(
            f"{where}.name: '{model['name']}' gave {module!r}; expected a factory of Flax Linen"
            " modules."
        )
    return module
