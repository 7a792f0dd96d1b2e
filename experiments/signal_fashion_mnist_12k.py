"""One-dimensional convolution: an image as a signal of 28 rows with 28 values each.

    cnnjax train experiments/signal_fashion_mnist_12k.py

Measured: 87.80 % test accuracy (n = 1), seed 0, on a CPU.
"""

model = {
    "name": "convnet",
    "input_shape": [28, 28],
    "stages": [[{"features": 64, "kernel_size": 5}, "pool"], [64, "pool"]],
    "dense": [64],
}
dataset = {"name": "fashion_mnist_12k", "batch_size": 64, "normalize": "fashion_mnist"}
schedule = {
    "epochs": 10,
    "optimizer": {"name": "adamw", "weight_decay": 0.01},
    "learning_rate": {"name": "cosine", "value": 2e-3},
    "seed": 0,
}
