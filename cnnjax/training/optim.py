"""Optimizers and learning-rate schedules: Optax under the papers' names."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from annotated_types import Ge, Gt, Lt, MinLen

from cnnjax.schema import Table, construct

Schedule = Callable[[Any], Any]
"""Step -> learning rate."""
# A moment of the run: a number of steps, or a share of the whole strictly between 0 and 1.
Moment = Annotated[int, Ge(0)] | Annotated[float, Gt(0), Lt(1)]


def _at(moment: int | float, steps: int) -> int:
    return moment if isinstance(moment, int) else round(moment * steps)


def _warmed(rest: Schedule, warmup: int | float, warmup_from: float, steps: int) -> Schedule:
    """`rest`, reached by a straight line from `warmup_from` over the first `warmup` steps."""
    length = _at(warmup, steps)
    if not length:
        return rest

    def schedule(count: Any) -> Any:
        line = warmup_from + (rest(length) - warmup_from) * count / length
        return jnp.where(count < length, line, rest(count))

    return schedule


def constant(
    steps: int,
    *,
    value: Annotated[float, Gt(0)],
    warmup: Moment = 0,
    warmup_from: Annotated[float, Ge(0)] = 0.0,
) -> Schedule:
    """`value` throughout."""
    return _warmed(optax.constant_schedule(value), warmup, warmup_from, steps)


def piecewise(
    steps: int,
    *,
    value: Annotated[float, Gt(0)],
    drop_at: Annotated[tuple[Moment, ...], MinLen(1)],
    factor: Annotated[float, Gt(0)] = 0.1,
    warmup: Moment = 0,
    warmup_from: Annotated[float, Ge(0)] = 0.0,
) -> Schedule:
    """`value`, times `factor` at each moment of `drop_at` (He et al. 2015, section 4.2)."""
    drops: dict[int, float] = {}
    for moment in drop_at:  # two at one step are two drops
        drops[_at(moment, steps)] = drops.get(_at(moment, steps), 1.0) * factor
    return _warmed(
        optax.piecewise_constant_schedule(value, drops), warmup, warmup_from, steps
    )  # fmt: skip


def cosine(
    steps: int,
    *,
    value: Annotated[float, Gt(0)],
    end: Annotated[float, Ge(0)] = 0.0,
    warmup: Moment = 0,
    warmup_from: Annotated[float, Ge(0)] = 0.0,
) -> Schedule:
    """Half a cosine from `value` after the warm-up down to `end` (Loshchilov & Hutter 2016)."""
    start = _at(warmup, steps)
    decay = optax.cosine_decay_schedule(value, max(steps - start, 1), end / value)
    return _warmed(lambda count: decay(count - start), warmup, warmup_from, steps)


def polynomial(
    steps: int,
    *,
    value: Annotated[float, Gt(0)],
    power: Annotated[float, Gt(0)] = 1.0,
    end: Annotated[float, Ge(0)] = 0.0,
    warmup: Moment = 0,
    warmup_from: Annotated[float, Ge(0)] = 0.0,
) -> Schedule:
    """(value - end) (1 - t)^power + end; power 1 is SqueezeNet's linear decay."""
    start = _at(warmup, steps)
    decay = optax.polynomial_schedule(value, end, power, max(steps - start, 1))
    return _warmed(lambda count: decay(count - start), warmup, warmup_from, steps)


LEARNING_RATES: Table = {
    "constant": constant,
    "piecewise": piecewise,
    "cosine": cosine,
    "polynomial": polynomial,
}


def kernels_only(params: Any) -> Any:
    """True for convolution and dense kernels, False for biases, norm scales and other vectors."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def _decay(weight_decay: float, decay_all: bool) -> optax.GradientTransformation:
    return optax.add_decayed_weights(weight_decay, None if decay_all else kernels_only)


def sgd(
    learning_rate: Schedule,
    *,
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0,
    nesterov: bool = False,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
    decay_all: bool = True,
) -> optax.GradientTransformation:
    """Stochastic gradient descent, v <- momentum v + g, w <- w - lr v.

    `weight_decay` is added to the gradient, so it passes through the momentum as in the papers
    (Krizhevsky et al. 2012, section 5). `decay_all=False` leaves biases and norms out of it.
    """
    parts = [_decay(weight_decay, decay_all)] if weight_decay else []
    return optax.chain(*parts, optax.sgd(learning_rate, momentum or None, nesterov))


def adamw(
    learning_rate: Schedule,
    *,
    b1: Annotated[float, Ge(0), Lt(1)] = 0.9,
    b2: Annotated[float, Ge(0), Lt(1)] = 0.999,
    eps: Annotated[float, Gt(0)] = 1e-8,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
    decay_all: bool = False,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2017, alg. 2); 0 is plain Adam."""
    mask = None if decay_all else kernels_only
    return optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=mask)


def rmsprop(
    learning_rate: Schedule,
    *,
    decay: Annotated[float, Gt(0), Lt(1)] = 0.9,
    eps: Annotated[float, Gt(0)] = 1e-8,
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0,
    centered: bool = False,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
    decay_all: bool = True,
) -> optax.GradientTransformation:
    """RMSProp; Inception v3 uses decay 0.9, eps 1.0 (Szegedy et al. 2015, section 8)."""
    parts = [_decay(weight_decay, decay_all)] if weight_decay else []
    return optax.chain(
        *parts,
        optax.rmsprop(learning_rate, decay, eps, centered=centered, momentum=momentum or None),
    )


OPTIMIZERS: Table = {"sgd": sgd, "adamw": adamw, "rmsprop": rmsprop}


def build_optimizer(
    schedule: Mapping[str, Any], steps: int, where: str = "schedule"
) -> tuple[optax.GradientTransformation, Schedule]:
    """The chain of clipping and optimizer that `schedule` names, and its learning rate."""
    rate = construct(LEARNING_RATES, schedule["learning_rate"], f"{where}.learning_rate", steps)
    optimizer = construct(OPTIMIZERS, schedule["optimizer"], f"{where}.optimizer", rate)
    clip = schedule.get("clip")
    return (optax.chain(optax.clip_by_global_norm(clip), optimizer) if clip else optimizer), rate
