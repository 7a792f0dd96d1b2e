"""A study from nothing to its end: killed, run by two at once, broken, printed, resumed."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cnnjax
from cnnjax.__main__ import main
from cnnjax.errors import RunError
from cnnjax.study import ablate as ablating
from cnnjax.study import launches, locks
from cnnjax.study.plan import plan
from cnnjax.study.pool import Stopped
from cnnjax.study.record import Study
from cnnjax.study.shares import Share, cores, shares

pytestmark = pytest.mark.slow

# A linear classifier on 8x8 digits; long enough to be stopped in the middle.
EXPERIMENT = '''"""Two learning rates, and one at which the loss overflows."""

model = {"name": "linear"}
dataset = {"name": "digits", "batch_size": 32}
schedule = {"steps": 1500, "optimizer": {"name": "sgd"}, "eval_every": 500,
            "checkpoint_every": 500, "learning_rate": {"name": "constant", "value": 0.5}}
ablation = {"mode": "one_at_a_time", "vary": {"schedule.learning_rate.value": [0.1, 1e38]},
            "seeds": 1}
'''
SLOW = "learning_rate.value=0.1"
BROKEN = "learning_rate.value=1e+38"
FILES = ("metrics.jsonl", "result.json", "per_class.csv")


def plan_here(monkeypatch):
    """Plan in this process, which has JAX already."""

    def planned(source, *, overrides, seeds):
        return plan(source, overrides, seeds)

    monkeypatch.setattr(ablating, "planned", planned)


@pytest.fixture
def planned_here(monkeypatch):
    plan_here(monkeypatch)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "rates.py"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture(scope="module")
def undisturbed(file):
    """A study whose three runs were left alone; one of them has failed."""
    out = file.parent / "undisturbed"
    with pytest.MonkeyPatch.context() as patch:
        plan_here(patch)
        with pytest.raises(RunError) as caught:
            cnnjax.ablate(file, out=out, processes=2, progress=False)
    return Study.read(out), str(caught.value)


def going_on(out, processes):
    """A process that trains what is left of a study, as the command does when it has planned."""
    command = [sys.executable, "-m", "cnnjax", "ablate", str(out), "--quiet"]
    return subprocess.Popen(
        [*command, "--processes", str(processes)], stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def alive(pid):
    """Whether a process runs: one that has ended but was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def begun(study):
    """The runs that have logged a step."""
    paths = {cell: study.path(cell) / "metrics.jsonl" for cell in study.runs}
    return [cell for cell, path in paths.items() if path.exists() and path.read_text()]


def test_a_study_killed_and_gone_on_with_by_two_equals_one_left_alone(
    file, undisturbed, planned_here
):
    whole, _ = undisturbed
    out = file.parent / "killed"
    vary = "ablation.vary={'schedule.learning_rate.value': [0.1]}"
    study = ablating.prepare(file, out=out, set=[vary])
    first = going_on(out, 2)
    wait_for(lambda: begun(study))
    first.kill()
    first.communicate()
    children = [row["pid"] for row in launches.read(out)]
    assert len(children) == 2
    wait_for(lambda: not any(map(alive, children)))
    wait_for(lambda: "running" not in study.states().values())
    stopped = begun(study)
    assert {study.states()[cell] for cell in stopped} == {"unfinished"}

    both = [going_on(out, 1) for _ in range(2)]
    for process in both:
        said = process.communicate(timeout=120)[1]
        assert process.returncode == 0, said
    rows = launches.read(out)[2:]
    assert sorted(row["run"] for row in rows) == sorted(cell.short for cell in study.runs)
    assert {row["exit_code"] for row in rows} == {0}
    for cell in study.runs:
        sessions = json.loads((study.path(cell) / "env.json").read_text())["sessions"]
        assert len(sessions) == 2 or cell not in stopped
        for name in FILES:
            there = whole.directory / cell.directory / name
            assert (study.path(cell) / name).read_bytes() == there.read_bytes(), name


def test_a_run_that_fails_is_named_and_the_others_are_done(undisturbed):
    study, said = undisturbed
    assert {c.arm: state for c, state in study.states().items()} == {
        "base": "finished", SLOW: "finished", BROKEN: "broken",
    }  # fmt: skip
    assert f"1 of 3 runs failed.\n  {BROKEN}, seed 0: " in said
    assert "Try them again with --retry." in said
    log = study.log_path(study.runs[2]).read_text()
    assert "the loss was not finite at step" in log


def test_what_is_finished_is_left_and_what_is_broken_waits_for_retry(
    file, undisturbed, planned_here
):
    study, _ = undisturbed
    before = launches.read(study.directory)
    with pytest.raises(RunError, match="They failed before and were left alone"):
        cnnjax.ablate(file, out=study.directory)
    assert launches.read(study.directory) == before
    assert ablating.left(study) == ([study.runs[2]], [])
    assert ablating.left(study, retry=True)[1] == [study.runs[2]]


def test_launches_say_how_runs_were_grouped(undisturbed):
    study, _ = undisturbed
    rows = launches.read(study.directory)
    assert [row["run"] for row in rows] == [cell.short for cell in study.runs]
    share = max(1, len(cores()) // 2)
    for row in rows:
        assert (row["launcher"], row["processes"], row["threads"]) == ("pool", 2, share)
        assert row["started"] < row["ended"]
    assert [row["slot"] for row in rows[:2]] == [0, 1]
    assert [row["exit_code"] for row in rows] == [0, 0, 1]


def test_more_seeds_add_runs_and_the_study_keeps_its_directory(file, tmp_path, monkeypatch,
                                                               planned_here):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    two = ablating.prepare(file, seeds=2)
    four = ablating.prepare(
        file, seeds=4, set=["ablation.vary={'model.initializer': ['lecun_uniform']}"]
    )
    assert two.directory == four.directory
    assert two.directory.name == f"rates-{two.digest[:8]}"
    base = [c for c in four.runs if c.arm == "base"]
    assert [c for c in two.runs if c.arm == "base"] == base[:2]
    assert Study.read(two.directory) == four
    for cell in four.runs:
        spec = cnnjax.load(four.spec_path(cell))
        assert (spec.digest, spec.name, spec.ablation) == (cell.digest, "rates", None)


def test_a_directory_of_another_study_is_refused_with_the_difference(
    file, undisturbed, tmp_path, planned_here
):
    study, _ = undisturbed
    with pytest.raises(RunError) as caught:
        ablating.prepare(file, out=study.directory, set=["schedule.steps=5", "ablation.mode=grid"])
    assert "ablation.mode\n    - 'one_at_a_time'\n    + 'grid'" in str(caught.value)
    assert "schedule.steps\n    - 1500\n    + 5" in str(caught.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is not empty and holds no"):
        ablating.prepare(file, out=tmp_path)


def test_a_lock_ends_with_its_process(tmp_path):
    path = tmp_path / "locks" / "a.lock"
    program = (
        "import sys, pathlib, time; from cnnjax.study import locks\n"
        "held = locks.take(pathlib.Path(sys.argv[1])); print('taken', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"taken\n"
    assert locks.take(path) is None
    assert locks.holder(path)["pid"] == other.pid
    other.kill()
    other.communicate()
    assert locks.holder(path) is None
    with locks.take(path):
        assert locks.holder(path)["pid"] == os.getpid()


def test_cores_are_shared_out_and_a_run_keeps_its_number_of_threads(monkeypatch):
    monkeypatch.setattr("cnnjax.study.shares.cores", lambda: list(range(8)))
    monkeypatch.setattr("cnnjax.study.shares.accelerators", lambda: [])
    assert [s.cores for s in shares(2, 9)] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert [s.cores for s in shares(None, 4)] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert len(shares(None, 100)) == 8
    assert Share(1, (4, 5)).wider(1) == (4,)
    assert Share(1, (4, 5)).wider(4) == (4, 5, 0, 1)
    monkeypatch.setattr("cnnjax.study.shares.accelerators", lambda: ["0", "1"])
    assert [s.device for s in shares(None, 9)] == ["0", "1"]
    assert shares(3, 9)[0].environment() == {
        "CUDA_VISIBLE_DEVICES": "0", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45",
    }  # fmt: skip


def test_a_signal_stops_the_runs_and_the_study(file, tmp_path, planned_here):
    ablating.prepare(file, out=tmp_path / "s")
    process = going_on(tmp_path / "s", 1)
    wait_for(lambda: launches.read(tmp_path / "s"))
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM, said
    assert f"{Stopped.__name__}: {tmp_path}/s: stopped by SIGTERM; the runs saved their" in said
    (row,) = launches.read(tmp_path / "s")
    assert row["exit_code"] in launches.STOPPED
    assert not alive(row["pid"])


def test_the_commands_are_those_of_the_runs_that_are_left(file, tmp_path, capsys, planned_here):
    out = tmp_path / "a study"
    assert main(["ablate", str(file), "--out", str(out), "--launcher", "print"]) == 0
    study = Study.read(out)
    done = study.path(study.runs[0])
    done.mkdir(parents=True)
    (done / "result.json").write_text("{}")
    printed = capsys.readouterr().out.splitlines()
    assert [shlex.split(line)[1:] for line in printed] == [
        ["-m", "cnnjax", "train", str(study.spec_path(c)), "--out", str(study.path(c))]
        for c in study.runs
    ]
    assert main(["ablate", str(file), "--out", str(out), "--launcher", "print", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == printed[1:]


def test_a_slurm_task_leaves_alone_what_is_finished_or_running(file, tmp_path, planned_here):
    from cnnjax.study import slurm

    study = ablating.prepare(file, out=tmp_path / "a study")
    script = slurm.script(study, study.runs)
    done = study.path(study.runs[1])
    done.mkdir(parents=True)
    (done / "result.json").write_text("{}")

    def task(number):
        return subprocess.run(
            ["bash", str(script), "1"], capture_output=True, text=True,
            env=os.environ | {"SLURM_ARRAY_TASK_ID": str(number)},
        )  # fmt: skip

    assert task(0).stdout == f"{study.runs[1].short}: finished before\n"
    with locks.take(study.lock_path(study.runs[2])):
        found = task(1)
        assert found.stdout == f"{study.runs[2].short}: another process trains it\n", found.stderr
    assert launches.read(study.directory) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--launcher", "slrum"], "launcher: unknown name 'slrum'. Did you mean 'slurm'?"),
        (["--launcher", "slurm", "--slurm", "time=5"], "expected an option of sbatch, such as"),
        (["--set", "ablation.mode=gird"], "ablation.mode: expected one of 'grid',"),
        (["--set", "ablation.seeds=none"], "ablation.seeds: expected an integer >= 1"),
    ],
)
def test_wrong_options_are_said_clearly(arguments, said, file, tmp_path, capsys, planned_here):
    assert main(["ablate", str(file), "--out", str(tmp_path / "s"), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_errors_of_a_plan_come_back_from_its_process(file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["ablate", "shortcutt"]) == 2
    assert "shortcutt: no such experiment file. Did you mean 'shortcut'?" in capsys.readouterr().err
    assert main(["ablate", str(file), "--set", "ablation.vary={'model.deph': [3]}"]) == 2
    assert f"SpecError: {file}: arm 'deph=3': model: unknown key 'deph'." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_dry_run_measures_a_short_run_and_leaves_nothing(file, tmp_path, capsys, monkeypatch,
                                                           planned_here):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["ablate", str(file), "--dry-run", "--json", "--seeds", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["todo"], [arm["params"] for arm in found["arms"]]) == (6, [650] * 3)
    each = [arm["seconds"] for arm in found["arms"]]
    total = found["estimate"]["seconds"] * found["processes"]
    assert sum(each) < total < 2 * sum(each)  # the second seeds do not compile
    assert "training steps of 'base'" in found["estimate"]["from"]
    assert not list(tmp_path.iterdir())
