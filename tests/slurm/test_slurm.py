"""A study as a job array of a real SLURM: requeued in the middle, submitted again, compared."""

import json
import subprocess
import sys
import time

from cnnjax.study import launches
from cnnjax.study.record import Study

EXPERIMENT = '''"""Two learning rates, long enough to be requeued."""

model = {"name": "linear"}
dataset = {"name": "digits", "batch_size": 32}
schedule = {"steps": 20_000, "optimizer": {"name": "sgd"}, "eval_every": 5_000,
            "checkpoint_every": 5_000, "learning_rate": {"name": "constant", "value": 0.5}}
ablation = {"mode": "one_at_a_time", "vary": {"schedule.learning_rate.value": [0.1]}, "seeds": 1}
'''
FILES = ("metrics.jsonl", "result.json", "per_class.csv")


def ablate(cluster, file, out, *options):
    command = [sys.executable, "-m", "cnnjax", "ablate", str(file), "--out", str(out), "--json"]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, env=cluster.environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def wait_for(condition, what, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def sessions(study, cell):
    path = study.path(cell) / "env.json"
    return len(json.loads(path.read_text())["sessions"]) if path.exists() else 0


def test_a_requeued_array_goes_on_and_equals_runs_left_alone(cluster, tmp_path):
    file, out = tmp_path / "rates.py", tmp_path / "a study"
    file.write_text(EXPERIMENT)
    options = ("--launcher", "slurm", "--slurm=--partition=main", "--slurm=--cpus-per-task=1")
    submitted = ablate(cluster, file, out, *options)
    study = Study.read(out)
    (job,) = submitted["jobs"]
    cell = study.runs[0]
    metrics = study.path(cell) / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text(), "the first run did not start")

    cluster.client("scontrol", "requeue", f"{job}_0")
    wait_for(lambda: study.states()[cell] == "unfinished", "the first run did not stop")
    assert (study.path(cell) / "checkpoints").is_dir()
    # slurmd refuses what is to start in the second in which it stopped the job.
    time.sleep(3)

    def begun_again():
        # A requeued job waits for two minutes; not here.
        cluster.client("scontrol", "update", f"JobId={job}_0", "StartTime=now", check=False)
        return sessions(study, cell) == 2

    wait_for(begun_again, "the first run did not go on")
    wait_for(lambda: all(map(study.finished, study.runs)), "the array did not end")
    assert [sessions(study, c) for c in study.runs] == [2, 1]
    rows = launches.read(out)
    assert [r["run"] for r in rows].count(cell.short) == 2
    assert {r["launcher"] for r in rows} == {"slurm"}
    assert {r["job"] for r in rows} == {f"{job}_0", f"{job}_1"}

    alone = tmp_path / "alone"
    for one in study.runs:
        command = [sys.executable, "-m", "cnnjax", "train", str(study.spec_path(one)), "--quiet"]
        subprocess.run([*command, "--out", str(alone / one.short)], check=True)
        for name in FILES:
            theirs = (study.path(one) / name).read_bytes()
            assert theirs == (alone / one.short / name).read_bytes(), name

    again = ablate(cluster, file, out, *options)
    assert again["jobs"] == []
    more = ablate(cluster, file, out, *options, "--seeds", "2")
    (job,) = more["jobs"]
    queued = cluster.client("squeue", "-h", "--array", "-o", "%i", "-j", job).split()
    assert set(queued) <= {f"{job}_0", f"{job}_1"}
    study = Study.read(out)
    wait_for(lambda: all(map(study.finished, study.runs)), "the new seeds did not end")
    assert [sessions(study, c) for c in study.runs] == [2, 1, 1, 1]
