"""Digits shifted by one pixel: the Neocognitron's features against raw pixels, both read linearly.

    python tests/benchmarks/neocognitron_shifts.py

The bundled 8x8 digits stand in a frame of one empty pixel, so that a shift by one pixel in any of
the eight directions loses nothing. The same logistic regression (L-BFGS, L2 on standardised
features) is fitted to the unshifted training images: to their pixels, to the features of the
Neocognitron as it starts, and to those after it has organised itself, without labels, on the same
images once. Mean and standard deviation over seeds of the Neocognitron's start.
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from cnnjax.data import digits
from cnnjax.models.neocognitron import neocognitron, self_organise

MODEL = {
    "input_shape": (10, 10, 1), "planes": (24, 96), "s_windows": (3, 5), "c_windows": (3, 3),
    "c_strides": (1, 2), "selectivity": (4.0, 1.5), "rates": (1.0, 16.0),
}  # fmt: skip
SHIFTS = [s for s in product((-1, 0, 1), repeat=2) if s != (0, 0)]
L2 = 1e-3


def framed(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images in [0, 1] of shape (n, 10, 10, 1), and labels."""
    part: Any = digits().split(split)
    images = np.asarray(part.images, np.float32) / 255
    return np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0))), np.asarray(part.labels)


def linear_classifier(
    features: np.ndarray, labels: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Softmax regression; gives features -> labels."""
    mean, deviation = features.mean(0), features.std(0) + 1e-3

    def rows(x: np.ndarray) -> np.ndarray:
        return np.c_[(x - mean) / deviation, np.ones(len(x))]

    x, hot = rows(features), np.eye(10)[labels]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(-1, 10)
        scores = x @ w
        logs = scores - logsumexp(scores, axis=1, keepdims=True)
        penalised = np.r_[w[:-1], np.zeros((1, 10))]
        value = -(logs * hot).sum(1).mean() + L2 * (penalised**2).sum()
        return value, (x.T @ (np.exp(logs) - hot) / len(x) + 2 * L2 * penalised).ravel()

    start = np.zeros(x.shape[1] * 10)
    w = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return lambda features: (rows(features) @ w.reshape(-1, 10)).argmax(1)


def accuracies(features_of: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    """Share of test digits right as they are, and shifted by one pixel (mean of 8 directions)."""
    images, labels = framed("train")
    classify = linear_classifier(features_of(images), labels)
    images, labels = framed("test")

    def right(shift: tuple[int, int]) -> float:
        moved = np.roll(images, shift, axis=(1, 2))
        return float(np.mean(classify(features_of(moved)) == labels))

    return right((0, 0)), float(np.mean([right(s) for s in SHIFTS]))


def measure(seeds: int = 3) -> dict[str, np.ndarray]:
    """Name -> (seeds, 2) accuracies, unshifted and shifted."""
    module = neocognitron(**MODEL)

    def features_of(variables: dict, images: np.ndarray) -> np.ndarray:
        base = {"fixed": variables["fixed"]["features"]}
        return np.asarray(apply(base, jnp.asarray(images))).reshape(len(images), -1)

    apply = jax.jit(module.features.apply)
    images = jnp.asarray(framed("train")[0])
    found: dict[str, list[tuple[float, float]]] = {"raw pixels": [], "start": [], "organised": []}
    found["raw pixels"].append(accuracies(lambda x: x.reshape(len(x), -1)))
    for seed in range(seeds):
        variables = jax.jit(module.init)(jax.random.key(seed), images[:1])
        found["start"].append(accuracies(partial(features_of, variables)))
        organised = self_organise(module, variables, images)
        found["organised"].append(accuracies(partial(features_of, organised)))
    return {name: np.array(values) for name, values in found.items()}


if __name__ == "__main__":
    print(f"{'linear read-out of':<20} {'as they are':>14} {'shifted 1 px':>14}   top-1, percent")
    for name, values in measure().items():
        mean, spread = 100 * values.mean(0), 100 * values.std(0, ddof=min(1, len(values) - 1))
        cells = [f"{m:.1f} ± {s:.1f}" for m, s in zip(mean, spread, strict=True)]
        print(f"{name:<20} {cells[0]:>14} {cells[1]:>14}   {len(values)} seeds")
