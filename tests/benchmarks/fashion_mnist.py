"""Test accuracy of the shipped experiments over seeds: the tables in the README.

    cnnjax data prepare fashion_mnist --from DIR
    python tests/benchmarks/fashion_mnist.py [--seeds 3] [--out runs/fashion_mnist] [NAME ...]
    python tests/benchmarks/fashion_mnist.py --zoo      # a narrow form of each family

Finished runs in `--out` are read, the others trained. Every accuracy is the last step's, on test;
images/s is the median over the windows of training, then over seeds.
"""

import argparse
import statistics
from pathlib import Path

import cnnjax

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
ZOO = sorted(path.stem for path in EXPERIMENTS.glob("zoo_*.py"))
NAMES = (
    "linear_fashion_mnist", "mlp_fashion_mnist", "lenet1_fashion_mnist",
    "lenet5_paper_fashion_mnist", "lenet5_fashion_mnist", "convnet_fashion_mnist",
    "lenet5_fashion_mnist_12k", "signal_fashion_mnist_12k",
    *(f"pattern{i}_fashion_mnist_12k" for i in range(1, 6)),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--zoo", action="store_true", help="the zoo, where no name is given")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/fashion_mnist"))
    options = parser.parse_args()
    print("| experiment | parameters | MACs | images/s | epochs | test top-1, mean ± sd | n |")
    print("|---|---:|---:|---:|---:|---|---|")
    for name in options.names or (ZOO if options.zoo else NAMES):
        runs = [
            cnnjax.train(
                EXPERIMENTS / f"{name}.py", set=[f"schedule.seed={seed}"],
                out=options.out / f"{name}-{seed}", progress=True,
            )
            for seed in range(options.seeds)
        ]  # fmt: skip
        top1 = [100 * run.result["top1"] for run in runs]
        spread = f" ± {statistics.stdev(top1):.2f}" if len(top1) > 1 else ""
        cost = runs[0].derived["cost"]
        speed = statistics.median(run.timing[-1]["images_per_s"] for run in runs)
        print(
            f"| `{name}` | {cost['params']['trainable']:,} | {cost['macs']:,} | {speed:,.0f} |"
            f" {runs[0].spec.schedule['epochs']:g} |"
            f" {statistics.mean(top1):.2f}{spread} | {len(top1)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
