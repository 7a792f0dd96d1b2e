"""One network of Keras on JAX, or the Flax ImageNet example's: run by side_by_side.py.

    python tests/benchmarks/peer_jax.py keras resnet50 224 3 8
    python tests/benchmarks/peer_jax.py MODELS_PY resnet50 224 3 8

MODELS_PY is `examples/imagenet/models.py` of Flax, which its package does not ship. SGD with
momentum, random images. Prints images/s of the training and the evaluation step (best window) and
the peak memory, as JSON.
"""

import os
import runpy
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from peer_timing import report

Steps = tuple[Callable[[], None], Callable[[], None]]


def keras_network(name: str, shape: tuple[int, ...]) -> Any:
    import keras
    from keras import layers

    applications = {
        "resnet50": keras.applications.ResNet50,
        "inception_v3": keras.applications.InceptionV3,
        "xception": keras.applications.Xception,
    }
    if name in applications:
        return applications[name](weights=None, input_shape=shape, classifier_activation=None)
    if name == "lenet5":
        return keras.Sequential([
            layers.Input(shape),
            layers.Conv2D(6, 5, padding="same", activation="tanh"), layers.AveragePooling2D(2),
            layers.Conv2D(16, 5, activation="tanh"), layers.AveragePooling2D(2),
            layers.Conv2D(120, 5, activation="tanh"), layers.Flatten(),
            layers.Dense(84, activation="tanh"), layers.Dense(10),
        ])  # fmt: skip

    def convolved(x: Any, width: int, stride: int = 1) -> Any:
        x = layers.Conv2D(width, 3, stride, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    inputs = x = layers.Input(shape)
    x = layers.ReLU()(convolved(x, 16))
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        for i in range(3):
            step = stride if i == 0 else 1
            y = convolved(layers.ReLU()(convolved(x, width, step)), width)
            if step > 1:  # option A: every other place, zeros for the new channels
                x = x[:, ::2, ::2]
                x = keras.ops.pad(x, [(0, 0), (0, 0), (0, 0), (0, width - x.shape[-1])])
            x = layers.ReLU()(x + y)
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def with_keras(name: str, x: np.ndarray, labels: np.ndarray) -> Steps:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    model = keras_network(name, x.shape[1:])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.001, 0.9), loss, metrics=["accuracy"])
    return (
        lambda: model.train_on_batch(x, labels),  # returns the loss as a number, so it waits
        lambda: model.test_on_batch(x, labels),
    )


def with_flax(models: str, name: str, x: np.ndarray, labels: np.ndarray) -> Steps:
    import jax.numpy as jnp
    import optax

    network = {"resnet50": "ResNet50"}[name]
    model = runpy.run_path(models)[network](num_classes=1000)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    optimizer = optax.sgd(0.001, 0.9)
    images, classes = jnp.asarray(x), jnp.asarray(labels)

    def cross_entropy(logits: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(logits, classes).mean()

    @partial(jax.jit, donate_argnums=0)
    def step(state: Any, images: Any) -> Any:
        params, stats, moments = state

        def loss_of(params: Any) -> Any:
            logits, new = model.apply(
                {"params": params, "batch_stats": stats}, images, mutable=["batch_stats"]
            )
            return cross_entropy(logits), new["batch_stats"]

        (_, stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, moments = optimizer.update(gradients, moments, params)
        return optax.apply_updates(params, updates), stats, moments

    @jax.jit
    def score(params: Any, stats: Any, images: Any) -> Any:
        logits = model.apply({"params": params, "batch_stats": stats}, images, train=False)
        return cross_entropy(logits), jnp.mean(jnp.argmax(logits, -1) == classes)

    params = variables["params"]
    state = [(params, variables["batch_stats"], optimizer.init(params))]

    def train() -> None:
        state[0] = jax.block_until_ready(step(state[0], images))

    def evaluate() -> None:
        jax.block_until_ready(score(*state[0][:2], images))

    return train, evaluate


def main(library: str, name: str, size: str, channels: str, batch: str) -> None:
    # As ours: the main thread alone can keep the memory of large blocks.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(int(batch), int(size), int(size), int(channels)))
    x, labels = x.astype(np.float32), np.zeros(int(batch), np.int32)
    steps = with_keras(name, x, labels) if library == "keras" \
        else with_flax(library, name, x, labels)  # fmt: skip
    report(*steps, int(batch))


if __name__ == "__main__":
    main(*sys.argv[1:])
