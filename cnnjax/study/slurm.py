"""A study as SLURM job arrays, with `sbatch` alone: one task is one `cnnjax train`.

What is done is what the run directories say: a task whose run is finished, or is being trained by
another process, ends at once, so submitting twice does no work twice.
"""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cnnjax import atomic
from cnnjax.errors import RunError, SpecError
from cnnjax.study import launches
from cnnjax.study.record import Cell, Study

ARRAY = 1000
"""Tasks of one array: SLURM's default MaxArraySize is 1001, and numbers begin at 0."""

_SCRIPT = """\
#!/bin/bash
# The runs of a study that were not finished when this was written, one task each.
#   sbatch --array=0-{last} {name} 0        # the number is added to that of the task
#SBATCH --job-name="{job}"
#SBATCH --output="{logs}/slurm-%A_%a.log"
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --ntasks=1
set -eu
runs=(
{runs}
)
cd {here}
study={study}
run=${{runs[$((SLURM_ARRAY_TASK_ID + $1))]}}
if [ -e "$study/runs/$run/result.json" ]; then echo "$run: finished before"; exit 0; fi
# The lock is the training's: it is passed on by exec, and is free when the process has ended.
exec 9>>"$study/locks/$run.lock"
if ! flock --wait 2 9; then echo "$run: another process trains it"; exit 0; fi
truncate --size 0 "$study/locks/$run.lock"
now=$(date +%s)
printf '{{"host": "%s", "pid": %d, "started": %d}}\\n' "$(hostname)" $$ "$now" >&9
printf '{{"run": "%s", "launcher": "slurm", "job": "%s", "threads": %d, "host": "%s", "pid": %d,\
 "started": %d, "ended": null, "exit_code": null}}\\n' "$run" \\
  "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID" "$(nproc)" "$(hostname)" $$ "$now" \\
  | flock "$study/locks/launches.lock" tee -a "$study/{launches}" >/dev/null
export JAX_COMPILATION_CACHE_DIR="${{JAX_COMPILATION_CACHE_DIR:-$study/compiled/$(hostname)}}"
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.1
exec {train} "$study/specs/$run.json" --out "$study/runs/$run"
"""


def script(study: Study, todo: Sequence[Cell]) -> Path:
    """Write DIR/slurm/array.sh for the runs of `todo`."""
    here = study.directory.absolute()
    for name in ("slurm", "logs", "locks"):
        (here / name).mkdir(parents=True, exist_ok=True)
    path = here / "slurm" / "array.sh"
    atomic.write(
        path,
        _SCRIPT.format(
            last=min(len(todo), ARRAY) - 1,
            name=shlex.quote(str(path)),
            job=f"cnnjax-{study.experiment}",
            logs=str(here / "logs"),
            runs="\n".join(f"  {c.short}  # {' '.join(c.name.split())}" for c in todo),
            here=shlex.quote(str(Path.cwd())),
            study=shlex.quote(str(here)),
            launches=launches.NAME,
            train=shlex.join([sys.executable, "-m", "cnnjax", "train"]),
        ),
    )
    path.chmod(0o755)
    return path


def submit(study: Study, todo: Sequence[Cell], options: Sequence[str] = ()) -> list[str]:
    """Submit `todo` with `sbatch --array`, and return the numbers of the jobs.

    `options` are passed to sbatch as they are, such as ["--time=2:00:00", "--gres=gpu:1"]. Raises
    RunError where sbatch cannot be run or refuses.
    """
    for option in options:
        if not option.startswith("-"):
            raise SpecError(f"--slurm {option}: expected an option of sbatch, such as --time=60.")
    if not todo:
        return []
    path, jobs = script(study, todo), []
    for first in range(0, len(todo), ARRAY):
        count = min(ARRAY, len(todo) - first)
        command = ["sbatch", "--parsable", f"--array=0-{count - 1}", *options, str(path)]
        try:
            done = subprocess.run([*command, str(first)], capture_output=True, text=True)
        except OSError as error:
            raise RunError(
                f"sbatch: {error.strerror}. The script is written: {path}. Submit it where SLURM"
                " is, or take --launcher pool or print."
            ) from None
        if done.returncode:
            raise RunError(f"sbatch refused: {done.stderr.strip()}\n  {shlex.join(command)}")
        jobs.append(done.stdout.strip().partition(";")[0])
    return jobs
