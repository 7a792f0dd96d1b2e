"""The plain twin of ResNet-8 (He et al. 2015, section 4.2): the same layers without shortcuts.

20,000 images of Fashion-MNIST, the budget of the whole zoo; results are in the README's table.

    cnnjax data prepare fashion_mnist
    cnnjax train experiments/zoo_plain.py
"""

model = {"name": "resnet_cifar", "depth": 8, "width": 0.5, "shortcut": "none"}
dataset = {"name": "fashion_mnist", "batch_size": 64, "normalize": "fashion_mnist"}
schedule = {
    "examples": 20_000,
    "optimizer": {"name": "adamw", "weight_decay": 0.01},
    "learning_rate": {"name": "cosine", "value": 3e-3, "warmup": 0.05},
    "seed": 0,
}
