"""The certificate of an import: where the tensors came from and what they compute."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.errors import DataError
from cnnjax.weights.files import State, digest, read


def certify(
    module: nn.Module,
    variables: Mapping[str, Any],
    source: State | str | Path,
    *,
    images: np.ndarray | None = None,
    logits: np.ndarray | None = None,
) -> dict[str, Any]:
    """Plain values about `variables` that `source` gave; see `cnnjax.weights.certificate`.

    Raises DataError for images without logits or logits without images, and where the two or the
    model's classes do not agree.
    """
    if (images is None) != (logits is None):
        raise DataError("certificate: reference images and logits are due together.")
    tensors = len(jax.tree.leaves(dict(variables)))
    facts: dict[str, Any] = {
        "source": None if isinstance(source, Mapping) else str(source),
        "sha256": digest(source),
        "tensors": tensors,
        "passed_over": len(read(source)) - tensors,
        "parameters": sum(a.size for a in jax.tree.leaves(variables["params"])),
    }
    if images is None or logits is None:
        return facts
    with jax.default_matmul_precision("highest"):
        forward = jax.jit(lambda v, x: module.apply(v, x, train=False))
        ours = np.asarray(forward(dict(variables), jnp.asarray(images)), np.float64)
    theirs = np.asarray(logits, np.float64)
    if ours.shape != theirs.shape:
        raise DataError(
            f"certificate: reference logits are {theirs.shape}, the model's {ours.shape}."
        )
    return facts | {
        "max_abs_difference": float(np.abs(ours - theirs).max()),
        "relative_l2": float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)),
        "same_argmax": bool((ours.argmax(-1) == theirs.argmax(-1)).all()),
    }
