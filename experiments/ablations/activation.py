"""Activation functions in LeNet-5 with max pooling and softmax.

    cnnjax ablate activation

What the step from squashing functions to rectifiers is worth (Krizhevsky et al. 2012, section 3.1;
Glorot et al. 2011), and whether the smooth ones add to it. "identity" is the net without any.

Not run.
"""

model = {"name": "lenet5", "variant": "modern", "activation": "relu"}
dataset = {"name": "fashion_mnist_12k", "batch_size": 64, "normalize": "fashion_mnist"}
schedule = {
    "epochs": 5,
    "optimizer": {"name": "adamw", "weight_decay": 0.01},
    "learning_rate": {"name": "cosine", "value": 2e-3, "warmup": 0.05},
    "seed": 0,
}
ablation = {
    "mode": "one_at_a_time",
    "vary": {
        "model.activation": [
            "relu",
            "tanh",
            "scaled_tanh",
            "sigmoid",
            "elu",
            "gelu",
            "silu",
            "identity",
        ]
    },
    "seeds": 3,
}
