"""AlexNet (Krizhevsky et al. 2012), an eighth as wide, with its groups and response norms.

20,000 images of Fashion-MNIST, the budget of the whole zoo; results are in the README's table.

    cnnjax data prepare fashion_mnist
    cnnjax train experiments/zoo_alexnet.py
"""

model = {"name": "alexnet", "width": 0.125, "dense": 128, "initializer": "he_normal"}
dataset = {"name": "fashion_mnist", "batch_size": 64, "normalize": "fashion_mnist"}
schedule = {
    "examples": 20_000,
    "optimizer": {"name": "adamw", "weight_decay": 0.01},
    "learning_rate": {"name": "cosine", "value": 1e-3, "warmup": 0.05},
    "seed": 0,
}
