"""A factory's signature is its schema: checks plain options against it, in our words."""

import functools
import importlib
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types as at
import pydantic

from cnnjax.errors import SpecError, did_you_mean

Factory = Callable[..., Any]
Table = Mapping[str, Factory]
Options = dict[str, Any]


@dataclass(frozen=True)
class Section:
    """What one dict of an experiment may hold.

    `keys`: a function whose arguments are the fixed keys. `factories`: the table that the dict's
    own `name` looks up; what is not a fixed key is an option of that factory. `tables`: for a fixed
    key whose value is itself a `{"name": ..}` dict, or a list of them, the table it looks up.
    `context`: how many leading arguments of the factories of this section, or of one of its
    `tables`, the framework gives (a learning rate needs the number of steps). `given`: options that
    the framework supplies later where the dict has none, so their defaults are not filled in.
    """

    keys: Factory | None = None
    factories: Table | None = None
    tables: Mapping[str, Table] = field(default_factory=dict)
    context: Mapping[str, int] = field(default_factory=dict)
    given: tuple[str, ...] = ()


Schema = Mapping[str, Section]


@dataclass(frozen=True)
class _Option:
    hint: Any
    default: Any  # inspect.Parameter.empty: must be given


@functools.cache
def _adapter(hint: Any) -> Any:
    return pydantic.TypeAdapter(hint, config={"arbitrary_types_allowed": True})


def options_of(factory: Factory, context: int = 0) -> tuple[dict[str, _Option], bool]:
    """Name -> type and default of each option of `factory`, and whether it takes any others.

    What a `functools.partial` has bound is no option any more: resnet18 has no depth.
    """
    bound: tuple[str, ...] = ()
    target = factory
    if isinstance(factory, functools.partial):
        bound, target = tuple(factory.keywords), factory.func
    try:
        hints = typing.get_type_hints(
            target.__init__ if inspect.isclass(target) else target, include_extras=True
        )
        if inspect.isclass(target):
            hints |= typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError):
        hints = {}
    found, open_ended = {}, False
    for position, p in enumerate(inspect.signature(factory).parameters.values()):
        if p.kind is p.VAR_KEYWORD:
            open_ended = True
        # `name` is the look-up itself; a Linen module used as a factory also has a `parent`.
        elif p.kind is p.VAR_POSITIONAL or position < context:
            continue
        elif p.name not in ("name", "parent", *bound):
            found[p.name] = _Option(hints.get(p.name, Any), p.default)
    return found, open_ended


def look_up(table: Table, name: Any, where: str) -> Factory:
    """The factory called `name` in `table`, or the user's own `"package.module:factory"`."""
    if not isinstance(name, str):
        raise SpecError(f"{where}.name: expected a string, got {name!r}.")
    if name in table:
        return table[name]
    if ":" not in name:
        # What the framework puts there itself, such as a module passed from Python, is private.
        public = [n for n, f in table.items() if not getattr(f, "__name__", "").startswith("_")]
        hint = did_you_mean(name, public, label="Known names")
        raise SpecError(
            f"{where}.name: unknown name '{name}'. {hint}"
            " A name of your own is written 'package.module:factory'."
        )
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise SpecError(
            f"{where}.name: cannot import '{module_name}' of '{name}': {error}."
            " The module must be importable: run from its directory or set PYTHONPATH."
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        public = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        hint = did_you_mean(attribute, public, label="It has")
        raise SpecError(f"{where}.name: module '{module_name}' has no '{attribute}'. {hint}")
    return found


def check(factory: Factory, options: Mapping[str, Any], where: str, context: int = 0) -> Options:
    """`options` as the plain values `factory` accepts, its defaults filled in.

    Raises SpecError for an unknown or missing key, a wrong type or a value out of range.
    """
    known, open_ended = options_of(factory, context)
    filled: Options = {}
    for key, value in options.items():
        if key in known:
            filled[key] = _plain(known[key].hint, value, f"{where}.{key}")
        elif open_ended:
            filled[key] = value
        else:
            hint = did_you_mean(key, ["name", *known] if "name" not in options else known)
            raise SpecError(f"{where}: unknown key '{key}'.\n{hint}")
    for key, option in known.items():
        if key in filled:
            continue
        if option.default is inspect.Parameter.empty:
            raise SpecError(f"{where}: missing key '{key}' ({describe(option.hint)}).")
        try:
            default = _adapter(option.hint).dump_python(option.default, mode="json", warnings=False)
            json.dumps(default)
        except (pydantic.PydanticUserError, ValueError, TypeError):
            continue  # a default that is no plain value is the factory's own business
        filled[key] = default
    return filled


def construct(
    table: Table, options: Mapping[str, Any], where: str, *context: Any, **given: Any
) -> Any:
    """Call the factory that `options["name"]` names with the rest of them.

    `given` are arguments that the framework supplies where the factory has them and the options do
    not say otherwise (`num_classes`, the shape of the input).
    """
    factory = look_up(table, options.get("name"), where)
    known, _ = options_of(factory, len(context))
    options = {k: v for k, v in given.items() if k in known} | {
        k: v for k, v in options.items() if k != "name"
    }
    filled = check(factory, options, where, len(context))
    typed = {
        k: _adapter(known[k].hint).validate_json(json.dumps(v)) if k in known else v
        for k, v in filled.items()
    }
    try:
        return factory(*context, **typed)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None


def check_section(section: Section, options: Mapping[str, Any], where: str) -> Options:
    """One dict of an experiment, every level checked and its defaults filled in."""
    fixed = options_of(section.keys)[0] if section.keys else {}
    own = {k: v for k, v in options.items() if k in fixed}
    rest = {k: v for k, v in options.items() if k not in fixed}
    factory: Factory | None = None
    if section.factories is not None:
        if "name" not in rest:
            raise SpecError(f"{where}: missing key 'name' ({_names(section.factories)}).")
        name = rest.pop("name")
        factory = look_up(section.factories, name, where)
    context = section.context.get("name", 0)
    factory_known, open_ended = options_of(factory, context) if factory else ({}, False)
    for key in rest:
        if key not in factory_known and not open_ended:
            known = ["name", *fixed, *factory_known] if factory else [*fixed]
            raise SpecError(f"{where}: unknown key '{key}'.\n{did_you_mean(key, known)}")
    filled: Options = {}
    if factory:
        checked = check(factory, rest, where, context)
        late = {k for k in section.given if k not in rest}
        filled = {"name": name, **{k: v for k, v in checked.items() if k not in late}}
    for key in own.keys() & section.tables.keys():
        _refuse_bare_name(own[key], f"{where}.{key}")
    if section.keys:
        filled |= check(section.keys, own, where)
    for key, table in section.tables.items():
        if filled.get(key) is not None:
            depth = section.context.get(key, 0)
            filled[key] = _check_named(table, filled[key], f"{where}.{key}", depth)
    return filled


def _check_named(table: Table, value: Any, where: str, context: int) -> Any:
    if isinstance(value, list):
        return [_check_named(table, v, f"{where}[{i}]", context) for i, v in enumerate(value)]
    if "name" not in value:
        raise SpecError(f"{where}: missing key 'name' ({_names(table)}).")
    factory = look_up(table, value["name"], where)
    rest = {k: v for k, v in value.items() if k != "name"}
    return {"name": value["name"], **check(factory, rest, where, context)}


def _refuse_bare_name(value: Any, where: str) -> None:
    for i, element in enumerate(value if isinstance(value, list) else ()):
        _refuse_bare_name(element, f"{where}[{i}]")
    if isinstance(value, str):
        raise SpecError(f"{where}: expected a dict such as {{'name': {value!r}}}, got {value!r}.")


def _names(table: Table) -> str:
    return "one of " + ", ".join(sorted(table))


def _plain(hint: Any, value: Any, where: str) -> Any:
    """`value` as JSON holds it after the check against `hint`: 1 for a float becomes 1.0."""
    try:
        adapter = _adapter(hint)
        # JSON's strict mode takes a list for a tuple, and nothing else for what it is not.
        typed = adapter.validate_json(json.dumps(value), strict=True)
        return adapter.dump_python(typed, mode="json", warnings=False)
    except pydantic.ValidationError as error:
        raise SpecError(f"{where}: expected {describe(hint)}, got {value!r}.{_nearest(hint, value)}"
                        f"{_inner(error)}") from None  # fmt: skip
    except pydantic.PydanticUserError:
        raise SpecError(
            f"{where}: takes a Python object, which an experiment file cannot hold."
        ) from None


def _inner(error: pydantic.ValidationError) -> str:
    """Which element of a list or dict is the wrong one, where it is not the whole value."""
    places = {str(e["loc"][0]) for e in error.errors() if e["loc"] and isinstance(e["loc"][0], int)}
    return f" The wrong element is number {', '.join(sorted(places))}." if places else ""


def _nearest(hint: Any, value: Any) -> str:
    choices = [a for part in (hint, *get_args(hint)) if get_origin(part) is Literal
               for a in get_args(part)]  # fmt: skip
    if not choices or not isinstance(value, str):
        return ""
    said = did_you_mean(value, choices)
    return " " + said.split("? ")[0] + "?" if said.startswith("Did you mean") else ""


_WORDS = {
    int: "an integer", float: "a number", str: "a string", bool: "True or False",
    type(None): "None", dict: "a dict", list: "a list", tuple: "a list", Any: "anything",
}  # fmt: skip


def describe(hint: Any) -> str:
    """A type in words: `Annotated[int, Ge(1)]` is "an integer >= 1"."""
    if isinstance(hint, typing.TypeAliasType):
        hint = hint.__value__
    origin, args = get_origin(hint), get_args(hint)
    if hint in _WORDS:
        return _WORDS[hint]
    if typing.is_typeddict(hint):
        return f"a dict of {', '.join(hint.__annotations__)}"
    if origin is Annotated:
        return " ".join([describe(args[0]), " and ".join(_bound(b) for b in args[1:])]).strip()
    if origin is Literal:
        return "one of " + ", ".join(repr(a) for a in args) if len(args) > 1 else repr(args[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(a) for a in args)
    if origin is tuple and args and args[-1] is not Ellipsis:
        return f"a list of {len(args)} values ({', '.join(describe(a) for a in args)})"
    if origin is not None and issubclass(origin, Mapping):
        return "a dict"
    if origin is not None and args:
        return f"a list (each {describe(args[0])})"
    return getattr(hint, "__name__", str(hint))


def _bound(bound: Any) -> str:
    match bound:
        case at.Ge(ge=v):
            return f">= {v}"
        case at.Gt(gt=v):
            return f"> {v}"
        case at.Le(le=v):
            return f"<= {v}"
        case at.Lt(lt=v):
            return f"< {v}"
        case at.Interval():
            return " and ".join(_bound(b) for b in bound)
        case at.MinLen(min_length=v):
            return f"of at least {v}"
    return ""
