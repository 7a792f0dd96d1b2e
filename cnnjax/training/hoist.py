"""What depends on the variables of a network alone, computed once for many batches."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

FENCE = "optimization_barrier"


def hoisted(
    function: Callable[..., Any], variables: Any, *batch: Any
) -> tuple[Callable[[Any], list[jax.Array]], Callable[..., Any]]:
    """`once` and `each`: function(v, *b) is each(once(v), v, *b), for arguments like these.

    `once` computes those values behind a fence, by which the tracer says that they are to be
    stored (`cnnjax.ops.cpu_rows.fenced`), that depend on the variables alone. They take memory for
    as long as the caller holds them: with Winograd's kernels up to eight times the convolutions'.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(variables, *batch)
    jaxpr, tree = closed.jaxpr, jax.tree.structure(shapes)
    own = jaxpr.invars[: len(jax.tree.leaves(variables))]
    known = {*jaxpr.constvars, *own}
    for equation in jaxpr.eqns:
        if not equation.effects and known.issuperset(_variables(equation.invars)):
            known.update(equation.outvars)
    stored: list[core.Var] = []
    needed = set(_variables(jaxpr.outvars))
    rest = []
    for equation in reversed(jaxpr.eqns):
        if needed.isdisjoint(equation.outvars) and not equation.effects:
            continue
        if equation.primitive.name == FENCE and known.issuperset(equation.outvars):
            stored += equation.outvars
        else:
            rest.append(equation)
            needed.update(_variables(equation.invars))

    def part(invars: Any, outvars: Any, equations: Any) -> Callable[..., list[jax.Array]]:
        made = jaxpr.replace(invars=invars, outvars=outvars, eqns=equations)
        return core.jaxpr_as_fun(core.ClosedJaxpr(made, closed.consts))

    first = part(own, stored, [e for e in jaxpr.eqns if e.outvars and known.issuperset(e.outvars)])
    then = part([*stored, *jaxpr.invars], jaxpr.outvars, rest[::-1])

    def once(variables: Any) -> list[jax.Array]:
        return first(*jax.tree.leaves(variables))

    def each(values: list[jax.Array], variables: Any, *batch: Any) -> Any:
        return jax.tree.unflatten(tree, then(*values, *jax.tree.leaves((variables, *batch))))

    return once, each


def _variables(atoms: Any) -> list[core.Var]:
    return [a for a in atoms if isinstance(a, core.Var)]
