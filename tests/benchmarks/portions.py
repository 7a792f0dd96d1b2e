"""Evaluations whose first stages take a few images at a time beside those that take all at once.

    CNNJAX_MALLOC=huge python tests/benchmarks/portions.py [--only resnet50] [--rounds 9]

One process, by turns, convolutions by oneDNN; `cnnjax/training/portions.py` says how. A ratio below
one is a gain.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table
from side_by_side import NETWORKS, SIZES

from cnnjax import machine
from cnnjax.models import build
from cnnjax.training import onednn, portions

SECONDS = 0.3  # of a window
MANY = 1_000  # images at most in a batch of an evaluation


def main() -> None:
    machine.take_memory()  # as the command line does: CNNJAX_MALLOC=huge acts here too
    machine.run_programs_here()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="*", choices=SIZES, default=list(SIZES))
    options = parser.parse_args()
    table = Table("network", "batch", "at once, ms", "in portions, ms", "ratio", "of the best")
    for name, (size, channels, batch) in SIZES.items():
        if name not in options.only:
            continue
        for n in (batch, MANY) if size < 64 else (batch,):
            ways = _ways({"name": name, **NETWORKS["torch"][name]}, (n, size, size, channels))
            rounds = []
            for i in range(options.rounds + 1):
                took = {j: _timed(ways[j]) for j in ((0, 1), (1, 0))[i % 2]}
                rounds.append([took[0], took[1]])
            del rounds[0]
            middle, best = (
                [1e3 * f(row[i] for row in rounds) for i in (0, 1)]
                for f in (statistics.median, min)
            )
            ratio = statistics.median(row[1] / row[0] for row in rounds)
            table.add_row(
                name, str(n), f"{middle[0]:.1f}", f"{middle[1]:.1f}", f"{ratio:.2f}",
                f"{best[1] / best[0]:.2f}",
            )  # fmt: skip
    Console(width=100).print(table)


def _ways(model: dict[str, Any], shape: tuple[int, ...]) -> list[Callable[[], Any]]:
    """At once and in portions."""
    module = build(model, input_shape=shape[1:], num_classes=10)
    x = jax.numpy.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))
    variables = jax.jit(module.init)(jax.random.key(0), x[:1])
    limits = portions.LARGEST, portions.WHOLE
    ways = []
    for largest, whole in ((math.inf, math.inf), limits):
        portions.LARGEST, portions.WHOLE = largest, whole  # type: ignore[assignment]
        program = onednn.compiled_for_many(
            lambda variables, x: module.apply(variables, x, train=False),
            variables, x, onednn=True,
        )(variables)  # fmt: skip
        ways.append(lambda program=program: program(x))
    return ways


def _timed(way: Callable[[], Any]) -> float:
    """Seconds for one call, in a window of about SECONDS."""
    count, start = 0, time.perf_counter()
    while time.perf_counter() < start + SECONDS:
        jax.block_until_ready(way())
        count += 1
    return (time.perf_counter() - start) / count


if __name__ == "__main__":
    main()
