"""Width and depth of a narrow residual net: which way to spend multiply-adds.

    cnnjax ablate width_depth

Twice the width costs four times the multiply-adds, twice the depth about two times.

Not run.
"""

model = {"name": "resnet_cifar", "depth": 14, "width": 0.5, "stem": "imagenet"}
dataset = {"name": "fashion_mnist_12k", "batch_size": 100, "normalize": "fashion_mnist"}
schedule = {
    "epochs": 5,
    "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
    "learning_rate": {"name": "cosine", "value": 0.1, "warmup": 0.05},
    "seed": 0,
}
ablation = {
    "mode": "grid",
    "vary": {"model.depth": [8, 14, 26], "model.width": [0.25, 0.5, 1.0]},
    "seeds": 3,
}
