"""What a network's outputs cost, and which of them are right."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int, Integer

from cnnjax.errors import ShapeError, SpecError, did_you_mean
from cnnjax.ops.numeric import across, wide

Reduction = Literal["none", "mean", "sum"]


def cross_entropy(
    logits: Float[Array, "*batch c"],
    labels: Integer[Array, "*batch"] | Float[Array, "*batch c"],
    *,
    label_smoothing: float | int = 0.0,
    class_weights: Float[Array, " c"] | None = None,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
) -> Float[Array, "*reduced"]:
    """-sum of q log softmax(logits), in at least float32.

    `labels` are class numbers, or probabilities. Smoothing s gives q = (1 - s) * target + s / c,
    uniform over all classes (Szegedy et al. 2015, sec. 7). Class weights multiply each class's
    term. `"mean"` divides by the sum of the weights of the labels that are not ignored (by the
    number of examples where the labels are probabilities), as torch does. A label outside 0..c-1
    makes its loss NaN rather than some other class's loss. SpecError: smoothing outside [0, 1], or
    `ignore_index` with probabilities.
    """
    if not 0 <= label_smoothing <= 1:
        raise SpecError(f"label_smoothing must lie in [0, 1], not {label_smoothing}")
    log_p = jax.nn.log_softmax(wide(logits), axis=-1)
    weighted = log_p if class_weights is None else log_p * across(class_weights, log_p)
    if labels.ndim == logits.ndim:
        if ignore_index is not None:
            raise SpecError("ignore_index needs labels that are class numbers, not probabilities")
        losses = -jnp.sum(labels * weighted, axis=-1)
        weights = jnp.ones_like(losses)
    else:
        losses, weights = _nll(weighted, labels, class_weights, ignore_index)
    if label_smoothing:
        uniform = -jnp.mean(weighted, axis=-1)
        if ignore_index is not None:
            uniform = jnp.where(labels == ignore_index, 0, uniform)
        losses = (1 - label_smoothing) * losses + label_smoothing * uniform
    return _reduced(losses, weights, reduction)


def rbf_distances(x: Float[Array, "n d"], centers: Float[Array, "c d"]) -> Float[Array, "n c"]:
    """Squared distance of each row to each class's code (LeCun et al. 1998, eq. 7)."""
    return jnp.sum(jnp.square(x[:, None, :] - centers[None, :, :]), axis=-1)


def rbf_loss(
    distances: Float[Array, "n c"],
    labels: Integer[Array, " n"],
    *,
    form: Literal["mse", "discriminative"] = "discriminative",
    j: float | int = 1.0,
    reduction: Reduction = "mean",
) -> Float[Array, "*reduced"]:
    """LeNet-5's loss on `rbf_distances` y (LeCun et al. 1998, sec. II.C).

    `"mse"`, eq. 8: y of the right class. `"discriminative"`, eq. 9: that plus
    log(exp(-j) + sum over classes of exp(-y)), which pushes the wrong classes away until they are
    further than about `j`; it is never negative. The paper calls j a positive constant and gives
    no number.
    """
    losses, weights = _nll(-wide(distances), labels, None, None)
    if form == "discriminative":
        floor = jnp.full_like(distances[:, :1], -j, dtype=losses.dtype)
        competing = jnp.concatenate([-wide(distances), floor], axis=-1)
        losses = losses + jax.nn.logsumexp(competing, axis=-1)
    elif form != "mse":
        hint = did_you_mean(form, ["mse", "discriminative"], label="Known forms")
        raise SpecError(f"unknown form {form!r} of the RBF loss. {hint}")
    return _reduced(losses, weights, reduction)


def top_k(logits: Float[Array, "*batch c"], k: int) -> Int[Array, "*batch k"]:
    """The classes of the k largest logits, best first; of equals, the lower number first."""
    _check_k(k, logits.shape)
    return lax.top_k(logits, k)[1]


def top_k_correct(
    logits: Float[Array, "*batch c"], labels: Integer[Array, "*batch"], k: int
) -> Bool[Array, "*batch"]:
    """Whether the label is among `top_k`: a tie counts by class number.

    A row with a NaN is wrong, and so is a label that is no class.
    """
    _check_k(k, logits.shape)
    count = logits.shape[-1]
    classes = jnp.arange(count).reshape((1,) * labels.ndim + (-1,))
    labels = labels.astype(jnp.int32)
    label = labels[..., None]
    own = jnp.max(jnp.where(classes == label, logits, -jnp.inf), axis=-1, keepdims=True)
    ahead = (logits > own) | ((logits == own) & (classes < label))
    # Behind a NaN no label is among the first k.
    rank = jnp.sum(jnp.where(jnp.isnan(logits), k, ahead), axis=-1)
    return (labels >= 0) & (labels < count) & (rank < k)


def _nll(
    scores: Float[Array, "*batch c"],
    labels: Integer[Array, "*batch"],
    class_weights: Float[Array, " c"] | None,
    ignore_index: int | None,
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """Minus the label's score, and the label's weight; both 0 where ignored, NaN for no class."""
    classes = scores.shape[-1]
    wanted = labels.astype(jnp.int32)
    index = jnp.clip(wanted, 0, classes - 1)
    losses = -jnp.take_along_axis(scores, index[..., None], axis=-1)[..., 0]
    losses = jnp.where((wanted >= 0) & (wanted < classes), losses, jnp.nan)
    weights = jnp.ones_like(losses)
    if class_weights is not None:
        weights = class_weights[index].astype(losses.dtype)
    if ignore_index is not None:
        ignored = wanted == ignore_index
        losses, weights = jnp.where(ignored, 0, losses), jnp.where(ignored, 0, weights)
    return losses, weights


def _reduced(
    losses: Float[Array, "*batch"], weights: Float[Array, "*batch"], reduction: str
) -> Float[Array, "*reduced"]:
    if reduction == "none":
        return losses
    if reduction == "sum":
        return jnp.sum(losses)
    if reduction == "mean":
        return jnp.sum(losses) / jnp.sum(weights)
    hint = did_you_mean(reduction, ["none", "mean", "sum"], label="Known reductions")
    raise SpecError(f"unknown reduction {reduction!r}. {hint}")


def _check_k(k: int, shape: tuple[int, ...]) -> None:
    if not 1 <= k <= shape[-1]:
        raise ShapeError(f"top-{k} of {shape[-1]} classes")
