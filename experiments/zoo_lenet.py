"""LeNet-5 (LeCun et al. 1998) as published: connection table, trainable subsampling, RBF output.

Two passes over 10,000 images of Fashion-MNIST, the budget of the whole zoo; the results are in the
README's table.

    cnnjax train experiments/zoo_lenet.py
"""

model = {"name": "lenet5"}
dataset = {"name": "fashion_mnist_12k", "batch_size": 64, "normalize": "lecun1998"}
schedule = {
    "epochs": 2,
    "optimizer": {"name": "sgd", "momentum": 0.9},
    "learning_rate": {"name": "cosine", "value": 0.01, "warmup": 0.05},
    "loss": {"name": "rbf", "form": "discriminative"},
    "clip": 10.0,
    "seed": 0,
}
