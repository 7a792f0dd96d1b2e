"""The logits of whole networks with the tensors of torchvision's and timm's, in both precisions."""

import json

import jax
import libraries
import numpy as np
import pytest

pytestmark = pytest.mark.slow

TORCHVISION = {"variant": "torchvision"}
NETWORKS = {
    "torchvision/alexnet": {"name": "alexnet", **TORCHVISION},
    "torchvision/vgg16": {"name": "vgg16", **TORCHVISION},
    "torchvision/vgg11_bn": {"name": "vgg11", "norm": "batch", **TORCHVISION},
    "torchvision/googlenet": {"name": "googlenet", **TORCHVISION},
    "torchvision/inception_v3": {"name": "inception_v3", **TORCHVISION},
    "torchvision/resnet18": {"name": "resnet18", **TORCHVISION},
    "torchvision/resnet50": {"name": "resnet50", **TORCHVISION},
    "torchvision/squeezenet1_1": {"name": "squeezenet1_1", **TORCHVISION},
    "timm/legacy_xception": {"name": "xception", "variant": "timm"},
}


def test_every_reference_network_is_here():
    models = json.loads((libraries.GOLDENS / "goldens_dev.json").read_text())["models"]
    assert sorted(models) == sorted(NETWORKS)


@pytest.mark.parametrize("key", NETWORKS)
def test_logits_are_those_of_the_library(key):
    state, model = libraries.torch_state(key), NETWORKS[key]
    size = 299 if "ception" in key else 224
    for dtype, mark, onednn in (
        (np.float32, 2e-5, False), (np.float32, 2e-5, True), (np.float64, 1e-10, False)
    ):  # fmt: skip
        with jax.enable_x64(dtype is np.float64):
            logits, heads = libraries.run(key.split("/")[0], model, state, size, onednn=onednn)
        assert logits.dtype == dtype
        found = {"logits": logits, **heads}
        distances = {
            which: libraries.relative(ours, libraries.torch_logits(key, which))
            for which, ours in found.items()
        }
        assert max(distances.values()) < mark, distances
