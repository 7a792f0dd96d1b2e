"""Programs whose convolutions oneDNN runs: against definitions, and never written to the cache."""

import platform
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_lowering
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from test_lowering import agree, arrays, convolve, with_gradients

from cnnjax import bench, training
from cnnjax.bench.profile import breakdown
from cnnjax.models.resnet import resnet_cifar
from cnnjax.ops import cpu_conv, lowering
from cnnjax.ops.window import pairs
from cnnjax.training import onednn
from cnnjax.training.compiled import Parts
from cnnjax.training.mesh import data_mesh
from cnnjax.training.onednn import CALL, PRODUCT

here = sys.platform == "linux" and platform.machine() == "x86_64"
needs_onednn = pytest.mark.skipif(not here, reason="jaxlib has oneDNN on x86 Linux alone")


def by_onednn(function, *args, **options):
    """What `function` gives where oneDNN runs its convolutions, and the program."""
    program = onednn.compiled(jax.jit(function, **options), *args, onednn=True)
    return program(*args), program.as_text()


def definition(x, k, stride, padding, dilation, groups):
    """The sum over taps of what each saw, in double precision."""
    rank = x.ndim - 2
    sides = pairs(
        padding, x.shape[1:-1], k.shape[:-2], stride=(stride,) * rank, dilation=(dilation,) * rank
    )
    x = np.pad(np.asarray(x, np.float64), ((0, 0), *sides, (0, 0)))
    k = np.asarray(k, np.float64)
    outputs = [
        (n - dilation * (t - 1) - 1) // stride + 1
        for n, t in zip(x.shape[1:-1], k.shape, strict=False)
    ]
    total = 0
    for tap in np.ndindex(*k.shape[:-2]):
        seen = x[:, *(
            slice(t * dilation, t * dilation + (o - 1) * stride + 1, stride)
            for t, o in zip(tap, outputs, strict=True)
        )]  # fmt: skip
        parts = zip(np.split(seen, groups, axis=-1), np.split(k[tap], groups, axis=-1), strict=True)
        total = total + np.concatenate([a @ b for a, b in parts], axis=-1)
    return total


@needs_onednn
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_random_convolutions_are_their_definition(data):
    rank = data.draw(st.integers(1, 3), "rank")
    window = tuple(data.draw(st.integers(1, 5 if rank < 3 else 3)) for _ in range(rank))
    stride, dilation = data.draw(st.integers(1, 3), "stride"), data.draw(st.integers(1, 2))
    groups = data.draw(st.sampled_from([1, 1, 1, 2]), "groups")
    c_group = data.draw(st.sampled_from([1, 3, 16, 33]), "channels of a group")
    c_out = groups * data.draw(st.sampled_from([1, 5, 16]), "outputs of a group")
    n = data.draw(st.sampled_from([1, 3, 8]), "n")
    padding = data.draw(st.sampled_from(["SAME", "VALID"]) | st.just([(1, 2)] * rank), "padding")
    space = tuple(dilation * (k - 1) + 1 + data.draw(st.integers(0, 6)) for k in window)
    x, k = arrays((n, *space, c_group * groups), (*window, c_group, c_out), seed=n)
    found, _ = by_onednn(convolve(stride, padding, dilation, groups), x, k)
    agree(found, definition(x, k, stride, padding, dilation, groups), 2e-6)


# Map, kernel, stride: what the landmark networks hold.
LAYERS = [
    ((4, 8, 8, 16), (3, 3, 16, 16), 1),
    ((2, 9, 9, 3), (7, 7, 3, 8), 2),
    ((2, 8, 7, 32), (3, 3, 32, 16), 2),
    ((2, 7, 7, 24), (1, 7, 24, 16), 1),
    ((2, 9, 9, 48), (5, 5, 48, 8), 1),
]


@needs_onednn
@pytest.mark.parametrize("share", [1, 2**20], ids=["large maps", "small maps"])
@pytest.mark.parametrize(
    ("space", "window", "sides", "stride", "dilation"),
    [case for case in test_lowering.DEPTHWISE if len(case[0]) == 2],
)
def test_depthwise_gradients_are_their_definition(
    space, window, sides, stride, dilation, share, monkeypatch
):
    """As of the sum that runs elsewhere; all that has an output everywhere is oneDNN's."""
    monkeypatch.setattr(cpu_conv, "SHARE", share)
    x, k = arrays((3, *space, 6), (*window, 1, 6))
    conv = convolve(stride, sides, dilation, 6)
    (g,) = arrays(jax.eval_shape(conv, x, k).shape, seed=1)
    run = lambda x, k, g: (conv(x, k), *jax.vjp(conv, x, k)[1](g))  # noqa: E731
    (y, *found), program = by_onednn(run, x, k, g)
    expected = test_lowering.depthwise_gradients(x, k, g, sides, dilation)
    agree(found, expected, 2e-6)
    scale = np.linalg.norm(y) * np.linalg.norm(g)
    assert abs(np.vdot(y, g) - np.vdot(x, expected[0])) < 1e-6 * scale
    within = max(map(max, sides)) <= 2
    images = 1 if share == 1 else 0  # one call, in a loop
    assert program.count(f'custom_call_target="{CALL}"') == (2 + images if within else 0)
    squares = lambda x, k: sum(jnp.sum(a**2) for a in with_gradients(conv)(x, k)[1])  # noqa: E731
    second, _ = by_onednn(jax.grad(squares, (0, 1)), x, k)
    with lowering.native():
        agree(second, jax.jit(jax.grad(squares, (0, 1)))(x, k))


@needs_onednn
@pytest.mark.parametrize(("space", "kernel", "stride"), LAYERS)
def test_oneDNN_runs_the_convolution_and_its_gradients_agree(space, kernel, stride):
    """The input gradient is the adjoint, the weight gradient the slope along a direction."""
    x, k, direction = arrays(space, kernel, kernel)
    conv = convolve(stride, "SAME", 1, 1)
    (g,) = arrays(jax.eval_shape(conv, x, k).shape, seed=1)
    (y, to_x, to_k), program = by_onednn(
        lambda x, k, g: (conv(x, k), *jax.vjp(conv, x, k)[1](g)), x, k, g
    )
    assert CALL in program
    agree(y, definition(x, k, stride, "SAME", 1, 1), 2e-6)
    expected = np.vdot(definition(x, k, stride, "SAME", 1, 1), np.asarray(g, np.float64))
    scale = 1e-6 * float(np.linalg.norm(y) * np.linalg.norm(g))
    assert abs(np.vdot(np.asarray(x, np.float64), to_x) - expected) < scale
    along = np.vdot(definition(x, direction, stride, "SAME", 1, 1), np.asarray(g, np.float64))
    assert abs(np.vdot(np.asarray(direction, np.float64), to_k) - along) < scale


@needs_onednn
def test_products_beside_a_convolution_are_oneDNNs_and_agree():
    x, window, a, k, g = arrays(
        (2, 8, 8, 16), (3, 3, 16, 16), (4, 28, 28, 64), (1, 1, 64, 128), (4, 28, 28, 128)
    )
    conv, product = convolve(2, "SAME", 1, 1), convolve(1, "SAME", 1, 1)
    (_, *found), program = by_onednn(
        lambda x, window, a, k, g: (
            conv(x, window), product(a, k), *jax.vjp(product, a, k)[1](g)
        ), x, window, a, k, g,
    )  # fmt: skip
    assert program.count(f'custom_call_target="{PRODUCT}"') == 3
    a, k, g = (np.asarray(v, np.float64) for v in (a, k[0, 0], g))
    agree(found, (a @ k, g @ k.T, np.einsum("nhwc,nhwo->co", a, g)[None, None]), 2e-6)


network, NETWORK = test_lowering.network, test_lowering.NETWORK
plain = jax.jit(with_gradients(network))


@needs_onednn
def test_transformations_agree_with_what_XLA_runs():
    """vmap, recomputed activations and a batch that is split over devices."""
    args = arrays(*NETWORK)
    expected = plain(*args)
    found, program = by_onednn(with_gradients(network), *args)
    assert CALL in program
    agree(found, expected)
    agree(by_onednn(with_gradients(jax.checkpoint(network)), *args)[0], expected)
    xs = jnp.stack([args[0], 2 * args[0]])
    mapped, _ = by_onednn(jax.vmap(with_gradients(network), (0, None, None, None)), xs, *args[1:])
    for i in range(2):
        agree(jax.tree.map(lambda a, i=i: a[i], mapped), plain(xs[i], *args[1:]))
    mesh = Mesh(np.asarray(jax.devices()), ("data",))
    rows, whole = (NamedSharding(mesh, PartitionSpec(*a)) for a in (("data",), ()))
    placed = (jax.device_put(args[0], rows), *jax.device_put(args[1:], whole))
    split, _ = by_onednn(with_gradients(network), *placed, in_shardings=(rows, whole, whole, whole))
    agree(split, expected)


@needs_onednn
def test_derivatives_of_derivatives_agree_with_what_XLA_runs():
    x, k = arrays((2, 6, 6, 16), (3, 3, 16, 8))

    def norm_of_gradient(x, k):
        _, gradients = with_gradients(convolve(1, "SAME", 1, 1))(x, k)
        return sum(jnp.sum(jnp.square(g)) for g in gradients)

    second = jax.grad(norm_of_gradient, (0, 1))
    agree(by_onednn(second, x, 0.3 * k)[0], jax.jit(second)(x, 0.3 * k))


@needs_onednn
@pytest.mark.parametrize(("dtype", "mark"), [(jnp.bfloat16, 0.02), (np.float64, 1e-13)])
def test_other_precisions_stay_themselves(dtype, mark):
    with jax.enable_x64(dtype is np.float64):
        x, k = (a.astype(dtype) for a in arrays((4, 8, 8, 16), (3, 3, 16, 8), dtype=np.float64))
        found, _ = by_onednn(convolve(1, "SAME", 1, 1), x, k)
        assert found.dtype == dtype
        agree(found, definition(x, k, 1, "SAME", 1, 1), mark)


def parts_of(steps, **model):
    spec = training.load({
        "model": model or {"name": "convnet", "stages": [[16, 16, "pool"]], "dense": []},
        "dataset": {"name": "digits", "batch_size": 8},
        "schedule": {"steps": steps, "optimizer": {"name": "sgd"},
                     "learning_rate": {"name": "constant", "value": 0.1}},
    })  # fmt: skip
    return Parts.of(training.resolve(spec), data_mesh(jax.devices()[:1]))


def program_of(parts):
    feed, state = parts.feed(0, 0), parts.state()
    return parts.compile(feed, state, feed.inputs(0))[1]


@needs_onednn
def test_only_what_trains_long_is_compiled_for_oneDNN():
    short, long = parts_of(onednn.LONG - 1), parts_of(onednn.LONG)
    assert [CALL in program_of(p).executable.as_text() for p in (short, long)] == [False, True]
    none_left = parts_of(onednn.LONG, name="convnet", stages=[["pool"]], dense=[8])
    by = [program_of(p).convolutions for p in (short, long, none_left)]
    assert by == ["XLA", "oneDNN", "XLA"]


@needs_onednn
def test_what_holds_oneDNN_is_never_written_to_the_cache(tmp_path):
    """XLA would serialise oneDNN's calls as what they are not."""
    from jax.experimental.compilation_cache import compilation_cache

    threshold = "jax_persistent_cache_min_compile_time_secs"
    before = {name: getattr(jax.config, name) for name in (threshold, "jax_compilation_cache_dir")}
    try:
        jax.config.update("jax_compilation_cache_dir", str(tmp_path))
        jax.config.update(threshold, 0.0)
        compilation_cache.reset_cache()

        def smoothed(x, k):
            return convolve(1, "SAME", 1, 1)(x, k)

        jitted, args = jax.jit(smoothed), arrays((3, 9, 8, 16), (3, 3, 16, 12))
        assert CALL in onednn.compiled(jitted, *args, onednn=True).as_text()
        assert not list(tmp_path.glob("jit_smoothed*"))
        onednn.compiled(jitted, *args, onednn=False)  # others are kept, as before
        assert list(tmp_path.glob("jit_smoothed*-cache"))
        assert getattr(jax.config, threshold) == 0.0
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


@needs_onednn
def test_a_network_without_convolutions_left_keeps_its_place_in_the_cache():
    parts = parts_of(onednn.LONG, name="mlp")
    assert parts.onednn
    assert "__onednn" not in program_of(parts).executable.as_text()


@needs_onednn
def test_no_step_copies_what_it_updates():
    parts = parts_of(onednn.LONG, name="convnet", stages=[[16, 16, "pool"]], dense=[64, 32])
    program = program_of(parts).executable.as_text()
    assert "state_params__classifier" in program
    assert not re.findall(r" copy\(%state_params\S*", program)


@needs_onednn
def test_an_evaluation_adds_a_shortcut_without_a_copy():
    module = resnet_cifar(stages=(1,), block="bottleneck", shortcut="projection", width=4.0)
    x = jnp.ones((4, 16, 16, 3))
    variables = jax.jit(module.init)(jax.random.key(0), x)
    program = onednn.compiled_for_many(
        lambda variables, x: module.apply(variables, x, train=False), variables, x, onednn=True
    )(variables).func.as_text()
    (added,) = re.findall(r"custom-call\((.*)\), custom_call_target.*BINARY_ADD", program)
    assert re.search(rf"{added.split(', ')[-1]} = \S+ bitcast\(", program)


@needs_onednn
def test_settings_of_the_user_come_first(monkeypatch):
    assert onednn.runs_convolutions(onednn.LONG)
    with lowering.native():
        assert not onednn.runs_convolutions(onednn.LONG)
    for option in onednn.OPTIONS:
        monkeypatch.setenv("XLA_FLAGS", f"--{option}=false")
        assert not onednn.runs_convolutions(onednn.LONG)


def test_an_XLA_without_these_options_is_left_to_itself(monkeypatch):
    onednn._is_there.cache_clear()
    monkeypatch.setattr(onednn, "OPTIONS", {"xla_cpu_no_such_option": True})
    try:
        assert not onednn.runs_convolutions(onednn.LONG)
    finally:
        onednn._is_there.cache_clear()


@needs_onednn
def test_bench_says_who_runs_the_convolutions():
    model = {"name": "convnet", "stages": [[4, "pool"]], "dense": []}
    options = {"input_shape": (8, 8, 1), "batch_size": 4, "seconds": 0.01, "brief": True}
    assert bench.bench(model, **options)["convolutions"] == "oneDNN"
    assert bench.bench(model, native=True, **options)["convolutions"] == "XLA"


@needs_onednn
def test_bench_compiles_once_what_is_not_kept(monkeypatch):
    compiled, compile_parts = [], Parts.compile

    def counted(*args):
        compiled.append(args)
        return compile_parts(*args)

    monkeypatch.setattr(Parts, "compile", counted)
    options = {"input_shape": (8, 8, 1), "batch_size": 4, "seconds": 0.01}
    found = bench.bench({"name": "convnet", "stages": [[4, "pool"]], "dense": []}, **options)
    assert found["cached_compile_s"] == found["compile_s"]
    assert len(compiled) == 1
    events = []

    def listen(event, **_):
        events.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        bench.bench({"name": "mlp"}, **options)
    finally:
        jax.monitoring.unregister_event_listener(listen)
    assert len(compiled) == 3
    assert "/jax/compilation_cache/cache_hits" in events


@needs_onednn
def test_the_breakdown_knows_what_oneDNN_runs():
    x, k = arrays((16, 32, 32, 16), (3, 3, 16, 16))
    program = onednn.compiled(jax.jit(convolve(1, "SAME", 1, 1)), x, k, onednn=True)

    def run(steps):
        for _ in range(steps):
            jax.block_until_ready(program(x, k))

    run(1)
    found = {row["kind"]: row["ms"] for row in breakdown(run, program.as_text())}
    assert found["convolution"] > 0
    assert "other" not in found
