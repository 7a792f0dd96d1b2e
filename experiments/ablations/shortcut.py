"""Shortcuts: plain nets, option A and option B (He et al. 2015, section 4) at two depths.

    cnnjax ablate shortcut

Whether a plain net gets worse as it gets deeper and a residual net does not, and whether
projections add anything to shortcuts without parameters. The nets are narrow and see small maps
(7x7, 4x4 and 2x2), so that 18 runs end within a quarter of an hour on two cores.

Measured: test error of 32 layers plain 27.78, A 14.93, B 15.03 %; of 14 layers 15.18, 12.85 and
13.30 % (n = 3, seeds 0 to 2); 8 minutes on two cores.
"""

model = {
    "name": "resnet_cifar",
    "depth": 32,
    "width": 0.5,
    "stem": "imagenet",
    "shortcut": "identity",
}
dataset = {"name": "fashion_mnist_12k", "batch_size": 100, "normalize": "fashion_mnist"}
schedule = {
    "epochs": 5,
    "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
    "learning_rate": {"name": "cosine", "value": 0.1, "warmup": 0.05},
    "seed": 0,
}
ablation = {
    "mode": "grid",
    "vary": {
        "model.depth": [14, 32],
        "model.shortcut": ["none", "identity", "projection"],
    },
    "seeds": 3,
}
