"""LeNet-5 on MNIST: LeCun et al. 1998, sections II.B and III, 0.95 % test error. Not run.

The paper trains for 20 passes with a second-order method; plain momentum stands in for it, so the
schedule is ours. The four original files of MNIST must be at hand.

    cnnjax data prepare mnist --from DIR

    cnnjax train experiments/lenet5_mnist.py
"""

model = {"name": "lenet5", "variant": "paper"}
dataset = {"name": "mnist", "batch_size": 128, "normalize": "lecun1998"}
schedule = {
    "epochs": 20,
    "optimizer": {"name": "sgd", "momentum": 0.9},
    "learning_rate": {"name": "cosine", "value": 0.01, "warmup": 0.05},
    "loss": {"name": "rbf", "form": "discriminative"},
    "clip": 10.0,
    "seed": 0,
}
paper = {"where": "section III.B", "top1_error": 0.95}
