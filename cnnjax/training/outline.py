"""What a run will be, worked out from spec and data before anything is compiled."""

from pathlib import Path
from typing import Any

from cnnjax.cost import cost
from cnnjax.spec import Spec
from cnnjax.training.compiled import Parts
from cnnjax.training.experiment import Experiment, resolve
from cnnjax.training.fitting import check_fit
from cnnjax.training.mesh import data_mesh


def derived(experiment: Experiment) -> dict[str, Any]:
    """Facts that follow from the spec and the data: kept in spec.json for whoever reads it."""
    return {
        "steps": experiment.steps,
        "steps_per_epoch": experiment.steps_per_epoch,
        "num_classes": experiment.dataset.num_classes,
        "class_names": list(experiment.dataset.class_names),
        "input_shape": list(experiment.input_shape),
        "splits": {
            key: {"split": name, "examples": len(experiment.splits[key])}
            for key, name in experiment.split_names.items()
        },
        "cost": cost(experiment.module, experiment.input_shape, estimates=False).to_dict()[
            "totals"
        ],
    }


def outline(spec: Spec, directory: Path) -> dict[str, Any]:
    """`derived` and the names that a person looks for first. Raises what `resolve` raises."""
    experiment = resolve(spec)
    check_fit(Parts.of(experiment, data_mesh()))
    return {
        "experiment": spec.name,
        "digest": spec.digest,
        "model": spec.model["name"],
        "dataset": spec.dataset["name"],
        "batch_size": experiment.batch_size,
        "directory": str(directory),
        **derived(experiment),
    }
