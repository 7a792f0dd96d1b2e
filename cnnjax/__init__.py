"""cnnjax: a functional research framework for convolutional networks in JAX and Flax.

spec = cnnjax.load("experiments/lenet5_fashion_mnist_12k.py")
run = cnnjax.train(spec)
run.metrics, run.result, run.model, run.variables
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import flax.linen as nn
    import jax
    import numpy as np
    import pandas as pd

    from cnnjax.cost import Cost
    from cnnjax.data import DataSet
    from cnnjax.spec import Spec
    from cnnjax.study.record import Study
    from cnnjax.training import Run

__version__ = "0.1.0"
__all__ = ["ablate", "build", "compare", "evaluate", "load", "results", "summarize", "train"]

Source = "str | Path | Mapping[str, Any] | Spec"


def load(source: "str | Path | Mapping[str, Any] | Spec", *, set: Iterable[str] = ()) -> "Spec":
    """Read and check an experiment: a .py or .json file, a run directory or a dict of dicts.

    A bare name that is no file there is one of the experiments that come with the package.

    `set` overrides by path, as on the command line: `set=["schedule.seed=3"]`.
    """
    from cnnjax import training

    return training.load(source, overrides=set)


def build(
    model: "Mapping[str, Any] | Spec",
    *,
    num_classes: int | None = None,
    input_shape: Sequence[int] | None = None,
) -> "nn.Module":
    """The Linen module of a spec, or of a model dict such as {"name": "lenet5"}.

    A spec's data set gives its classes and input shape; beside a dict they are keywords.
    `module.apply(variables, x, train=False)` are the logits alone.
    """
    from cnnjax import models, training
    from cnnjax.spec import Spec

    if isinstance(model, Spec):
        return training.resolve(model).module
    if "model" in model:
        return training.resolve(training.load(model)).module
    return models.build(model, num_classes=num_classes, input_shape=input_shape)


def train(
    spec: "str | Path | Mapping[str, Any] | Spec",
    *,
    out: str | Path | None = None,
    set: Iterable[str] = (),
    model: "nn.Module | None" = None,
    data: "DataSet | Mapping[str, np.ndarray] | None" = None,
    devices: "Sequence[jax.Device] | None" = None,
    progress: bool | None = None,
    tensorboard: bool = False,
    workers: int = 0,
) -> "Run":
    """Train an experiment and return its run; continue it if `out` holds it already.

    `model` is a Linen module of your own in place of the spec's model; `data` a mapping with
    x_train, y_train, x_test, y_test in place of its data set. `out` is the run directory, by
    default runs/<experiment>-<first 8 of the digest>, or the run directory that `spec` is, if
    `set` leaves it the same run. `progress` shows a bar; by default in a
    terminal only. `workers` are processes that read a streamed data set.
    """
    import sys

    from cnnjax import training
    from cnnjax.training.progress import Silent, Terminal

    dataset = _dataset(data)
    found = training.load(spec, overrides=set, model=model, dataset=dataset)
    directory = Path(out) if out is not None else directory_of(spec, found)
    shown = sys.stderr.isatty() if progress is None else progress
    variables = training.train(
        found, out=directory, model=model, dataset=dataset, devices=devices,
        reporter=Terminal() if shown else Silent(), tensorboard=tensorboard, workers=workers,
    )  # fmt: skip
    return training.Run(directory, model, dataset, variables)


def evaluate(run: "Run | str | Path", split: str = "test") -> dict[str, Any]:
    """Loss, top-1 (top-5) and n of a run's reported network on a split, such as "train[:1000]"."""
    from cnnjax import training

    run = run if isinstance(run, training.Run) else training.Run(Path(run))
    return run.evaluate(split)


def summarize(
    model: "Mapping[str, Any] | Spec | nn.Module | str",
    *,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    batch_size: int = 1,
) -> "Cost":
    """Parameters, MACs, activations, receptive field and memory, per layer and in total.

    `model` is a name, a model dict, a spec or a Linen module; `input_shape` (of one image) and
    `num_classes` are the paper's where they are not given, those of its data set for a spec.
    """
    from cnnjax.cost import summary
    from cnnjax.spec import Spec

    if isinstance(model, str):
        model = {"name": model}
    if isinstance(model, Spec) and (input_shape is None or num_classes is None):
        from cnnjax.training.experiment import open_data

        dataset = open_data(model)
        if input_shape is None:
            input_shape = model.model.get("input_shape") or dataset.shape
        num_classes = dataset.num_classes if num_classes is None else num_classes
    return summary(model, input_shape=input_shape, num_classes=num_classes, batch_size=batch_size)


def ablate(
    source: "str | Path | Mapping[str, Any] | Spec",
    *,
    out: str | Path | None = None,
    set: Iterable[str] = (),
    seeds: int | None = None,
    launcher: str = "pool",
    processes: int | None = None,
    retry: bool = False,
    progress: bool | None = None,
    data_dir: str | Path | None = None,
    slurm: Sequence[str] = (),
) -> "Study":
    """Run every arm of an experiment's `ablation` with every seed, and return the study.

    `source` is read as by `load`; a study directory goes on as it stands. Each run is an ordinary
    `cnnjax train` in a process of its own; `processes` go at once, by default one for each core or
    accelerator. What is finished is skipped, what was stopped goes on, what failed is tried again
    with `retry`. `out` is the study directory. `launcher="slurm"` submits job arrays, `slurm` being
    further options of sbatch; "print" prints the commands.
    """
    from cnnjax.study.ablate import ablate

    return ablate(
        source, out=out, set=set, seeds=seeds, launcher=launcher, processes=processes, retry=retry,
        progress=progress, data_dir=data_dir, slurm=slurm,
    )  # fmt: skip


def compare(
    paths: "str | Path | Iterable[str | Path]",
    *,
    measure: str = "top1",
    accuracy: bool = False,
    base: str | None = None,
    out: str | Path | None = None,
) -> "Comparison":
    """Set arms of studies, or of plain runs, against their base, paired by seed.

    `measure` is top1, top5 or loss; errors in percent unless `accuracy`. `out` is a folder for
    tables, figures and report.html; nothing is written without it.
    """
    from cnnjax.study import compare, report

    found = compare.compare(paths, measure=measure, accuracy=accuracy, base=base)
    if out is not None:
        report.write(found, out)
    return found


def results(paths: "str | Path | Iterable[str | Path]") -> "pd.DataFrame":
    """One row per run of run directories, studies or folders of them: spec, cost and scores.

    Columns of the spec are named as on the command line, `model.depth`. `paths` may be a list.
    """
    from cnnjax.study import runs

    return runs.results(paths)


def directory_of(source: "str | Path | Mapping[str, Any] | Spec", found: "Spec") -> Path:
    """Where a run of `found` goes: back to where it was read from, or to its own place in runs/."""
    if isinstance(source, str | Path) and Path(source).is_dir():
        here = Path(source)
        if load(here).digest == found.digest:
            return here
    return Path("runs") / f"{found.name}-{found.digest[:8]}"


def _dataset(data: "DataSet | Mapping[str, np.ndarray] | None") -> "DataSet | None":
    """One's own arrays as a data set whose name is their digest, so that runs can be told apart."""
    import hashlib

    import numpy as np

    from cnnjax.data import DataSet, from_arrays

    if data is None or isinstance(data, DataSet):
        return data
    digest = hashlib.sha256()
    for key in sorted(data):
        digest.update(key.encode() + np.ascontiguousarray(data[key]).tobytes())
    arrays: dict[str, Any] = dict(data)
    return from_arrays(**arrays, name=f"arrays-{digest.hexdigest()[:16]}")
