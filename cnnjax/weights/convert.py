"""Between a library's named tensors and Flax variables, for any family that says its names.

A family says where its modules are called what; everything else is here: the names of the leaves,
the transposed kernels, and one error that lists all that does not fit.
"""

import inspect
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax import models, schema
from cnnjax.errors import DataError, SpecError, did_you_mean
from cnnjax.weights.files import State, read

Layout = Literal["torchvision", "timm", "keras"]
Options = Mapping[str, Any]
Namer = Callable[[str, Options], str | None]
"""Our module path ("features/stage1_block1/conv1") and the model's options -> the library's name
of that module ("layer1.0.conv1"), or None where the library has none. Keras keeps our modules
`.../depthwise` and `.../pointwise` as two kernels of one layer: both have that layer's name."""

_TORCH_LEAVES = {
    "kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"
}  # fmt: skip
_KERAS_NORM_LEAVES = {
    "scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"
}  # fmt: skip
_COUNTER = "num_batches_tracked"


def nothing(options: Options) -> dict[str, tuple[int, int, int]]:
    """No dense layer of the network reads a flattened map."""
    return {}


@dataclass(frozen=True)
class Family:
    """What the conversion must know about one factory.

    `layouts`: the namer of each library that has the network. `flattened`: module path of each
    dense layer that reads a flattened map -> that map's (c, h, w); torch flattens in this order,
    we in (h, w, c). `pointwise`: per layout, the dense layers it keeps as 1x1 convolutions.
    `order`: sorts a torch layout's module names where the library defines them in another order
    than they are called in.
    """

    layouts: Mapping[str, Namer]
    flattened: Callable[[Options], Mapping[str, tuple[int, int, int]]] = nothing
    pointwise: Mapping[str, Callable[[Options], Collection[str]]] = field(default_factory=dict)
    order: Callable[[str], Any] | None = None


@dataclass(frozen=True)
class Slot:
    """One array of ours and its place in the file."""

    path: tuple[str, ...]  # collection, modules.., leaf
    name: str
    shape: tuple[int, ...]  # in the file
    inward: Callable[[np.ndarray], np.ndarray]
    outward: Callable[[np.ndarray], np.ndarray]

    @property
    def ours(self) -> str:
        return "/".join(self.path[1:])


def load(
    families: Mapping[schema.Factory, Family],
    layout: str,
    model: Mapping[str, Any],
    state: State | str | Path,
    *,
    ignore: Collection[str] = (),
) -> dict[str, Any]:
    """Flax variables from `state`; see `cnnjax.weights.load`."""
    tensors = read(state)
    slots = slots_of(families, layout, model)
    _check_fit(slots, tensors, layout, model, ignore)
    variables: dict[str, Any] = {}
    for slot in slots:
        # A copy (`asarray` may share memory): the caller's arrays can change later.
        _put(variables, slot.path, jnp.array(slot.inward(tensors[slot.name]), jnp.float32))
    return variables


def save(
    families: Mapping[schema.Factory, Family],
    layout: str,
    model: Mapping[str, Any],
    variables: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """The tensors of `layout` from Flax variables; see `cnnjax.weights.save`."""
    state: dict[str, np.ndarray] = {}
    lost = []
    for slot in slots_of(families, layout, model):
        array = _get(variables, slot.path)
        if array is None:
            lost.append(f"- {slot.ours}  {slot.name}")
            continue
        try:
            state[slot.name] = np.ascontiguousarray(slot.outward(np.asarray(array)))
            fits = state[slot.name].shape == slot.shape
        except ValueError:
            fits = False
        if not fits:
            lost.append(f"- {slot.ours}  {slot.name} {slot.shape}")
            lost.append(f"+ {slot.ours}  {np.shape(array)} in our order")
        if layout != "keras" and slot.path[-1] == "var":
            # torch counts its training batches, we do not.
            state[slot.name.removesuffix("running_var") + _COUNTER] = np.zeros((), np.int64)
    if lost:
        listing = "\n  ".join(lost)
        raise DataError(f"the variables are not those of {_say(model)}:\n  {listing}")
    return state


def slots_of(
    families: Mapping[schema.Factory, Family], layout: str, model: Mapping[str, Any]
) -> list[Slot]:
    """Every parameter and batch statistic of the model with its place in the layout, in the
    library's order.

    Raises SpecError where the layout has no such network or no place for one of its parts.
    """
    family, options = _family(families, layout, model)
    module = models.build(model, where="model")
    leaves, order = _tree(module, tuple(options["input_shape"]))
    named, homeless = [], []
    for path in sorted(leaves, key=lambda p: order[p[1:-1]]):
        name = family.layouts[layout]("/".join(path[1:-1]), options)
        if name is None:
            homeless.append("/".join(path[1:]))
        else:
            named.append((path, name))
    if homeless:
        listed = f"{', '.join(homeless[:8])}{', ...' if len(homeless) > 8 else ''}"
        hint = f' Is "variant": "{layout}" missing?' if options.get("variant") != layout else ""
        raise SpecError(
            f"model: the {layout} layout has no place for {len(homeless)} arrays of"
            f" {_say(model)}: {listed}.{hint}"
        )
    if family.order is not None and layout != "keras":
        rank = family.order
        named.sort(key=lambda item: rank(item[1]))
    flattened = {} if layout == "keras" else family.flattened(options)
    pointwise = family.pointwise[layout](options) if layout in family.pointwise else ()
    with_kernel = {path[1:-1] for path in leaves if path[-1] == "kernel"}
    slots = []
    for path, name in named:
        where = "/".join(path[1:-1])
        if layout == "keras":
            full = _keras_name(name, path, normalizes=path[1:-1] not in with_kernel)
            turn = _keras_turn(leaves[path], depthwise=full.endswith("/depthwise_kernel"))
        else:
            full = f"{name}.{_TORCH_LEAVES.get(path[-1], path[-1])}"
            turn = _torch_turn(leaves[path], flattened.get(where), pointwise=where in pointwise)
        slots.append(Slot(path, full, *turn))
    return slots


def _family(
    families: Mapping[schema.Factory, Family], layout: str, model: Mapping[str, Any]
) -> tuple[Family, dict[str, Any]]:
    """The family of the model's factory and all of its options, the ready names' own included."""
    layouts = get_args(Layout)
    if layout not in layouts:
        hint = did_you_mean(layout, layouts, label="Layouts")
        raise SpecError(f"weights: unknown layout '{layout}'. {hint}")
    found = schema.look_up(models.MODELS, model.get("name"), "model")
    factory: schema.Factory = found.func if isinstance(found, partial) else found
    bound = found.keywords if isinstance(found, partial) else {}
    family = families.get(factory)
    if family is None or layout not in family.layouts:
        has = ", ".join(family.layouts) if family else "none"
        raise SpecError(f"weights: '{model['name']}' has no {layout} layout (it has: {has}).")
    defaults = {n: p.default for n, p in inspect.signature(factory).parameters.items()}
    return family, {**defaults, **bound, **model}


def _tree(
    module: nn.Module, input_shape: tuple[int, ...]
) -> tuple[dict[tuple[str, ...], tuple[int, ...]], dict[tuple[str, ...], int]]:
    """Shape of every leaf by its path, and the order in which the modules are first called."""
    order: dict[tuple[str, ...], int] = {}

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        order.setdefault(context.module.path, len(order))
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *input_shape)))
    leaves = {
        tuple(str(k.key) for k in path): leaf.shape
        for path, leaf in jax.tree_util.tree_flatten_with_path(dict(shapes))[0]
        if path[0].key in ("params", "batch_stats")
    }
    # Leaves of one module in torch's order: weight, bias, then the statistics.
    ranks = ("kernel", "scale", "bias", "mean", "var")
    rank = {leaf: i for i, leaf in enumerate(ranks)}
    leaves = dict(sorted(leaves.items(), key=lambda item: rank.get(item[0][-1], len(ranks))))
    return leaves, order


Turn = tuple[tuple[int, ...], Callable[[np.ndarray], np.ndarray], Callable[..., np.ndarray]]


def _torch_turn(
    shape: tuple[int, ...], flattened: tuple[int, int, int] | None, *, pointwise: bool
) -> Turn:
    """Shape in a torch file, and the way in and out: (o, i, *window) against (*window, i, o)."""
    rank = len(shape)
    if rank < 2:
        return shape, _same, _same
    if rank == 2 and flattened is not None:
        c, h, w = flattened
        out = shape[1]
        return (
            (out, c * h * w),
            lambda a: a.reshape(out, c, h, w).transpose(2, 3, 1, 0).reshape(h * w * c, out),
            lambda a: a.reshape(h, w, c, out).transpose(3, 2, 0, 1).reshape(out, c * h * w),
        )
    if rank == 2 and pointwise:
        return (*shape[::-1], 1, 1), lambda a: a[:, :, 0, 0].T, lambda a: a.T[:, :, None, None]
    window = tuple(range(rank - 2))
    outward = (rank - 1, rank - 2, *window)
    inward = (*(w + 2 for w in window), 1, 0)
    return (
        tuple(shape[i] for i in outward),
        lambda a: a.transpose(inward),
        lambda a: a.transpose(outward),
    )


def _keras_turn(shape: tuple[int, ...], *, depthwise: bool) -> Turn:
    """Keras keeps our order; a depthwise kernel is (*window, c, 1) there and (*window, 1, c)."""
    if not depthwise:
        return shape, _same, _same
    theirs = (*shape[:-2], shape[-1], shape[-2])
    return theirs, lambda a: a.reshape(shape), lambda a: a.reshape(theirs)


def _keras_name(name: str, path: tuple[str, ...], *, normalizes: bool) -> str:
    step, leaf = path[-2:]
    if leaf == "kernel" and step in ("depthwise", "pointwise"):
        return f"{name}/{step}_kernel"
    return f"{name}/{_KERAS_NORM_LEAVES.get(leaf, leaf) if normalizes else leaf}"


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _check_fit(
    slots: list[Slot],
    tensors: State,
    layout: str,
    model: Mapping[str, Any],
    ignore: Collection[str],
) -> None:
    """Raise one DataError: the model's tree beside the file's, what differs marked - and +."""
    lines, missing, misshapen = [], 0, 0
    for slot in slots:
        due = f"{slot.name} {slot.shape}"
        if slot.name not in tensors:
            missing += 1
            lines.append(f"- {due}  {slot.ours}")
            continue
        array = tensors[slot.name]
        number = jnp.issubdtype(array.dtype, jnp.floating)
        if array.shape != slot.shape or not number:
            misshapen += 1
            lines.append(f"- {due}  {slot.ours}")
            lines.append(f"+ {slot.name} {array.shape}{'' if number else f' {array.dtype}'}")
    known = {slot.name for slot in slots}
    unexpected = [
        name for name in tensors
        if name not in known
        and not (layout != "keras" and name.endswith(_COUNTER))
        and not name.startswith(tuple(ignore))
    ]  # fmt: skip
    lines += [f"+ {name} {tensors[name].shape}" for name in unexpected]
    if not lines:
        return
    fitting = len(slots) - missing - misshapen
    listing = "\n  ".join(lines)
    raise DataError(
        f"the tensors do not fit {_say(model)} in the {layout} layout: {missing} missing,"
        f" {len(unexpected)} unexpected, {misshapen} misshapen, {fitting} of {len(slots)} fit.\n"
        f"  --- the model's tensors, our path beside; +++ the file's\n  {listing}"
    )


def _say(model: Mapping[str, Any]) -> str:
    return json.dumps(dict(model), default=str)


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _get(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(tree, Mapping) or key not in tree:
            return None
        tree = tree[key]
    return tree
