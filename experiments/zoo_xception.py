"""Xception (Chollet 2016), a sixteenth as wide, two middle blocks.

Two passes over 10,000 images of Fashion-MNIST, the budget of the whole zoo; the results are in the
README's table.

    cnnjax train experiments/zoo_xception.py
"""

model = {"name": "xception", "width": 0.0625, "middle": 2, "norm_momentum": 0.9}
dataset = {"name": "fashion_mnist_12k", "batch_size": 64, "normalize": "fashion_mnist"}
schedule = {
    "epochs": 2,
    "optimizer": {"name": "adamw", "weight_decay": 0.01},
    "learning_rate": {"name": "cosine", "value": 3e-3, "warmup": 0.05},
    "seed": 0,
}
