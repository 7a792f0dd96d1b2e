"""Pooling in LeNet-5: maximum, average, minimum, LeCun's trainable average, a plain stride.

    cnnjax ablate pooling

Scherer et al. 2010 found maximum pooling ahead of subsampling; "stride" keeps one value in four and
pools nothing.

Not run.
"""

model = {"name": "lenet5", "variant": "modern", "pool": "max"}
dataset = {"name": "fashion_mnist_12k", "batch_size": 64, "normalize": "fashion_mnist"}
schedule = {
    "epochs": 5,
    "optimizer": {"name": "adamw", "weight_decay": 0.01},
    "learning_rate": {"name": "cosine", "value": 2e-3, "warmup": 0.05},
    "seed": 0,
}
ablation = {
    "mode": "one_at_a_time",
    "vary": {"model.pool": ["max", "avg", "min", "trainable", "stride"]},
    "seeds": 3,
}
