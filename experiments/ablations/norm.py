"""Normalisation: batch, layer, group, local response, none, in one small convolutional net.

    cnnjax ablate norm

How much of a net's accuracy after a few epochs is owed to its normalisation, at one learning rate.

Not run.
"""

model = {"name": "convnet", "stages": [[16, "pool"], [32, "pool"]], "dense": [64], "norm": "batch"}
dataset = {"name": "fashion_mnist_12k", "batch_size": 64, "normalize": "fashion_mnist"}
schedule = {
    "epochs": 4,
    "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
    "learning_rate": {"name": "cosine", "value": 0.1, "warmup": 0.05},
    "seed": 0,
}
ablation = {
    "mode": "one_at_a_time",
    "vary": {"model.norm": ["batch", "layer", "group", "lrn", "none"]},
    "seeds": 3,
}
