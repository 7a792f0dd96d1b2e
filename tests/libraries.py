"""Reference networks of other libraries: their tensors by the fill rule, and their logits."""

import importlib.util
import json
import math
import zlib
from functools import cache, partial
from pathlib import Path

import jax
import numpy as np

from cnnjax import weights
from cnnjax.models import build
from cnnjax.ops import lowering
from cnnjax.training.onednn import compiled

GOLDENS = Path(__file__).parent / "goldens"


def _fill_module():
    spec = importlib.util.spec_from_file_location("fill", GOLDENS / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fill = _fill_module()


def _normal(rng, shape, *scales):
    """Draw in float64, scale and round once, in pieces that stay in the processor's cache."""
    drawn, buffer = np.empty(shape, np.float32), np.empty(1 << 15)
    flat = drawn.reshape(-1)
    for start in range(0, flat.size, buffer.size):
        piece = buffer[: flat.size - start]
        rng.standard_normal(out=piece)
        for scale in scales:
            piece *= scale
        flat[start : start + piece.size] = piece
    return drawn


# The same bytes in a third of the time: VGG-16 has 138 million of them.
fill._normal = lambda name, shape, scale: _normal(fill.rng_for(name), shape, scale)


def torch_state(key):
    """The tensors of `goldens_dev.json`'s network `key`, in the order of its state dict."""
    entry = json.loads((GOLDENS / "goldens_dev.json").read_text())["models"][key]
    return {n: fill.fill(n, tuple(shape), entry["gain"]) for n, shape, _ in entry["state"]}


def torch_logits(key, which="logits"):
    return np.load(GOLDENS / "goldens_dev.npz")[f"{key}/{which}_f64"]


def keras_entry(name, file="keras_inception_xception.json"):
    return json.loads((GOLDENS / file).read_text())["models"][name]


def keras_network(name, file="keras_inception_xception.json"):
    """Tensors, logits (the first 32) and `count_params` of the network `name` in `file`."""
    entry = keras_entry(name, file)
    state = {p: _keras_fill(p, shape, entry["gain"]) for p, shape in entry["state"]}
    return state, np.array(entry["logits"]), entry["count_params"]


def _keras_fill(path, shape, gain):
    """The rule in the file's `meta`."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(path.encode())))
    leaf = path.rpartition("/")[2]
    if len(shape) >= 2:
        fan_in = math.prod(shape[:2] if leaf == "depthwise_kernel" else shape[:-1])
        return _normal(rng, shape, gain, np.sqrt(2 / fan_in))
    if leaf in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return _normal(rng, shape, 0.1)


def run(layout, model, state, size, *, onednn=False):
    """Logits and auxiliary logits of the two reference images, in the precision that JAX has."""
    return logits_of(model, weights.load(layout, model, state), size, onednn=onednn)


def logits_of(model, variables, size, *, onednn=False):
    """`run` with the tensors loaded already."""
    dtype = np.float64 if jax.config.jax_enable_x64 else np.float32
    variables = jax.tree.map(lambda a: np.asarray(a, dtype), variables)
    images = fill.model_input(size, size).transpose(0, 2, 3, 1).astype(dtype)
    apply = jax.jit(lambda v, x: build(model).apply(v, x, mutable=["auxiliary"]))
    logits, rest = compiled(apply, variables, images, onednn=onednn)(variables, images)
    return logits, rest.get("auxiliary", {})


def relative(ours, theirs):
    """norm(ours - theirs) / norm(theirs) over both images, in float64."""
    ours = np.asarray(ours, np.float64)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


@cache
def _traced(model):
    options = json.loads(model)
    images = jax.ShapeDtypeStruct((1, *options["input_shape"]), np.float32)
    module = build(options)
    return jax.eval_shape(partial(module.init, mutable=True), jax.random.key(0), images)


def traced(name, input_shape, **options):
    """Shapes of every collection of the network, captured features too; nothing is computed."""
    return _traced(json.dumps({"name": name, "input_shape": input_shape, **options}))


def captured(name, input_shape, **options):
    """Name -> (h, w, c) of every feature that `features` captures."""
    found = traced(name, input_shape, **options)["intermediates"]["features"]
    return {name: value[0].shape[1:] for name, value in found.items() if isinstance(value, tuple)}


def checkpoints(module, images):
    """How many blocks of `module` are rematerialised, and the shapes of its variables."""
    with lowering.native():  # a formulation of the CPU's may recompute something of its own
        jaxpr, variables = jax.make_jaxpr(module.init, return_shape=True)(jax.random.key(0), images)
    rematerialised = [eqn for eqn in jaxpr.eqns if eqn.primitive.name in ("checkpoint", "remat2")]
    return len(rematerialised), variables


def assert_comes_back(layout, model, state, variables):
    """What was loaded from `state` is saved under the same names, bit for bit; torch's in order."""
    back = weights.save(layout, model, variables)
    order = sorted if layout == "keras" else list
    assert order(back) == order(state)
    # torch counts its training batches, we do not.
    changed = [name for name in state if not name.endswith("num_batches_tracked")
               and back[name].tobytes() != state[name].tobytes()]  # fmt: skip
    assert changed == []
