"""How long a user waits: the help, the import, the first training step of LeNet-5.

    python tests/benchmarks/start.py [--rounds 3]

Seconds from the start of a process: until `cnnjax --help` and `import cnnjax` have ended, and until
the first row of training is in metrics.jsonl, with an empty cache of compiled programs and with
that of the run before. Medians.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

TRAIN = [
    sys.executable, "-m", "cnnjax", "train", "lenet5_fashion_mnist_12k",
    "--set", "schedule.steps=200", "--set", "schedule.epochs=None",
]  # fmt: skip
WHOLE = {
    "cnnjax --help": [sys.executable, "-m", "cnnjax", "--help"],
    "import cnnjax": [sys.executable, "-c", "import cnnjax"],
}


def whole(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def first_row(out: Path, cache: Path) -> float:
    environ = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    start = time.perf_counter()
    process = subprocess.Popen(
        [*TRAIN, "--out", str(out)], env=environ,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    rows = out / "metrics.jsonl"
    while not (rows.exists() and rows.stat().st_size):
        if process.poll() is not None:
            raise RuntimeError("the training ended before its first step")
        time.sleep(0.01)
    seconds = time.perf_counter() - start
    process.wait()  # to its end, so that every program is in the cache
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    for turn in range(options.rounds):
        for name, command in WHOLE.items():
            found.setdefault(name, []).append(whole(command))
        with tempfile.TemporaryDirectory() as place:
            for name in ("first step, empty cache", "first step, warm cache"):
                seconds = first_row(Path(place) / f"{name}-{turn}", Path(place) / "cache")
                found.setdefault(name, []).append(seconds)
    table = Table("until", "seconds", "least to most")
    for name, seconds in found.items():
        table.add_row(
            name, f"{statistics.median(seconds):.2f}", f"{min(seconds):.2f} to {max(seconds):.2f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
