"""Arms side by side: means, differences to the base, and what keeps them from being compared."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cnnjax.errors import RunError, SpecError, did_you_mean
from cnnjax.study import stats
from cnnjax.study.caveats import caveats
from cnnjax.study.comparison import Arm, Comparison, Measure, values
from cnnjax.study.groups import Group, group
from cnnjax.study.runs import Run, flatten
from cnnjax.study.stats import Summary

MEASURES = {
    "top1": Measure("top1", "top-1 error", "%", -100.0, 100.0),
    "top5": Measure("top5", "top-5 error", "%", -100.0, 100.0),
    "loss": Measure("loss", "loss", digits=4),
}
ACCURACIES = {
    "top1": Measure("top1", "top-1 accuracy", "%", 100.0, lower=False),
    "top5": Measure("top5", "top-5 accuracy", "%", 100.0, lower=False),
}


def measure_of(name: str, *, accuracy: bool = False) -> Measure:
    """The measure called `name`: an error unless `accuracy`."""
    if name not in MEASURES:
        hint = did_you_mean(name, MEASURES, label="Measures")
        raise SpecError(f"--measure: no measure {name!r}. {hint}")
    if accuracy and name not in ACCURACIES:
        raise SpecError(f"--accuracy: {name} is no accuracy. It goes with top1 and top5.")
    return ACCURACIES[name] if accuracy else MEASURES[name]


def compare(
    paths: "str | Path | Iterable[str | Path]",
    *,
    measure: str = "top1",
    accuracy: bool = False,
    base: str | None = None,
) -> Comparison:
    """Set arms against their base, paired by seed.

    `paths` are run directories, studies or folders of them. The base is the study's, that of the
    first study, or the first arm given, unless `base` names another. Raises RunError where nothing
    is finished, SpecError for a measure or base that is not there.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    shown = measure_of(measure, accuracy=accuracy)
    found = group(given)
    names = [arm.name for arm in found.arms]
    if base is not None and base not in names:
        raise SpecError(f"--base: no arm {base!r}. {did_you_mean(base, names, label='Arms')}")
    if not any(arm.runs for arm in found.arms):
        count = sum(len(arm.waiting) for arm in found.arms)
        raise RunError(f"none of the {count} runs is finished: there is nothing to compare yet.")
    return _compared(found.arms, base or found.base, shown, list(found.notes))


def _compared(
    groups: tuple[Group, ...], base: str, measure: Measure, notes: list[str]
) -> Comparison:
    own = next(g for g in groups if g.name == base)
    scores = {g.name: values(g, measure) for g in groups}
    effects = {
        g.name: stats.paired(scores[g.name], scores[base])
        for g in groups
        if g is not own and g.runs and own.runs
    }
    corrected = dict(
        zip(effects, stats.holm([effect.p for effect in effects.values()]), strict=True)
    )
    flags = {g.name: _flags(g, own, measure) for g in groups}
    summaries = {
        g.name: stats.summarize(list(scores[g.name].values())) if g.runs else None for g in groups
    }
    best = _best(summaries, flags, measure)
    arms = tuple(
        Arm(g, summaries[g.name], effects.get(g.name), corrected.get(g.name), flags[g.name],
            g.name == best)
        for g in groups
    )  # fmt: skip
    return Comparison(measure, base, arms, tuple(notes + caveats(arms, base)))


def _best(
    summaries: Mapping[str, Summary | None],
    flags: Mapping[str, tuple[str, ...]],
    measure: Measure,
) -> str | None:
    """The arm with the best mean among those trained and scored alike; no arm of one seed."""
    means = {
        name: s.mean for name, s in summaries.items() if s is not None and s.n > 1
        and not flags[name]
    }  # fmt: skip
    if len(means) < 2:
        return None
    return (min if measure.lower else max)(means, key=lambda name: means[name])


def _flags(arm: Group, base: Group, measure: Measure) -> tuple[str, ...]:
    """Where data, budget or evaluation differ from the base: "steps: 200, base 100"."""
    if arm.sample is None or base.sample is None:
        return ()
    ours, theirs = _conditions(arm.sample, measure), _conditions(base.sample, measure)
    return tuple(
        f"{key}: {_plain(ours.get(key))}, base {_plain(theirs.get(key))}"
        for key in dict.fromkeys([*theirs, *ours])
        if ours.get(key) != theirs.get(key)
    )


def _conditions(run: Run, measure: Measure) -> dict[str, Any]:
    """What two runs must share for their scores to be compared."""
    skip = ("augment", "data_dir", "evaluations", "split", "batch_size")
    dataset = {k: v for k, v in run.spec["dataset"].items() if k not in skip}
    result = run.result or {}
    found = {
        **{f"dataset.{key}": value for key, value in flatten(dataset).items()},
        **{
            f"{role} split": f"{part['split']} ({part['examples']:,})"
            for role, part in run.derived.get("splits", {}).items()
        },
        "steps": run.steps,
        "batch size": run.spec["dataset"]["batch_size"],
        "scored on": result.get("split"),
        "images scored": result.get("n"),
        "network reported": result.get("selected"),
    }
    if measure.key == "loss":
        found["loss"] = json.dumps(run.spec["schedule"].get("loss"))
    return found


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
