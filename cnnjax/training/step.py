"""One step of training and one of evaluation: pure functions of state and batch."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Integer, Num

from cnnjax import ops
from cnnjax.training.losses import Loss
from cnnjax.training.state import State, Totals

Prepare = Callable[[Num[Array, "n ..."]], Float[Array, "n ..."]]
Augment = Callable[[Array, Integer[Array, " n"], Num[Array, "n ..."]], Num[Array, "n ..."]]
Sums = dict[str, Array]


def train_step(
    state: State,
    images: Num[Array, "n ..."],
    labels: Integer[Array, " n"],
    positions: Integer[Array, " n"],
    *,
    module: nn.Module,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    augment: Augment,
    prepare: Prepare,
    ema: float | None,
    log_every: int,
) -> State:
    """The next state. Its totals are sums over the steps of a row, `log_every` of them.

    Randomness is `fold_in(key, step)` for the network and `fold_in(key, position)` for the images,
    so it depends on nothing but the seed and where in the run the example stands.
    """
    data_key, dropout_key = jax.random.split(state.key)
    x = prepare(augment(data_key, positions, images))
    rngs = {"dropout": jax.random.fold_in(dropout_key, state.step)}

    def objective(params: Any) -> tuple[Array, tuple[Array, Any]]:
        variables = {**state.variables(), "params": params}
        logits, changed = module.apply(
            variables, x, train=True, rngs=rngs, mutable=["batch_stats", "auxiliary"]
        )
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        heads = heads_of(changed.get("auxiliary", {}))
        return jnp.mean(loss(logits, labels, heads)), (logits, changed.get("batch_stats", {}))

    (value, (logits, batch_stats)), gradients = jax.value_and_grad(objective, has_aux=True)(
        state.params
    )
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = state.ema
    if ema is not None:
        average = jax.tree.map(lambda a, p: ema * a + (1 - ema) * p, state.ema, params)
    return dataclasses.replace(
        state,
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats or state.batch_stats,
        opt_state=opt_state,
        ema=average,
        totals=_added(state, value, logits, labels, log_every),
    )


def heads_of(sown: Any) -> dict[str, Array]:
    """Auxiliary logits by the name of their head, whichever module offered them."""
    leaves = jax.tree_util.tree_leaves_with_path(sown)
    names = [[str(k.key) for k in path if hasattr(k, "key")][-1] for path, _ in leaves]
    return {
        name: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
        for name, (_, leaf) in zip(names, leaves, strict=True)
    }


def _added(state: State, value: Array, logits: Array, labels: Array, log_every: int) -> Totals:
    """The totals with this batch, which is the first of a row where one has just ended."""
    fresh = dataclasses.replace(Totals.zero(), bad_step=state.totals.bad_step)
    begins = state.step % log_every == 0
    t = jax.tree.map(lambda a, b: jnp.where(begins, a, b), fresh, state.totals)
    bad = (t.bad_step < 0) & ~jnp.isfinite(value)
    return Totals(
        loss=t.loss + value * len(labels),
        top1=t.top1 + jnp.sum(ops.top_k_correct(logits, labels, 1), dtype=jnp.int32),
        top5=t.top5 + jnp.sum(ops.top_k_correct(logits, labels, 5), dtype=jnp.int32)
        if logits.shape[-1] > 5
        else t.top5,
        n=t.n + len(labels),
        bad_step=jnp.where(bad, state.step + 1, t.bad_step),
    )


def eval_step(
    variables: Any,
    images: Num[Array, "n ..."],
    labels: Integer[Array, " n"],
    real: Bool[Array, " n"],
    *,
    module: nn.Module,
    loss: Loss,
    prepare: Prepare,
) -> Sums:
    """Sums over the rows that are real examples, and the confusion counts (class, prediction)."""
    logits: Any = module.apply(variables, prepare(images), train=False)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    classes = logits.shape[-1]
    values = loss(logits, labels, {})
    predicted = jnp.argmax(logits, -1)
    confusion = jnp.zeros((classes, classes), jnp.int32)
    correct5 = ops.top_k_correct(logits, labels, min(5, classes))
    return {
        "loss": jnp.sum(jnp.where(real, values, 0.0)),
        "top1": jnp.sum(ops.top_k_correct(logits, labels, 1) & real, dtype=jnp.int32),
        "top5": jnp.sum(correct5 & real, dtype=jnp.int32),
        "n": jnp.sum(real, dtype=jnp.int32),
        "confusion": confusion.at[labels, predicted].add(real.astype(jnp.int32)),
    }


def rates(sums: Totals | Mapping[str, Any], classes: int) -> dict[str, Any]:
    """Means on the host: loss, top-1 and, where there are more than five classes, top-5."""
    found = sums if isinstance(sums, Mapping) else vars(sums)
    n = int(found["n"])
    row: dict[str, Any] = {"loss": float(found["loss"]) / n, "top1": int(found["top1"]) / n}
    if classes > 5:
        row["top5"] = int(found["top5"]) / n
    return row | {"n": n}


def gathered(
    images: Num[Array, "n ..."], labels: Int[Array, " n"], index: Integer[Array, " b"]
) -> tuple[Array, Array]:
    """Rows `index` of a data set that lives on the device."""
    return images[index], labels[index]
