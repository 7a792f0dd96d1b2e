"""What the house costs: images/s of `cnnjax train` over a bare hand-written step.

    python tests/benchmarks/overhead.py [--rounds 5] [--steps 2000]

Both train the same network on the same images in the same process, turn by turn. The bare step is
what one would write by hand: a jitted function with donated state that gathers its batch from the
images on the device, normalises, differentiates and updates; no metrics, no log, no checkpoints.
`cnnjax train` is the ordinary loop with its rows, timed by the windows of timing.jsonl. All
images over all seconds for both, the first five windows left out; medians over the rounds.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import cnnjax
from cnnjax import machine, training
from cnnjax.training import onednn

NETWORKS = {
    "LeNet-5, batch 128": ({"name": "lenet5", "variant": "modern"}, 128, 1),
    "VGG-like convnet, batch 64": (
        {"name": "convnet", "stages": [[16, 16, "pool"], [32, 32, "pool"]], "dense": [64]},
        64,
        10,
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


def bare(spec: cnnjax.spec.Spec, steps: int):
    """A function that runs `steps` bare steps and gives images per second."""
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

    def run() -> float:
        nonlocal state
        order = [
            jnp.asarray(generator.integers(0, len(labels), batch), jnp.int32) for _ in range(steps)
        ]
        state = jax.block_until_ready(step(state, images, labels, order[0]))
        start = time.perf_counter()
        for index in order:
            state = step(state, images, labels, index)
        jax.block_until_ready(state)
        return steps * batch / (time.perf_counter() - start)

    return run


def main() -> None:
    machine.take_memory()  # as the command line does: CNNJAX_MALLOC=huge acts here too
    machine.run_programs_here()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    table = Table("network", "cnnjax train, images/s", "bare step, images/s", "ratio")
    for name, (model, batch, divide) in NETWORKS.items():
        steps = options.steps // divide
        spec = spec_of(model, batch, steps)
        by_hand = bare(spec, steps)
        by_hand()
        ours, theirs, ratios = [], [], []
        for turn in range(options.rounds):
            with tempfile.TemporaryDirectory() as directory:
                run = cnnjax.train(spec, out=Path(directory) / str(turn))
                # The first windows still fill the pipeline.
                windows = [r["images_per_s"] for r in run.timing if r["event"] == "train"][5:]
            ours.append(statistics.harmonic_mean(windows))
            theirs.append(by_hand())
            ratios.append(ours[-1] / theirs[-1])
        table.add_row(
            name,
            f"{statistics.median(ours):,.0f}",
            f"{statistics.median(theirs):,.0f}",
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
