"""Optimizers and learning rates against their definitions, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.training.optim import LEARNING_RATES, OPTIMIZERS, build_optimizer, kernels_only

PARAMS = {"conv": {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([0.5])}}
GRADIENTS = [
    {"conv": {"kernel": jnp.array([0.3, 0.1 * t]), "bias": jnp.array([-0.2])}} for t in range(1, 6)
]


def run(optimizer, gradients=GRADIENTS):
    params, state = PARAMS, optimizer.init(PARAMS)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


def by_hand(update, gradients=GRADIENTS):
    """Apply `update(name, w, g, memory) -> w` over the same gradients in float64."""
    out = {}
    for name in ("kernel", "bias"):
        w, memory = np.asarray(PARAMS["conv"][name], np.float64), {}
        for t, gradient in enumerate(gradients, 1):
            w = update(name, w, np.asarray(gradient["conv"][name], np.float64), memory, t)
        out[name] = w
    return out


def assert_close(found, expected, rtol=2e-6):
    for name, value in expected.items():
        np.testing.assert_allclose(found["conv"][name], value, rtol=rtol, atol=1e-7)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_momentum_on_the_decayed_gradient(nesterov):
    def update(name, w, g, memory, t):
        g = g + 0.01 * w
        memory["v"] = 0.9 * memory.get("v", 0) + g
        return w - 0.1 * (g + 0.9 * memory["v"] if nesterov else memory["v"])

    optimizer = OPTIMIZERS["sgd"](lambda _: 0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov)
    assert_close(run(optimizer), by_hand(update))


def test_adamw_decays_beside_the_adaptive_step():
    def update(name, w, g, memory, t):
        memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
        memory["v"] = 0.999 * memory.get("v", 0) + 0.001 * g * g
        m, v = memory["m"] / (1 - 0.9**t), memory["v"] / (1 - 0.999**t)
        decay = 0.05 if name == "kernel" else 0.0
        return w - 0.1 * (m / (np.sqrt(v) + 1e-8) + decay * w)

    found = run(OPTIMIZERS["adamw"](lambda _: 0.1, weight_decay=0.05))
    # float32 holds 1 - 0.999^t, the correction of the second moment, to 6e-5 only.
    assert_close(found, by_hand(update), rtol=6e-5)


def test_rmsprop_divides_by_the_root_of_the_mean_square():
    def update(name, w, g, memory, t):
        memory["s"] = 0.9 * memory.get("s", 0) + 0.1 * g * g
        return w - 0.1 * g / np.sqrt(memory["s"] + 1e-8)

    assert_close(run(OPTIMIZERS["rmsprop"](lambda _: 0.1)), by_hand(update))


def test_bias_is_not_decayed_when_decay_all_is_off():
    still = [jax.tree.map(jnp.zeros_like, PARAMS)]
    found = run(OPTIMIZERS["sgd"](lambda _: 0.1, weight_decay=0.5, decay_all=False), still)
    np.testing.assert_allclose(found["conv"]["bias"], [0.5])
    np.testing.assert_allclose(found["conv"]["kernel"], [0.95, -1.9])


def test_only_kernels_are_kernels():
    tree = {"bn": {"scale": 1, "bias": 1}, "dense": {"kernel": 1, "bias": 1}}
    assert kernels_only(tree) == {
        "bn": {"scale": False, "bias": False},
        "dense": {"kernel": True, "bias": False},
    }


def test_clipping_scales_the_whole_gradient_to_the_norm():
    schedule = {
        "optimizer": {"name": "sgd"},
        "learning_rate": {"name": "constant", "value": 1.0},
        "clip": 0.5,
    }
    optimizer, _ = build_optimizer(schedule, 10)
    big = {"conv": {"kernel": jnp.array([3.0, 0.0]), "bias": jnp.array([4.0])}}
    found = run(optimizer, [big])
    np.testing.assert_allclose(found["conv"]["kernel"], [1.0 - 0.3, -2.0], rtol=1e-6)
    np.testing.assert_allclose(found["conv"]["bias"], [0.5 - 0.4], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "definition"),
    [
        ("constant", {}, lambda t: 0.1),
        ("piecewise", {"drop_at": (30, 0.6)}, lambda t: 0.1 * 0.1 ** ((t >= 30) + (t >= 60))),
        ("cosine", {"end": 0.01}, lambda t: 0.01 + 0.09 * (1 + np.cos(np.pi * t / 100)) / 2),
        ("polynomial", {"power": 2.0}, lambda t: 0.1 * (1 - t / 100) ** 2),
    ],
)
def test_learning_rates_are_their_formulas(name, options, definition):
    rate = LEARNING_RATES[name](100, value=0.1, **options)
    steps = [0, 1, 29, 31, 59, 61, 99]
    np.testing.assert_allclose(
        [float(rate(t)) for t in steps], [definition(t) for t in steps], rtol=1e-5, atol=1e-8
    )


@pytest.mark.parametrize("warmup", [10, 0.1])
def test_warm_up_is_a_straight_line_and_then_the_schedule(warmup):
    rate = LEARNING_RATES["cosine"](100, value=0.2, warmup=warmup, warmup_from=0.1)
    np.testing.assert_allclose([float(rate(t)) for t in (0, 5, 10)], [0.1, 0.15, 0.2], rtol=1e-6)
    np.testing.assert_allclose(float(rate(55)), 0.1, rtol=1e-5)  # half way from 10 to 100
    np.testing.assert_allclose(float(rate(100)), 0.0, atol=1e-8)
