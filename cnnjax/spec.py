"""Experiment file -> frozen Spec: loading, overrides, durations, digest, differences."""

import ast
import difflib
import hashlib
import json
import math
import traceback
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge

from cnnjax import shipped
from cnnjax.errors import SpecError, did_you_mean
from cnnjax.schema import Schema, Section, check_section

REQUIRED = ("model", "dataset", "schedule")
OPTIONAL = ("paper", "ablation")
DURATIONS = ("epochs", "steps", "examples")
# What spec.json holds beside the experiment itself.
BESIDE = ("experiment", "doc", "digest", "derived")
# What may differ between two directories of the same run: where the data lie, what the experiment
# is compared with, and how often and on what it is looked at.
NOT_IN_DIGEST = {
    "dataset": ("data_dir", "evaluations"),
    "schedule": ("eval_every", "checkpoint_every"),
}


@dataclass(frozen=True)
class Spec:
    """A checked experiment with its defaults filled in; cannot be changed, only replaced.

    `text` is its canonical JSON, the only state; `model`, `dataset`, .. are fresh copies of it.
    `where` is the file it came from, `doc` that file's docstring; `called` is the experiment's name
    where a run directory says it.
    """

    text: str
    where: str = "spec"
    doc: str = ""
    called: str = ""

    def __getattr__(self, name: str) -> Any:
        if name in (*REQUIRED, *OPTIONAL):
            return json.loads(self.text).get(name)
        raise AttributeError(name)

    @property
    def name(self) -> str:
        """The experiment's name: its file without folder and suffix, as its runs keep it."""
        return self.called or Path(self.where).stem

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the result; key order, paths and cadences do not count."""
        content = json.loads(self.text)
        kept = {
            part: {k: v for k, v in content[part].items() if k not in NOT_IN_DIGEST.get(part, ())}
            for part in REQUIRED
        }
        return hashlib.sha256(_canonical(kept).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """model, dataset, schedule and, where given, paper and ablation, as plain values."""
        return json.loads(self.text)

    def to_json(self, **derived: Any) -> str:
        """The contents of spec.json; `derived` facts stand beside and are not read back."""
        content = {
            **self.to_dict(), "experiment": self.name, "doc": self.doc, "digest": self.digest
        }  # fmt: skip
        return json.dumps(content | ({"derived": derived} if derived else {}), indent=2) + "\n"


def _ablation(
    *,
    mode: Literal["grid", "one_at_a_time", "leave_one_out", "arms"] = "grid",
    vary: dict[str, Any] | None = None,
    arms: dict[str, dict[str, Any]] | None = None,
    seeds: Annotated[int, Ge(1)] = 3,
    match: Literal["params", "macs"] | None = None,
) -> None: ...


@dataclass(frozen=True)
class Source:
    """What an experiment says before it is checked, and where it says so."""

    content: dict[str, Any]
    where: str = "spec"
    doc: str = ""
    called: str = ""


def read(source: "str | Path | Mapping[str, Any] | Spec | Source") -> Source:
    """The dicts of a Python or JSON file, a run directory, a dict or a Spec, as they stand."""
    match source:
        case Source():
            return source
        case Spec():
            return Source(source.to_dict(), source.where, source.doc, source.called)
        case Mapping():
            return Source(dict(source))
    path = Path(source)
    if path.is_dir():
        path = path / "spec.json"
        if not path.exists():
            raise SpecError(f"{source}: is a folder without spec.json, so it is no run directory.")
    else:
        path = shipped.names(path) or path
    content, doc = _read(path, str(source))
    return Source(content, str(source), doc, content.get("experiment", ""))


def load(
    source: "str | Path | Mapping[str, Any] | Spec | Source",
    schema: Schema,
    overrides: Iterable[str] = (),
    changes: Mapping[str, Any] | None = None,
) -> Spec:
    """Read an experiment and check it against `schema`.

    `overrides` are `path=value` strings; `changes` {path: value} after them, where a path may also
    be one of the three dicts as a whole. Raises SpecError saying the place, what was found there,
    what was expected and the nearest known word.
    """
    found = read(source)
    where = found.where
    content = {k: v for k, v in found.content.items() if k not in BESIDE}
    for key in content:
        if key not in (*REQUIRED, *OPTIONAL):
            hint = did_you_mean(key, (*REQUIRED, *OPTIONAL), label="Known names")
            raise SpecError(f"{where}: unknown name '{key}'.\n{hint}")
    for key in REQUIRED:
        if key not in content:
            raise SpecError(f"{where}: the dict '{key}' is missing. {', '.join(REQUIRED)} are due.")
    content = {k: _plain(v, f"{where}: {k}") for k, v in content.items() if v is not None}
    for key, value in content.items():
        if not isinstance(value, dict):
            raise SpecError(f"{where}: {key}: expected a dict, got {value!r}.")
    for override in overrides:
        _override(content, override)
    for path, value in (changes or {}).items():
        plain = _plain(value, f"{where}: {path}")
        if path in REQUIRED and isinstance(plain, dict):
            content[path] = plain
        else:
            assign(content, path.split("."), plain, where)
    checked = {p: check_section(schema[p], content[p], f"{where}: {p}") for p in REQUIRED}
    _one_duration(checked["schedule"], where)
    if "paper" in content:
        checked["paper"] = content["paper"]
    if "ablation" in content:
        section = Section(keys=_ablation)
        checked["ablation"] = check_section(section, content["ablation"], f"{where}: ablation")
    return Spec(_text(checked), where, found.doc, found.called)


def _text(checked: Mapping[str, Any]) -> str:
    """Canonical JSON, in which an ablation keeps the order of its arms."""
    content = json.loads(_canonical(checked)) | (
        {"ablation": checked["ablation"]} if "ablation" in checked else {}
    )
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def _canonical(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _read(path: Path, where: str) -> tuple[dict[str, Any], str]:
    try:
        text = path.read_text()
    except FileNotFoundError:
        near = [p.name for p in path.parent.glob("*") if p.suffix in (".py", ".json")]
        named = path.suffix == "" and (path.parent == Path() or not path.parent.is_dir())
        known = shipped.experiments() if named else near
        label = "Files there" if known is near else "Shipped experiments"
        hint = f" {did_you_mean(path.name, known, label=label)}" if known else ""
        raise SpecError(f"{where}: no such experiment file.{hint}") from None
    except OSError as error:
        raise SpecError(f"{where}: cannot be read: {error.strerror}.") from None
    if path.suffix == ".json":
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise SpecError(f"{where}:{error.lineno}: not JSON: {error.msg}.") from None
        if not isinstance(content, dict):
            raise SpecError(f"{where}: expected an object with {', '.join(REQUIRED)}.")
        return content, content.get("doc", "")
    if path.suffix != ".py":
        raise SpecError(f"{where}: expected a .py or .json file or a run directory.")
    return _execute(path, text, where)


def _execute(path: Path, text: str, where: str) -> tuple[dict[str, Any], str]:
    """Run the file in a namespace of its own: nothing of it stays in sys.modules."""
    namespace: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(compile(text, str(path), "exec"), namespace)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise SpecError(f"{where}:{error.lineno}: SyntaxError: {error.msg}\n    {line}") from error
    except Exception as error:
        inside = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        number = inside[-1].lineno if inside else None
        source = text.splitlines()[number - 1].strip() if number else ""
        kind = type(error).__name__
        raise SpecError(f"{where}:{number}: {kind}: {error}\n    {source}") from error
    known = (*REQUIRED, *OPTIONAL)
    for name, value in namespace.items():
        free = name in known or name.startswith("_")
        if free or isinstance(value, types.ModuleType | types.FunctionType | type):
            continue
        if near := difflib.get_close_matches(name, known, n=1, cutoff=0.75):
            raise SpecError(f"{where}: unknown name '{name}'. Did you mean '{near[0]}'?")
    found = {name: namespace[name] for name in known if name in namespace}
    return found, namespace.get("__doc__") or ""


def _plain(value: Any, where: str) -> Any:
    """`value` as JSON would give it back; anything else is no plain data."""
    match value:
        case None | bool() | int() | str():
            return value
        case float() if math.isfinite(value):
            return value
        case list() | tuple():
            return [_plain(v, f"{where}[{i}]") for i, v in enumerate(value)]
        case dict() if all(isinstance(k, str) for k in value):
            return {k: _plain(v, f"{where}.{k}") for k, v in value.items()}
    raise SpecError(
        f"{where}: {value!r} is not plain data."
        " Expected numbers, strings, True, False, None, lists and dicts with string keys."
    )


def parse_override(text: str) -> tuple[list[str], Any]:
    """`"schedule.seed=3"` -> (["schedule", "seed"], 3); what is no literal is a string."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise SpecError(f"--set {text}: expected PATH=VALUE, such as schedule.seed=3.")
    try:
        literal = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        literal = value.strip()
    return path.strip().split("."), _plain(literal, f"--set {text}")


def bare_options(overrides: Iterable[str]) -> dict[str, Any]:
    """`["depth=50", "stem=small"]` -> {"depth": 50, "stem": "small"}: one dict's own options."""
    found: dict[str, Any] = {}
    for text in overrides:
        path, value = parse_override(text)
        if len(path) > 1:
            raise SpecError(f"--set {text}: expected KEY=VALUE, a bare option such as depth=50.")
        found[path[0]] = value
    return found


def shape_of(text: str) -> tuple[int, ...]:
    """`"28x28x1"` -> (28, 28, 1): the shape of one image, channels last."""
    parts = text.lower().split("x")
    if not 2 <= len(parts) <= 4 or not all(p.strip().isdecimal() and int(p) for p in parts):
        raise SpecError(f"--input {text}: expected sizes and channels, such as 28x28x1 or 64x3.")
    return tuple(int(p) for p in parts)


def _override(content: dict[str, Any], text: str) -> None:
    path, value = parse_override(text)
    assign(content, path, value, f"--set {text}", (*REQUIRED, *OPTIONAL))


def assign(
    content: dict[str, Any],
    path: Sequence[str],
    value: Any,
    where: str,
    parts: Sequence[str] = REQUIRED,
) -> None:
    """Put `value` at `path` of an experiment's dicts, which begins with one of `parts`."""
    if path[0] not in parts or len(path) < 2:
        hint = did_you_mean(path[0], parts, label="A path begins with one of")
        raise SpecError(f"{where}: no path '{'.'.join(path)}'. {hint}")
    node: Any = content.setdefault(path[0], {})
    for depth, key in enumerate(path[1:-1], 1):
        node = _descend(node, key, f"{where}: {'.'.join(path[:depth])}")
    if isinstance(node, list):
        _descend(node, path[-1], where)
        node[int(path[-1])] = value
    elif isinstance(node, dict):
        if path[0] == "schedule" and path[-1] in DURATIONS and value is not None:
            for other in DURATIONS:
                node.pop(other, None)
        node[path[-1]] = value
    else:
        raise SpecError(f"{where}: '{'.'.join(path[:-1])}' is {node!r}, which has no keys.")


def _descend(node: Any, key: str, where: str) -> Any:
    if isinstance(node, dict):
        return node.setdefault(key, {})
    if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
        return node[int(key)]
    if isinstance(node, list):
        raise SpecError(f"{where}: no element '{key}': expected 0 to {len(node) - 1}.")
    raise SpecError(f"{where}: {node!r} has no key '{key}'.")


def _one_duration(schedule: dict[str, Any], where: str) -> None:
    given = [d for d in DURATIONS if schedule.get(d) is not None]
    if len(given) != 1:
        found = " and ".join(given) if given else "none"
        raise SpecError(
            f"{where}: schedule: expected exactly one of epochs, steps, examples; found {found}."
        )


def steps_of(schedule: Mapping[str, Any], examples: int, batch_size: int) -> int:
    """The run's length in steps; E epochs of n examples in batches of B are ceil(E n / B)."""
    if schedule.get("steps") is not None:
        return int(schedule["steps"])
    total = schedule.get("examples")
    if total is None:
        # Fraction of the decimal text: 0.1 epochs of 10 examples is one, not 1.0000000000000002.
        total = Fraction(str(schedule["epochs"])) * examples
    return math.ceil(Fraction(total) / batch_size)


def differences(a: Any, b: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """(path, value in a, value in b) wherever two plain values differ; absent is None."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted({*a, *b})
        return [d for k in keys for d in differences(a.get(k), b.get(k), f"{path}.{k}".lstrip("."))]
    return [] if a == b else [(path, a, b)]
