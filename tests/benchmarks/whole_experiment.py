"""A whole experiment beside the same in PyTorch and in Keras: process start to result, in seconds.

    python tests/benchmarks/whole_experiment.py --peer PYTHON --idx FOLDER --data-dir FOLDER

LeNet-5 with ReLU and max pooling, Fashion-MNIST, batch 128, a test after each epoch; by turns. The
peer has torch, Keras and JAX; --idx is the four IDX files, from which `cnnjax data prepare
fashion_mnist` made and decoded what is under --data-dir: all of them read arrays. `--peers torch`
leaves Keras out. Ours compiles anew each time, and writes its checkpoints and curves.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def timed(command: list[str], **environ: str) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:200]}\n{done.stderr}")
    return time.perf_counter() - start, done.stdout


def ours(options: Any, out: Path) -> tuple[float, float]:
    settings = {
        "dataset.augment": [], "dataset.data_dir": options.data_dir,
        "schedule.epochs": options.epochs, "schedule.learning_rate.value": 0.05,
    }  # fmt: skip
    command = [sys.executable, "-m", "cnnjax", "train", "lenet5_fashion_mnist", "--out", str(out)]
    for path, value in settings.items():
        command += ["--set", f"{path}={value!r}"]
    seconds, _ = timed(command, JAX_COMPILATION_CACHE_DIR=str(out.parent / f"{out.name}-xla"))
    return seconds, json.loads((out / "result.json").read_text())["top1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, help="an interpreter with torch, keras and jax")
    parser.add_argument("--idx", required=True, help="the four IDX files")
    parser.add_argument("--data-dir", required=True, help="where TFDS's fashion_mnist is prepared")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument(
        "--peers", nargs="*", choices=("torch", "keras"), default=["torch", "keras"]
    )
    options = parser.parse_args()
    script = str(Path(__file__).parent / "whole_peer.py")
    found: dict[str, list[tuple[float, float]]] = {k: [] for k in ("cnnjax", *options.peers)}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.turns):
            found["cnnjax"].append(ours(options, Path(folder) / f"run{turn}"))
            for peer in options.peers:
                seconds, said = timed(
                    [options.peer, script, peer, options.idx, str(options.epochs)]
                )  # fmt: skip
                found[peer].append((seconds, json.loads(said.splitlines()[-1])["top1"]))
                print(peer, found[peer][-1], file=sys.stderr, flush=True)
    mine = statistics.median(s for s, _ in found["cnnjax"])
    table = Table(f"{options.epochs} epochs", "seconds", "over cnnjax", "test top-1")
    for name, rows in found.items():
        seconds = statistics.median(s for s, _ in rows)
        top1 = ", ".join(f"{100 * t:.2f}" for _, t in rows)
        table.add_row(name, f"{seconds:.1f}", f"{seconds / mine:.2f}", top1)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
