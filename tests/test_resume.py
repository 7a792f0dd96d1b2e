"""A run that was stopped, however, equals the run that was not: bit for bit."""

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax import training
from cnnjax.data import order
from cnnjax.errors import RunError
from cnnjax.training import onednn
from cnnjax.training.checkpoint import Checkpoints
from cnnjax.training.compiled import Parts
from cnnjax.training.mesh import data_mesh
from cnnjax.training.progress import Silent

# Everything that has a state: batch statistics, dropout, augmentation, momentum, EMA, a split that
# does not divide into batches, rows of the log for three steps each, inside which there are
# checkpoints. Long enough for oneDNN to run the convolution where it is there.
EXPERIMENT = {
    "model": {"name": "convnet", "stages": [[4, "pool"]], "dense": [8], "norm": "batch",
              "dropout": 0.2},
    "dataset": {"name": "digits", "batch_size": 40, "augment": [{"name": "shift", "max": 1}]},
    "schedule": {
        "steps": 620, "optimizer": {"name": "sgd", "momentum": 0.9},
        "learning_rate": {"name": "cosine", "value": 0.05}, "ema": 0.9,
        "eval_every": 170, "checkpoint_every": 38,
    },
}  # fmt: skip
KILLED_AT = 160


class Stops(Silent):
    """Sends this process a signal when the row of a step is logged."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def train(self, step, row, images_per_s):
        if step >= self.step:
            os.kill(os.getpid(), self.number)


def one_device():
    return jax.devices()[:1]


def trained(out: Path, **options):
    spec = training.load(EXPERIMENT)
    return training.train(spec, out=out, devices=one_device(), **options)


@functools.cache
def empty_state():
    """A state of the right shapes, for checkpoints to be read into."""
    x = training.resolve(training.load(EXPERIMENT))
    return Parts.of(x, data_mesh(one_device())).state()


@functools.cache
def final_state(out: Path):
    checkpoints = Checkpoints(out / "checkpoints")
    try:
        return checkpoints.restore(empty_state(), step=EXPERIMENT["schedule"]["steps"])
    finally:
        checkpoints.close()


def assert_same_run(a: Path, b: Path) -> None:
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(final_state(a)),
        jax.tree.leaves(final_state(b)),
        strict=True,
    ):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes(), jax.tree_util.keystr(path)
    for name in ("metrics.jsonl", "result.json", "per_class.csv"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    trained(out)
    return out


def test_a_run_killed_by_sigterm_continues_bit_for_bit(undisturbed, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(training.Interrupted, match=r"SIGTERM at step \d+ of 620"):
        trained(out, reporter=Stops(KILLED_AT, signal.SIGTERM))
    assert not (out / "result.json").exists()
    stopped = Checkpoints(out / "checkpoints")
    assert stopped.steps()[-1] % 38, "the signal came between two checkpoints"
    stopped.close()
    trained(out)
    assert_same_run(undisturbed, out)
    sessions = json.loads((out / "env.json").read_text())["sessions"]
    by = "oneDNN" if onednn.runs_convolutions(EXPERIMENT["schedule"]["steps"]) else "XLA"
    assert [s["convolutions"] for s in sessions] == [by, by]


def test_a_run_killed_by_sigkill_continues_bit_for_bit(undisturbed, tmp_path):
    out = tmp_path / "run"
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import jax, signal, pathlib\n"
        "jax.config.update('jax_num_cpu_devices', 8)\n"
        "import test_resume as t\n"
        "t.trained(pathlib.Path(sys.argv[2]), reporter=t.Stops(t.KILLED_AT, signal.SIGKILL))"
    )
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", program, here, str(out)], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 161, "split": "tr')  # a row the kill cut short
    trained(out)
    assert_same_run(undisturbed, out)


def test_a_flipped_byte_is_noticed_and_the_checkpoint_before_it_taken(undisturbed, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(training.Interrupted):
        trained(out, reporter=Stops(KILLED_AT, signal.SIGTERM))
    newest = max((out / "checkpoints" / "steps").iterdir(), key=lambda p: int(p.name))
    largest = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.warns(UserWarning, match=f"checkpoint {newest.name} is left out"):
        trained(out)
    assert_same_run(undisturbed, out)


def test_a_finished_run_is_left_as_it_is(undisturbed):
    before = {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*") if p.is_file()}
    assert trained(undisturbed) is None
    after = {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*") if p.is_file()}
    assert before == after


def test_a_directory_of_another_run_is_refused_with_the_difference(undisturbed):
    with pytest.raises(RunError) as caught:
        cnnjax.train(EXPERIMENT, set=["schedule.seed=3"], out=undisturbed, devices=one_device())
    assert "schedule.seed\n    - 0\n    + 3" in str(caught.value)


def test_the_order_of_data_is_that_of_the_definition(undisturbed):
    # Fisher-Yates by another hand is not needed: what must hold is that every epoch has every
    # example once, that epochs differ, and that a later start gives the same stream.
    n, batch = 1437, 40
    stream = order.indices(0, n, 0, 3 * n)
    for epoch in range(3):
        assert sorted(stream[epoch * n : (epoch + 1) * n]) == list(range(n))
    assert (stream[:n] != stream[n : 2 * n]).any()
    later = order.indices(0, n, KILLED_AT % 50 * batch, KILLED_AT % 50 * batch + batch)
    assert (later == stream[KILLED_AT % 50 * batch :][:batch]).all()


def test_metrics_hold_no_clock_and_one_row_per_step_and_split(undisturbed):
    rows = [json.loads(line) for line in (undisturbed / "metrics.jsonl").read_text().splitlines()]
    keys = {key for row in rows for key in row}
    assert keys == {"step", "split", "loss", "top1", "top5", "n", "learning_rate"}
    assert len({(r["step"], r["split"]) for r in rows}) == len(rows)
    assert [r["step"] for r in rows if r["split"] == "test"] == [170, 340, 510, 620]
    batches = [r["n"] // 40 for r in rows if r["split"] == "train"]
    assert batches == [3] * 206 + [2], "a row of the log for every three steps"
