"""Weights from file to file: what `cnnjax weights` does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from cnnjax import weights
from cnnjax.errors import DataError
from cnnjax.weights.files import digest, read, write


def take(
    layout: str,
    model: Mapping[str, Any],
    file: Path,
    *,
    out: Path | None = None,
    reference: Path | None = None,
) -> dict[str, Any]:
    """The certificate of `file` for `model`; with `out`, our variables are written there.

    Their names are paths in the variables: `params/features/conv1/kernel`. `reference` is an .npz
    of `images` and `logits`. Raises what `weights.load` raises.
    """
    facts = weights.certificate(layout, model, file, **_reference(reference))
    if out is not None:
        variables = weights.load(layout, model, file)
        flat = traverse_util.flatten_dict(variables, sep="/")
        write(out, {name: np.asarray(value) for name, value in flat.items()})
        facts["written"] = str(out)
    return facts


def give(
    layout: str, model: Mapping[str, Any], variables: Mapping[str, Any], file: Path
) -> dict[str, Any]:
    """Write `variables` of `model` to `file` under the names of `layout`."""
    state = weights.save(layout, model, variables)
    write(file, state)
    return {
        "layout": layout, "model": dict(model), "written": str(file), "sha256": digest(file),
        "tensors": len(state),
    }  # fmt: skip


def verify(
    layout: str,
    model: Mapping[str, Any],
    file: Path,
    *,
    reference: Path | None = None,
    tolerance: float = 1e-4,
) -> dict[str, Any]:
    """The certificate, whether the tensors save back bit for bit, and the verdict on both."""
    facts = weights.certificate(layout, model, file, **_reference(reference))
    theirs = read(file)
    ours = weights.save(layout, model, weights.load(layout, model, file))
    # torch's counters of batches are no weights: old files have none, trained ones are not zero.
    same = all(
        name in theirs and np.array_equal(theirs[name], array)
        for name, array in ours.items()
        if not name.endswith("num_batches_tracked")
    )
    near = facts.get("relative_l2", 0.0) <= tolerance
    return facts | {"saves_back_equal": same, "verified": same and near}


def _reference(file: Path | None) -> dict[str, np.ndarray]:
    if file is None:
        return {}
    tensors = read(file)
    if not {"images", "logits"} <= set(tensors):
        held = ", ".join(sorted(tensors)) or "nothing"
        raise DataError(f"{file}: expected the arrays images and logits, found {held}.")
    return {"images": tensors["images"], "logits": tensors["logits"]}
