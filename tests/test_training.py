"""The step, the evaluation and the loop against definitions."""

import csv
import itertools
import logging
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnnjax
from cnnjax import data, training
from cnnjax.errors import RunError, SpecError
from cnnjax.layers import offer_auxiliary, wants_auxiliary
from cnnjax.training import mesh
from cnnjax.training.compiled import Parts
from cnnjax.training.losses import LOSSES
from cnnjax.training.mesh import data_mesh
from cnnjax.training.progress import Silent

EXPERIMENT = {
    "model": {"name": "convnet", "stages": [[4, "pool"]], "dense": [], "norm": "batch"},
    "dataset": {"name": "digits", "batch_size": 32},
    "schedule": {
        "steps": 40,
        "optimizer": {"name": "sgd", "momentum": 0.9},
        "learning_rate": {"name": "constant", "value": 0.05},
    },
}


def on_host(tree):
    """A copy that belongs to no mesh."""
    return jax.tree.map(jnp.asarray, jax.device_get(tree))


def one_device():
    return jax.devices()[:1]


def experiment(*overrides, **options):
    return training.resolve(training.load(EXPERIMENT, overrides=overrides), **options)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The experiment as it stands, trained on one device, with events for TensorBoard."""
    out = tmp_path_factory.mktemp("plain") / "run"
    return cnnjax.train(EXPERIMENT, out=out, devices=one_device(), tensorboard=True)


def states(x, devices):
    """The state before each step, without end."""
    parts = Parts.of(x, data_mesh(devices))
    state = parts.state()
    feed = parts.feed(0, 0)
    step = jax.jit(parts.step(feed))
    try:
        for i in itertools.count():
            yield state
            state = step(state, *feed.inputs(i))
    finally:
        feed.close()


def few_steps(x, devices, steps=5):
    """The state after a few steps, and each step's totals."""
    found = list(itertools.islice(states(x, devices), steps + 1))
    return found[-1], [jax.device_get(state.totals) for state in found[1:]]


def assert_trees_close(a, b, **tolerance):
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
    ):
        np.testing.assert_allclose(x, y, err_msg=jax.tree_util.keystr(path), **tolerance)


def test_eight_devices_equal_one():
    x = experiment("schedule.ema=0.9", "dataset.augment=[{'name': 'shift', 'max': 1}]")
    one, rows_one = few_steps(x, one_device())
    eight, rows_eight = few_steps(x, jax.devices()[:8])
    assert len(jax.tree.leaves(eight.params)[0].sharding.device_set) == 8
    for name in ("params", "batch_stats", "opt_state", "ema"):
        assert_trees_close(getattr(one, name), getattr(eight, name), rtol=2e-4, atol=2e-6)
    for a, b in zip(rows_one, rows_eight, strict=True):
        assert int(a.n) == int(b.n)
        assert int(a.top1) == int(b.top1)
        np.testing.assert_allclose(a.loss, b.loss, rtol=1e-5)


def test_the_gradient_on_eight_devices_is_that_of_the_whole_batch():
    """One SGD step without momentum is the gradient: compare with plain autodiff of the mean."""
    x = experiment("schedule.optimizer.momentum=0.0", "schedule.learning_rate.value=1.0")
    parts = Parts.of(x, data_mesh(jax.devices()[:8]))
    before = on_host(parts.state().params)
    after, _ = few_steps(x, jax.devices()[:8], steps=1)
    split = x.splits["train"]
    images, labels = split.gather(data.indices(0, len(split), 0, 32))
    variables = {"params": before, "batch_stats": on_host(parts.state().batch_stats)}

    def mean_loss(params):
        logits, _ = x.module.apply(
            {**variables, "params": params}, jnp.asarray(images, jnp.float32) / 255,
            train=True, mutable=["batch_stats"],
        )  # fmt: skip
        picked = jnp.take_along_axis(logits, jnp.asarray(labels)[:, None], 1)[:, 0]
        return jnp.mean(jnp.log(jnp.sum(jnp.exp(logits), 1)) - picked)

    gradient = jax.grad(mean_loss)(before)
    moved = jax.tree.map(lambda a, b: a - np.asarray(b), before, after.params)
    assert_trees_close(moved, gradient, rtol=1e-3, atol=1e-5)


def test_the_step_compiles_once(tmp_path, caplog):
    spec = training.load(EXPERIMENT, overrides=["schedule.steps=30", "schedule.eval_every=1000"])
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        steps = []

        class After(Silent):
            def train(self, step, row, images_per_s):
                steps.append((step, sum("Compiling" in r.message for r in caplog.records)))

        training.train(spec, out=tmp_path / "run", devices=one_device(), reporter=After())
    in_loop = [count for step, count in steps if step < 29]
    assert len(in_loop) > 10
    assert in_loop[0] > 0, "the log of compilations was empty: this test sees nothing"
    assert in_loop[1] == in_loop[-1], "something was compiled again while training"


def test_a_row_is_written_while_the_device_has_the_next_step_to_do(tmp_path):
    overrides = [
        "model.stages=[[64, 64, 64, 64]]", "dataset.batch_size=128",
        "schedule.steps=12", "schedule.eval_every=1000",
    ]  # fmt: skip
    busy = []

    class During(Silent):
        def train(self, step, row, images_per_s):
            busy.append(any(not a.is_ready() for a in jax.live_arrays()))

    spec = training.load(EXPERIMENT, overrides=overrides)
    training.train(spec, out=tmp_path / "run", devices=one_device(), reporter=During())
    assert len(busy) == 12
    assert sum(busy[:-1]) > 6, busy


def test_a_stretch_of_steps_is_the_same_steps(monkeypatch):
    x = experiment("schedule.steps=800")  # a row of the log every four steps
    monkeypatch.setitem(mesh.STRETCH, "cpu", 4)
    parts = Parts.of(x, data_mesh(one_device()))
    feed = parts.feed(0, 0)
    state = parts.state()
    functions = parts.compile(feed, state, feed.inputs(0))
    assert sorted(functions) == [1, 4]
    scanned = functions[4](state, *feed.inputs(0))
    single, rows = few_steps(x, one_device(), 4)
    assert int(scanned.step) == 4
    assert_trees_close(scanned.params, single.params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scanned.totals.loss, rows[-1].loss, rtol=1e-5)
    assert int(scanned.totals.n) == int(rows[-1].n) == 4 * 32


def test_streamed_batches_train_as_resident_ones_do(plain, monkeypatch, tmp_path):
    monkeypatch.setattr(data, "fits", lambda split: False)
    run = cnnjax.train(EXPERIMENT, out=tmp_path / "run", devices=one_device())
    assert run.result == plain.result
    losses = [[r["loss"] for r in found.metrics] for found in (run, plain)]
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_ema_is_its_recurrence():
    x = experiment("schedule.ema=0.75")
    average = None
    for state in itertools.islice(states(x, one_device()), 4):
        params = jax.device_get(state.params)
        average = (
            params if average is None
            else jax.tree.map(lambda a, p: 0.75 * a + 0.25 * p, average, params)
        )  # fmt: skip
        assert_trees_close(state.ema, average, rtol=1e-5, atol=1e-6)
    assert state.variables()["params"] is state.ema


def test_batch_statistics_move_in_training_alone():
    x = experiment()
    start, state = itertools.islice(states(x, one_device()), 2)
    before, after = (jax.tree.leaves(jax.device_get(s.batch_stats)) for s in (start, state))
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    parts = Parts.of(x, data_mesh(one_device()))
    kept = jax.device_get(state.batch_stats)
    parts.evaluator("test")(state.variables())
    assert_trees_close(state.batch_stats, kept, rtol=0)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("examples", [360, 7])
def test_every_example_is_evaluated_exactly_once(devices, examples):
    x = experiment(f"dataset.split={{'test': 'test[:{examples}]'}}")
    parts = Parts.of(x, data_mesh(jax.devices()[:devices]))
    variables = parts.state().variables()
    sums = parts.evaluator("test")(variables)
    images, labels = x.splits["test"].gather(np.arange(examples))
    logits = np.asarray(
        x.module.apply(on_host(variables), jnp.asarray(images, jnp.float32) / 255), float
    )
    exponent = np.exp(logits - logits.max(1, keepdims=True))
    loss = -np.log(exponent[np.arange(examples), labels] / exponent.sum(1))
    rank = (logits > logits[np.arange(examples), labels][:, None]).sum(1)
    assert sums["n"] == examples
    assert sums["top1"] == (rank == 0).sum()
    assert sums["top5"] == (rank < 5).sum()
    np.testing.assert_allclose(sums["loss"], loss.sum(), rtol=1e-5)
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (labels, logits.argmax(1)), 1)
    np.testing.assert_array_equal(sums["confusion"], expected)


def test_the_reported_network_is_the_one_best_on_validation(tmp_path):
    run = cnnjax.train(
        EXPERIMENT,
        set=[
            "dataset.split={'train': 'train[:600]', 'validation': 'train[600:900]'}",
            "schedule.select=best", "schedule.eval_every=5", "schedule.checkpoint_every=5",
            "schedule.learning_rate={'name': 'piecewise', 'value': 0.05, 'drop_at': [15],"
            " 'factor': 60.0}",
        ],
        out=tmp_path / "run", devices=one_device(),
    )  # fmt: skip
    seen = {r["step"]: r["top1"] for r in run.metrics if r["split"] == "validation"}
    best = max(seen, key=lambda step: (seen[step], step))
    assert seen[best] > seen[40], "the learning rate explodes after step 15: the last is not best"
    assert run.result["step"] == best
    assert run.result["selected"] == "best on validation"
    assert run.result["split"] == "test"
    again = training.Run(tmp_path / "run")  # from the files alone
    np.testing.assert_allclose(again.evaluate("test")["top1"], run.result["top1"])
    np.testing.assert_allclose(again.evaluate("validation")["top1"], seen[best])


def test_a_loss_that_is_not_finite_says_step_checkpoint_and_batch(tmp_path):
    with pytest.raises(RunError) as caught:
        cnnjax.train(
            EXPERIMENT,
            set=["schedule.learning_rate={'name': 'piecewise', 'value': 0.05, 'drop_at': [12],"
                 " 'factor': 1e30}", "schedule.checkpoint_every=10", "model.norm=none"],
            out=tmp_path / "run", devices=one_device(),
        )  # fmt: skip
    text = str(caught.value)
    assert "not finite at step 14. Last good checkpoint: step 10." in text
    assert f"cnnjax.data.indices(0, 1437, {13 * 32}, {14 * 32}) of split 'train'" in text
    assert training.Run(tmp_path / "run").result is None


def test_bfloat16_trains_with_float32_parameters(plain, tmp_path):
    run = cnnjax.train(
        EXPERIMENT, set=["schedule.dtype=bfloat16"], out=tmp_path / "run", devices=one_device()
    )
    assert {str(a.dtype) for a in jax.tree.leaves(run.variables)} == {"float32"}
    assert run.result["loss"] != plain.result["loss"]
    assert abs(run.result["top1"] - plain.result["top1"]) < 0.05


class Headed(nn.Module):
    """A linear classifier with two auxiliary heads."""

    @nn.compact
    def __call__(self, x, *, train=False):
        x = x.reshape(len(x), -1)
        if wants_auxiliary(self, train):
            for name in ("aux1", "aux2"):
                offer_auxiliary(self, name, nn.Dense(10, name=name)(x))
        return nn.Dense(10, name="classifier")(x)


@pytest.mark.parametrize("weight", [0.3, {"aux1": 0.3, "aux2": 0.0}])
def test_auxiliary_heads_count_with_their_weights(weight, tmp_path):
    spec = {**EXPERIMENT, "schedule": {**EXPERIMENT["schedule"], "steps": 1, "loss": {
        "name": "cross_entropy", "auxiliary": weight}}}  # fmt: skip
    run = cnnjax.train(spec, model=Headed(), out=tmp_path / "run", devices=one_device())
    x = training.resolve(run.spec, model=Headed())
    before = Parts.of(x, data_mesh(one_device())).state().params
    images, labels = x.splits["train"].gather(data.indices(0, 1437, 0, 32))
    flat = images.reshape(32, -1) / 255

    def entropy(head):
        z = flat @ np.asarray(before[head]["kernel"]) + np.asarray(before[head]["bias"])[None]
        return np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(32), labels])

    weights = weight if isinstance(weight, dict) else {"aux1": weight, "aux2": weight}
    expected = entropy("classifier") + sum(w * entropy(h) for h, w in weights.items())
    row = next(r for r in run.metrics if r["split"] == "train")
    np.testing.assert_allclose(row["loss"], expected, rtol=1e-5)


def test_lenets_losses_are_equations_8_and_9_of_the_paper():
    distances = np.array([[1.0, 4.0, 0.5], [2.0, 0.1, 3.0]])
    labels = np.array([0, 1])
    right = distances[[0, 1], labels]
    for form, expected in (
        ("mse", right),
        ("discriminative", right + np.log(np.exp(-0.7) + np.exp(-distances).sum(1))),
    ):
        loss = LOSSES["rbf"](form=form, j=0.7)
        found = loss(jnp.asarray(-distances, jnp.float32), jnp.asarray(labels), {})
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_ones_own_module_and_arrays_train_and_are_recorded(tmp_path):
    generator = np.random.default_rng(0)
    labels = np.arange(64) % 4
    images = (labels[:, None, None] * 60 + generator.integers(0, 20, (64, 6, 6))).astype(np.uint8)
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}

    class Own(nn.Module):
        @nn.compact
        def __call__(self, x, *, train=False):
            return nn.Dense(4)(x.reshape(len(x), -1))

    spec = {
        "dataset": {"batch_size": 16},
        "schedule": {**EXPERIMENT["schedule"], "steps": 300, "checkpoint_every": 300},
    }
    run = cnnjax.train(spec, model=Own(), data=arrays, out=tmp_path / "run", devices=one_device())
    assert run.result["top1"] == 1.0
    assert run.spec.model == {"name": "python", "value": repr(Own())}
    assert run.spec.dataset["value"].startswith("arrays-")
    other = {**arrays, "x_train": images + 1}
    with pytest.raises(RunError, match=r"dataset\.value"):
        cnnjax.train(spec, model=Own(), data=other, out=tmp_path / "run", devices=one_device())
    with pytest.raises(SpecError, match="passed from Python; pass it again"):
        _ = training.Run(tmp_path / "run", given_data=run.given_data).variables


def test_per_class_counts_are_those_of_the_result(plain):
    with (plain.path / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(int(r["n"]) for r in rows) == sum(int(r["predicted"]) for r in rows) == 360
    correct = sum(int(r["correct"]) for r in rows)
    np.testing.assert_allclose(correct / 360, plain.result["top1"])


def test_tensorboard_reads_the_same_numbers(plain):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(plain.path / "events"), size_guidance={"tensors": 0})
    events.Reload()
    written = {
        event.step: float(tensor)
        for event in events.Tensors("train/loss")
        for tensor in [np.asarray(event.tensor_proto.float_val or [0])[0]]
    }
    expected = {r["step"]: r["loss"] for r in plain.metrics if r["split"] == "train"}
    assert written.keys() == expected.keys()
    np.testing.assert_allclose([written[s] for s in expected], list(expected.values()), rtol=1e-6)


PROGRAM = """
import sys, pathlib, jax
sys.path.insert(0, sys.argv[1])
jax.config.update("jax_num_cpu_devices", int(sys.argv[3]))
from cnnjax.training.mesh import join_cluster
assert join_cluster() == (sys.argv[3] == "2")
import cnnjax, test_training as t
run = cnnjax.train(t.EXPERIMENT, out=sys.argv[2])
"""


@pytest.mark.slow
def test_two_processes_train_as_one_does(plain, tmp_path):
    import os
    import socket

    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    here = os.path.dirname(__file__)
    base = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    cluster = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, here, str(tmp_path / "two"), "2"],
            env={**base, **cluster, "JAX_PROCESS_ID": str(i)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    output = [p.communicate(timeout=240)[0] for p in both]
    assert [p.returncode for p in both] == [0, 0], output
    two = training.Run(tmp_path / "two")
    assert two.result["n"] == plain.result["n"] == 360
    np.testing.assert_allclose(
        [r["loss"] for r in two.metrics], [r["loss"] for r in plain.metrics], rtol=1e-3
    )
