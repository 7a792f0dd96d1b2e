"""A small network of the textbook pattern on Fashion-MNIST, with batch norm and augmentation.

    cnnjax data prepare fashion_mnist
    cnnjax train experiments/convnet_fashion_mnist.py

Not run.
"""

model = {"name": "convnet", "stages": [[16, "pool"], [32, "pool"]], "dense": [64], "norm": "batch"}
dataset = {
    "name": "fashion_mnist",
    "batch_size": 128,
    "normalize": "fashion_mnist",
    "augment": [{"name": "shift", "max": 2}, {"name": "flip"}],
}
schedule = {
    "epochs": 10,
    "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4},
    "learning_rate": {"name": "cosine", "value": 0.1},
    "seed": 0,
}
