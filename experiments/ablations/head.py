"""The head: hidden layers, a linear layer, or global pooling (Lin et al. 2013, section 3.2).

    cnnjax ablate head

Most of a small net's parameters stand between its last map and its classes. What do they buy?

Not run.
"""

model = {
    "name": "convnet",
    "stages": [[16, "pool"], [32, "pool"], [64]],
    "dense": [128],
    "norm": "batch",
}
dataset = {"name": "fashion_mnist_12k", "batch_size": 64, "normalize": "fashion_mnist"}
schedule = {
    "epochs": 4,
    "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
    "learning_rate": {"name": "cosine", "value": 0.1, "warmup": 0.05},
    "seed": 0,
}
ablation = {
    "mode": "arms",
    "arms": {
        "base": {},
        "two hidden layers": {"model.dense": [128, 128]},
        "linear": {"model.dense": []},
        "average pooling": {"model.dense": [], "model.global_pool": "avg"},
        "maximum pooling": {"model.dense": [], "model.global_pool": "max"},
    },
    "seeds": 3,
}
