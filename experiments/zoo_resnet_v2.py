"""ResNet-8 with full pre-activation (He et al. 2016, table 2).

Two passes over 10,000 images of Fashion-MNIST, the budget of the whole zoo; the results are in the
README's table.

    cnnjax train experiments/zoo_resnet_v2.py
"""

model = {"name": "resnet_cifar", "depth": 8, "width": 0.5, "order": "full_preactivation"}
dataset = {"name": "fashion_mnist_12k", "batch_size": 64, "normalize": "fashion_mnist"}
schedule = {
    "epochs": 2,
    "optimizer": {"name": "adamw", "weight_decay": 0.01},
    "learning_rate": {"name": "cosine", "value": 3e-3, "warmup": 0.05},
    "seed": 0,
}
