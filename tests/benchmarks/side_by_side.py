"""Training and evaluation steps beside a peer's.

    python tests/benchmarks/side_by_side.py --peer PYTHON [--library torch] [--only lenet5 ...]

torch: PyTorch, eager and channels_last; PYTHON has torch, torchvision and timm, such as one made by
`python3.11 -m venv peers && peers/bin/pip install torch==2.14.1 torchvision==0.29.1 timm`.
keras: Keras 3 on JAX; PYTHON has keras and our version of jax.
flax: the ImageNet example of Flax; PYTHON has flax and optax, `--models` is its models.py.

Each network is timed in processes of its own, ours and theirs by turns, compiled beforehand (but
for ours where oneDNN runs convolutions: no process can keep that for another), with the same
allocator setting (that of CNNJAX_MALLOC=huge), batch, optimizer and number of cores.
Ratios are ours over theirs, above one where we are faster; plain is XLA's own operations
(CNNJAX_LOWERING=native).
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

from cnnjax import machine

# network: image size, channels, batch
SIZES = {
    "lenet5": (28, 1, 128),
    "resnet20": (32, 3, 128),
    "vgg11": (224, 3, 8),
    "alexnet": (224, 3, 8),
    "googlenet": (224, 3, 8),
    "squeezenet1_1": (224, 3, 8),
    "resnet50": (224, 3, 8),
    "inception_v3": (299, 3, 4),
    "xception": (299, 3, 4),
}
LENET = {"variant": "modern", "activation": "tanh", "pool": "avg"}
# library: network: the options of ours that make it the peer's
NETWORKS: dict[str, dict[str, dict[str, Any]]] = {
    "torch": {
        "lenet5": LENET,
        "resnet20": {},
        "vgg11": {},
        "alexnet": {"variant": "torchvision"},
        "googlenet": {"variant": "torchvision"},
        "squeezenet1_1": {},
        "resnet50": {"variant": "torchvision"},
        "inception_v3": {"variant": "torchvision"},
        "xception": {},
    },
    "keras": {
        "lenet5": LENET,
        "resnet20": {},
        "resnet50": {"variant": "keras"},
        "inception_v3": {"variant": "keras"},
        "xception": {"variant": "keras"},
    },
    "flax": {"resnet50": {"variant": "torchvision"}},
}
OURS = """
import json, resource, sys
from cnnjax import machine
machine.set_up()
machine.run_programs_here()
from cnnjax.bench import bench
model, size, channels, batch = json.loads(sys.argv[1])
found = bench(model, input_shape=(size, size, channels), batch_size=batch, brief=True)
found["peak_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps(found))
"""
Row = dict[str, float]


def run(command: list[str], **environ: str) -> Row:
    given = machine.with_huge_pages(os.environ) | {"CNNJAX_MALLOC": "huge"} | environ
    machine.set_up(given)  # a peer on JAX keeps its programs and its memory as we do
    done = subprocess.run(command, env=given, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:200]}\n{done.stderr}")
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found


def median(rows: list[Row], key: str) -> float:
    return statistics.median(row[key] for row in rows)


def peer_command(options: argparse.Namespace, name: str) -> list[str]:
    """What times the peer's network."""
    here, size = Path(__file__).parent, list(map(str, SIZES[name]))
    if options.library == "torch":
        return [options.peer, str(here / "peer_torch.py"), name, *size, cores()]
    library = options.models if options.library == "flax" else "keras"
    return [options.peer, str(here / "peer_jax.py"), library, name, *size]


def cores() -> str:
    """How many this process may use, and so its children."""
    return str(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, help="the interpreter that has the library")
    parser.add_argument("--library", choices=NETWORKS, default="torch")
    parser.add_argument("--models", help="models.py of the Flax ImageNet example")
    parser.add_argument("--only", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--plain", action="store_true", help="time XLA's own operations too")
    options = parser.parse_args()
    if options.library == "flax" and not options.models:
        parser.error("--library flax takes --models, the example's models.py")
    table = Table(
        "network", "batch", "ours, images/s", f"{options.library}, images/s", "training",
        "evaluation", "memory", "over plain JAX",
    )  # fmt: skip
    for name, differences in NETWORKS[options.library].items():
        if name not in options.only:
            continue
        model = {"name": name, **differences}
        mine = [sys.executable, "-c", OURS, json.dumps([model, *SIZES[name]])]
        theirs = peer_command(options, name)
        rows: dict[str, list[Row]] = {"ours": [], "peer": [], "plain": []}
        # Compiled once, so that every turn finds in the cache what can be kept.
        run(mine)
        if options.library != "torch":
            run(theirs)
        if options.plain:
            run(mine, CNNJAX_LOWERING="native")
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
            name, str(SIZES[name][-1]), f"{median(ours, 'images_per_s'):,.1f}",
            f"{median(peer, 'images_per_s'):,.1f}", f"{ratio['images_per_s']:.2f}",
            f"{ratio['eval_images_per_s']:.2f}", f"{ratio['peak_bytes']:.2f}",
            "" if gain is None else f"{gain:.2f}",
        )  # fmt: skip
        print(json.dumps({"network": name, **ratio, "gain": gain}), file=sys.stderr, flush=True)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
