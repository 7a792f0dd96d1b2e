"""AlexNet (Krizhevsky et al. 2012), an eighth as wide, with its groups and response norms.

Two passes over 10,000 images of Fashion-MNIST, the budget of the whole zoo; the results are in the
README's table.

    cnnjax train experiments/zoo_alexnet.py
"""

model = {"name": "alexnet", "width": 0.125, "dense": 1024, "initializer": "he_normal"}
dataset = {"name": "fashion_mnist_12k", "batch_size": 64, "normalize": "fashion_mnist"}
schedule = {
    "epochs": 2,
    "optimizer": {"name": "adamw", "weight_decay": 0.01},
    "learning_rate": {"name": "cosine", "value": 1e-3, "warmup": 0.05},
    "seed": 0,
}
