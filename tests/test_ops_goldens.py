"""The 97 cases computed by torch in float64 (see goldens/README.md), in float32 on the CPU."""

import json
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import ops

GOLDENS = Path(__file__).parent / "goldens"
CASES = json.loads((GOLDENS / "ops.json").read_text())["cases"]


@cache
def arrays():
    with np.load(GOLDENS / "ops.npz") as file:
        return dict(file)


def channels_last(x):
    return jnp.moveaxis(jnp.asarray(x), 1, -1)


def channels_first(y):
    return jnp.moveaxis(y, -1, 1)


def kernel_of(weight):
    """Torch's (O, I, window) as (window, I, O)."""
    return jnp.moveaxis(jnp.asarray(weight), (0, 1), (-1, -2))


def padding_of(padding):
    return "SAME" if padding == "same" else padding


def with_bias(y, given):
    return y + given["bias"].reshape((1,) * (y.ndim - 1) + (-1,)) if "bias" in given else y


def conv(given, args):
    y = ops.conv(
        channels_last(given["x"]),
        kernel_of(given["weight"]),
        **{**args, "padding": padding_of(args["padding"])},
    )
    return {"y": channels_first(with_bias(y, given))}


def separable_conv(given, args):
    x, dw, pw = channels_last(given["x"]), kernel_of(given["dw"]), kernel_of(given["pw"])
    return {"y": channels_first(with_bias(ops.separable_conv(x, dw, pw, **args), given))}


def pool(primitive):
    names = {"kernel_size": "window", "divisor_override": "divisor"}

    def case(given, args):
        options = {names.get(key, key): value for key, value in args.items()}
        return {"y": channels_first(primitive(channels_last(given["x"]), **options))}

    return case


def global_pool(primitive):
    return lambda given, args: {"y": primitive(channels_last(given["x"]))}


def local_response_norm(given, args):
    y = ops.local_response_norm(channels_last(given["x"]), convention="torch", **args)
    return {"y": channels_first(y)}


def batch_norm(given, args):
    x, mean, var = channels_last(given["x"]), given["running_mean"], given["running_var"]
    affine = (given.get("weight"), given.get("bias"))
    if args["training"]:
        y, (mean, var) = ops.batch_norm_train(
            x, mean, var, *affine, eps=args["eps"], momentum=1 - args["momentum"], unbiased=True
        )
    else:
        y = ops.batch_norm(x, mean, var, *affine, eps=args["eps"])
    return {"y": channels_first(y), "new_running_mean": mean, "new_running_var": var}


def layer_norm(given, args):
    return {"y": ops.layer_norm(given["x"], given["weight"], given["bias"], **args)}


def activation(name):
    return lambda given, args: {"y": ops.ACTIVATIONS[name](given["x"])}


def gelu(given, args):
    return {"y": ops.gelu(given["x"], approximate=args["approximate"] == "tanh")}


def cross_entropy(given, args):
    def loss(logits):
        weights = {"class_weights": given["weight"]} if "weight" in given else {}
        return ops.cross_entropy(logits, given["target"], **args, **weights)

    gradient = jax.grad(lambda logits: loss(logits).sum())
    return {"y": loss(given["logits"]), "grad_logits": gradient(given["logits"])}


def topk_accuracy(given, args):
    logits, labels = given["logits"], given["target"]
    correct = jnp.array([ops.top_k_correct(logits, labels, k).sum() for k in args["k"]])
    indices = ops.top_k(logits, min(5, logits.shape[-1]))
    return {"accuracy": correct / len(labels), "correct": correct, "topk_indices": indices}


OPS = {
    **{f"conv{d}d": conv for d in (1, 2, 3)},
    **{f"max_pool{d}d": pool(ops.max_pool) for d in (1, 2, 3)},
    **{f"min_pool{d}d": pool(ops.min_pool) for d in (1, 2, 3)},
    **{f"avg_pool{d}d": pool(ops.avg_pool) for d in (1, 2, 3)},
    **{f"adaptive_avg_pool{d}d": pool(ops.adaptive_avg_pool) for d in (1, 2, 3)},
    **{f"adaptive_max_pool{d}d": pool(ops.adaptive_max_pool) for d in (1, 2, 3)},
    "separable_conv2d": separable_conv,
    "global_avg_pool": global_pool(ops.global_avg_pool),
    "global_max_pool": global_pool(ops.global_max_pool),
    "local_response_norm": local_response_norm,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    **{name: activation(name) for name in ("relu6", "hardswish", "hardsigmoid", "silu")},
    "gelu": gelu,
    "cross_entropy": cross_entropy,
    "topk_accuracy": topk_accuracy,
}


def test_there_are_97_cases():
    assert len({case["id"] for case in CASES}) == 97


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_agrees_with_torch(case):
    stored = arrays()
    given = {name: jnp.asarray(stored[f"{case['id']}/in/{name}"]) for name in case["inputs"]}
    outputs = jax.jit(lambda given: OPS[case["op"]](given, case["args"]))(given)
    assert outputs.keys() == case["outputs"].keys()
    for name, value in outputs.items():
        wanted = stored[f"{case['id']}/out/{name}"]
        assert value.shape == wanted.shape
        allowed = max(1e-6, 10 * case["noise_max_abs"]) + 1e-6 * np.abs(wanted)
        excess = np.abs(np.asarray(value, np.float64) - wanted) - allowed
        assert np.max(excess) <= 0, f"{case['id']}: {name} is off by {np.max(excess):.2g} too much"
