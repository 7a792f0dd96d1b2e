"""What recomputing activations saves: memory and time of a training step with and without `remat`.

    python tests/benchmarks/remat.py [--model resnet50] [--size 224] [--batch 8]

Memory is what XLA allots to the step beside parameters and optimizer state.
"""

import argparse

from rich.console import Console
from rich.table import Table

from cnnjax import machine


def main() -> None:
    machine.take_memory()  # as the command line does: CNNJAX_MALLOC=huge acts here too
    machine.run_programs_here()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    machine.set_up()
    from cnnjax.bench import bench  # JAX reads its flags when it is loaded

    shape = (options.size, options.size, 3)
    plain, remat = (
        bench(
            {"name": options.model, "remat": remat}, input_shape=shape, batch_size=options.batch,
            brief=True,
        )
        for remat in (False, True)
    )  # fmt: skip
    table = Table(f"{options.model}, batch {options.batch}", "plain", "remat", "ratio")
    for label, key, unit in (
        ("memory, MiB", "temporary_bytes", 2**20),
        ("training, images/s", "median_images_per_s", 1),
    ):
        a, b = plain[key] / unit, remat[key] / unit
        table.add_row(label, f"{a:,.1f}", f"{b:,.1f}", f"{b / a:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
