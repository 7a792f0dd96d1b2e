"""The arms of an ablation: which values each of them puts at which paths of the experiment."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cnnjax.errors import SpecError, did_you_mean
from cnnjax.spec import REQUIRED, Spec

Changes = dict[str, Any]
"""Path -> value, as in {"model.depth": 20}."""


@dataclass(frozen=True)
class Matched:
    """How an arm was brought to the cost of the base: `path` was set to `value`.

    `by` is "params" or "macs"; `target` is the base's number, `reached` the arm's, `error` their
    relative difference. `path` is None where the model has no width to set, `value` where it was
    left as it is.
    """

    by: str
    path: str | None
    value: float | None
    target: int
    reached: int
    error: float


@dataclass(frozen=True)
class Arm:
    """One variant of an experiment. What it costs is known once it has been planned.

    `params` are trainable parameters, `macs` multiply-adds for one image, `steps` those of one run.
    """

    name: str
    changes: Changes
    params: int | None = None
    macs: int | None = None
    steps: int | None = None
    matched: Matched | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as study.json holds them."""
        return asdict(self)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Arm":
        """The arm that `to_dict` gave."""
        matched = content.get("matched")
        return cls(**{**content, "matched": Matched(**matched) if matched else None})


def arms_of(spec: Spec, ablation: Mapping[str, Any]) -> tuple[str, list[Arm]]:
    """The base arm's name, and every arm in the order in which the ablation lists them.

    `grid`: every combination; base is the file's own, or the first. `one_at_a_time`: "base" is the
    file, each arm sets one path. `leave_one_out`: "full" has every path at its first listed value,
    each arm puts one path back to what the file has. `arms`: as they are written; base is the one
    called "base", or the first. Raises SpecError for what gives no arms.
    """
    where = f"{spec.where}: ablation"
    vary, written = ablation.get("vary"), ablation.get("arms")
    mode = "arms" if vary is None and written is not None else ablation.get("mode", "grid")
    key, other = ("arms", "vary") if mode == "arms" else ("vary", "arms")
    if ablation.get(other) is not None:
        raise SpecError(f"{where}: mode '{mode}' takes '{key}', not '{other}'.")
    given = written if mode == "arms" else vary
    if not given:
        example = {
            "vary": "{'model.depth': [20, 32]}",
            "arms": "{'base': {}, 'wide': {'model.width': 2}}",
        }[key]
        raise SpecError(f"{where}: mode '{mode}' needs '{key}', such as {example}.")
    if mode == "arms":
        for name, changes in given.items():
            for path in changes:
                _check_path(path, f"{where}.arms: '{name}'")
        return ("base" if "base" in given else next(iter(given))), [
            Arm(name, dict(changes)) for name, changes in given.items()
        ]
    for path, values in given.items():
        _check_path(path, f"{where}.vary")
        _check_values(path, values, where)
    return {"grid": _grid, "one_at_a_time": _one_at_a_time, "leave_one_out": _leave_one_out}[mode](
        spec, given
    )


def _grid(spec: Spec, vary: Mapping[str, Sequence[Any]]) -> tuple[str, list[Arm]]:
    own, label = _own(spec, vary), _labels(vary)
    combinations = [
        dict(zip(vary, values, strict=True)) for values in itertools.product(*vary.values())
    ]
    arms = [
        Arm(", ".join(f"{label[p]}={written(v)}" for p, v in changes.items()), changes)
        for changes in combinations
    ]
    base = next((a for a in arms if all(_same(own[p], v) for p, v in a.changes.items())), arms[0])
    return base.name, arms


def _one_at_a_time(spec: Spec, vary: Mapping[str, Sequence[Any]]) -> tuple[str, list[Arm]]:
    own, label = _own(spec, vary), _labels(vary)
    return "base", [
        Arm("base", {}),
        *(
            Arm(f"{label[path]}={written(value)}", {path: value})
            for path, values in vary.items()
            for value in values
            if not _same(own[path], value)
        ),
    ]


def _leave_one_out(spec: Spec, vary: Mapping[str, Sequence[Any]]) -> tuple[str, list[Arm]]:
    own, label = _own(spec, vary), _labels(vary)
    full = {path: values[0] for path, values in vary.items()}
    for path, value in full.items():
        if _same(own[path], value):
            raise SpecError(
                f"{spec.where}: ablation.vary: leaving out '{path}' changes nothing: {value!r} is"
                " what the file has. The file is the experiment without any of the parts; the first"
                " value listed for a path is the part."
            )
    arms = [
        Arm(f"without {label[path]}={written(full[path])}",
            {p: v for p, v in full.items() if p != path})
        for path in vary
    ]  # fmt: skip
    return "full", [Arm("full", full), *arms]


def _check_path(path: str, where: str) -> None:
    part, dot, rest = path.partition(".")
    if part not in REQUIRED or (dot and not rest):
        hint = did_you_mean(part, REQUIRED, label="A path begins with one of")
        raise SpecError(f"{where}: no path '{path}'. {hint}")
    if path == "schedule.seed":
        raise SpecError(f"{where}: 'schedule.seed' is what 'seeds' runs over: run i has seed + i.")


def _check_values(path: str, values: Any, where: str) -> None:
    if not isinstance(values, list) or not values:
        raise SpecError(
            f"{where}.vary.{path}: expected a list of at least one value, got {values!r}."
        )
    for i, value in enumerate(values):
        if any(type(value) is type(v) and value == v for v in values[:i]):
            raise SpecError(f"{where}.vary.{path}: {value!r} stands there twice.")


def _own(spec: Spec, paths: Mapping[str, Any]) -> Changes:
    """What the experiment has at each path; None where it has nothing."""
    return {path: value_at(spec.to_dict(), path) for path in paths}


def value_at(content: Any, path: str) -> Any:
    """The value at "model.stages.0" of plain dicts and lists; None where there is nothing."""
    for key in path.split("."):
        if isinstance(content, dict):
            content = content.get(key)
        elif isinstance(content, list) and key.isdecimal() and int(key) < len(content):
            content = content[int(key)]
        else:
            return None
    return content


def _same(own: Any, given: Any) -> bool:
    """Whether a value is what the file has; a dict may leave out what its defaults say."""
    if isinstance(own, dict) and isinstance(given, dict):
        return all(k in own and _same(own[k], v) for k, v in given.items())
    if isinstance(own, list) and isinstance(given, list):
        return len(own) == len(given) and all(map(_same, own, given))
    return isinstance(own, bool) == isinstance(given, bool) and own == given


def _labels(paths: Mapping[str, Any]) -> dict[str, str]:
    """Each path without its dict where no other path is then called the same."""
    short = {path: path.partition(".")[2] or path for path in paths}
    return {p: s if list(short.values()).count(s) == 1 else p for p, s in short.items()}


def written(value: Any) -> str:
    """A value as it stands in a name: {"name": "shift", "max": 2} is shift(max=2).

    >>> written([{"name": "shift", "max": 2}, {"name": "flip"}])
    '[shift(max=2), flip]'
    """
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        options = ", ".join(f"{k}={written(v)}" for k, v in value.items() if k != "name")
        return f"{value['name']}({options})" if options else value["name"]
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return str(value)
