"""What there is to choose from: every table, with each entry's first line and its options."""

import functools
import inspect
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnnjax import data, schema, shipped, spec
from cnnjax.errors import SpecError, did_you_mean
from cnnjax.models import MODELS
from cnnjax.training.experiment import SCHEMA, load, open_dataset
from cnnjax.training.losses import LOSSES
from cnnjax.training.optim import LEARNING_RATES, OPTIMIZERS

# Kind -> (table, number of leading arguments that the framework gives).
TABLES: dict[str, tuple[schema.Table, int]] = {
    "models": (MODELS, 0),
    "datasets": (data.DATASETS, 1),
    "augments": (data.AUGMENTS, 0),
    "losses": (LOSSES, 0),
    "optimizers": (OPTIMIZERS, 1),
    "learning_rates": (LEARNING_RATES, 1),
}
KINDS = (*TABLES, "experiments")


@dataclass(frozen=True)
class Option:
    """One keyword of a factory: its type in words and its default ("" where it must be given)."""

    name: str
    type: str
    default: str


@dataclass(frozen=True)
class Entry:
    """One line of a table: `about` is the first line of the docstring, `doc` the whole."""

    name: str
    about: str
    doc: str = ""
    options: tuple[Option, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def contents() -> dict[str, list[str]]:
    """Kind -> names."""
    return {kind: [e.name for e in entries(kind)] for kind in KINDS}


def model_or_experiment(name: str, overrides: Iterable[str]) -> dict[str, Any] | spec.Spec:
    """The model dict of a model's name and bare options, or an experiment with its overrides.

    A name in the table of models, or "package.module:factory", is a model.
    """
    if name in MODELS or (":" in name and not Path(name).exists()):
        return {"name": name, **spec.bare_options(overrides)}
    if Path(name).suffix or Path(name).exists() or shipped.names(Path(name)):
        return load(name, overrides=overrides)
    known = [*MODELS, *shipped.experiments()]
    raise SpecError(
        f"no model or experiment '{name}'. {did_you_mean(name, known, label='Known names')}"
    )


def data_to_show(name: str, overrides: Iterable[str]) -> tuple[data.DataSet, list[data.Augment]]:
    """The data set of a name and bare options, or that of an experiment; and its augmentations."""
    if name in data.DATASETS or (":" in name and not Path(name).exists()):
        where, given = "dataset", {"batch_size": 1, **spec.bare_options(overrides), "name": name}
        options = schema.check_section(SCHEMA["dataset"], given, where)
    elif Path(name).suffix or Path(name).exists() or shipped.names(Path(name)):
        where, options = f"{name}: dataset", load(name, overrides=overrides).dataset
    else:
        known = [*data.DATASETS, *shipped.experiments()]
        hint = did_you_mean(name, known, label="Known names")
        raise SpecError(
            f"no data set or experiment '{name}'. {hint} Any other set of TFDS: cnnjax data show"
            f" tfds --set dataset={name}."
        )
    augments = [
        schema.construct(data.AUGMENTS, a, f"{where}.augment[{i}]")
        for i, a in enumerate(options["augment"])
    ]
    return open_dataset(options, where), augments


def entries(kind: str) -> list[Entry]:
    """Every entry of one of KINDS, in the table's own order."""
    if kind == "experiments":
        return [Entry(name, shipped.about(path)) for name, path in shipped.experiments().items()]
    if kind not in TABLES:
        raise SpecError(f"list: unknown kind '{kind}'. {did_you_mean(kind, KINDS, label='Kinds')}")
    table, context = TABLES[kind]
    return [_entry(name, factory, context) for name, factory in table.items()]


def entry(kind: str, name: str) -> Entry:
    """The entry called `name`."""
    found = {e.name: e for e in entries(kind)}
    if name not in found:
        hint = did_you_mean(name, found, label="Known names")
        raise SpecError(f"list {kind}: unknown name '{name}'. {hint}")
    return found[name]


def _entry(name: str, factory: schema.Factory, context: int) -> Entry:
    target: Any = factory.func if isinstance(factory, functools.partial) else factory
    doc = inspect.getdoc(target) or ""
    about = doc.partition("\n")[0].rstrip(".")
    if isinstance(factory, functools.partial):
        given = ", ".join(f"{k}={v!r}" for k, v in factory.keywords.items())
        about = f"{target.__name__} with {given}"
    options = tuple(
        Option(key, schema.describe(o.hint), _written(o.default))
        for key, o in schema.options_of(factory, context)[0].items()
    )
    return Entry(name, about, doc, options)


def _written(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return ""
    # A tuple is a list in an experiment file.
    return repr(default) if not isinstance(default, tuple) else repr(list(default))
