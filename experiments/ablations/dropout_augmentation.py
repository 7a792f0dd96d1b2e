"""Dropout, augmentation, label smoothing: what is lost where one of them is left out.

    cnnjax ablate dropout_augmentation

They keep a net from learning its 10,000 images by heart, and label smoothing from being too sure of
them. "full" has all three, each other arm leaves one out, and the file itself has none.

Not run.
"""

model = {"name": "convnet", "stages": [[32, "pool"], [64, "pool"]], "dense": [128], "dropout": 0.0}
dataset = {"name": "fashion_mnist_12k", "batch_size": 64, "normalize": "fashion_mnist"}
schedule = {
    "epochs": 8,
    "optimizer": {"name": "adamw", "weight_decay": 0.01},
    "learning_rate": {"name": "cosine", "value": 2e-3, "warmup": 0.05},
    "loss": {"name": "cross_entropy"},
    "seed": 0,
}
ablation = {
    "mode": "leave_one_out",
    "vary": {
        "model.dropout": [0.5],
        "dataset.augment": [[{"name": "shift", "max": 2}, {"name": "flip"}]],
        "schedule.loss.label_smoothing": [0.1],
    },
    "seeds": 3,
}
