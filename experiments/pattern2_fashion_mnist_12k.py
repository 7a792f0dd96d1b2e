"""Textbook pattern 2: INPUT -> [FC -> ReLU]*2 -> FC, a multilayer perceptron.

    cnnjax train experiments/pattern2_fashion_mnist_12k.py

266,610 parameters.
Measured: 86.85 % test accuracy (n = 1), seed 0, on a CPU.
"""

model = {"name": "convnet", "stages": [], "dense": [300, 100]}
dataset = {"name": "fashion_mnist_12k", "batch_size": 64, "normalize": "fashion_mnist"}
schedule = {
    "epochs": 5,
    "optimizer": {"name": "adamw", "weight_decay": 0.01},
    "learning_rate": {"name": "cosine", "value": 2e-3},
    "seed": 0,
}
