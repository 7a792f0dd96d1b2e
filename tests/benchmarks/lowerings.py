"""What each CPU formulation gains: forward and both gradients, over XLA's own operation.

    python tests/benchmarks/lowerings.py [--rounds 7]

Both run turn by turn in one process, each the median of its rounds. The ratios in
`cnnjax/ops/lowering.py` come from here.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from cnnjax import ops
from cnnjax.ops import lowering

# name: (input, kernel or None for a pool, options)
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...] | None, dict[str, Any]]] = {
    "1x1, 256 -> 64, 56x56": ((4, 56, 56, 256), (1, 1, 256, 64), {}),
    "1x1, 728 -> 728, 19x19": ((4, 19, 19, 728), (1, 1, 728, 728), {}),
    "1x1 stride 2, 256 -> 512, 56x56": ((4, 56, 56, 256), (1, 1, 256, 512), {"stride": 2}),
    "3x3, 16 -> 16, 32x32": ((64, 32, 32, 16), (3, 3, 16, 16), {}),
    "3x3, 64 -> 64, 56x56": ((4, 56, 56, 64), (3, 3, 64, 64), {}),
    "3x3, 256 -> 256, 14x14": ((4, 14, 14, 256), (3, 3, 256, 256), {}),
    "3x3 stride 2, 256 -> 256, 28x28": ((4, 28, 28, 256), (3, 3, 256, 256), {"stride": 2}),
    "5x5, 1 -> 6, 32x32": ((128, 32, 32, 1), (5, 5, 1, 6), {"padding": "VALID"}),
    "5x5, 6 -> 16, 14x14": ((128, 14, 14, 6), (5, 5, 6, 16), {"padding": "VALID"}),
    "5x5 over a 5x5 map, 16 -> 120": ((128, 5, 5, 16), (5, 5, 16, 120), {"padding": "VALID"}),
    "3x3 in 2 groups, 96 -> 256, 13x13": ((16, 13, 13, 96), (3, 3, 48, 256), {"groups": 2}),
    "3x3 in 2 groups, 12 -> 32, 13x13": ((64, 13, 13, 12), (3, 3, 6, 32), {"groups": 2}),
    "3x3 in 32 groups, 128, 28x28": ((4, 28, 28, 128), (3, 3, 4, 128), {"groups": 32}),
    "depthwise 3x3, 728, 19x19": ((4, 19, 19, 728), (3, 3, 1, 728), {"groups": 728}),
    "depthwise 3x3, 128, 56x56": ((4, 56, 56, 128), (3, 3, 1, 128), {"groups": 128}),
    "max pool 2x2, 64, 32x32": ((64, 32, 32, 64), None, {"window": 2}),
    "max pool 3x3 stride 2, 64, 56x56": ((8, 56, 56, 64), None, {"window": 3, "stride": 2}),
}


def timed(function: Callable[..., Any], args: tuple[Any, ...]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


def compiled(kernel: bool, options: dict[str, Any], args: tuple[Any, ...]) -> Callable[..., Any]:
    """Value and gradients of one operation between two others, as a network has it."""

    def step(x: Any, *rest: Any) -> Any:
        def apply(*a: Any) -> Any:
            x = jnp.tanh(a[0])
            y = ops.conv(x, a[1], **options) if kernel else ops.max_pool(x, **options)
            return jnp.sum(jnp.tanh(y))

        return jax.value_and_grad(apply, tuple(range(1 + len(rest))))(x, *rest)

    return jax.jit(step).lower(*args).compile()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    table = Table("operation", "XLA's own, ms", "ours, ms", "ratio")
    generator = np.random.default_rng(0)
    for name, (shape, kernel, options) in CASES.items():
        shapes = [shape] if kernel is None else [shape, kernel]
        args = tuple(jnp.asarray(generator.standard_normal(s), jnp.float32) for s in shapes)
        with lowering.native():
            theirs = compiled(kernel is not None, options, args)
        ours = compiled(kernel is not None, options, args)
        pairs = [(timed(theirs, args), timed(ours, args)) for _ in range(rounds + 1)][1:]
        table.add_row(
            name,
            *(f"{1e3 * statistics.median(column):.1f}" for column in zip(*pairs, strict=True)),
            f"{statistics.median(b / a for a, b in pairs):.2f}",
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
