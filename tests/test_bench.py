"""`cnnjax bench`, and what the command line sets up before JAX is loaded."""

import gc
import json
import os
import platform
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest

from cnnjax import __main__ as command_line
from cnnjax import bench, machine, terminal
from cnnjax.bench import profile
from cnnjax.errors import SpecError
from cnnjax.training import compiled

PROGRAM = """HloModule jit_step

%fused_tanh (p: f32[2,4]) -> f32[2,4] {
  %p = f32[2,4]{1,0} parameter(0)
  ROOT %t = f32[2,4]{1,0} tanh(f32[2,4]{1,0} %p)
}

%fused_product (p: f32[2,4], q: f32[4,3]) -> f32[2,3] {
  %p.1 = f32[2,4]{1,0} parameter(0)
  %q = f32[4,3]{1,0} parameter(1)
  %d = f32[2,3]{1,0} dot(%p.1, %q), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %m = f32[2,3]{1,0} maximum(f32[2,3]{1,0} %d, f32[2,3]{1,0} %d)
}

%fused_move (p: f32[2,4]) -> f32[4,2] {
  %p.2 = f32[2,4]{1,0} parameter(0)
  ROOT %c = f32[4,2]{0,1} transpose(f32[2,4]{1,0} %p.2), dimensions={1,0}
}

ENTRY %main (x: f32[2,4], w: f32[4,3]) -> f32[2,3] {
  %x = f32[2,4]{1,0} parameter(0)
  %w = f32[4,3]{1,0} parameter(1)
  %fusion.1 = f32[2,4]{1,0} fusion(f32[2,4]{1,0} %x), kind=kLoop, calls=%fused_tanh
  %fusion.2 = f32[4,2]{0,1} fusion(f32[2,4]{1,0} %x), kind=kLoop, calls=%fused_move
  %conv.3 = f32[1,2,3]{2,1,0} convolution(%a, %b), dim_labels=0bf_0io->0bf
  %while.4 = (s32[], f32[2,4]{1,0}) while((s32[], f32[2,4]{1,0}) %t), condition=%c, body=%fused_tanh
  ROOT %ynn_fusion = f32[2,3]{1,0} fusion(%fusion.1, %w), kind=kCustom, calls=%fused_product
}
"""


def test_instructions_are_counted_as_what_is_fused_into_them():
    kinds = profile.kinds_of(PROGRAM)
    wanted = {
        "fusion.1": "elementwise",
        "fusion.2": "layout",
        "conv.3": "convolution",
        "while.4": profile.LOOP,
        "ynn_fusion": "matrix product",
    }
    assert {name: kinds[name] for name in wanted} == wanted


PROFILED = """
import json, time
import jax, jax.numpy as jnp
from cnnjax import ops
from cnnjax.bench.profile import breakdown

x, kernel = jnp.ones((128, 32, 32, 16)), jnp.ones((5, 5, 16, 16))
compiled = jax.jit(lambda x, k: 2 * jax.nn.relu(ops.conv(x, k))).lower(x, kernel).compile()

def step(steps):
    for _ in range(steps):
        jax.block_until_ready(compiled(x, kernel))

def seconds():
    start = time.perf_counter()
    step(1)
    return time.perf_counter() - start

step(1)
found = {r["kind"]: r["ms"] for r in breakdown(step, compiled.as_text())}
print(json.dumps({**found, "step": 1000 * min(seconds() for _ in range(9))}))
"""


def test_what_other_threads_do_counts_for_the_instruction_that_asked():
    # On one device XLA hands such a convolution on in 0.1 ms of the step's 15; with the eight of
    # this process it would wait for it. How long the maxima take beside it is the machine's load.
    environ = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", PROFILED], env=environ, capture_output=True, text=True, check=True
    )
    ms = json.loads(done.stdout)
    assert ms["convolution"] > 0.5 * ms["step"]
    assert ms["elementwise"] > 0


def test_what_runs_in_a_loop_is_counted_once():
    def loop(x):
        return jax.lax.fori_loop(0, 20, lambda _, x: x @ x / 300, x)

    x = jnp.ones((300, 300))
    program = jax.jit(loop).lower(x).compile()

    def step(steps):
        for _ in range(steps):
            jax.block_until_ready(program(x))

    step(1)
    kinds = [row["kind"] for row in profile.breakdown(step, program.as_text())]
    assert "matrix product" in kinds
    assert profile.LOOP not in kinds


def test_threads_that_run_at_once_share_the_time():
    """In milliseconds: thread 1 runs a product and hands half of it on; 2 is busy until 3."""
    moments = [
        (0, 0, 0, 3, "StopRegion", "9"),  # of a task that began before the profile
        (0, 1, -6, 1, "begins", "product"),
        (0, 1, -3, 2, "begins", "copy"),
        (1, 2, 0, 1, "Record", "7"),
        (3, 0, 3, 2, "ends", "copy"),
        (3, 2, 0, 2, "StartRegion", "7"),
        (5, 2, 0, 2, "StopRegion", "7"),
        (6, 0, 6, 1, "ends", "product"),
        (6, 1, -2, 1, "begins", "call"),
        (6, 1, -1, 1, "begins", "within"),
        (7, 0, 1, 1, "ends", "within"),
        (8, 0, 2, 1, "ends", "call"),
    ]
    found = profile.milliseconds(
        [
            profile.Moment(1e6 * when, rank, 1e6 * length, *rest)
            for when, rank, length, *rest in moments
        ]
    )
    assert found == pytest.approx({"product": 4.5, "copy": 1.5, "within": 1, "call": 1})


def test_a_breakdown_is_no_longer_than_its_steps():
    x = jnp.ones((600, 600))
    program = jax.jit(lambda x: [(x + i) @ x for i in range(8)]).lower(x).compile()
    taken = []

    def step(steps):
        start = time.perf_counter()
        for _ in range(steps):
            jax.block_until_ready(program(x))
        taken.append(1000 * (time.perf_counter() - start) / steps)

    step(1)
    rows = profile.breakdown(step, program.as_text())
    assert 0.3 * taken[-1] < sum(row["ms"] for row in rows) < 1.1 * taken[-1]


def test_a_program_that_needs_much_memory_is_over_when_it_returns(monkeypatch):
    monkeypatch.setattr(compiled, "LARGE", 1)
    x = jnp.ones((400, 400))
    lowered = jax.jit(lambda x: jax.lax.fori_loop(0, 200, lambda _, x: x @ x / 400, x)).lower(x)
    program = compiled.Program(lowered.compile())
    assert program.temporary_bytes >= x.nbytes
    assert program(x).is_ready()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(bench, "WINDOWS", 2)
    monkeypatch.setattr(bench, "matmul_flops", lambda seconds: 1e9)


def test_a_model_is_timed_by_name(quick, capsys):
    code = command_line.main(["bench", "linear", "--input", "8x8x1", "--batch", "16", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (found["params"], found["macs"]) == (650, 640)
    for key in ("images_per_s", "eval_images_per_s", "eval_begin_s", "compile_s"):
        assert found[key] > 0
    assert found["cached_compile_s"] > 0
    assert found["images_per_s"] >= found["median_images_per_s"]
    # 640 multiply-adds are 1,280 operations, and going back is twice going forward.
    assert found["fraction_of_peak"] == pytest.approx(3 * 1280 * found["images_per_s"] / 1e9)
    assert sum(row["share"] for row in found["breakdown"]) == pytest.approx(1)


def test_an_experiment_keeps_its_own_loss_and_batch(quick, capsys):
    code = command_line.main(
        ["bench", "pattern1_fashion_mnist_12k", "--set", "dataset.batch_size=32"]
    )
    shown = capsys.readouterr().out
    assert code == 0
    assert "batch 32" in shown
    assert "images/s" in shown


def test_it_says_what_goes_on(quick):
    said = []
    bench.bench({"name": "linear"}, input_shape=(8, 8, 1), seconds=0.01, report=said.append)
    assert said[:2] == ["preparing", "compiling"]
    assert "timing, window 2 of 2" in said
    assert said[-1] == "profiling"


@pytest.mark.parametrize("watched", [True, False])
def test_a_terminal_alone_shows_what_goes_on(watched, capsys, monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    if watched:
        monkeypatch.setenv("FORCE_COLOR", "1")
    with terminal.working() as report:
        report("compiling")
        time.sleep(1)  # it is drawn twice a second
    assert ("compiling" in capsys.readouterr().err) == watched


@pytest.mark.parametrize(
    ("size", "words"), [("8x8x1", "images 8x8x1"), ("8x8", "sequences of 8 places with 8 channels")]
)
def test_two_numbers_are_no_image(size, words, quick, capsys):
    assert command_line.main(["bench", "linear", "--input", size, "--batch", "16"]) == 0
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("mebibytes", "keeps", "hinted"),
    [(64, False, True), (64, True, False), (64, None, False), (16, False, False)],
)
def test_large_memory_that_is_given_back_has_a_hint(mebibytes, keeps, hinted, quick, capsys):
    found = bench.bench({"name": "linear"}, input_shape=(8, 8, 1), batch_size=16, seconds=0.01)
    assert found["keeps_memory"] == machine.keeps_memory()
    terminal.speed(found | {"temporary_bytes": mebibytes << 20, "keeps_memory": keeps})
    assert ("CNNJAX_MALLOC=huge" in capsys.readouterr().out) == hinted


@pytest.mark.skipif(machine.keeps_memory({}) is None, reason="the setting is one of glibc 2.35's")
def test_memory_is_kept_where_it_was_asked_for():
    assert machine.keeps_memory({"CNNJAX_MALLOC": "huge"}) is True
    assert machine.keeps_memory({}) is False


def test_a_mistyped_model_is_answered_with_the_nearest(capsys):
    assert command_line.main(["bench", "lenet55"]) == 2
    assert "Did you mean 'lenet5'?" in capsys.readouterr().err


def test_programs_are_kept_where_the_user_says_or_in_their_cache(tmp_path):
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    machine.set_up(environ)
    assert environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "cnnjax" / "xla")
    environ = {"JAX_COMPILATION_CACHE_DIR": "mine"}
    machine.set_up(environ)
    assert environ["JAX_COMPILATION_CACHE_DIR"] == "mine"


def test_a_mistyped_policy_for_memory_is_refused():
    with pytest.raises(SpecError, match=r"CNNJAX_MALLOC: unknown policy 'hugh'.*'huge'"):
        machine.take_memory({"CNNJAX_MALLOC": "hugh"})


@pytest.mark.skipif(machine.keeps_memory({}) is None, reason="the setting is one of glibc 2.35's")
def test_a_command_with_huge_pages_begins_anew_and_keeps_what_the_user_set():
    mine = "glibc.malloc.perturb=0:glibc.malloc.trim_threshold=99"
    environ = os.environ | {"CNNJAX_MALLOC": "huge", "GLIBC_TUNABLES": mine}
    script = """
import os, sys
from cnnjax import machine
machine.take_memory()
print(os.environ["GLIBC_TUNABLES"], sys.argv[1:], os.getpid())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, "a b", "c"], env=environ, stdout=subprocess.PIPE, text=True
    )
    said, _ = process.communicate()
    added = f"glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold={2**40}"
    assert said.strip() == f"{mine}:{added} ['a b', 'c'] {process.pid}"


@pytest.mark.parametrize("policy", ["huge", "default"])
def test_the_main_thread_runs_programs_where_it_is_to_keep_their_memory(policy):
    """What it runs itself is there when the call returns."""
    script = """
from cnnjax import machine
machine.run_programs_here()
import jax
x = jax.numpy.ones((2000, 2000))
program = jax.jit(lambda x: x @ x @ x @ x).lower(x).compile()
print(program(x).is_ready())
"""
    said = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"CNNJAX_MALLOC": policy},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert said.strip() == str(policy == "huge")


def test_garbage_is_looked_for_rarely_but_still_looked_for():
    before = gc.get_threshold()
    try:
        machine.collect_rarely()
        assert gc.isenabled()
        assert 10_000 < gc.get_threshold()[0] < 1_000_000
    finally:
        gc.set_threshold(*before)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have no such call")
def test_freed_memory_goes_back_to_the_system():
    """150 MiB in blocks that glibc keeps, for another still lies above them."""
    script = """
import ctypes
from pathlib import Path
from cnnjax import machine
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
pages = lambda: int(Path("/proc/self/statm").read_text().split()[1])
blocks = [libc.malloc(100_000) for _ in range(1500)]
for block in blocks:
    ctypes.memset(block, 1, 100_000)
above = libc.malloc(100_000)
for block in blocks:
    libc.free(block)
held = pages()
machine.give_back_memory()
print(4096 * (held - pages()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 100_000_000


@pytest.mark.slow
def test_a_second_command_reads_what_the_first_compiled(tmp_path):
    """The cache is on without being asked for, in a process of its own."""
    spec = {
        "model": {"name": "linear"},
        "dataset": {"name": "digits", "batch_size": 32},
        "schedule": {
            "steps": 2,
            "optimizer": {"name": "sgd"},
            "learning_rate": {"name": "constant", "value": 0.1},
        },
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "cnnjax", "train", str(tmp_path / "spec.json")]
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "CNNJAX_MALLOC": "huge"}
    environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    held = []
    for run in ("a", "b"):
        subprocess.run(
            [*command, "--out", str(tmp_path / run)], env=environ, check=True, capture_output=True
        )
        held.append({p.name for p in (tmp_path / "cnnjax" / "xla").iterdir()})
    assert held[0]
    assert {n for n in held[0] if n.endswith("-cache")} == {
        n for n in held[1] if n.endswith("-cache")
    }
    metrics = [(tmp_path / run / "metrics.jsonl").read_text() for run in ("a", "b")]
    assert metrics[0] == metrics[1]
