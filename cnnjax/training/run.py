"""A run as it is read back: its directory and nothing else."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from cnnjax.data import DataSet
from cnnjax.errors import RunError
from cnnjax.spec import Spec
from cnnjax.training.checkpoint import Checkpoints
from cnnjax.training.compiled import Parts
from cnnjax.training.experiment import Experiment, load, resolve
from cnnjax.training.mesh import data_mesh
from cnnjax.training.runlog import read_rows
from cnnjax.training.step import rates


@dataclass(frozen=True)
class Run:
    """A run directory. `metrics` are its rows, `result` its outcome (None while unfinished),
    `model` the Linen module and `variables` what `model.apply` takes: those that were reported.

    A module or data set that was passed from Python must be passed again to read the run back.
    """

    path: Path
    given_model: nn.Module | None = field(default=None, repr=False)
    given_data: DataSet | None = field(default=None, repr=False)
    given_variables: dict[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not (self.path / "spec.json").exists():
            raise RunError(f"{self.path}: is no run directory: it holds no spec.json.")

    @cached_property
    def spec(self) -> Spec:
        """The spec that this run was started with."""
        return load(self.path / "spec.json")

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        return read_rows(self.path / "metrics.jsonl")

    @property
    def timing(self) -> list[dict[str, Any]]:
        """The rows of timing.jsonl."""
        return read_rows(self.path / "timing.jsonl")

    def to_dict(self) -> dict[str, Any]:
        """Where the run is, its result and the last scores of each split, as plain values."""
        result = self.result
        scores = {row["split"]: row for row in self.metrics}
        if result:
            scores[result["split"]] = result
        return {
            "experiment": self.spec.name,
            "digest": self.spec.digest,
            "directory": str(self.path),
            "result": result,
            "scores": list(scores.values()),
            "pictures": [str(path) for path in sorted(self.path.glob("*.png"))],
        }

    @property
    def model_dict(self) -> dict[str, Any]:
        """The spec's model with the classes and input shape of its data set filled in."""
        facts = {key: self.derived[key] for key in ("num_classes", "input_shape")}
        return facts | self.spec.model

    @property
    def derived(self) -> dict[str, Any]:
        """What followed from spec and data: steps, class names, sizes, cost."""
        return json.loads((self.path / "spec.json").read_text())["derived"]

    @property
    def result(self) -> dict[str, Any] | None:
        """The contents of result.json."""
        path = self.path / "result.json"
        return json.loads(path.read_text()) if path.exists() else None

    @cached_property
    def experiment(self) -> Experiment:
        """The spec resolved once more: data opened, network built."""
        return resolve(self.spec, model=self.given_model, dataset=self.given_data)

    @property
    def model(self) -> nn.Module:
        """The Linen module."""
        return self.experiment.module

    @cached_property
    def variables(self) -> dict[str, Any]:
        """The variables that were reported, or those of the newest checkpoint so far."""
        if self.given_variables is not None:
            return self.given_variables
        parts = self._parts()
        result = self.result
        checkpoints = Checkpoints(self.path / "checkpoints")
        try:
            state = checkpoints.restore(parts.state(), step=result["step"] if result else None)
        finally:
            checkpoints.close()
        if state is None:
            raise RunError(f"{self.path}: has no checkpoint yet.")
        return state.variables()

    def evaluate(self, split: str) -> dict[str, Any]:
        """Loss, top-1 (top-5) and n on `train`, `validation`, `test` or any split string."""
        parts = self._parts(split)
        return rates(parts.evaluator("asked")(self.variables), parts.experiment.dataset.num_classes)

    def _parts(self, split: str = "train") -> Parts:
        x = self.experiment
        asked = x.splits[split] if split in x.splits else x.dataset.split(split)
        experiment = Experiment(**{**x.__dict__, "splits": {**x.splits, "asked": asked}})
        return Parts.of(experiment, data_mesh(jax.local_devices()[:1]))
