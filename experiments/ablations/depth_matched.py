"""Depth at equal parameters: deeper nets are made as much narrower as it takes.

    cnnjax ablate depth_matched

The comparison that varying depth alone is not: every arm has the parameters of the 14-layer net.

Not run.
"""

model = {"name": "resnet_cifar", "depth": 14, "width": 1.0, "stem": "imagenet"}
dataset = {"name": "fashion_mnist_12k", "batch_size": 100, "normalize": "fashion_mnist"}
schedule = {
    "epochs": 5,
    "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
    "learning_rate": {"name": "cosine", "value": 0.1, "warmup": 0.05},
    "seed": 0,
}
ablation = {
    "mode": "one_at_a_time",
    "vary": {"model.depth": [8, 14, 20, 32]},
    "match": "params",
    "seeds": 3,
}
