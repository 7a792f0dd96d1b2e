"""Everything a step changes, as one tree: what a checkpoint holds and nothing else decides."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from cnnjax.training.mesh import replicated

# How the initial state is compiled, per platform. It runs once, and XLA:CPU spends its time on the
# random numbers of each parameter: 1.8 s of processor time for a ResNet-8, 22 s when optimised.
INIT_OPTIONS: Mapping[str, dict[str, Any]] = {"cpu": {"xla_backend_optimization_level": 0}}


@flax.struct.dataclass
class Totals:
    """Sums over the steps of a row of metrics.jsonl, the one under way or just ended, kept with the
    state so that a resumed run writes the same rows. `bad_step` is the first step whose loss was
    not finite.
    All are scalars, or what stands for one in a tree of the same form (a sharding, a shape).
    """

    loss: Any
    top1: Any
    top5: Any
    n: Any
    bad_step: Any

    @classmethod
    def zero(cls) -> "Totals":
        none = jnp.zeros((), jnp.int32)
        return cls(jnp.zeros(()), none, none, none, jnp.full((), -1, jnp.int32))


@flax.struct.dataclass
class State:
    """Step number, parameters, batch statistics, optimizer and randomness of a run.

    `fixed` holds the collections that no step changes (LeNet-5's bitmaps), `ema` the moving average
    of the parameters where the schedule asks for it.
    """

    step: Any
    params: PyTree
    batch_stats: PyTree
    fixed: PyTree
    opt_state: PyTree
    ema: PyTree | None
    key: Any
    totals: Any

    def variables(self, *, averaged: bool = True) -> dict[str, Any]:
        """What `module.apply` takes; with the averaged parameters where there are any."""
        params = self.ema if averaged and self.ema is not None else self.params
        stats = {"batch_stats": self.batch_stats} if self.batch_stats else {}
        return {"params": params, **stats, **self.fixed}


def create_state(
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    input_shape: tuple[int, ...],
    seed: int,
    *,
    ema: float | None,
    mesh: Mesh,
) -> State:
    """The state before the first step, made where it will live: replicated over the mesh."""

    def init(key: Array) -> State:
        params_key, run_key = jax.random.split(key)
        keys = {"params": params_key, "dropout": jax.random.fold_in(params_key, 1)}
        variables = dict(module.init(keys, jnp.zeros((1, *input_shape)), train=True))
        params = variables.pop("params", {})
        batch_stats = variables.pop("batch_stats", {})
        kept = {k: v for k, v in variables.items() if k not in ("intermediates", "auxiliary")}
        return State(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=batch_stats,
            fixed=kept,
            opt_state=optimizer.init(params),
            ema=None if ema is None else jax.tree.map(jnp.copy, params),
            key=run_key,
            totals=Totals.zero(),
        )

    options = INIT_OPTIONS.get(mesh.devices.flat[0].platform)
    make = jax.jit(init, out_shardings=replicated(mesh), compiler_options=options)
    return make(jax.random.key(seed))
