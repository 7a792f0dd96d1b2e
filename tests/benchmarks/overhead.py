"""What the house costs: images/s of `cnnjax train` over a bare hand-written step.

    python tests/benchmarks/overhead.py [--only TEXT]

Both train the same network on the same images in one process. The bare step is what one would
write by hand: a jitted function with donated state that gathers its batch from the images on the
device, normalises, differentiates and updates; no metrics, no log, no checkpoints. `cnnjax train`
is the ordinary loop, which writes some 200 rows; after each of them it waits while the bare step
takes as many steps. So every ratio is of two neighbouring windows, each begun and ended with
nothing under way: a machine whose speed changes from one second to the next changes both. The
bare step finds the order of its data on the device; the loop puts it there, in some windows.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import cnnjax
from cnnjax import machine, training
from cnnjax.training import onednn
from cnnjax.training.progress import Silent

FIRST = 10  # windows that still fill caches
NETWORKS = {  # model, images a batch, steps
    "LeNet-5, batch 128": ({"name": "lenet5", "variant": "modern"}, 128, 4000),
    "VGG-like convnet, batch 64": (
        {"name": "convnet", "stages": [[16, 16, "pool"], [32, 32, "pool"]], "dense": [64]},
        64,
        1000,
    ),
}


def spec_of(model: dict, batch: int, steps: int) -> cnnjax.spec.Spec:
    return cnnjax.load(
        {
            "model": model,
            "dataset": {
                "name": "fashion_mnist_12k",
                "batch_size": batch,
                "normalize": "fashion_mnist",
            },
            "schedule": {
                "steps": steps,
                "optimizer": {"name": "sgd", "momentum": 0.9},
                "learning_rate": {"name": "constant", "value": 0.01},
                "eval_every": 10**6,
                "checkpoint_every": 10**6,
            },
        }
    )


def bare(spec: cnnjax.spec.Spec) -> Callable[[int], float]:
    """A function that runs so many bare steps and gives the seconds they took."""
    experiment = training.resolve(spec)
    module, batch = experiment.module, experiment.batch_size
    split = experiment.splits["train"]
    images, labels = map(jnp.asarray, split.gather(np.arange(len(split))))
    optimizer = optax.sgd(0.01, momentum=0.9)
    params = module.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))["params"]
    state = (params, optimizer.init(params))
    generator = np.random.default_rng(0)

    @partial(jax.jit, donate_argnums=0)
    def step(state, images, labels, index):
        params, moments = state
        x = (images[index].astype(jnp.float32) / 255 - 0.286) / 0.353
        y = labels[index]

        def loss(params):
            logits = module.apply({"params": params}, x, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        updates, moments = optimizer.update(jax.grad(loss)(params), moments)
        return optax.apply_updates(params, updates), moments

    index = jnp.zeros(batch, jnp.int32)
    library = onednn.runs_convolutions(experiment.steps)
    step = onednn.compiled(step, state, images, labels, index, onednn=library)

    def run(count: int) -> float:
        nonlocal state
        chosen = [generator.integers(0, len(labels), batch, np.int32) for _ in range(count)]
        order = jax.block_until_ready(jax.device_put(chosen))
        start = time.perf_counter()
        for index in order:
            state = step(state, images, labels, index)
        jax.block_until_ready(state)
        return time.perf_counter() - start

    return run


class Turns(Silent):
    """Lets the bare step have its turn after every row of the loop; seconds a step of both."""

    def __init__(self, by_hand: Callable[[int], float]) -> None:
        self.by_hand = by_hand
        self.pairs: list[tuple[float, float]] = []
        self.step, self.since = 0, 0.0

    def train(self, step: int, row: dict[str, Any], images_per_s: float) -> None:
        jax.block_until_ready(jax.live_arrays())  # the loop writes a row late: what it has begun
        ours, count = time.perf_counter() - self.since, step - self.step
        self.pairs.append((ours / count, self.by_hand(count) / count))
        self.since, self.step = time.perf_counter(), step


def main() -> None:
    machine.take_memory()  # as the command line does: CNNJAX_MALLOC=huge acts here too
    machine.run_programs_here()
    machine.collect_rarely()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of a network's name")
    options = parser.parse_args()
    table = Table("network", "cnnjax train, images/s", "bare step, images/s", "ratio", "quartiles")
    for name, (model, batch, steps) in NETWORKS.items():
        if options.only not in name:
            continue
        spec = spec_of(model, batch, steps)
        turns = Turns(bare(spec))
        with tempfile.TemporaryDirectory() as directory:
            training.train(spec, out=Path(directory) / "run", reporter=turns)
        pairs = turns.pairs[FIRST:-1]  # the last row comes with the one before it
        ours, theirs = (batch / statistics.median(side) for side in zip(*pairs, strict=True))
        low, middle, high = statistics.quantiles([b / a for a, b in pairs], n=4)
        table.add_row(
            name, f"{ours:,.0f}", f"{theirs:,.0f}", f"{middle:.3f}", f"{low:.3f} to {high:.3f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
