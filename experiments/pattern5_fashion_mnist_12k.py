"""Textbook pattern 5: INPUT -> [[CONV -> ReLU]*2 -> POOL]*3 -> [FC -> ReLU]*2 -> FC.

    cnnjax train experiments/pattern5_fashion_mnist_12k.py

154,554 parameters.
Not run.
"""

model = {
    "name": "convnet",
    "stages": [[16, 16, "pool"], [32, 32, "pool"], [64, 64, "pool"]],
    "dense": [128, 64],
}
dataset = {"name": "fashion_mnist_12k", "batch_size": 64, "normalize": "fashion_mnist"}
schedule = {
    "epochs": 5,
    "optimizer": {"name": "adamw", "weight_decay": 0.01},
    "learning_rate": {"name": "cosine", "value": 2e-3},
    "seed": 0,
}
