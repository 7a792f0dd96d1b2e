"""An evaluation in portions: the same numbers, and no image of a large map outside its portion."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_lowering import agree, arrays
from test_onednn import needs_onednn

from cnnjax.layers import Conv, capture, norm_factory
from cnnjax.models import build
from cnnjax.ops import lowering
from cnnjax.training import onednn, portions

# model: image size, batch, portions; those of tests/benchmarks/side_by_side.py with large maps
DIVIDED = {
    "vgg11": (224, 8, 8),
    "alexnet": (224, 8, 2),
    "googlenet": (224, 8, 4),
    "squeezenet1_1": (224, 8, 4),
    "resnet50": (224, 8, 4),
    "inception_v3": (299, 4, 4),
    "xception": (299, 4, 4),
}


@pytest.fixture
def small(monkeypatch):
    """Limits which 6 maps of 16 places x 8 exceed, being 3 KiB, and 6 of 16 x 4 do not."""
    monkeypatch.setattr(portions, "LARGEST", 2048)
    monkeypatch.setattr(portions, "WHOLE", 2048)
    monkeypatch.setattr(portions, "FEWEST", 48)


class Tiny(nn.Module):
    """Two stages, the first one twice as large as the next; a norm that the cut parts from its
    convolution."""

    def setup(self):
        self.wide, self.norm, self.narrow = Conv(8, 3), norm_factory("batch")(), Conv(4, 3)

    def __call__(self, x, train):
        x = capture(self, "stage1", self.wide(x))
        return capture(self, "stage2", nn.relu(self.narrow(self.norm(x, train=train))))


def drawn(module, x):
    """Variables of which none is zero or one."""
    variables = jax.jit(partial(module.init, train=False))(jax.random.key(0), x)
    keys = iter(jax.random.split(jax.random.key(1), 100))
    return jax.tree.map(
        lambda a: a + 0.1 * jnp.abs(jax.random.normal(next(keys), a.shape, a.dtype)), variables
    )


def evaluation(module):
    """As `hoisted_in_portions` takes it."""

    def run(between, variables, x, weights):
        with lowering.for_evaluation(between):
            y = module.apply(variables, x, train=False)
            return jnp.sum(y.reshape(len(x), -1).sum(1) * weights)

    return run


def compiled(module, variables, x):
    """Its evaluation, as a function of `x`."""
    network = partial(module.apply, train=False)
    return onednn.compiled_for_many(network, variables, x, onednn=True)(variables)


def loops(function, *args):
    """The lengths of the loops in a traced function, and how often its last arguments are read."""
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    lengths = [e.params["length"] for e in jaxpr.eqns if e.primitive.name == "scan"]
    own = jaxpr.invars[-len(jax.tree.leaves(args[-1])) :]
    return lengths, [sum(v in e.invars for e in jaxpr.eqns) for v in own]


@needs_onednn
@pytest.mark.parametrize("space", [(16,), (4, 4), (4, 2, 2)])
def test_the_first_stages_run_a_portion_at_a_time(space, small):
    module = Tiny()
    x, weights = arrays((6, *space, 3), (6,))
    variables = drawn(module, x)
    once, each = portions.hoisted_in_portions(evaluation(module), variables, x, weights)
    assert loops(lambda b: each(once(variables), variables, *b), (x, weights)) == ([2], [1, 2])
    with lowering.native():
        expected = module.apply(variables, x, train=False)
    expected = np.asarray(expected, np.float64).reshape(6, -1).sum(1) @ np.asarray(weights)
    agree(jax.jit(each)(once(variables), variables, x, weights), expected)

    program = compiled(module, variables, x)
    assert " while(" in program.func.as_text()
    with lowering.native():
        agree(program(x), module.apply(variables, x, train=False))


@needs_onednn
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64])
def test_portions_are_of_any_precision(dtype, small, monkeypatch):
    module = Tiny()
    with jax.enable_x64(dtype == jnp.float64):
        x, weights = (a.astype(dtype) for a in arrays((6, 4, 4, 3), (6,)))
        variables = jax.tree.map(lambda a: a.astype(dtype), drawn(module, x))
        for limit in ("LARGEST", "WHOLE"):
            monkeypatch.setattr(portions, limit, 512 * jnp.dtype(dtype).itemsize)
        once, each = portions.hoisted_in_portions(evaluation(module), variables, x, weights)
        assert loops(each, once(variables), variables, x, weights)[0] == [2]
        with lowering.native():
            expected = evaluation(module)(lambda x, _: x, variables, x, weights)
        tolerance = 1e-10 if dtype == jnp.float64 else 2e-2
        found = jax.jit(each)(once(variables), variables, x, weights)
        np.testing.assert_allclose(
            np.asarray(found, np.float64), np.asarray(expected, np.float64), rtol=tolerance
        )


@pytest.mark.parametrize("name", DIVIDED)
def test_what_follows_the_first_stages_reads_nothing_else(name):
    """A network that goes on with another map than it captured would compute both."""
    size, n, expected = DIVIDED[name]
    module = build({"name": name}, input_shape=(size, size, 3), num_classes=10)
    x = jnp.zeros((n, size, size, 3))
    variables = jax.eval_shape(partial(module.init, train=False), jax.random.key(0), x)

    def run(between, variables, x):
        with lowering.for_evaluation(between):
            return module.apply(variables, x, train=False)

    once, each = portions.hoisted_in_portions(run, variables, x)
    values = jax.eval_shape(once, variables)
    assert loops(each, values, variables, x) == ([expected], [1])


@needs_onednn
def test_a_stage_is_as_large_as_its_own_convolutions():
    module, found = Tiny(), []
    (x,) = arrays((6, 4, 4, 3))
    variables = module.init(jax.random.key(0), x, train=False)
    with lowering.for_evaluation(lambda x, largest: found.append((x.shape, largest)) or x):
        module.apply(variables, x, train=False)
    assert found == [((6, 4, 4, 8), 3072), ((6, 4, 4, 4), 1536)]


def stages(n, *shapes, dtype=jnp.float32):
    """Whose largest maps are those between them."""
    maps = [jax.ShapeDtypeStruct((n, *shape), dtype) for shape in shapes]
    return [portions.Stage(x, x.size * x.dtype.itemsize) for x in maps]


RESNET50 = [(56, 56, 64), (56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048)]


@pytest.mark.parametrize(
    ("given", "n", "expected"),
    [
        (stages(8, *RESNET50), 8, (4, 2)),  # two images of 56 x 56 x 256 are 6 MiB
        (stages(8, *RESNET50, dtype=jnp.bfloat16), 8, (2, 2)),
        (stages(7, *RESNET50), 7, (7, 2)),  # 7 has no divisor between
        (stages(1, *RESNET50), 1, None),
        (stages(128, (32, 32, 32), (16, 16, 64), (8, 8, 128)), 128, (2, 1)),
        (stages(128, (32, 32, 32), (16, 16, 32), (8, 8, 64)), 128, (2, 0)),
        (stages(127, (32, 32, 32), (16, 16, 64), (8, 8, 128)), 127, None),
        (stages(128, (14, 14, 16), (5, 5, 120)), 128, None),
        (stages(2, (15, 15, 8192)), 2, None),  # large, with few places
        (stages(80, *RESNET50), 8, None),  # ten crops of each image
        ([portions.Stage(stages(8, (112, 112, 8))[0].map, 2**26)], 8, (8, 0)),
        ([portions.Stage(jax.ShapeDtypeStruct((), jnp.float32), 2**26)], 8, None),
        ([], 8, None),
    ],
)
def test_portions_are_as_large_as_a_cache_takes(given, n, expected):
    assert portions._cut(given, n) == expected


@needs_onednn
def test_a_stage_that_is_recomputed_is_not_taken_apart(small):
    """What it captures inside is of no use outside."""

    class Recomputed(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.remat(Tiny, static_argnums=(2,))(name="tiny")(x, False)

    module = Recomputed()
    (x,) = arrays((6, 4, 4, 3))
    variables = jax.jit(module.init)(jax.random.key(0), x)
    found = onednn.compiled_for_many(module.apply, variables, x, onednn=True)(variables)(x)
    agree(found, module.apply(variables, x))


class TimeMajor(nn.Module):
    """What it captures has as many rows first as there are images."""

    @nn.compact
    def __call__(self, x, train):
        y = capture(self, "stage1", jnp.swapaxes(Conv(8, 3)(x), 0, 1))
        return Conv(4, 3)(jnp.swapaxes(y, 0, 1))


class Chunked(nn.Module):
    """It captures more with more images."""

    @nn.compact
    def __call__(self, x, train):
        parts = [capture(self, f"part{i}", p) for i, p in enumerate(jnp.split(x, len(x)))]
        return Conv(4, 3)(capture(self, "stage1", Conv(8, 3)(jnp.concatenate(parts))))


class Paired(nn.Module):
    """Its head takes two images at a time, where a portion has one."""

    @nn.compact
    def __call__(self, x, train):
        x = capture(self, "stage1", Conv(8, 3)(x))
        return Conv(4, 3)(x).reshape(len(x) // 2, 2, -1).mean(1)


@needs_onednn
@pytest.mark.parametrize(
    ("kind", "n", "divided"), [(TimeMajor, 4, False), (Chunked, 6, False), (Paired, 2, True)]
)
def test_modules_of_ones_own_agree(kind, n, divided, monkeypatch):
    for limit, value in {"LARGEST": 512 * n // 2, "WHOLE": 256, "FEWEST": 1}.items():
        monkeypatch.setattr(portions, limit, value)
    module = kind()
    (x,) = arrays((n, 4, 4, 3))
    variables = drawn(module, x)

    program = compiled(module, variables, x)
    assert (" while(" in program.func.as_text()) == divided
    with lowering.native():
        agree(program(x), module.apply(variables, x, train=False))


@needs_onednn
def test_what_happens_happens_once(small):
    class Telling(Tiny):
        def __call__(self, x, train):
            jax.debug.callback(lambda x: seen.append(x.shape), x)
            return super().__call__(x, train)

    seen = []
    (x,) = arrays((6, 4, 4, 3))
    module = Telling()
    variables = Tiny().init(jax.random.key(0), x, train=False)

    found = compiled(module, variables, x)(x)
    jax.block_until_ready(found)
    jax.effects_barrier()
    assert seen == [(6, 4, 4, 3)]
