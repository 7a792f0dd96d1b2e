"""Losses of a whole network: logits and auxiliary logits to one value per example."""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import jax.numpy as jnp
from annotated_types import Ge, Gt, Lt
from jaxtyping import Array, Float, Integer

from cnnjax import ops
from cnnjax.errors import SpecError
from cnnjax.schema import Table

Auxiliary = Mapping[str, Float[Array, "n classes"]]
Loss = Callable[
    [Float[Array, "n classes"], Integer[Array, " n"], Auxiliary],
    Float[Array, " n"],
]


def cross_entropy(
    *,
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0,
    class_weights: tuple[float, ...] | None = None,
    auxiliary: Annotated[float, Ge(0)] | dict[str, float] = 0.3,
) -> Loss:
    """Softmax cross entropy, plus that of the auxiliary heads times their weights.

    `auxiliary` is one weight for all heads (GoogLeNet's 0.3: Szegedy et al. 2014, section 5) or one
    per head by name. `label_smoothing` is Szegedy et al. 2015, section 7.
    """

    def head(logits: Array, labels: Array) -> Array:
        if class_weights is not None and len(class_weights) != logits.shape[-1]:
            raise SpecError(
                f"class_weights: expected {logits.shape[-1]}, one per class, got"
                f" {len(class_weights)}."
            )
        return ops.cross_entropy(
            logits, labels, label_smoothing=label_smoothing,
            class_weights=None if class_weights is None else jnp.asarray(class_weights),
            reduction="none",
        )  # fmt: skip

    return _with_heads(head, auxiliary)


def rbf(
    *,
    form: Literal["discriminative", "mse"] = "discriminative",
    j: Annotated[float, Gt(0)] = 0.1,
) -> Loss:
    """LeNet-5's loss on distances to class centres; the logits are minus those distances.

    "mse" is LeCun et al. 1998, eq. 8: the distance of the right class. "discriminative" is eq. 9,
    which adds log(exp(-j) + sum of exp(-distance)) to push the wrong classes away.
    """
    return _with_heads(
        lambda logits, labels: ops.rbf_loss(-logits, labels, j=j, form=form, reduction="none"), 0.0
    )


def _with_heads(head: Callable[..., Array], auxiliary: float | Mapping[str, float]) -> Loss:
    def loss(logits: Array, labels: Array, heads: Auxiliary) -> Array:
        total = head(logits, labels)
        for name, extra in heads.items():
            if not isinstance(auxiliary, int | float) and name not in auxiliary:
                known = ", ".join(heads)
                raise SpecError(f"auxiliary: no weight for the head '{name}'. Heads: {known}.")
            weight = auxiliary if isinstance(auxiliary, int | float) else auxiliary[name]
            total = total + weight * head(extra, labels)
        return total

    return loss


LOSSES: Table = {"cross_entropy": cross_entropy, "rbf": rbf}
