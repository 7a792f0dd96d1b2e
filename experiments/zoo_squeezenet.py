"""SqueezeNet 1.1 with simple bypass (Iandola et al. 2016), a quarter as wide, with batch norm.

Two passes over 10,000 images of Fashion-MNIST, the budget of the whole zoo; the results are in the
README's table.

    cnnjax train experiments/zoo_squeezenet.py
"""

model = {"name": "squeezenet", "version": "1.1", "bypass": "simple", "width": 0.25, "norm": "batch"}
dataset = {"name": "fashion_mnist_12k", "batch_size": 64, "normalize": "fashion_mnist"}
schedule = {
    "epochs": 2,
    "optimizer": {"name": "adamw", "weight_decay": 0.01},
    "learning_rate": {"name": "cosine", "value": 3e-3, "warmup": 0.05},
    "seed": 0,
}
