"""The map in front of the first dense layer, whose kernel rows follow the flattening."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax import models


def flattened_map(name: str, options: Mapping[str, Any]) -> tuple[int, int, int]:
    """(c, h, w) of the map that the classifier of model `name` flattens, by shape evaluation.

    For the networks whose classifier has a `grid`, its adaptive pooling before the flattening.
    """
    module: Any = models.build({**options, "name": name})
    x = jax.ShapeDtypeStruct((1, *options["input_shape"]), jnp.float32)
    shape, _ = jax.eval_shape(module.features.init_with_output, jax.random.key(0), x)
    _, h, w, c = shape.shape
    grid = module.classifier.grid
    return (c, grid or h, grid or w)
