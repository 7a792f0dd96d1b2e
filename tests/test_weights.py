"""Weights in and out: names, orders, files, the certificate, and what is said when they misfit."""

import hashlib
import json

import jax
import libraries
import numpy as np
import pytest

from cnnjax import weights
from cnnjax.errors import DataError, SpecError
from cnnjax.models import build
from cnnjax.weights import exchange
from cnnjax.weights.convert import slots_of

TINY = {"name": "resnet", "depth": 18, "stages": [1, 1], "width": 0.0625, "num_classes": 3,
        "input_shape": [8, 8, 3], "variant": "torchvision"}  # fmt: skip
V2 = {**TINY, "depth": 50, "order": "full_preactivation"}


def tensors(layout, model, seed=0):
    """Random tensors of the names and shapes that the layout has, counters left out."""
    rng = np.random.default_rng(seed)
    slots = slots_of(weights.FAMILIES, layout, model)
    return {s.name: rng.random(s.shape, np.float32) + np.float32(0.5) for s in slots}


@pytest.fixture(scope="module")
def state():
    return tensors("torchvision", TINY)


@pytest.mark.parametrize(
    ("layout", "model"),
    [
        ("torchvision", TINY),
        ("timm", {**V2, "variant": "timm"}),
        ("keras", {**TINY, "depth": 50, "variant": "keras"}),
        ("keras", {**V2, "variant": "keras"}),
    ],
)
def test_what_was_loaded_is_saved_bit_for_bit(layout, model):
    given = tensors(layout, model)
    back = weights.save(layout, model, weights.load(layout, model, given))
    back = {n: a for n, a in back.items() if not n.endswith("num_batches_tracked")}
    assert list(back) == list(given)
    for name, array in given.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_names_shapes_and_their_order_are_torchvisions():
    """Those of the other families stand in their own tests, `test_models_*`."""
    entries = json.loads((libraries.GOLDENS / "goldens_dev.json").read_text())["models"]
    state = entries["torchvision/resnet50"]["state"]
    theirs = [(n, tuple(shape)) for n, shape, _ in state if shape]
    model = {"name": "resnet50", "variant": "torchvision"}
    slots = slots_of(weights.FAMILIES, "torchvision", model)
    assert [(s.name, s.shape) for s in slots] == theirs


@pytest.mark.parametrize(
    ("network", "depth"), [("timm/resnetv2_bottleneck", 50), ("timm/resnetv2_basic", 18)]
)
def test_names_shapes_and_their_order_are_timms(network, depth):
    entry = json.loads((libraries.GOLDENS / "resnets.json").read_text())["models"][network]
    theirs = [(n, tuple(shape)) for n, shape in entry["state"] if shape]
    model = {"name": "resnet", "depth": depth, "stages": [2, 2], "num_classes": 10,
             "variant": "timm", "order": "full_preactivation"}  # fmt: skip
    slots = slots_of(weights.FAMILIES, "timm", model)
    assert [(s.name, s.shape) for s in slots] == theirs


def test_kernels_turn_from_oihw_to_hwio(state):
    kernel = weights.load("torchvision", TINY, state)["params"]["features"]["stem"]["conv"]
    o, i, h, w = 3, 2, 1, 0
    assert kernel["kernel"][h, w, i, o] == state["conv1.weight"][o, i, h, w]


def test_a_dense_layer_reads_the_flattened_map_as_torch_does():
    model = {"name": "alexnet", "variant": "torchvision", "width": 0.03125, "dense": 64}
    state = tensors("torchvision", model)
    theirs = state["classifier.1.weight"]
    ours = weights.load("torchvision", model, state)["params"]["classifier"]["fc6"]["kernel"]
    feature_map = np.random.default_rng(1).standard_normal((8, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(
        feature_map.transpose(1, 2, 0).reshape(-1) @ np.asarray(ours),
        theirs @ feature_map.reshape(-1),
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip


def test_counters_of_batches_are_passed_over_and_written_as_zero(state):
    counted = {**state, "bn1.num_batches_tracked": np.array(77)}
    variables = weights.load("torchvision", TINY, counted)
    saved = weights.save("torchvision", TINY, variables)
    counter = saved["bn1.num_batches_tracked"]
    assert (counter.dtype, counter.shape, counter) == (np.int64, (), 0)
    names = list(saved)
    assert names[names.index("bn1.num_batches_tracked") - 1] == "bn1.running_var"
    assert sum("num_batches" in n for n in names) == sum("running_var" in n for n in names)


def test_one_error_lists_all_that_is_missing_unexpected_and_misshapen(state):
    broken = {n: a for n, a in state.items() if n != "fc.bias"}
    broken["head.bias"] = state["fc.bias"]
    broken["fc.weight"] = np.zeros((10, 8), np.float32)
    broken["bn1.weight"] = broken["bn1.weight"].astype(np.int32)
    with pytest.raises(DataError) as caught:
        weights.load("torchvision", TINY, broken)
    said = str(caught.value)
    assert "1 missing, 1 unexpected, 2 misshapen" in said
    assert f"{len(state) - 3} of {len(state)} fit" in said
    lines = [line.strip() for line in said.splitlines()]
    assert "- fc.bias (3,)  classifier/fc/bias" in lines
    assert "+ head.bias (3,)" in lines
    at = lines.index("- fc.weight (3, 8)  classifier/fc/kernel")
    assert lines[at + 1] == "+ fc.weight (10, 8)"
    assert "+ bn1.weight (4,) int32" in lines


def test_tensors_that_the_model_lacks_can_be_ignored_by_name_alone(state):
    more = {**state, "aux.fc.weight": np.zeros((2, 2), np.float32)}
    with pytest.raises(DataError, match=r"\+ aux.fc.weight"):
        weights.load("torchvision", TINY, more)
    weights.load("torchvision", TINY, more, ignore=["aux."])
    without = {n: a for n, a in more.items() if n != "fc.bias"}
    with pytest.raises(DataError, match=r"- fc.bias"):
        weights.load("torchvision", TINY, without, ignore=["aux.", "fc."])


def test_what_is_loaded_does_not_change_with_the_callers_arrays(state):
    given = {n: a.copy() for n, a in state.items()}
    loaded = weights.load("torchvision", TINY, given)["params"]["classifier"]["fc"]["bias"]
    given["fc.bias"][:] = 0
    np.testing.assert_array_equal(loaded, state["fc.bias"])


def test_half_precision_is_widened(state):
    given = {n: a.astype(np.float16) for n, a in state.items()}
    loaded = weights.load("torchvision", TINY, given)["params"]["classifier"]["fc"]["bias"]
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, given["fc.bias"].astype(np.float32))


def test_variables_of_another_model_are_not_saved(state):
    variables = weights.load("torchvision", TINY, state)
    with pytest.raises(DataError, match=r"classifier/fc/kernel  fc.weight \(4, 8\)"):
        weights.save("torchvision", {**TINY, "num_classes": 4}, variables)
    del variables["params"]["classifier"]
    with pytest.raises(DataError, match=r"- classifier/fc/bias"):
        weights.save("torchvision", TINY, variables)


@pytest.mark.parametrize(
    ("layout", "model", "said"),
    [
        ("torchvison", TINY, "Did you mean 'torchvision'"),
        ("torchvision", {"name": "resnet18v"}, "unknown name 'resnet18v'"),
        ("torchvision", {"name": "linear"}, "'linear' has no torchvision layout"),
        ("keras", {"name": "alexnet"}, "'alexnet' has no keras layout .it has: torchvision"),
        ("torchvision", V2, "no place for 39 arrays of .*features/stage1_block1/norm1/scale"),
        ("torchvision", {**TINY, "gate": "exclusive"}, "features/stage1_block1/gate/kernel"),
    ],
)
def test_a_layout_that_has_no_such_network_says_what_lacks(layout, model, said):
    with pytest.raises(SpecError, match=said):
        weights.load(layout, model, {})


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_files_hold_what_mappings_hold(tmp_path, state, suffix):
    path = tmp_path / f"weights{suffix}"
    saved = weights.save("torchvision", TINY, weights.load("torchvision", TINY, state))
    weights.write(path, saved)
    back = weights.read(path)
    assert set(back) == set(saved)
    assert all(back[n].shape == a.shape and back[n].dtype == a.dtype for n, a in saved.items())
    loaded = weights.load("torchvision", TINY, path)
    jax.tree.map(np.testing.assert_array_equal, loaded, weights.load("torchvision", TINY, state))


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


@pytest.mark.parametrize("name", ["net.pth", "net.pt", "net.bin", "net.pkl", "net.h5"])
def test_other_files_are_refused_unread(tmp_path, name):
    with pytest.raises(DataError, match=r"expected a .safetensors or .npz file"):
        weights.read(tmp_path / name)


def test_python_objects_in_an_npz_are_not_opened(tmp_path):
    path = tmp_path / "net.npz"
    np.savez(path, **{"fc.bias": np.array([Bomb()], object)})
    with pytest.raises(DataError, match="cannot be read"):
        weights.read(path)


def test_absent_and_damaged_files_are_named(tmp_path):
    for suffix in (".npz", ".safetensors"):
        path = tmp_path / f"net{suffix}"
        with pytest.raises(DataError, match="no such file"):
            weights.read(path)
        path.write_bytes(b"not tensors")
        with pytest.raises(DataError, match="cannot be read"):
            weights.read(path)


def test_a_certificate_tells_file_tensors_and_distance(tmp_path, state):
    path = tmp_path / "net.safetensors"
    weights.write(path, {**state, "bn1.num_batches_tracked": np.array(3)})
    images = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)
    variables = weights.load("torchvision", TINY, state)
    logits = np.array(jax.jit(build(TINY).apply)(variables, images), np.float64)
    off = logits.copy()
    off[1, 2] += 0.25
    facts = weights.certificate("torchvision", TINY, path, images=images, logits=off)
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (facts["tensors"], facts["passed_over"]) == (len(state), 1)
    assert facts["parameters"] == sum(a.size for n, a in state.items() if "running" not in n)
    assert facts["max_abs_difference"] == pytest.approx(0.25, rel=1e-3)
    assert facts["relative_l2"] == pytest.approx(0.25 / np.linalg.norm(off), rel=1e-3)
    assert facts["same_argmax"] == bool((off.argmax(-1) == logits.argmax(-1)).all())
    json.dumps(facts)


def test_a_file_with_counted_batches_verifies_and_logits_far_off_do_not(tmp_path, state):
    path = tmp_path / "net.npz"
    weights.write(path, {**state, "bn1.num_batches_tracked": np.array(500)})
    assert exchange.verify("torchvision", TINY, path)["verified"]
    images = np.ones((1, 8, 8, 3), np.float32)
    weights.write(tmp_path / "far.npz", {"images": images, "logits": np.full((1, 3), 1e3)})
    facts = exchange.verify("torchvision", TINY, path, reference=tmp_path / "far.npz")
    assert facts["saves_back_equal"]
    assert not facts["verified"]


def test_a_certificate_wants_images_and_logits_that_agree(state):
    images = np.zeros((2, 8, 8, 3), np.float32)
    with pytest.raises(DataError, match="due together"):
        weights.certificate("torchvision", TINY, state, images=images)
    with pytest.raises(DataError, match=r"\(2, 7\).*\(2, 3\)"):
        weights.certificate("torchvision", TINY, state, images=images, logits=np.zeros((2, 7)))


def test_the_digest_of_a_mapping_is_of_its_contents(state):
    same = {n: state[n].copy() for n in reversed(state)}
    assert weights.digest(same) == weights.digest(state)
    same["fc.bias"][0] += 1
    assert weights.digest(same) != weights.digest(state)
