"""Training: one loop from an experiment to a run directory."""

from cnnjax.training.experiment import SCHEMA, load, resolve
from cnnjax.training.loop import Interrupted, train
from cnnjax.training.run import Run

__all__ = ["SCHEMA", "Interrupted", "Run", "load", "resolve", "train"]
