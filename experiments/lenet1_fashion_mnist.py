"""LeNet-1 on Fashion-MNIST: 2,578 parameters, 98,442 connections (LeCun et al. 1989, 1990).

    cnnjax data prepare fashion_mnist
    cnnjax train experiments/lenet1_fashion_mnist.py

Not run.
"""

model = {"name": "lenet1"}
dataset = {"name": "fashion_mnist", "batch_size": 128, "normalize": "lecun1998"}
schedule = {
    "epochs": 10,
    "optimizer": {"name": "sgd", "momentum": 0.9},
    "learning_rate": {"name": "cosine", "value": 0.05},
    "seed": 0,
}
