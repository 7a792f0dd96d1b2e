"""What each CPU formulation gains: forward and both gradients, over XLA's own operation.

Of an evaluation, whose norms go into the kernels before the first batch, forward alone.

    CNNJAX_MALLOC=huge python tests/benchmarks/lowerings.py [--rounds 7] [--only "batch norm"]

All run turn by turn in one process, each the median of its rounds: XLA's own operation, ours, and
ours where oneDNN runs the convolutions that are left, as in long trainings. The ratios in
`cnnjax/ops/lowering.py` come from here.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from cnnjax import machine, ops
from cnnjax.ops import lowering
from cnnjax.training import onednn

type Operation = Callable[..., Any]
type Shapes = list[tuple[int, ...]]


def conv(**options: Any) -> Operation:
    return lambda x, k: ops.conv(x, k, **options)


def pool(**options: Any) -> Operation:
    return lambda x: ops.max_pool(x, **options)


def mean_pool(x: Any) -> Any:
    return ops.avg_pool(x, 2)


def smooth(stride: int) -> Operation:
    return lambda x: ops.avg_pool(x, 3, stride=stride, padding="SAME")


def biased(x: Any, bias: Any) -> Any:
    return ops.tanh(lowering.elementwise(jnp.add, x, channels=(bias,)))


def norm(x: Any, scale: Any, bias: Any) -> Any:
    return ops.batch_norm_train(x, scale, scale, scale, bias)[0]


def unit(x: Any, kernel: Any, mean: Any, scale: Any, bias: Any) -> Any:
    return ops.relu(ops.batch_norm(ops.conv(x, kernel), mean, jnp.square(scale), scale, bias))


def units(places: int, window: int, c_in: int, c_out: int) -> tuple[Operation, Shapes]:
    channels: Shapes = [(c_out,)] * 3
    return unit, [(8, places, places, c_in), (window, window, c_in, c_out), *channels]


# What runs on which shapes. The stems of networks need no gradient of their input.
CASES: dict[str, tuple[Operation, Shapes]] = {
    "1x1, 256 -> 64, 56x56": (conv(), [(4, 56, 56, 256), (1, 1, 256, 64)]),
    "1x1, 728 -> 728, 19x19": (conv(), [(4, 19, 19, 728), (1, 1, 728, 728)]),
    "1x1 stride 2, 256 -> 512, 56x56": (conv(stride=2), [(4, 56, 56, 256), (1, 1, 256, 512)]),
    "3x3, 16 -> 16, 32x32": (conv(), [(64, 32, 32, 16), (3, 3, 16, 16)]),
    "3x3, 32 -> 32, 16x16": (conv(), [(128, 16, 16, 32), (3, 3, 32, 32)]),
    "3x3, 32 -> 128, 27x27": (conv(), [(8, 27, 27, 32), (3, 3, 32, 128)]),
    "3x3, 64 -> 64, 56x56": (conv(), [(4, 56, 56, 64), (3, 3, 64, 64)]),
    "3x3, 128 -> 128, 28x28": (conv(), [(4, 28, 28, 128), (3, 3, 128, 128)]),
    "3x3, 256 -> 256, 14x14": (conv(), [(4, 14, 14, 256), (3, 3, 256, 256)]),
    "3x3, 448 -> 384, 8x8": (conv(), [(4, 8, 8, 448), (3, 3, 448, 384)]),
    "5x5, 32 -> 96, 28x28": (conv(), [(8, 28, 28, 32), (5, 5, 32, 96)]),
    "5x5, 64 -> 192, 27x27": (conv(), [(8, 27, 27, 64), (5, 5, 64, 192)]),
    "1x7, 192 -> 192, 17x17": (conv(), [(4, 17, 17, 192), (1, 7, 192, 192)]),
    "7x1, 128 -> 128, 17x17": (conv(), [(4, 17, 17, 128), (7, 1, 128, 128)]),
    "1x3, 384 -> 384, 8x8": (conv(), [(4, 8, 8, 384), (1, 3, 384, 384)]),
    "3x3x3, 32 -> 32, 16x16x16": (conv(), [(2, 16, 16, 16, 32), (3, 3, 3, 32, 32)]),
    "3x3 stride 2, 16 -> 32, 32x32": (conv(stride=2), [(64, 32, 32, 16), (3, 3, 16, 32)]),
    "3x3 stride 2, 256 -> 256, 28x28": (conv(stride=2), [(4, 28, 28, 256), (3, 3, 256, 256)]),
    "stem 3x3, 3 -> 16, 32x32": (conv(), [(64, 32, 32, 3), (3, 3, 3, 16)]),
    "stem 7x7 stride 2, 3 -> 64, 224x224": (conv(stride=2), [(8, 224, 224, 3), (7, 7, 3, 64)]),
    "stem 3x3 stride 2, 3 -> 32, 299x299": (conv(stride=2), [(4, 299, 299, 3), (3, 3, 3, 32)]),
    "5x5, 1 -> 6, 32x32": (conv(padding="VALID"), [(128, 32, 32, 1), (5, 5, 1, 6)]),
    "5x5, 6 -> 16, 14x14": (conv(padding="VALID"), [(128, 14, 14, 6), (5, 5, 6, 16)]),
    "5x5 over a 5x5 map, 16 -> 120": (conv(padding="VALID"), [(128, 5, 5, 16), (5, 5, 16, 120)]),
    "3x3 in 2 groups, 96 -> 256, 13x13": (conv(groups=2), [(16, 13, 13, 96), (3, 3, 48, 256)]),
    "3x3 in 2 groups, 12 -> 32, 13x13": (conv(groups=2), [(64, 13, 13, 12), (3, 3, 6, 32)]),
    "3x3 in 32 groups, 128, 28x28": (conv(groups=32), [(4, 28, 28, 128), (3, 3, 4, 128)]),
    "depthwise 3x3, 728, 19x19": (conv(groups=728), [(4, 19, 19, 728), (3, 3, 1, 728)]),
    "depthwise 3x3, 728, 37x37": (conv(groups=728), [(4, 37, 37, 728), (3, 3, 1, 728)]),
    "depthwise 3x3, 128, 147x147": (conv(groups=128), [(4, 147, 147, 128), (3, 3, 1, 128)]),
    "depthwise 3x3, 128, 56x56": (conv(groups=128), [(4, 56, 56, 128), (3, 3, 1, 128)]),
    "max pool 2x2, 64, 32x32": (pool(window=2), [(64, 32, 32, 64)]),
    "max pool 3x3 stride 2, 64, 56x56": (pool(window=3, stride=2), [(8, 56, 56, 64)]),
    "average pool 2x2, 6, 28x28": (mean_pool, [(128, 28, 28, 6)]),
    "average pool 2x2, 64, 32x32": (mean_pool, [(64, 32, 32, 64)]),
    "average pool 2x2, 512, 14x14": (mean_pool, [(8, 14, 14, 512)]),
    "average pool 3x3, 288, 35x35": (smooth(1), [(4, 35, 35, 288)]),
    "average pool 3x3, 2048, 8x8": (smooth(1), [(4, 8, 8, 2048)]),
    "average pool 3x3 stride 2, 64, 55x55": (smooth(2), [(8, 55, 55, 64)]),
    "average pool 3x3 stride 2, 16, 32x32": (smooth(2), [(128, 32, 32, 16)]),
    "average pool 7x7, 512, 14x14": (lambda x: ops.avg_pool(x, 7, stride=1), [(8, 14, 14, 512)]),
    "bias and tanh, 16, 10x10": (biased, [(128, 10, 10, 16), (16,)]),
    "bias and tanh, 6, 28x28": (biased, [(128, 28, 28, 6), (6,)]),
    "batch norm, 16, 32x32": (norm, [(128, 32, 32, 16), (16,), (16,)]),
    "batch norm, 256, 56x56": (norm, [(8, 56, 56, 256), (256,), (256,)]),
    "evaluation, 1x1, 64 -> 256, 56x56": units(56, 1, 64, 256),
    "evaluation, 1x1, 1024 -> 256, 14x14": units(14, 1, 1024, 256),
    "evaluation, 3x3, 64 -> 64, 56x56": units(56, 3, 64, 64),
    "evaluation, 3x3, 512 -> 512, 7x7": units(7, 3, 512, 512),
    "evaluation, 5x5, 32 -> 96, 28x28": units(28, 5, 32, 96),
}


def timed(function: Callable[..., Any], args: tuple[Any, ...]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


def compiled(
    operation: Operation, args: tuple[Any, ...], library: bool = False, *, wrt: tuple[int, ...]
) -> Operation:
    """Value and gradients of one operation between two others, as a network has it."""

    def step(*args: Any) -> Any:
        def apply(x: Any, *rest: Any) -> Any:
            return jnp.sum(jnp.tanh(operation(jnp.tanh(x), *rest)))

        return jax.value_and_grad(apply, wrt)(*args)

    return onednn.compiled(jax.jit(step), *args, onednn=library)


def evaluating(operation: Operation, args: tuple[Any, ...], library: bool = False) -> Operation:
    """The first argument is a batch, the others variables that stay as they are."""
    x, *variables = args

    def step(variables: Any, x: Any) -> Any:
        return operation(x, *variables)

    program = onednn.compiled_for_many(step, variables, x, onednn=library)(variables)
    return lambda x, *_: program(x)


def main() -> None:
    machine.take_memory()  # as the command line does: CNNJAX_MALLOC=huge acts here too
    machine.run_programs_here()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="operations with this in their name")
    options = parser.parse_args()
    table = Table("operation", "XLA's own, ms", "ours, ms", "ratio", "with oneDNN")
    library = onednn.runs_convolutions(onednn.LONG)
    generator = np.random.default_rng(0)
    for name, (operation, shapes) in CASES.items():
        if options.only not in name:
            continue
        args = tuple(jnp.asarray(generator.standard_normal(s), jnp.float32) for s in shapes)
        wrt = tuple(range(name.startswith("stem"), len(shapes)))
        made = evaluating if name.startswith("evaluation") else partial(compiled, wrt=wrt)
        with lowering.native():
            theirs = made(operation, args)
        steps = [theirs, made(operation, args), made(operation, args, library=library)]
        rounds = [[timed(f, args) for f in steps] for _ in range(options.rounds + 1)][1:]
        table.add_row(
            name,
            *(f"{1e3 * statistics.median(r[i] for r in rounds):.1f}" for i in (0, 1)),
            *(f"{statistics.median(r[i] / r[0] for r in rounds):.2f}" for i in (1, 2)),
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
