"""What a study gains over its runs one by one: seeds as one study, one and two at once.

    python tests/benchmarks/study_processes.py [--seeds 8] [--steps 300] [--networks lenet5 ..]

The same runs three ways, everything counted from the start of the first process to the end of the
last: `cnnjax train` once for each seed, one after another, with all cores; `cnnjax ablate` with one
process at a time; and with two, each on its share of the cores. A study plans first, which is
counted too, and its seeds share their compiled programs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

NETWORKS = {
    "lenet5": {"name": "lenet5", "variant": "modern"},
    "resnet": {"name": "resnet_cifar", "depth": 14, "width": 0.5, "stem": "imagenet"},
}
TRAIN = [sys.executable, "-m", "cnnjax", "train"]
ABLATE = [sys.executable, "-m", "cnnjax", "ablate"]


def experiment(model: dict, steps: int, seeds: int) -> dict:
    return {
        "model": model,
        "dataset": {"name": "fashion_mnist_12k", "batch_size": 64, "normalize": "fashion_mnist"},
        "schedule": {
            "steps": steps,
            "optimizer": {"name": "sgd", "momentum": 0.9},
            "learning_rate": {"name": "cosine", "value": 0.05},
        },
        "ablation": {"mode": "arms", "arms": {"base": {}}, "seeds": seeds},
    }


def seconds(*commands: list[str]) -> float:
    """Wall time of commands, one after another; each compiles for itself, as a first run does."""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    start = time.perf_counter()
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - start


def measured(name: str, steps: int, seeds: int, folder: Path) -> list[tuple[str, float]]:
    """Seconds of each way, in the order in which they were run."""
    file = folder / f"{name}.json"
    file.write_text(json.dumps(experiment(NETWORKS[name], steps, seeds)))
    singles = [
        [*TRAIN, str(file), "--quiet", "--set", f"schedule.seed={seed}",
         "--out", str(folder / name / f"single{seed}")]
        for seed in range(seeds)
    ]  # fmt: skip
    rows = [("cnnjax train, one by one", seconds(*singles))]
    for at_once in (1, 2):
        out = folder / name / f"study{at_once}"
        options = ["--quiet", "--processes", str(at_once), "--out", str(out)]
        rows.append((f"cnnjax ablate, {at_once} at once", seconds([*ABLATE, str(file), *options])))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    given = parser.parse_args()
    table = Table(title=f"{given.seeds} seeds of {given.steps} steps, {os.cpu_count()} cores")
    table.add_column("network")
    table.add_column("how")
    table.add_column("seconds", justify="right")
    table.add_column("of one by one", justify="right")
    with tempfile.TemporaryDirectory() as folder:
        for name in given.networks:
            rows = measured(name, given.steps, given.seeds, Path(folder))
            for how, took in rows:
                table.add_row(name, how, f"{took:.1f}", f"{took / rows[0][1]:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
