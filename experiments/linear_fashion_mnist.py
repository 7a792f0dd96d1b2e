"""Softmax regression on Fashion-MNIST: INPUT -> FC, 7,850 parameters.

    cnnjax data prepare fashion_mnist
    cnnjax train experiments/linear_fashion_mnist.py

Measured: 84.48 % test accuracy (sd 0.06, n = 3), seeds 0 to 2, on a CPU.
"""

model = {"name": "linear"}
dataset = {"name": "fashion_mnist", "batch_size": 128, "normalize": "fashion_mnist"}
schedule = {
    "epochs": 10,
    "optimizer": {"name": "sgd", "momentum": 0.9},
    "learning_rate": {"name": "cosine", "value": 0.01},
    "seed": 0,
}
