"""One contract for the whole table of models, held on narrow forms.

The golden list of parameters is remade, after a deliberate change of names, by

    python tests/test_models_contract.py
"""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from cnnjax.models import MODELS, build

GOLDEN = Path(__file__).parent / "goldens" / "parameters.json"
KEY = jax.random.key(0)
CLASSES = 5
GREY, COLOUR = (28, 28, 1), (32, 32, 3)
DTYPES = {GREY: jnp.float32, COLOUR: jnp.bfloat16}

# What makes each network small enough to differentiate in a test. ELU and little dropout, since a
# few maps of ReLUs may all be silent on three images, and then no gradient passes.
THIN = {"width": 0.0625, "activation": "elu"}
NARROW = {
    "linear": {},
    "mlp": {"hidden": [8, 6], "dropout": 0.5},
    "convnet": {"stages": [[4, "pool"], [6]], "dense": [8], "norm": "batch", "activation": "elu"},
    "lenet1": {},
    "lenet5": {},
    "neocognitron": {"width": 0.25},
    "alexnet": {**THIN, "dense": 16, "dropout": 0.2},
    "vgg": {**THIN, "dense": 16, "norm": "batch", "stages": [[8], [8]], "dropout": 0.2},
    "nin": THIN,
    "googlenet": THIN,
    "inception_v3": {**THIN, "blocks": [1, 1, 1]},
    "xception": {**THIN, "middle": 1},
    "squeezenet": THIN | {"width": 0.125},
    "resnet": {**THIN, "stages": [1, 1]},
    "resnet_cifar": {**THIN, "width": 0.25, "depth": 8},
}
FAMILIES = sorted(NARROW)
READY = sorted(name for name in MODELS if name not in NARROW)
# Compiled for speed of compilation: a few steps on three small images are all that is run.
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def narrow(name, shape=GREY):
    return build({"name": name, **NARROW[name]}, num_classes=CLASSES, input_shape=shape)


def images(shape):
    return jax.random.uniform(jax.random.key(7), (3, *shape))


def state_of(variables):
    """What a network keeps between calls: not the logits and features it reports."""
    return {k: v for k, v in variables.items() if k not in ("auxiliary", "intermediates")}


@functools.cache
def narrow_shapes(name, shape):
    return shapes_of(narrow(name, shape), shape)


def shapes_of(module, shape):
    # A trace takes seconds: that of the coloured images is in half precision as well.
    x = jax.ShapeDtypeStruct((3, *shape), DTYPES[shape])
    logits, variables = jax.eval_shape(lambda x: module.init_with_output(KEY, x), x)
    return logits, state_of(variables)


@functools.cache
def network(name):
    """A narrow network and values for its variables, drawn without compiling its initialisers."""
    module = narrow(name)
    rng = np.random.default_rng(0)

    def value(path, leaf):
        match path[-1].key:
            case "kernel":
                fan_in = max(1, np.prod(leaf.shape[:-1]))
                drawn = rng.normal(0, np.sqrt(2 / fan_in), leaf.shape)
                # The Neocognitron's excitatory weights, a constant here, are never negative.
                drawn = np.abs(drawn) if path[0].key == "fixed" else drawn
                return np.asarray(drawn, leaf.dtype)
            case "bias" | "mean":
                return np.asarray(rng.normal(0, 0.1, leaf.shape), leaf.dtype)
            case "centers":
                return np.asarray(rng.choice([-1.0, 1.0], leaf.shape), leaf.dtype)
        return np.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)

    variables = jax.tree_util.tree_map_with_path(value, narrow_shapes(name, GREY)[1])
    evaluate = jax.jit(lambda v, x: module.apply(v, x), compiler_options=QUICKLY)
    return module, variables, evaluate(variables, images(GREY))


def test_every_family_of_the_table_has_a_narrow_form():
    families = {getattr(factory, "func", factory) for factory in MODELS.values()}
    assert families <= {MODELS[name] for name in NARROW}


@pytest.mark.parametrize("shape", [GREY, COLOUR])
@pytest.mark.parametrize("name", FAMILIES)
def test_stems_fit_small_images_logits_have_their_dtype_and_names_are_the_contracts(name, shape):
    logits, variables = narrow_shapes(name, shape)
    assert (logits.shape, logits.dtype) == ((3, CLASSES), DTYPES[shape])
    params = traverse_util.flatten_dict(variables["params"])
    assert {path[0] for path in params} <= {"features", "classifier", "aux", "aux1", "aux2"}
    assert all(leaf.dtype == jnp.float32 for leaf in params.values())


@pytest.mark.parametrize("name", ["resnet18", "plain18", "resnet20", "vgg11", "squeezenet1_1"])
def test_ready_names_are_valid_on_small_images(name):
    module = build({"name": name}, num_classes=CLASSES, input_shape=GREY)
    assert shapes_of(module, GREY)[0].shape == (3, CLASSES)


@pytest.mark.parametrize("name", READY)
def test_ready_names_take_classes_and_shape(name):
    build({"name": name}, num_classes=CLASSES, input_shape=COLOUR)


# The networks of many branches compile for a quarter of a minute.
BRANCHED = ("googlenet", "inception_v3")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in BRANCHED else n for n in FAMILIES]
)
def test_training_reaches_every_parameter_and_compiles_once(name):
    """Gradients are finite everywhere and none is forgotten; heads that training uses count."""
    module, variables, still = network(name)
    traces = []

    def loss(params, rest, x, key):
        traces.append(1)
        logits, new = module.apply(
            {**rest, "params": params}, x, train=True, rngs={"dropout": key},
            mutable=["batch_stats", "auxiliary"],
        )  # fmt: skip
        heads = [jnp.sum(jnp.square(head)) for head in jax.tree.leaves(new.get("auxiliary", {}))]
        target = jnp.arange(CLASSES, dtype=logits.dtype)[None]
        return jnp.sum(jnp.square(logits - target)) + sum(heads), (logits, new)

    step = jax.jit(jax.grad(loss, has_aux=True), compiler_options=QUICKLY)
    rest = {k: v for k, v in variables.items() if k != "params"}
    x = images(GREY)
    gradients, (logits, new) = step(variables["params"], rest, x, KEY)
    # On the host: a question to an array of another shape is another program to compile.
    flat = traverse_util.flatten_dict(jax.device_get(gradients), sep="/")
    assert [path for path, gradient in flat.items() if not np.isfinite(gradient).all()] == []
    assert [path for path, gradient in flat.items() if not np.any(gradient)] == []
    assert logits.shape == still.shape == (3, CLASSES)
    step(variables["params"], rest | state_of(new), x + 0.1, jax.random.key(1))
    assert len(traces) == 1
    if name in DETERMINISTIC:
        np.testing.assert_allclose(still, logits, rtol=1e-3, atol=1e-4)
    else:
        assert not np.allclose(still, logits, rtol=1e-3, atol=1e-4)


# Without dropout and batch norm training computes what evaluation does.
DETERMINISTIC = ("linear", "lenet1", "lenet5", "neocognitron")


@pytest.mark.parametrize("name", ["mlp", "convnet", "lenet5", "alexnet", "resnet_cifar"])
def test_bfloat16_runs_near_float32(name):
    module, variables, full = network(name)
    evaluate = jax.jit(lambda v, x: module.apply(v, x), compiler_options=QUICKLY)
    half = np.asarray(evaluate(variables, images(GREY).astype(jnp.bfloat16)), np.float32)
    assert np.linalg.norm(half - full) / np.linalg.norm(full) < 0.05


def described():
    """Model -> collection/path -> shape, of every narrow form."""
    found = {}
    for name in FAMILIES:
        flat = traverse_util.flatten_dict(narrow_shapes(name, GREY)[1], sep="/")
        found[name] = {path: list(leaf.shape) for path, leaf in sorted(flat.items())}
    return found


def test_names_and_shapes_of_parameters_are_those_that_were_published():
    """Checkpoints and imported weights are built on them."""
    golden = json.loads(GOLDEN.read_text())
    assert described() == golden


if __name__ == "__main__":
    models = ",\n".join(
        f'"{name}": {{\n'
        + ",\n".join(f'  "{path}": {json.dumps(shape)}' for path, shape in found.items())
        + "\n}"
        for name, found in described().items()
    )
    GOLDEN.write_text("{\n" + models + "\n}\n")
