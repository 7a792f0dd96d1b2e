"""Training and evaluation steps beside PyTorch's, eager and channels_last.

    python tests/benchmarks/side_by_side.py --peer PYTHON [--only lenet5 ...] [--turns 2]

PYTHON is an interpreter with torch, torchvision and timm, such as one made by
`python3.11 -m venv peers && peers/bin/pip install torch==2.14.1 torchvision==0.29.1 timm`. Each
network is timed in processes of its own, ours and theirs by turns, with the same allocator setting
(glibc keeps its memory), batch, optimizer and number of threads. Ratios are ours over theirs, above
one where we are faster; plain is XLA's own operations (CNNJAX_LOWERING=native).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

TORCHVISION = {"variant": "torchvision"}
# name: (ours, image size, channels, batch)
NETWORKS: dict[str, tuple[dict[str, Any], int, int, int]] = {
    "lenet5": (
        {"name": "lenet5", "variant": "modern", "activation": "tanh", "pool": "avg"}, 28, 1, 128
    ),
    "resnet20": ({"name": "resnet20"}, 32, 3, 128),
    "vgg11": ({"name": "vgg11"}, 224, 3, 8),
    "alexnet": ({"name": "alexnet", **TORCHVISION}, 224, 3, 8),
    "googlenet": ({"name": "googlenet", **TORCHVISION}, 224, 3, 8),
    "squeezenet1_1": ({"name": "squeezenet1_1"}, 224, 3, 8),
    "resnet50": ({"name": "resnet50", **TORCHVISION}, 224, 3, 8),
    "inception_v3": ({"name": "inception_v3", **TORCHVISION}, 299, 3, 4),
    "xception": ({"name": "xception"}, 299, 3, 4),
}  # fmt: skip
KEEP = {
    "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(256 << 20), "MALLOC_ARENA_MAX": "1",
}  # fmt: skip
OURS = """
import json, resource, sys
from cnnjax import machine
machine.set_up()
from cnnjax.bench import bench
model, size, channels, batch = json.loads(sys.argv[1])
found = bench(model, input_shape=(size, size, channels), batch_size=batch, brief=True)
found["peak_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps(found))
"""
Row = dict[str, float]


def run(command: list[str], **environ: str) -> Row:
    done = subprocess.run(
        command, env={**os.environ, **KEEP, **environ}, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:200]}\n{done.stderr}")
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found


def median(rows: list[Row], key: str) -> float:
    return statistics.median(row[key] for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, help="an interpreter with torch")
    parser.add_argument("--only", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--plain", action="store_true", help="time XLA's own operations too")
    options = parser.parse_args()
    threads = str(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count())
    here = Path(__file__).parent
    table = Table(
        "network", "batch", "ours, images/s", "PyTorch, images/s", "training", "evaluation",
        "memory", "over plain JAX",
    )  # fmt: skip
    for name in options.only:
        model, size, channels, batch = NETWORKS[name]
        mine = [sys.executable, "-c", OURS, json.dumps([model, size, channels, batch])]
        theirs = [
            options.peer, str(here / "peers.py"), name, *map(str, (size, channels, batch)), threads
        ]  # fmt: skip
        rows: dict[str, list[Row]] = {"ours": [], "peer": [], "plain": []}
        for _ in range(options.turns):
            rows["ours"].append(run(mine))
            rows["peer"].append(run(theirs))
            if options.plain:
                rows["plain"].append(run(mine, CNNJAX_LOWERING="native"))
        ours, peer = rows["ours"], rows["peer"]
        ratio = {k: median(ours, k) / median(peer, k) for k in peer[0]}
        gain = median(ours, "images_per_s") / median(rows["plain"], "images_per_s") \
            if options.plain else None  # fmt: skip
        table.add_row(
            name, str(batch), f"{median(ours, 'images_per_s'):,.1f}",
            f"{median(peer, 'images_per_s'):,.1f}", f"{ratio['images_per_s']:.2f}",
            f"{ratio['eval_images_per_s']:.2f}", f"{ratio['peak_bytes']:.2f}",
            "" if gain is None else f"{gain:.2f}",
        )  # fmt: skip
        print(json.dumps({"network": name, **ratio, "gain": gain}), file=sys.stderr, flush=True)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
