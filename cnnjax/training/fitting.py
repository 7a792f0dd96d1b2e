"""Do the parts of an experiment fit together? Traced on shapes, before anything is compiled."""

from typing import Any

import jax
import jax.numpy as jnp
from flax.errors import FlaxError

from cnnjax import data
from cnnjax.errors import CnnjaxError, SpecError
from cnnjax.training.compiled import Parts
from cnnjax.training.experiment import Experiment
from cnnjax.training.step import heads_of

# What tracing raises for sizes and kinds that do not go together.
_MISFIT = (TypeError, ValueError, IndexError, KeyError, AttributeError, FlaxError)


def check_fit(parts: Parts) -> None:
    """From stored images through augmentation, normalisation and network to the loss.

    Raises SpecError naming the part of the experiment that does not fit the one before it.
    """
    x = parts.experiment
    where = x.spec.where
    n = min(2, x.batch_size)
    stored = jax.ShapeDtypeStruct((n, *x.dataset.shape), x.dataset.dtype)
    own = [a["name"] for a in x.spec.dataset["augment"] if a["name"] in data.AUGMENTS]
    if own and len(x.dataset.shape) != 3:
        raise SpecError(
            f"{where}: dataset.augment: {', '.join(own)} is for pictures; '{x.dataset.name}' holds"
            f" arrays of {'x'.join(map(str, x.dataset.shape))}. An augmentation of your own is"
            " written 'package.module:factory'."
        )
    labels = jax.ShapeDtypeStruct((n,), jnp.int32)
    positions = jax.ShapeDtypeStruct((n,), jnp.uint32)
    key = jax.eval_shape(lambda: jax.random.key(0))

    def augmented(key: Any, positions: Any, images: Any) -> Any:
        return data.augment_batch(parts.augments, key, positions, images)

    size = "x".join(map(str, x.dataset.shape))
    seen = _traced(f"{where}: dataset.augment: does not fit images of {size}", augmented,
                   key, positions, stored)  # fmt: skip
    _check_channels(x)
    ready = _traced(f"{where}: dataset.normalize: does not fit images of {size}", parts.prepare,
                    seen)  # fmt: skip
    logits, heads = _traced(
        f"{where}: model: does not fit the augmented images of"
        f" {'x'.join(map(str, seen.shape[1:]))}", lambda k, i: _forward(parts, k, i), key, ready
    )  # fmt: skip
    _traced(f"{where}: schedule.loss: does not fit the network", parts.loss, logits, labels, heads)


def _check_channels(x: Experiment) -> None:
    how, channels = x.spec.dataset["normalize"], x.dataset.shape[-1]
    pair = data.NORMALIZE[how] if isinstance(how, str) else (how["mean"], how["sd"])
    for values in pair or ():
        if not isinstance(values, int | float) and len(values) != channels:
            raise SpecError(
                f"{x.spec.where}: dataset.normalize: {how!r} is for {len(values)} channels; the"
                f" images of '{x.dataset.name}' are {'x'.join(map(str, x.dataset.shape))}."
            )


def _forward(parts: Parts, key: Any, images: Any) -> tuple[Any, Any]:
    """Logits and auxiliary logits in training, with the parameters of unaugmented images."""
    module, shape = parts.experiment.module, parts.experiment.input_shape
    keys = {"params": key, "dropout": key}
    variables = dict(module.init(keys, jnp.zeros((1, *shape)), train=True))
    variables.pop("auxiliary", None)
    logits, changed = module.apply(
        variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats", "auxiliary"]
    )
    return logits.astype(jnp.float32), heads_of(changed.get("auxiliary", {}))


def _traced(where: str, function: Any, *shapes: Any) -> Any:
    try:
        return jax.eval_shape(function, *shapes)
    except (CnnjaxError, *_MISFIT) as error:
        said = str(error).strip().partition("\n")[0]
        raise SpecError(f"{where}: {said}") from (
            None if isinstance(error, CnnjaxError) else error
        )  # fmt: skip
