"""Kernel size at equal multiply-adds: 1x1 to 7x7, the width matched to the 3x3 net.

    cnnjax ablate kernel_size

A larger window has to be paid for with maps. What is left of it when it is? The numbers of maps are
such that there is a width within 1 % of the base for every kernel size.

Not run.
"""

model = {
    "name": "convnet",
    "stages": [[18, 18, "pool"], [39, 39, "pool"]],
    "dense": [64],
    "norm": "batch",
    "kernel_size": 3,
}
dataset = {"name": "fashion_mnist_12k", "batch_size": 64, "normalize": "fashion_mnist"}
schedule = {
    "epochs": 3,
    "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
    "learning_rate": {"name": "cosine", "value": 0.1, "warmup": 0.05},
    "seed": 0,
}
ablation = {
    "mode": "one_at_a_time",
    "vary": {"model.kernel_size": [1, 2, 3, 5, 7]},
    "match": "macs",
    "seeds": 3,
}
