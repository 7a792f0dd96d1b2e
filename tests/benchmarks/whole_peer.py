"""LeNet-5 on Fashion-MNIST as a plain PyTorch or Keras script, run by whole_experiment.py.

    PEER tests/benchmarks/whole_peer.py torch|keras FOLDER EPOCHS

FOLDER holds the four original IDX files, gzipped. Prints the test accuracy as JSON.
"""

import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

BATCH, RATE, MOMENTUM, DECAY = 128, 0.05, 0.9, 5e-4


def idx(folder: str, name: str, header: int) -> Any:
    path = next(Path(folder).glob(f"{name}*.gz"))
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def images(folder: str, part: str) -> tuple[Any, Any]:
    x = idx(folder, f"{part}-images", 16).reshape(-1, 28, 28).astype(np.float32) / 255
    return (x - 0.2860) / 0.3530, idx(folder, f"{part}-labels", 8).astype(np.int64)


def with_torch(folder: str, epochs: int) -> float:
    import torch
    from torch import nn
    from torch.nn import functional as F

    (x, y), (x_test, y_test) = (
        (torch.from_numpy(x)[:, None], torch.from_numpy(y))
        for x, y in (images(folder, "train"), images(folder, "t10k"))
    )
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 120, 5), nn.ReLU(), nn.Flatten(),
        nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
    steps = epochs * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    top1 = 0.0
    for _ in range(epochs):
        model.train()
        for rows in torch.randperm(len(x))[: len(x) // BATCH * BATCH].split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.inference_mode():
            right = sum(
                (model(a).argmax(1) == b).sum().item()
                for a, b in zip(x_test.split(1000), y_test.split(1000), strict=True)
            )
        top1 = right / len(x_test)
    return top1


def with_keras(folder: str, epochs: int) -> float:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras
    from keras import layers

    x, y = images(folder, "train")
    test = images(folder, "t10k")
    model = keras.Sequential([
        layers.Input((28, 28, 1)),
        layers.Conv2D(6, 5, padding="same", activation="relu"), layers.MaxPool2D(),
        layers.Conv2D(16, 5, activation="relu"), layers.MaxPool2D(),
        layers.Conv2D(120, 5, activation="relu"), layers.Flatten(),
        layers.Dense(84, activation="relu"), layers.Dense(10),
    ])  # fmt: skip
    rate = keras.optimizers.schedules.CosineDecay(RATE, epochs * (len(x) // BATCH))
    model.compile(
        keras.optimizers.SGD(rate, MOMENTUM, weight_decay=DECAY),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"],
    )  # fmt: skip
    fitted = model.fit(
        x[..., None], y, BATCH, epochs, verbose=0, validation_data=(test[0][..., None], test[1])
    )
    return float(fitted.history["val_accuracy"][-1])


if __name__ == "__main__":
    library, folder, epochs = sys.argv[1:]
    train = {"torch": with_torch, "keras": with_keras}[library]
    print(json.dumps({"top1": train(folder, int(epochs))}))
