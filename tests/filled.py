"""Variables by shape alone or filled by NumPy: compiling `init` is what is slow."""

import math

import jax
import jax.numpy as jnp
import numpy as np


def abstract(module, shape):
    """Shapes of the variables of `module` on a batch of `shape`."""
    return jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))


def count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def filled(module, shape, seed=0):
    """He-scaled kernels, biases of 0.1, everything else one, running means zero."""
    rng = np.random.default_rng(seed)

    def value(path, leaf):
        name = path[-1].key
        if name == "kernel":
            scale = math.sqrt(2 / math.prod(leaf.shape[:-1]))
            return jnp.asarray(rng.normal(0, scale, leaf.shape), jnp.float32)
        return jnp.full(leaf.shape, {"bias": 0.1, "mean": 0.0}.get(name, 1.0))

    return jax.tree_util.tree_map_with_path(value, abstract(module, shape))


def feature_shapes(module, shape):
    """Name -> shape of every captured feature of one image, without running the net."""
    _, state = jax.eval_shape(
        lambda v, x: module.apply(v, x, mutable=["intermediates"]),
        abstract(module, shape),
        jax.ShapeDtypeStruct(shape, jnp.float32),
    )
    parts = state["intermediates"]
    return {name: value[0].shape[1:] for part in parts.values() for name, value in part.items()}


def logits_shape(module, shape):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(module.apply, abstract(module, shape), x).shape


def gradients(module, shape):
    """Gradient of the variance of the logits for each parameter, in evaluation mode."""
    x = jax.random.normal(jax.random.key(1), shape)
    variables = filled(module, shape)
    rest = {k: v for k, v in variables.items() if k != "params"}
    return jax.jit(jax.grad(lambda p: module.apply({"params": p, **rest}, x).var()))(
        variables["params"]
    )
