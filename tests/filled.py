"""Variables by shape alone or filled by NumPy: compiling `init` is what is slow."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

_TRACED = {}


def _traced(module, shape):
    """Shapes of the output and of every collection, captured features too, from one tracing."""
    key = id(module), shape
    if key not in _TRACED:
        x = jax.ShapeDtypeStruct(shape, jnp.float32)
        init = partial(module.init_with_output, mutable=True)
        # With the module, since an id is its own only while it lives.
        _TRACED[key] = jax.eval_shape(init, jax.random.key(0), x), module
    return _TRACED[key][0]


def abstract(module, shape):
    """Shapes of the variables of `module` on a batch of `shape`."""
    variables = _traced(module, shape)[1]
    return {name: part for name, part in variables.items() if name != "intermediates"}


def count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def filled(module, shape, seed=0):
    """He-scaled kernels, biases of 0.1, everything else one, running means zero."""
    rng = np.random.default_rng(seed)

    def value(path, leaf):
        name = path[-1].key
        if name == "kernel":
            scale = math.sqrt(2 / math.prod(leaf.shape[:-1]))
            drawn = rng.standard_normal(leaf.shape, np.float32) * np.float32(scale)
        else:
            drawn = np.full(leaf.shape, {"bias": 0.1, "mean": 0.0}.get(name, 1.0), np.float32)
        return jnp.asarray(drawn)

    return jax.tree_util.tree_map_with_path(value, abstract(module, shape))


def images(shape, seed=1):
    """Normal noise, drawn without compiling."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def captured(module, variables, x, *names, **options):
    """The named features and "logits" of one compiled call, which drops what is not asked for."""

    @jax.jit
    def call(variables, x):
        logits, state = module.apply(variables, x, mutable=["intermediates"], **options)
        parts = [part.items() for part in state["intermediates"].values()]
        found = {name: value[0] for part in parts for name, value in part} | {"logits": logits}
        return {name: found[name] for name in names}

    return jax.device_get(call(variables, x))


def feature_shapes(module, shape):
    """Name -> shape of every captured feature of one image, without running the net."""
    parts = _traced(module, shape)[1]["intermediates"].values()
    return {name: value[0].shape[1:] for part in parts for name, value in part.items()}


def logits_shape(module, shape):
    return _traced(module, shape)[0].shape


def gradients(module, shape):
    """Gradient of the variance of the logits for each parameter, in evaluation mode."""
    x = images(shape)
    variables = filled(module, shape)
    rest = {k: v for k, v in variables.items() if k != "params"}
    gradient = jax.jit(jax.grad(lambda p: module.apply({"params": p, **rest}, x).var()))
    return jax.device_get(gradient(variables["params"]))
