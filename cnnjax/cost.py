"""What a network costs: parameters, multiply-adds, activations, receptive field, memory.

Multiply-adds (MACs) are those of convolutions and linear layers for one image in evaluation, padded
taps counted, as papers and torchvision do; activations are the elements these layers give out.
Everything is counted in XLA's plain operations, whatever a platform computes in their place.
"""

import dataclasses
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.extend import core

from cnnjax import graph, layers, schema
from cnnjax.errors import SpecError
from cnnjax.models import MODELS, build
from cnnjax.ops import lowering
from cnnjax.spec import Spec

MIB = 2**20
# Collections that hold results, not state.
RESULTS = ("intermediates", "auxiliary")


@dataclass(frozen=True)
class Params:
    """Numbers of parameters, no element counted twice.

    `auxiliary`: those of heads that only training uses. `fixed`: constants such as LeNet-5's codes.
    `batch_stats`: running means and variances.
    """

    trainable: int
    auxiliary: int
    fixed: int
    batch_stats: int


@dataclass(frozen=True)
class Layer:
    """One row: a module that owns parameters or computes, by its path in the parameter tree.

    `params` are its own trainable ones, `buffers` its constants and running statistics. The output
    shape is that of one image; receptive field and stride are in input pixels, per spatial axis.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    params: int
    buffers: int
    macs: int
    activations: int
    receptive_field: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Totals:
    """Sums over the network without its auxiliary heads; what those add stands apart.

    `weight_mib` is the size of the trainable parameters. `training_mib` is what a training step on
    `batch_size` images keeps from the forward for the backward pass, where its memory peaks.
    `xla_flops` is XLA's own estimate for one image, before optimisation: two per multiply-add, taps
    that fall on padding left out, element-wise work included.
    """

    params: Params
    macs: int
    activations: int
    macs_auxiliary: int
    activations_auxiliary: int
    weight_mib: float
    batch_size: int
    training_mib: float | None
    xla_flops: float | None


@dataclass(frozen=True)
class Cost:
    """The rows in the order of computation, and their totals."""

    layers: tuple[Layer, ...]
    totals: Totals

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `cnnjax summary --json` prints them."""
        return {
            "totals": dataclasses.asdict(self.totals),
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
        }


def cost(
    module: nn.Module,
    input_shape: Sequence[int],
    *,
    batch_size: int = 1,
    estimates: bool = True,
) -> Cost:
    """Count `module` on images of `input_shape` (channels last) without computing anything.

    `batch_size` is that of the training step whose memory is estimated; `estimates=False` leaves
    out memory and XLA's count, which take most of the time. Any Linen module that takes images
    alone, or images and `train`, can be counted.

    Raises ShapeError where a map vanishes.
    """
    traced = _Trace(module, input_shape)
    variables = traced.variables
    rows = traced.rows()
    own = [row for row in rows if not _auxiliary(row.name.split("/"))]
    macs, activations = sum(r.macs for r in own), sum(r.activations for r in own)
    weights = [
        math.prod(leaf.shape) * leaf.dtype.itemsize
        for path, leaf in traverse_util.flatten_dict(variables.get("params", {})).items()
        if not _auxiliary(path)
    ]
    totals = Totals(
        params=parameters(variables),
        macs=macs,
        activations=activations,
        macs_auxiliary=sum(r.macs for r in rows) - macs,
        activations_auxiliary=sum(r.activations for r in rows) - activations,
        weight_mib=sum(weights) / MIB,
        batch_size=batch_size,
        training_mib=(
            training_bytes(module, variables, input_shape, batch_size) / MIB if estimates else None
        ),
        xla_flops=xla_flops(module, variables, input_shape) if estimates else None,
    )
    return Cost(tuple(rows), totals)


def summary(
    model: Mapping[str, Any] | Spec | nn.Module,
    *,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    batch_size: int = 1,
    estimates: bool = True,
) -> Cost:
    """`cost` of a model dict, of a spec's model or of a Linen module.

    `input_shape` is what is given here, else what the dict says, else the paper's. Raises SpecError
    where a module comes without one.
    """
    if isinstance(model, nn.Module):
        if input_shape is None:
            raise SpecError("a Linen module is counted on images of an input_shape: give one.")
        return cost(model, input_shape, batch_size=batch_size, estimates=estimates)
    options = dict(model.model if isinstance(model, Spec) else model)
    if input_shape is not None:
        options["input_shape"] = [int(n) for n in input_shape]
    if num_classes is not None:
        options["num_classes"] = num_classes
    shape = default_of(options, "input_shape")
    return cost(build(options), shape, batch_size=batch_size, estimates=estimates)


def default_of(options: Mapping[str, Any], key: str) -> Any:
    """What a model dict says under `key`, or else its factory, which is the paper's value.

    SpecError where neither says anything.
    """
    known, _ = schema.options_of(schema.look_up(MODELS, options.get("name"), "model"))
    value = options.get(key)
    if value is None and key in known:
        value = known[key].default
    if value is None or value is inspect.Parameter.empty:
        raise SpecError(f"model {options['name']!r} has no {key} of its own: give one.")
    return value


def variables_of(module: nn.Module, input_shape: Sequence[int]) -> dict[str, Any]:
    """Shapes and dtypes of every variable that `module` keeps for images of `input_shape`."""
    init, images = _initializing(module, input_shape)
    return _kept(jax.eval_shape(init, images)[1])


def parameters(variables: Mapping[str, Any]) -> Params:
    """How many numbers each kind of variable holds."""
    size = {"trainable": 0, "auxiliary": 0, "fixed": 0, "batch_stats": 0}
    for collection, tree in variables.items():
        for path, leaf in traverse_util.flatten_dict(tree).items():
            if collection == "params":
                kind = "auxiliary" if _auxiliary(path) else "trainable"
            elif collection in RESULTS:
                continue
            else:
                kind = "batch_stats" if collection == "batch_stats" else "fixed"
            size[kind] += math.prod(leaf.shape)
    return Params(**size)


def training_bytes(
    module: nn.Module, variables: Mapping[str, Any], input_shape: Sequence[int], batch_size: int
) -> int:
    """Bytes that a training step keeps from the forward pass for the backward pass.

    Parameters and images, which lie in memory anyway, do not count.
    """
    state = {k: v for k, v in variables.items() if k != "params"}
    x = jax.ShapeDtypeStruct((batch_size, *input_shape), jnp.float32)

    def kept(x: Any, params: Any, state: Any) -> Any:
        def forward(params: Any) -> Any:
            with lowering.native():
                return module.apply(
                    {"params": params, **state},
                    x,
                    mutable=["batch_stats", "auxiliary"],
                    rngs={"dropout": jax.random.key(0)},
                    **_train(module, True),
                )

        return jax.tree.leaves(jax.vjp(forward, params)[1])

    jaxpr = jax.make_jaxpr(kept)(x, variables.get("params", {}), state).jaxpr
    of_images = {jaxpr.invars[0]}
    given = set(jaxpr.invars)
    for eqn in jaxpr.eqns:
        if any(not isinstance(v, core.Literal) and v in of_images for v in eqn.invars):
            of_images.update(eqn.outvars)
    stored = {v for v in jaxpr.outvars if not isinstance(v, core.Literal)}
    arrays: list[Any] = [v.aval for v in (stored & of_images) - given]
    return sum(math.prod(a.shape) * a.dtype.itemsize for a in arrays)


def xla_flops(
    module: nn.Module, variables: Mapping[str, Any], input_shape: Sequence[int]
) -> float | None:
    """XLA's estimate for one image in evaluation; None where the backend gives none."""

    def forward(variables: Any, x: Any) -> Any:
        with lowering.native():
            return module.apply(variables, x, **_train(module, False))

    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    analysis = jax.jit(forward).lower(variables, x).cost_analysis()
    return analysis.get("flops") if isinstance(analysis, Mapping) else None


class _Trace:
    """The first evaluation of one image, with every equation attributed to its module."""

    def __init__(self, module: nn.Module, input_shape: Sequence[int]) -> None:
        self.kinds: dict[str, str] = {}
        self.outputs: dict[str, tuple[int, ...]] = {}
        self.share: dict[str, float] = {}
        self.pools: set[str] = set()
        init, images = _initializing(module, input_shape)
        with nn.intercept_methods(self._intercept):
            traced = jax.jit(init).trace(images)
        self.variables = _kept(traced.out_info[1])
        rank = len(input_shape) - 1
        seen = graph.Field((1,) * rank, (1,) * rank, tuple(range(1, rank + 1)))
        walk = graph.Walk(self.share)
        walk.run(traced.jaxpr, [seen])
        self.counts = walk.counts

    def _intercept(self, call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module, path = context.module, ".".join(context.module.path)
        table = getattr(module, "connections", None)
        if table is not None:
            flat = [bool(v) for row in table for v in row]
            self.share[path] = sum(flat) / len(flat)
        with jax.named_scope(graph.scope(context.module.path)):
            out = call(*args, **kwargs)
        arrays = jax.tree.leaves(out)
        if context.method_name == "__call__" and arrays:
            self.kinds[path] = type(module).__name__
            self.outputs[path] = tuple(arrays[0].shape[1:])
            if isinstance(module, layers.Pool | layers.GlobalPool):
                self.pools.add(path)
        return out

    def rows(self) -> list[Layer]:
        """A row for each module that owns variables, multiplies or pools."""
        own = _own_sizes(self.variables)
        busy = {path for path, count in self.counts.items() if count.macs}
        wanted = [p for p in self.kinds if p in own or p in busy or p in self.pools]
        wanted += [p for p in own if p not in self.kinds]  # owned, but not called in evaluation
        return [self._row(path, *own.get(path, (0, 0))) for path in wanted]

    def _row(self, path: str, params: int, buffers: int) -> Layer:
        count = self.counts.get(path, graph.Count())
        return Layer(
            name=path.replace(".", "/") or self.kinds[path],
            kind=self.kinds.get(path, ""),
            output_shape=self.outputs.get(path, ()),
            params=params,
            buffers=buffers,
            macs=count.macs,
            activations=count.activations,
            receptive_field=count.field.reach if count.field else (),
            stride=count.field.jump if count.field else (),
        )


def _own_sizes(variables: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Path of a module -> its own trainable parameters and its own other variables."""
    sizes: dict[str, tuple[int, int]] = {}
    for collection, tree in variables.items():
        for path, leaf in traverse_util.flatten_dict(tree).items():
            owner, n = ".".join(path[:-1]), math.prod(leaf.shape)
            params, buffers = sizes.get(owner, (0, 0))
            trainable = collection == "params"
            sizes[owner] = (params + n, buffers) if trainable else (params, buffers + n)
    return sizes


def _initializing(module: nn.Module, input_shape: Sequence[int]) -> tuple[Any, Any]:
    """Images -> (output, variables), auxiliary heads computed too; and the shape of an image."""
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}

    def init(x: Any) -> Any:
        with lowering.native():
            return module.init_with_output(keys, x, **_train(module, False))

    return init, jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)


def _kept(variables: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tree for name, tree in variables.items() if name not in RESULTS}


def _auxiliary(path: Sequence[str]) -> bool:
    """Whether a module belongs to a head that only training uses."""
    return path[0].startswith("aux")


def _train(module: nn.Module, train: bool) -> dict[str, Any]:
    """The `train` argument, for modules that have one."""
    return {"train": train} if "train" in inspect.signature(module.__call__).parameters else {}
