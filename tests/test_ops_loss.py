"""Losses and top-k against their formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from cnnjax import ops


def random(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def smoothed(labels, classes, s):
    return (1 - s) * np.eye(classes)[labels] + s / classes


@pytest.mark.parametrize("s", [0.0, 0.1, 1.0])
def test_cross_entropy_is_minus_the_log_likelihood_of_the_target(s):
    logits, labels = 3 * random((6, 5)), np.array([0, 4, 2, 2, 1, 3])
    losses = -(smoothed(labels, 5, s) * log_softmax(logits, axis=-1)).sum(-1)
    with jax.enable_x64():
        given = jnp.asarray(logits), jnp.asarray(labels)
        for reduction, wanted in [("none", losses), ("sum", losses.sum()), ("mean", losses.mean())]:
            y = ops.cross_entropy(*given, label_smoothing=s, reduction=reduction)
            np.testing.assert_allclose(y, wanted, rtol=1e-12)


def test_class_weights_weigh_each_term_and_the_mean():
    logits, labels = random((6, 5)), np.array([0, 4, 2, 2, 1, 3])
    w, s = np.array([1.0, 2, 3, 4, 0.5]), 0.2
    losses = -(smoothed(labels, 5, s) * w * log_softmax(logits, axis=-1)).sum(-1)
    with jax.enable_x64():
        y = ops.cross_entropy(
            jnp.asarray(logits),
            jnp.asarray(labels),
            class_weights=jnp.asarray(w),
            label_smoothing=s,
        )
    np.testing.assert_allclose(y, losses.sum() / w[labels].sum(), rtol=1e-12)


def test_ignored_labels_cost_nothing_and_do_not_count():
    logits = jnp.asarray(random((4, 3)), jnp.float32)
    kept = ops.cross_entropy(logits[:2], jnp.array([0, 2]), label_smoothing=0.1)
    labels = jnp.array([0, 2, -1, -1])
    options = {"label_smoothing": 0.1, "ignore_index": -1}
    np.testing.assert_allclose(ops.cross_entropy(logits, labels, **options), kept, rtol=1e-6)
    losses = ops.cross_entropy(logits, labels, reduction="none", **options)
    assert losses[2:].tolist() == [0, 0]
    gradient = jax.grad(lambda x: ops.cross_entropy(x, labels, **options))(logits)
    assert np.all(np.isfinite(gradient))
    assert not np.any(gradient[2:])


def test_probabilities_may_stand_for_labels():
    logits, p = jnp.asarray(random((4, 3)), jnp.float32), np.float32([[0.2, 0.3, 0.5]] * 4)
    wanted = -(p * log_softmax(np.asarray(logits), axis=-1)).sum(-1).mean()
    np.testing.assert_allclose(ops.cross_entropy(logits, jnp.asarray(p)), wanted, rtol=1e-6)


def test_labels_may_have_any_batch_shape_and_be_bytes():
    logits, labels = random((2, 3, 4)), np.array([[0, 1, 2], [3, 0, 1]])
    wanted = -np.take_along_axis(log_softmax(logits, axis=-1), labels[..., None], -1)[..., 0]
    y = ops.cross_entropy(
        jnp.asarray(logits, jnp.float32),
        jnp.asarray(labels, jnp.uint8),
        ignore_index=-100,
        reduction="none",
    )
    np.testing.assert_allclose(y, wanted, rtol=1e-5)


def test_huge_logits_neither_overflow_nor_vanish():
    logits = jnp.array([[1e4, 0.0, -1e4]])
    losses = [ops.cross_entropy(logits, jnp.array([c])).item() for c in range(3)]
    assert losses == [0, 1e4, 2e4]


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_makes_the_loss_nan(label):
    assert np.isnan(ops.cross_entropy(jnp.zeros((1, 3)), jnp.array([label])))


def test_losses_of_half_precision_logits_are_float32():
    logits = jnp.zeros((2, 3), jnp.bfloat16)
    y = ops.cross_entropy(logits, jnp.array([0, 1]))
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, np.log(3), rtol=1e-6)


def test_rbf_distances_are_squared_and_euclidean():
    x, centers = random((3, 7)), random((4, 7), 1)
    wanted = [[np.linalg.norm(a - b) ** 2 for b in centers] for a in x]
    with jax.enable_x64():
        y = ops.rbf_distances(jnp.asarray(x), jnp.asarray(centers))
    np.testing.assert_allclose(y, wanted, rtol=1e-12)


def test_the_rbf_losses_are_equations_8_and_9():
    distances, labels, j = random((5, 4)) ** 2, np.array([0, 3, 2, 1, 1]), 0.7
    own = distances[np.arange(5), labels]
    competing = np.log(np.exp(-j) + np.exp(-distances).sum(-1))
    with jax.enable_x64():
        given = jnp.asarray(distances), jnp.asarray(labels)
        eq8 = ops.rbf_loss(*given, form="mse")
        eq9 = ops.rbf_loss(*given, form="discriminative", j=j, reduction="none")
    np.testing.assert_allclose(eq8, own.mean(), rtol=1e-12)
    np.testing.assert_allclose(eq9, own + competing, rtol=1e-12)


def test_the_discriminative_rbf_loss_survives_distances_that_underflow():
    distances = jnp.array([[0.0, 500.0], [900.0, 500.0]])
    y = ops.rbf_loss(distances, jnp.array([0, 1]), j=1000.0, reduction="none")
    np.testing.assert_allclose(y, [0, 0], atol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_takes_the_lower_class_of_a_tie(k):
    rng = np.random.default_rng(k)
    logits, labels = rng.integers(0, 3, (40, 5)), rng.integers(0, 5, 40)
    best = np.argsort(-logits, axis=-1, kind="stable")[:, :k]
    x = jnp.asarray(logits, jnp.float32)
    np.testing.assert_array_equal(ops.top_k(x, k), best)
    wanted = (best == labels[:, None]).any(-1)
    np.testing.assert_array_equal(ops.top_k_correct(x, jnp.asarray(labels), k), wanted)


def test_a_row_with_nan_is_never_right():
    logits = jnp.array([[jnp.nan, 1.0], [1.0, jnp.nan], [jnp.nan, jnp.nan], [0.0, 1.0]])
    right = [ops.top_k_correct(logits, jnp.full(4, label), 2) for label in (0, 1)]
    assert np.array(right).tolist() == [[False, False, False, True]] * 2


def test_a_label_that_is_no_class_is_never_right():
    correct = ops.top_k_correct(jnp.zeros((2, 3)), jnp.array([-1, 3]), 3)
    assert correct.tolist() == [False, False]
    assert not ops.top_k_correct(jnp.full((1, 3), -jnp.inf), jnp.array([-1]), 1).item()


def test_minus_infinity_everywhere_still_counts_in_class_order():
    logits = jnp.full((1, 3), -jnp.inf)
    assert ops.top_k_correct(logits, jnp.array([0]), 1).item()
    assert not ops.top_k_correct(logits, jnp.array([1]), 1).item()
