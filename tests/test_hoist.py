"""What an evaluation computes once: against definitions, and never in place of anything else."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core
from test_lowering import CASES, agree, arrays, small_maps  # noqa: F401
from test_onednn import definition, needs_onednn, parts_of

from cnnjax import data, layers, ops
from cnnjax.ops import cpu_winograd, lowering
from cnnjax.ops.cpu_rows import fenced
from cnnjax.training import onednn, portions
from cnnjax.training.hoist import hoisted
from cnnjax.training.mesh import data_mesh


def products(function, *args):
    """How many matrix products it holds, whatever they are nested in."""

    def count(jaxpr):
        inner = [v for e in jaxpr.eqns for v in e.params.values()]
        return sum(e.primitive.name == "dot_general" for e in jaxpr.eqns) + sum(
            count(getattr(j, "jaxpr", j))
            for j in inner
            if isinstance(j, core.Jaxpr | core.ClosedJaxpr)
        )

    return count(jax.make_jaxpr(function)(*args).jaxpr)


def test_what_depends_on_the_variables_alone_is_computed_once():
    """Of a chain of stored values the last; nothing of a batch, and nothing that nobody reads."""
    a, x = arrays((5, 5), (3, 5))

    def network(variables, x):
        third = fenced(fenced(variables["a"] @ variables["a"]) @ variables["a"])
        fenced(variables["a"] @ variables["a"].T)
        y = fenced(x @ third @ variables["a"])
        return {"y": y, "more": [variables["a"]]}

    once, each = hoisted(network, {"a": a}, x)
    (found,) = once({"a": a})
    wide = np.asarray(a, np.float64)
    agree(found, wide @ wide @ wide)
    assert products(once, {"a": a}) == 2 + 1  # one that XLA will leave out
    assert products(each, [found], {"a": a}, x) == 2
    result = jax.jit(each)([found], {"a": a}, x)
    agree(result, {"y": np.asarray(x) @ wide @ wide @ wide @ wide, "more": [wide]})
    # It is the stored value that is read.
    agree(jax.jit(each)([2 * found], {"a": a}, x)["y"], 2 * np.asarray(result["y"]))


def test_what_is_not_stored_is_left_where_it_is():
    a, x = arrays((5, 5), (3, 5))
    once, each = hoisted(lambda a, x: fenced(x @ (a @ a)), a, x)
    assert once(a) == []
    agree(each([], a, x), np.asarray(x, np.float64) @ np.asarray(a) @ np.asarray(a))


def test_loops_and_recomputed_parts_stay_whole():
    a, x = arrays((4, 4), (3, 4))
    part = jax.checkpoint(lambda a, x: jnp.tanh(x @ fenced(a @ a)))

    def network(a, x):
        y = part(a, x)
        return jax.lax.scan(lambda y, _: (part(0.1 * fenced(a + a), y), None), y, None, length=3)[0]

    once, each = hoisted(network, a, x)
    agree(jax.jit(each)(once(a), a, x), jax.jit(network)(a, x))


def test_what_a_module_does_beside_its_result_is_done_for_each_batch():
    a, x = arrays((5, 5), (3, 5))
    seen = []

    def network(a, x):
        b = fenced(a @ a)
        y = x @ b
        jax.debug.callback(lambda *found: seen.append(found), jnp.max(y), jnp.max(b))
        return y

    once, each = hoisted(network, a, x)
    values, run = once(a), jax.jit(each)
    assert seen == []
    for batch in (x, 2 * x):
        jax.block_until_ready(run(values, a, batch))
    jax.effects_barrier()
    wide = np.asarray(a, np.float64) @ np.asarray(a)
    agree(seen, [((k * x @ wide).max(), wide.max()) for k in (1, 2)])


def folded(function, *args):
    """`function` of variables and a batch in an evaluation, what it stores, and it with others."""

    def evaluation(*args):
        with lowering.for_evaluation():
            return function(*args)

    once, each = hoisted(evaluation, *args)
    stored = once(args[0])
    return jax.jit(each)(stored, *args), stored, lambda values: jax.jit(each)(values, *args)


@pytest.mark.parametrize("with_bias", [False, True], ids=["", "with its bias"])
@pytest.mark.parametrize("case", CASES)
def test_batch_norm_goes_into_the_kernel_before_it(case, with_bias):
    shape, kernel, stride, padding, dilation, groups = CASES[case]
    c = kernel[-1]
    x, k, own, mean, scale, bias = arrays(shape, kernel, (c,), (c,), (c,), (c,))
    var = jnp.linspace(0.5, 2, c)

    def network(variables, x):
        k, own, *norm = variables
        y = ops.conv(x, k, stride=stride, padding=padding, dilation=dilation, groups=groups)
        return ops.batch_norm(lowering.biased(y, own) if with_bias else y, *norm, eps=0.1)

    variables = (0.3 * k, own, mean, var, scale, bias)
    found, stored, given = folded(network, variables, x)
    y = definition(x, 0.3 * k, stride, padding, dilation, groups)
    own, mean, var, scale, bias = (np.asarray(v, np.float64) for v in variables[1:])
    y = y + own if with_bias else y
    agree(found, (y - mean) / np.sqrt(var + 0.1) * scale + bias)
    # Linear in what is stored, as a convolution is in its kernel and what is added, and as one of
    # the kernel alone, with a norm after it, is not.
    agree(given([2 * v for v in stored]), 2 * np.asarray(found, np.float64))


@pytest.mark.parametrize(("kernel", "stored"), [
    ((1, 1, 20, 24), (1, 1, 20, 24)),
    ((3, 3, 20, 24), (3, 3, 20, 24)),
    ((3, 3, 32, 40), (36, 32, 40)),  # Winograd's transform, in place of the kernel
])  # fmt: skip
def test_a_kernel_with_its_norm_and_what_remains_to_be_added_are_stored(kernel, stored):
    c = kernel[-1]
    x, k, own, mean, bias = arrays((2, 8, 8, kernel[-2]), kernel, (c,), (c,), (c,))
    scale, var = jnp.linspace(-1, 1, c), jnp.linspace(0.5, 2, c)

    def network(variables, x):
        k, own, *norm = variables
        return ops.batch_norm(lowering.biased(ops.conv(x, k), own), *norm, eps=0.1)

    _, found, _ = folded(network, (k, own, mean, var, scale, bias), x)
    factor = np.asarray(scale) / np.sqrt(np.asarray(var, np.float64) + 0.1)
    by_shape = {v.shape: v for v in found}
    assert len(by_shape) == len(found) == 2
    agree(by_shape[c,], np.asarray(bias) + (np.asarray(own) - np.asarray(mean)) * factor)
    k = np.asarray(k) * factor
    if stored != kernel:
        g = cpu_winograd.TRANSFORMS[3].G
        k = np.einsum("at,bu,tuio->abio", g, g, k).reshape(stored)
    agree(by_shape[stored], k)


@pytest.mark.parametrize("use_bias", [True, False])
def test_layers_hand_their_norm_to_their_convolution(use_bias):
    unit = layers.ConvUnit(24, 3, use_bias=use_bias, norm=layers.BatchNorm)
    (x,) = arrays((2, 8, 8, 20))
    variables = unit.init(jax.random.key(0), x, train=False)
    variables = jax.tree.map(lambda a: a + 0.5, variables)
    found, stored, _ = folded(unit.apply, variables, x)
    assert {v.shape for v in stored} == {(3, 3, 20, 24), (24,)}
    agree(found, unit.apply(variables, x))


def test_a_map_that_is_read_before_its_norm_is_there_as_it_was():
    x, k, mean = arrays((2, 6, 6, 8), (1, 1, 8, 8), (8,))
    var = jnp.full(8, 3.0)

    def network(variables, x):
        k, mean, var = variables
        y = ops.conv(x, k)
        return ops.batch_norm(y, mean, var), y, ops.batch_norm(y + 1, mean, var)

    found, *_ = folded(network, (k, mean, var), x)
    y = definition(x, k, 1, "SAME", 1, 1)
    norm = lambda y: (y - np.asarray(mean)) / np.sqrt(3 + 1e-5)  # noqa: E731
    agree(found, (norm(y), y, norm(y + 1)))


def test_a_norm_of_other_types_gives_the_type_of_the_map():
    """Two biases, one after the other, in double precision before a norm without a factor."""
    with jax.enable_x64(True):
        x, k = arrays((2, 6, 6, 20), (1, 1, 20, 20))
        first, second, mean = arrays((20,), (20,), (20,), dtype=np.float64)

        def network(variables, x):
            k, first, second, mean = variables
            y = lowering.biased(lowering.biased(ops.conv(x, k), first.astype(x.dtype)),
                                second.astype(x.dtype))  # fmt: skip
            return ops.batch_norm(y, mean, jnp.ones(20, jnp.float32), eps=0)

        found, *_ = folded(network, (k, first, second, mean), x)
        assert found.dtype == np.float32
        expected = definition(x, k, 1, "SAME", 1, 1) + np.asarray(first + second - mean)
        agree(found, expected)


@pytest.mark.parametrize(("recomputed", "normed"), [(False, True), (True, True), (False, False)])
def test_no_array_of_a_trace_outlives_it(recomputed, normed):
    x, k, mean = arrays((2, 6, 6, 20), (1, 1, 20, 20), (20,))

    def block(k, mean, x):
        y = ops.conv(x, k)
        return ops.batch_norm(y, mean, jnp.ones(20)) if normed else y

    part = jax.checkpoint(block) if recomputed else block
    with jax.checking_leaks():
        folded(lambda v, x: part(*v, x), (k, mean), x)


def test_half_types_are_normalised_after_the_convolution():
    x, k, mean = arrays((2, 6, 6, 20), (1, 1, 20, 20), (20,))
    x, k = x.astype(jnp.bfloat16), k.astype(jnp.bfloat16)

    def network(variables, x):
        return ops.batch_norm(ops.conv(x, variables[0]), variables[1], jnp.ones(20))

    found, stored, _ = folded(network, (k, mean), x)
    assert found.dtype == jnp.bfloat16
    assert stored == []
    y = definition(x.astype(np.float32), k.astype(np.float32), 1, "SAME", 1, 1)
    agree(found.astype(np.float32), y - np.asarray(mean), 0.02)


MODELS = {
    "resnet": {"name": "resnet_cifar", "depth": 8},
    "recomputed": {"name": "convnet", "stages": [[16, 16, "pool"]], "norm": "batch",
                   "remat": True},
    "factored": {"name": "convnet", "stages": [[16, 16, "pool"]], "norm": "batch",
                 "factorization": "depthwise"},
    "no norm": {"name": "convnet", "stages": [[16, 16, "pool"]]},
}  # fmt: skip


@needs_onednn
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("way", ["at once", "in portions", "in portions, streamed"])
def test_an_evaluation_counts_what_it_counts_without(model, way, monkeypatch):
    """Beside a short training, which stores nothing; on several devices nothing is stored."""
    split, cut = [], portions._cut

    def kept(*args):
        split.append(cut(*args))
        return split[-1]

    monkeypatch.setattr(portions, "_cut", kept)
    largest = portions.LARGEST if way == "at once" else 2**14
    if "streamed" in way:
        monkeypatch.setattr(data, "fits", lambda split: False)
    for limit, value in {"LARGEST": largest, "WHOLE": largest, "FEWEST": 1}.items():
        monkeypatch.setattr(portions, limit, value)
    short, long = (parts_of(steps, **MODELS[model]) for steps in (onednn.LONG - 1, onednn.LONG))
    variables = short.state().variables()
    noise = iter(jax.random.split(jax.random.key(0), 1000))
    variables = jax.tree.map(
        lambda a: a + 0.1 * jnp.abs(jax.random.normal(next(noise), a.shape)), variables
    )
    evaluators = [parts.evaluator("test") for parts in (short, long)]
    # Another evaluation is of its own variables.
    for given in (variables, jax.tree.map(lambda a: 1.1 * a, variables)):
        expected, found = (evaluate(given) for evaluate in evaluators)
        assert found["n"] == expected["n"] > 100
        np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)
        assert np.abs(found["confusion"] - expected["confusion"]).sum() <= 2  # ties
        assert len(split) == 1
    assert (split == [None]) == (way == "at once")
    everywhere = dataclasses.replace(long, mesh=data_mesh())
    found = everywhere.evaluator("test")(given)
    assert len(split) == 1
    assert found["n"] == expected["n"]
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)
