"""What an experiment may say, and what it means once the data set is known."""

import inspect
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Lt

from cnnjax import data, spec
from cnnjax.data import Augment, DataSet, Split
from cnnjax.errors import ShapeError, SpecError, did_you_mean
from cnnjax.models import MODELS, build
from cnnjax.schema import Schema, Section, construct
from cnnjax.spec import Spec
from cnnjax.training.losses import LOSSES
from cnnjax.training.optim import LEARNING_RATES, OPTIMIZERS

Named = dict[str, Any]
_CROSS_ENTROPY: Named = {"name": "cross_entropy"}
SPLITS = ("train", "validation", "test")
EVALUATION_KEYS = ("split", "augment")


def _dataset(
    *,
    batch_size: Annotated[int, Ge(1)],
    split: dict[str, str] | None = None,
    augment: tuple[Named, ...] = (),
    normalize: str | dict[str, float | tuple[float, ...]] = "unit",
    evaluations: dict[str, Named] | None = None,
    data_dir: str | None = None,
) -> None:
    """The keys every data set has; `augment` is for training only, `normalize` always holds.

    `evaluations` are further scores of the reported network, taken once, when the run ends:
    {"shifted": {"split": "test", "augment": [{"name": "shift", "max": 4}]}} becomes a row of
    metrics.jsonl. What is drawn for an image depends on its place in the split alone, so all runs
    see the same images.
    """


def _schedule(
    *,
    epochs: Annotated[float, Gt(0)] | None = None,
    steps: Annotated[int, Ge(1)] | None = None,
    examples: Annotated[int, Ge(1)] | None = None,
    optimizer: Named,
    learning_rate: Named,
    loss: Named = _CROSS_ENTROPY,
    clip: Annotated[float, Gt(0)] | None = None,
    ema: Annotated[float, Gt(0), Lt(1)] | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    seed: Annotated[int, Ge(0)] = 0,
    select: Literal["last", "best"] = "last",
    eval_every: Annotated[int, Ge(1)] | None = None,
    checkpoint_every: Annotated[int, Ge(1)] | None = None,
) -> None:
    """Length, optimisation and cadences; `None` for a cadence is once per epoch.

    `select="best"` reports the checkpoint that was best on the validation split.
    """


def _module_from_python(*, value: str) -> None:
    """Stands in spec.json for a module that was passed from Python."""


def _arrays_from_python(data_dir: str | None, *, value: str) -> None:
    """Stands in spec.json for arrays that were passed from Python."""


SCHEMA: Schema = {
    "model": Section(
        factories={**MODELS, "python": _module_from_python},
        given=("num_classes", "input_shape"),
    ),
    "dataset": Section(
        keys=_dataset,
        factories={**data.DATASETS, "python": _arrays_from_python},
        tables={"augment": data.AUGMENTS},
        context={"name": 1},  # data_dir
    ),
    "schedule": Section(
        keys=_schedule,
        tables={"optimizer": OPTIMIZERS, "learning_rate": LEARNING_RATES, "loss": LOSSES},
        context={"optimizer": 1, "learning_rate": 1},  # the learning rate; the number of steps
    ),
}
DATASET_KEYS = frozenset(inspect.signature(_dataset).parameters)


def load(
    source: str | Path | Mapping[str, Any] | Spec | spec.Source,
    *,
    overrides: Iterable[str] = (),
    changes: Mapping[str, Any] | None = None,
    model: nn.Module | None = None,
    dataset: DataSet | None = None,
) -> Spec:
    """Read and check an experiment: a file, a run directory, a dict.

    `overrides` are `path=value` strings, `changes` {path: value}, put in place after them.
    `model` and `dataset` are objects that stand in for what the dicts would name; the spec then
    records what they are, under the name "python".
    """
    found = spec.read(source)
    content = dict(found.content)
    if model is not None:
        content["model"] = {"name": "python", "value": repr(model)}
    if dataset is not None:
        keys = {k: v for k, v in dict(content.get("dataset", {})).items() if k in DATASET_KEYS}
        content["dataset"] = {**keys, "name": "python", "value": dataset.name}
    checked = spec.load(replace(found, content=content), SCHEMA, overrides, changes)
    _check_dataset(checked)
    return checked


def _check_dataset(found: Spec) -> None:
    """What the types alone do not say: names of splits and of a normalisation, evaluations."""
    where = f"{found.where}: dataset"
    dataset, schedule = found.dataset, found.schedule
    for key in dataset["split"] or {}:
        if key not in SPLITS:
            hint = did_you_mean(key, SPLITS)
            raise SpecError(f"{where}.split: unknown key '{key}'.\n{hint}")
    try:
        data.normalizer(dataset["normalize"])
    except SpecError as error:
        raise SpecError(f"{found.where}: {error}") from None
    for name, asked in (dataset["evaluations"] or {}).items():
        _check_evaluation(name, asked, f"{where}.evaluations")
    if schedule["select"] == "best" and "validation" not in (dataset["split"] or {}):
        raise SpecError(
            f"{found.where}: schedule.select: 'best' needs a validation split to choose on, such as"
            " dataset.split = {'train': 'train[:90%]', 'validation': 'train[90%:]'}."
            " The best on test is never reported."
        )


def _check_evaluation(name: str, asked: Named, where: str) -> None:
    if name in SPLITS:
        raise SpecError(f"{where}: '{name}' is a split's own name: give the evaluation another.")
    for key in asked:
        if key not in EVALUATION_KEYS:
            hint = did_you_mean(key, EVALUATION_KEYS)
            raise SpecError(f"{where}.{name}: unknown key '{key}'.\n{hint}")
    if not isinstance(asked.get("split"), str):
        raise SpecError(f"{where}.{name}: expected a key 'split', such as 'test'.")
    _augments(asked.get("augment", []), f"{where}.{name}.augment")


def _augments(given: Any, where: str) -> list[Augment]:
    """The augmentations that a list of dicts names."""
    if not isinstance(given, list) or not all(isinstance(a, dict) for a in given):
        raise SpecError(f"{where}: expected a list of dicts such as {{'name': 'shift', 'max': 4}}.")
    return [construct(data.AUGMENTS, a, f"{where}[{i}]") for i, a in enumerate(given)]


@dataclass(frozen=True)
class Experiment:
    """A spec with its data opened, its network built and its length in steps."""

    spec: Spec
    dataset: DataSet
    splits: Mapping[str, Split]
    evaluations: Mapping[str, Split]
    split_names: Mapping[str, str]
    module: nn.Module
    steps: int
    steps_per_epoch: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """What the network sees of one image: the model dict's `input_shape`, or the data's own."""
        return tuple(self.spec.model.get("input_shape") or self.dataset.shape)

    @property
    def batch_size(self) -> int:
        return self.spec.dataset["batch_size"]

    def every(self, key: str) -> int:
        """A cadence of the schedule in steps; once per epoch where it is not given."""
        return self.spec.schedule[key] or self.steps_per_epoch

    @property
    def log_every(self) -> int:
        """Steps per training row of metrics.jsonl: about 200 rows a run, at most 100 steps each."""
        return min(100, max(1, self.steps // 200))

    @property
    def dtype(self) -> Any:
        return jnp.dtype(self.spec.schedule["dtype"])


def open_data(found: Spec) -> DataSet:
    """The data set that a spec names."""
    return open_dataset(found.dataset, f"{found.where}: dataset")


def open_dataset(dataset: Mapping[str, Any], where: str) -> DataSet:
    """The data set that a checked dict names."""
    options = {k: v for k, v in dataset.items() if k not in DATASET_KEYS}
    if options["name"] == "python":
        raise SpecError(
            f"{where}: its arrays were passed from Python; pass them again, as in"
            " cnnjax.train(spec, data=...)."
        )
    return construct(data.DATASETS, options, where, dataset["data_dir"])


def resolve(
    found: Spec, *, model: nn.Module | None = None, dataset: DataSet | None = None
) -> Experiment:
    """Open the data, build the network and work out the length; nothing is compiled yet.

    Raises SpecError for a batch larger than the training split, a data set too small or an image
    that vanishes in the network, DataError for a set that is not there.
    """
    dataset = dataset if dataset is not None else open_data(found)
    names = {**dataset.default_splits, **(found.dataset["split"] or {})}
    if "train" not in names:
        raise SpecError(f"{found.where}: dataset.split: expected a key 'train'.")
    splits = {key: dataset.split(text) for key, text in names.items()}
    evaluations = _evaluations(found, dataset, names)
    n, batch = len(splits["train"]), found.dataset["batch_size"]
    if batch > n:
        raise SpecError(
            f"{found.where}: dataset.batch_size: {batch} is larger than the train split"
            f" '{names['train']}', which has {n} examples."
        )
    if model is None:
        if found.model["name"] == "python":
            raise SpecError(
                f"{found.where}: model: its module was passed from Python; pass it again, as in"
                " cnnjax.train(spec, model=...)."
            )
        model = build(
            found.model, num_classes=dataset.num_classes, input_shape=dataset.shape,
            where=f"{found.where}: model",
        )  # fmt: skip
    resolved = Experiment(
        spec=found,
        dataset=dataset,
        splits=splits,
        evaluations=evaluations,
        split_names=names,
        module=model,
        steps=spec.steps_of(found.schedule, n, batch),
        steps_per_epoch=-(-n // batch),
    )
    check_shapes(model, dataset, resolved.input_shape, f"{found.where}: model")
    return resolved


def _evaluations(found: Spec, dataset: DataSet, names: Mapping[str, str]) -> dict[str, Split]:
    """The images of each further evaluation, altered as it says."""
    where = f"{found.where}: dataset.evaluations"
    splits: dict[str, Split] = {}
    for name, asked in (found.dataset["evaluations"] or {}).items():
        split = dataset.split(names.get(asked["split"], asked["split"]))
        augments = _augments(asked.get("augment", []), f"{where}.{name}.augment")
        altered = data.AugmentedSplit(split, tuple(augments))
        if augments and (shape := altered.shape_of(dataset.shape)) != tuple(dataset.shape):
            raise SpecError(
                f"{where}.{name}: its images become {list(shape)}; the network takes"
                f" {list(dataset.shape)}."
            )
        splits[name] = altered if augments else split
    return splits


def check_shapes(module: nn.Module, dataset: DataSet, shape: tuple[int, ...], where: str) -> None:
    """Trace the network on one image's shape: does every layer have something to work on?"""
    if math.prod(shape) != math.prod(dataset.shape):
        raise SpecError(
            f"{where}.input_shape: {list(shape)} has {math.prod(shape)} values; an image of"
            f" '{dataset.name}' is {list(dataset.shape)}, {math.prod(dataset.shape)} values."
            " Images are reshaped, never resized: leave the key out, or give the same number."
        )
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    keys = {"params": key, "dropout": key}
    size = "x".join(map(str, shape))
    try:
        logits, _ = jax.eval_shape(
            lambda keys, x: module.init_with_output(keys, x, train=False), keys, image
        )
    except ShapeError as error:
        raise SpecError(f"{where}: does not fit images of {size}: {error}") from None
    classes = dataset.num_classes
    if logits.shape != (1, classes):
        raise SpecError(
            f"{where}: gives logits of shape {logits.shape} for one image of {size}; the data set"
            f" '{dataset.name}' has {classes} classes, so (1, {classes}) was expected."
        )
