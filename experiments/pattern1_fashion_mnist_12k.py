"""Textbook pattern 1: INPUT -> FC, a linear classifier.

    cnnjax train experiments/pattern1_fashion_mnist_12k.py

7,850 parameters.
Measured: 84.10 % test accuracy (n = 1), seed 0, on a CPU.
"""

model = {"name": "convnet", "stages": [], "dense": []}
dataset = {"name": "fashion_mnist_12k", "batch_size": 64, "normalize": "fashion_mnist"}
schedule = {
    "epochs": 5,
    "optimizer": {"name": "adamw", "weight_decay": 0.01},
    "learning_rate": {"name": "cosine", "value": 2e-3},
    "seed": 0,
}
