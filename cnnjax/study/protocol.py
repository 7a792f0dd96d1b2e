"""The paragraph on experimental set-up, written from the specs."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnnjax.spec import differences
from cnnjax.study.bibliography import keys
from cnnjax.study.comparison import Arm, Comparison
from cnnjax.study.groups import alike
from cnnjax.study.latex import breakable
from cnnjax.study.runs import Run

# Options that are the same everywhere and say nothing to a reader.
_DULL: tuple[Any, ...] = (None, [], {})

Cite = Callable[[list[str]], str]


def setup(comparison: Comparison, *, cite: Cite | None = None) -> str:
    """How the runs were made, in sentences. `cite` turns keys of the bibliography into a mark."""
    arms = [arm for arm in comparison.arms if arm.runs]
    base = comparison.base_arm if comparison.base_arm.runs else arms[0]
    sentences = [
        *_base(base, base.runs[0], comparison, cite),
        *_others(base, [arm for arm in arms if arm is not base], cite),
        *_seeds(arms),
        *_machines([run for arm in arms for run in arm.runs]),
    ]
    return " ".join(sentences) + "\n"


def markdown(comparison: Comparison) -> str:
    """The paragraph with citation keys in brackets, as Pandoc reads them."""
    return setup(comparison, cite=lambda found: f" [{'; '.join('@' + key for key in found)}]")


def latex(comparison: Comparison) -> str:
    r"""The paragraph for \input; its \cite keys are those of references.bib."""
    text = setup(comparison, cite=lambda found: f"~\\cite{{{','.join(found)}}}")
    parts = re.split(r"(~\\cite\{[\w,]+\})", text)
    return "".join(part if i % 2 else breakable(part) for i, part in enumerate(parts))


def _base(arm: Arm, run: Run, comparison: Comparison, cite: Cite | None) -> list[str]:
    model, dataset, schedule = (run.spec[k] for k in ("model", "dataset", "schedule"))
    cited = cite(found) if cite and (found := keys(run)) else ""
    size = "x".join(map(str, run.derived.get("input_shape", [])))
    counts = f", {run.params:,} parameters and {run.macs:,} multiply-adds an image" * bool(
        run.params and run.macs
    )
    splits = ", ".join(
        f"{part['examples']:,} {role} images ('{part['split']}')"
        for role, part in run.derived.get("splits", {}).items()
    )
    augment = ", ".join(named(a) for a in dataset.get("augment") or []) or "none"
    length = _length(run)
    called = "" if arm.name == "base" else f", {arm.name},"
    result = run.result or {}
    score = {
        "last": "of the network after the last step",
        "best on validation": "of the network that was best on the validation split",
    }[result.get("selected", "last")]
    return [
        f"The base{called} is the network {named(model)}{cited}{counts}.",
        f"It was trained on {dataset['name']} ({'; '.join(filter(None, [splits, size]))}),"
        f" normalised by {_value(dataset.get('normalize'))}, augmented by: {augment}.",
        f"Training took {length} with {named(schedule['optimizer'])} and learning rate"
        f" {named(schedule['learning_rate'])}, loss {named(schedule['loss'])}, in"
        f" {schedule.get('dtype', 'float32')}{_also(schedule)}.",
        f"Reported is {comparison.split} {comparison.measure.name} {score}, on"
        f" {result.get('n', 0):,} images.",
    ]


def _length(run: Run) -> str:
    batch = run.spec["dataset"]["batch_size"]
    train = run.derived.get("splits", {}).get("train", {}).get("examples")
    steps = run.steps or 0
    epochs = f" ({steps * batch / train:.3g} epochs)" if train else ""
    return f"{steps:,} steps of {batch:,} images{epochs}"


def _also(schedule: Mapping[str, Any]) -> str:
    said = {"clip": "gradients clipped at norm", "ema": "weights averaged with decay"}
    return "".join(f", {words} {schedule[k]:g}" for k, words in said.items() if schedule.get(k))


def _others(base: Arm, arms: Sequence[Arm], cite: Cite | None) -> list[str]:
    if not arms:
        return []
    told = []
    for arm in arms:
        changes = differences(json.loads(alike(base.runs[0])), json.loads(alike(arm.runs[0])))
        model = [c for c in changes if c[0] == "model.name"]
        kept = [c for c in changes if not (model and c[0].startswith("model."))]
        cited = cite(found) if cite and model and (found := keys(arm.runs[0])) else ""
        words = [f"model {named(arm.runs[0].spec['model'])}{cited}"] if model else []
        words += [
            f"{path} {_value(there)} in place of {_value(here)}" for path, here, there in kept
        ]
        told.append(f"{arm.name}: {', '.join(words) or 'nothing'}")
        if (by := arm.group.matched) is not None and by.path is not None:
            told[-1] += f" (matched to the base in {by.by} by {by.path} {_value(by.value)})"
    return [f"The other arms differ from it in the following. {'. '.join(told)}."]


def _seeds(arms: Sequence[Arm]) -> list[str]:
    seeds = {tuple(run.seed for run in arm.runs) for arm in arms}
    if len(seeds) > 1:
        return ["Seeds: " + "; ".join(f"{arm.name}: {_span(arm)}" for arm in arms) + "."]
    count = len(arms[0].runs)
    which = f"seed {_span(arms[0])}" if count == 1 else f"the {count} seeds {_span(arms[0])}"
    return [f"Every arm was run with {which}; the seed sets weights, data order and augmentation."]


def _span(arm: Arm) -> str:
    seeds = [run.seed for run in arm.runs]
    whole = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if whole else " and ".join(map(str, seeds))


def _machines(runs: Sequence[Run]) -> list[str]:
    devices = list(dict.fromkeys(run.device for run in runs if run.device))
    wanted = ("cnnjax", "jax", "flax", "optax", "python")
    versions = {
        name: list(dict.fromkeys(v[name] for run in runs if name in (v := run.versions)))
        for name in wanted
    }
    told = ", ".join(f"{name} {' and '.join(v)}" for name, v in versions.items() if v)
    return [f"Runs were made on {' and '.join(devices)} with {told}."] if devices else []


def named(content: Any) -> str:
    """{"name": "sgd", "momentum": 0.9} -> "sgd (momentum 0.9)"; what says nothing is left out."""
    if not isinstance(content, Mapping):
        return _value(content)
    options = [
        f"{key.replace('_', ' ')} {_value(value)}"
        for key, value in content.items()
        if key != "name" and value not in _DULL
    ]
    return f"{content.get('name', '')}{f' ({", ".join(options)})' if options else ''}"


def _value(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "on" if value else "off"
        case float():
            return f"{value:g}"
        case str():
            return value
        case Mapping() if "name" in value:
            return named(value)
        case list() if value and all(isinstance(v, Mapping) and "name" in v for v in value):
            return " and ".join(map(named, value))
        case []:
            return "none"
    return json.dumps(value)
