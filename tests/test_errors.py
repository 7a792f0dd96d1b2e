"""Every error that a user can cause, word for word, and that each comes before anything compiles.

`{}` in an expected text stands for a list of known words that grows with the tables.
"""

import copy
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax import training
from cnnjax.errors import CnnjaxError
from cnnjax.training.outline import outline

BASE = {
    "model": {"name": "lenet5", "variant": "modern"},
    "dataset": {"name": "fashion_mnist_12k", "batch_size": 32},
    "schedule": {
        "steps": 4,
        "optimizer": {"name": "sgd"},
        "learning_rate": {"name": "constant", "value": 0.1},
    },
}
OWN = "A name of your own is written 'package.module:factory'."


def changed(changes):
    """BASE with values at paths; None at a dict's own name takes it away."""
    content = copy.deepcopy(BASE)
    for path, value in changes.items():
        *inner, last = path.split(".")
        node = content
        for key in inner:
            node = node[key]
        if value is None:
            del node[last]
        else:
            node[last] = value
    return content


def says(expected, error):
    """Whether the error is `Kind: text`, `{}` in it matching anything."""
    pattern = ".*".join(re.escape(part) for part in expected.split("{}"))
    return re.fullmatch(pattern, f"{type(error).__name__}: {error}", re.DOTALL)


# (changes of BASE, the error)
IN_A_DICT = {
    "a key the model does not have": (
        {"model.varient": "modern"},
        "SpecError: spec: model: unknown key 'varient'.\nDid you mean 'variant'? Known keys:"
        " activation, background, connections, initializer, input_shape, name, num_classes,"
        " output, pool, variant.",
    ),
    "a key the data set does not have": (
        {"dataset.batchsize": 3},
        "SpecError: spec: dataset: unknown key 'batchsize'.\nDid you mean 'batch_size'?"
        " Known keys: augment, batch_size, data_dir, evaluations, name, normalize, split.",
    ),
    "a key the schedule does not have": (
        {"schedule.epoch": 3},
        "SpecError: spec: schedule: unknown key 'epoch'.\nDid you mean 'epochs'? Known keys:"
        " checkpoint_every, clip, dtype, ema, epochs, eval_every, examples, learning_rate, loss,"
        " optimizer, seed, select, steps.",
    ),
    "a key the optimizer does not have": (
        {"schedule.optimizer": {"name": "sgd", "weigth_decay": 1e-4}},
        "SpecError: spec: schedule.optimizer: unknown key 'weigth_decay'.\nDid you mean"
        " 'weight_decay'? Known keys: decay_all, momentum, name, nesterov, weight_decay.",
    ),
    "an unknown model": (
        {"model.name": "lenet6"},
        "SpecError: spec: model.name: unknown name 'lenet6'. Did you mean 'lenet5'? Known names:"
        " alexnet, {}. " + OWN,
    ),
    "an unknown data set": (
        {"dataset.name": "fashon_mnist"},
        "SpecError: spec: dataset.name: unknown name 'fashon_mnist'. Did you mean 'fashion_mnist'?"
        " Known names: {}. " + OWN,
    ),
    "an unknown augmentation": (
        {"dataset.augment": [{"name": "flip"}, {"name": "cutoff"}]},
        "SpecError: spec: dataset.augment[1].name: unknown name 'cutoff'. Did you mean 'cutout'?"
        " Known names: cutout, flip, pad_crop, random_resized_crop, shift. " + OWN,
    ),
    "an unknown loss": (
        {"schedule.loss": {"name": "crossentropy"}},
        "SpecError: spec: schedule.loss.name: unknown name 'crossentropy'. Did you mean"
        " 'cross_entropy'? Known names: cross_entropy, rbf. " + OWN,
    ),
    "an unknown optimizer": (
        {"schedule.optimizer": {"name": "adam"}},
        "SpecError: spec: schedule.optimizer.name: unknown name 'adam'. Did you mean 'adamw'?"
        " Known names: adamw, rmsprop, sgd. " + OWN,
    ),
    "an unknown learning rate": (
        {"schedule.learning_rate": {"name": "cosin", "value": 1.0}},
        "SpecError: spec: schedule.learning_rate.name: unknown name 'cosin'. Did you mean"
        " 'cosine'? Known names: constant, cosine, piecewise, polynomial. " + OWN,
    ),
    "a name in place of a dict": (
        {"schedule.optimizer": "sgd"},
        "SpecError: spec: schedule.optimizer: expected a dict such as {'name': 'sgd'},"
        " got 'sgd'.",
    ),
    "a name in place of a dict in a list": (
        {"dataset.augment": ["flip"]},
        "SpecError: spec: dataset.augment[0]: expected a dict such as {'name': 'flip'},"
        " got 'flip'.",
    ),
    "a dict without its name": (
        {"dataset.augment": [{"pad": 4}]},
        "SpecError: spec: dataset.augment[0]: missing key 'name' (one of cutout, flip, pad_crop,"
        " random_resized_crop, shift).",
    ),
    "no name": (
        {"dataset.name": None},
        "SpecError: spec: dataset: missing key 'name' (one of arrays, {}).",
    ),
    "a name that is none": (
        {"model.name": 5},
        "SpecError: spec: model.name: expected a string, got 5.",
    ),
    "a missing key": (
        {"schedule.learning_rate": {"name": "constant"}},
        "SpecError: spec: schedule.learning_rate: missing key 'value' (a number > 0).",
    ),
    "a missing key with a dict": (
        {"schedule.optimizer": None},
        "SpecError: spec: schedule: missing key 'optimizer' (a dict).",
    ),
    "a string for a number": (
        {"dataset.batch_size": "64"},
        "SpecError: spec: dataset.batch_size: expected an integer >= 1, got '64'.",
    ),
    "True for a number": (
        {"dataset.batch_size": True},
        "SpecError: spec: dataset.batch_size: expected an integer >= 1, got True.",
    ),
    "a fraction for an integer": (
        {"dataset.batch_size": 64.5},
        "SpecError: spec: dataset.batch_size: expected an integer >= 1, got 64.5.",
    ),
    "a number out of range": (
        {"schedule.optimizer": {"name": "sgd", "momentum": 1.0}},
        "SpecError: spec: schedule.optimizer.momentum: expected a number >= 0 and < 1, got 1.0.",
    ),
    "an augmentation out of range": (
        {"dataset.augment": [{"name": "pad_crop", "pad": 0}]},
        "SpecError: spec: dataset.augment[0].pad: expected an integer >= 1, got 0.",
    ),
    "an unknown choice": (
        {"model.activation": "rellu"},
        "SpecError: spec: model.activation: expected one of 'relu', {} or None, got 'rellu'."
        " Did you mean 'relu'?",
    ),
    "a wrong element of a list": (
        {"schedule.learning_rate": {"name": "piecewise", "value": 0.1, "drop_at": [0.5, "late"]}},
        "SpecError: spec: schedule.learning_rate.drop_at: expected a list (each an integer >= 0 or"
        " a number > 0 and < 1) of at least 1, got [0.5, 'late']. The wrong element is number 1.",
    ),
    "options that are at odds": (
        {"dataset.augment": [
            {"name": "random_resized_crop", "min_area": 0.9, "max_area": 0.5}
        ]},
        "SpecError: spec: dataset.augment[0]: random_resized_crop: min_area 0.9 is above max_area"
        " 0.5.",
    ),
    "no plain data": (
        {"model.pool": max},
        "SpecError: spec: model.pool: <built-in function max> is not plain data. Expected numbers,"
        " strings, True, False, None, lists and dicts with string keys.",
    ),
    "no number": (
        {"schedule.clip": float("nan")},
        "SpecError: spec: schedule.clip: nan is not plain data. Expected numbers, strings, True,"
        " False, None, lists and dicts with string keys.",
    ),
    "a missing dict": (
        {"schedule": None},
        "SpecError: spec: the dict 'schedule' is missing. model, dataset, schedule are due.",
    ),
    "a dict that is none": (
        {"model": "lenet5"},
        "SpecError: spec: model: expected a dict, got 'lenet5'.",
    ),
    "an unknown dict": (
        {"models": {}},
        "SpecError: spec: unknown name 'models'.\nDid you mean 'model'? Known names: ablation,"
        " dataset, model, paper, schedule.",
    ),
    "two durations": (
        {"schedule.epochs": 2},
        "SpecError: spec: schedule: expected exactly one of epochs, steps, examples; found epochs"
        " and steps.",
    ),
    "no duration": (
        {"schedule.steps": None},
        "SpecError: spec: schedule: expected exactly one of epochs, steps, examples; found none.",
    ),
    "a split of another name": (
        {"dataset.split": {"valid": "train[:10%]"}},
        "SpecError: spec: dataset.split: unknown key 'valid'.\nDid you mean 'validation'?"
        " Known keys: test, train, validation.",
    ),
    "a split that is not there": (
        {"dataset.split": {"train": "trian"}},
        "DataError: split 'trian': unknown split 'trian'. Did you mean 'train'?"
        " Splits: test, train.",
    ),
    "a split that is too long": (
        {"dataset.split": {"train": "train[:20000]"}},
        "DataError: split 'train[:20000]' reaches outside the 10,000 examples there are.",
    ),
    "an empty split": (
        {"dataset.split": {"train": "train[5:5]"}},
        "DataError: split 'train[5:5]' is empty. Splits: train (10,000), test (2,000).",
    ),
    "a split that cannot be read": (
        {"dataset.split": {"train": "train(5)"}},
        "DataError: split 'train(5)': cannot read 'train(5)'. Write a name, a slice such as"
        " 'train[:90%]' or 'train[1000:]', or a sum with '+'.",
    ),
    "a batch larger than the split": (
        {"dataset.batch_size": 10_001},
        "SpecError: spec: dataset.batch_size: 10001 is larger than the train split 'train', which"
        " has 10000 examples.",
    ),
    "an unknown normalisation": (
        {"dataset.normalize": "fashon_mnist"},
        "SpecError: spec: dataset.normalize: unknown name 'fashon_mnist'. Did you mean"
        " 'fashion_mnist'? Known names: {}.",
    ),
    "half a normalisation": (
        {"dataset.normalize": {"mean": 0.5}},
        "SpecError: spec: dataset.normalize: expected the keys mean and sd, got mean.",
    ),
    "a spread of zero": (
        {"dataset.normalize": {"mean": 0.5, "sd": 0}},
        "SpecError: spec: dataset.normalize: sd must be above 0, got 0.0.",
    ),
    "a normalisation for other channels": (
        {"dataset.normalize": "cifar10"},
        "SpecError: spec: dataset.normalize: 'cifar10' is for 3 channels; the images of"
        " 'fashion_mnist_12k' are 28x28x1.",
    ),
    "the best of no validation": (
        {"schedule.select": "best"},
        "SpecError: spec: schedule.select: 'best' needs a validation split to choose on, such as"
        " dataset.split = {'train': 'train[:90%]', 'validation': 'train[90%:]'}. The best on test"
        " is never reported.",
    ),
    "a data set that is not prepared": (
        {"dataset.name": "cifar10", "dataset.data_dir": "no/such/folder"},
        "DataError: cifar10 is not prepared in no/such/folder. Prepare it with: cnnjax data"
        " prepare cifar10 --from DIR (where its original files are).",
    ),
    "arrays that are not there": (
        {"dataset": {"name": "arrays", "path": "no.npz", "batch_size": 2}},
        "DataError: arrays: no file no.npz.",
    ),
    "a folder that is not there": (
        {"dataset": {"name": "folder", "path": "nowhere", "batch_size": 2}},
        "DataError: folder: no folder nowhere.",
    ),
    "an image too small for the network": (
        {"model": {"name": "convnet", "stages": [[4, "pool"]] * 5, "dense": []}},
        "SpecError: spec: model: does not fit images of 28x28x1: features/stage5/pool1: the map"
        " vanishes: a window of 2x2 does not fit a map of 1x1",
    ),
    "an augmented image too small for the network": (
        {"dataset.augment": [{"name": "random_resized_crop", "size": 20}]},
        "SpecError: spec: model: does not fit the augmented images of 20x20x1: features/c5: the map"
        " vanishes: a window of 5x5 does not fit a map of 3x3",
    ),
    "another number of classes": (
        {"model.num_classes": 5},
        "SpecError: spec: model: gives logits of shape (1, 5) for one image of 28x28x1; the data"
        " set 'fashion_mnist_12k' has 10 classes, so (1, 10) was expected.",
    ),
    "a depth that is none": (
        {"model": {"name": "resnet_cifar", "depth": 21}},
        "SpecError: spec: model: resnet_cifar: depth 21 is not 6n + 2, {}",
    ),
    "class weights of another number": (
        {"schedule.loss": {"name": "cross_entropy", "class_weights": [1, 2]}},
        "SpecError: spec: schedule.loss: does not fit the network: class_weights: expected 10, one"
        " per class, got 2.",
    ),
    "a module that is not there": (
        {"model": {"name": "no_such_package.nets:net"}},
        "SpecError: spec: model.name: cannot import 'no_such_package.nets' of"
        " 'no_such_package.nets:net': No module named 'no_such_package'. The module must be"
        " importable: run from its directory or set PYTHONPATH.",
    ),
    "a factory that is not there": (
        {"model": {"name": "json:lods"}},
        "SpecError: spec: model.name: module 'json' has no 'lods'. Did you mean 'loads'?"
        " It has: {}.",
    ),
    "a factory of something else": (
        {"model": {"name": "platform:machine"}},
        "SpecError: spec: model.name: 'platform:machine' gave '{}'; expected a factory of Flax"
        " Linen modules.",
    ),
    "an ablation of no known kind": (
        {"ablation": {"mode": "gird"}},
        "SpecError: spec: ablation.mode: expected one of 'grid', 'one_at_a_time', 'leave_one_out',"
        " 'arms', got 'gird'. Did you mean 'grid'?",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "text"), IN_A_DICT.values(), ids=IN_A_DICT)
def test_what_a_dict_says_wrong_is_said_clearly(changes, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def compiled(*args, **options):
        raise AssertionError("something was compiled")

    monkeypatch.setattr(jax.stages.Lowered, "compile", compiled)
    with pytest.raises(CnnjaxError) as caught:
        outline(cnnjax.load(changed(changes)), tmp_path)
    assert says(text, caught.value), f"{type(caught.value).__name__}: {caught.value}"


@pytest.mark.parametrize("changes", [changes for changes, _ in IN_A_DICT.values()], ids=IN_A_DICT)
def test_no_run_directory_is_left_behind(changes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CnnjaxError):
        cnnjax.train(changed(changes), devices=jax.devices()[:1], progress=False)
    assert not list(tmp_path.iterdir())


# --set -> the error
OVERRIDES = {
    "schedule.seed": "--set schedule.seed: expected PATH=VALUE, such as schedule.seed=3.",
    "seed=3": "--set seed=3: no path 'seed'. A path begins with one of: ablation, dataset, model,"
    " paper, schedule.",
    "shedule.seed=3": "--set shedule.seed=3: no path 'shedule.seed'. Did you mean 'schedule'?"
    " A path begins with one of: ablation, dataset, model, paper, schedule.",
    "model.name.x=3": "--set model.name.x=3: 'model.name' is 'lenet5', which has no keys.",
    "dataset.augment.2.pad=3": "--set dataset.augment.2.pad=3: dataset.augment: no element '2':"
    " expected 0 to 0.",
    "schedule.seed=three": "spec: schedule.seed: expected an integer >= 0, got 'three'.",
    "schedule.sed=3": "spec: schedule: unknown key 'sed'.\nDid you mean 'seed'? Known keys: {}.",
}


@pytest.mark.parametrize(("override", "text"), OVERRIDES.items(), ids=OVERRIDES)
def test_an_override_that_cannot_be_is_said_clearly(override, text):
    content = changed({"dataset.augment": [{"name": "flip"}]})
    with pytest.raises(CnnjaxError) as caught:
        cnnjax.load(content, set=[override])
    assert says(f"SpecError: {text}", caught.value), caught.value


# file name, its text -> the error
FILES = {
    "a file that raises": (
        "raises.py", 'model = {"name": "lenet5"}\nsize = 1 / 0\n',
        "raises.py:2: ZeroDivisionError: division by zero\n    size = 1 / 0",
    ),
    "a file that raises in a function": (
        "deep.py", "def f():\n    return [][0]\n\nmodel = f()\n",
        "deep.py:2: IndexError: list index out of range\n    return [][0]",
    ),
    "a file that is no Python": (
        "syntax.py", 'model = {"name": "lenet5"\n',
        "syntax.py:1: SyntaxError: '{{' was never closed\n    model = {{\"name\": \"lenet5\"",
    ),
    "a file that imports what is not there": (
        "imports.py", "import no_such_package\n",
        "imports.py:1: ModuleNotFoundError: No module named 'no_such_package'\n"
        "    import no_such_package",
    ),
    "a typo of a dict's name": (
        "typo.py", 'model = {"name": "lenet5"}\ndatset = {"name": "digits"}\n',
        "typo.py: unknown name 'datset'. Did you mean 'dataset'?",
    ),
    "an empty file": (
        "empty.py", "", "empty.py: the dict 'model' is missing. model, dataset, schedule are due."
    ),
    "a file that is no JSON": (
        "bad.json", '{"model":\n nope}', "bad.json:2: not JSON: Expecting value."
    ),
    "JSON of something else": (
        "list.json", "[]", "list.json: expected an object with model, dataset, schedule."
    ),
    "a file of another kind": (
        "notes.txt", "", "notes.txt: expected a .py or .json file or a run directory."
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "text"), FILES.values(), ids=FILES)
def test_what_a_file_says_wrong_is_said_with_its_line(name, content, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(CnnjaxError) as caught:
        cnnjax.load(name)
    assert f"SpecError: {text.replace('{{', '{')}" == f"SpecError: {caught.value}"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("lenet5.py", "lenet5.py: no such experiment file. Did you mean 'lenet.py'?"
         " Files there: lenet.py."),
        ("lenet5_fashion_mnist_12", "lenet5_fashion_mnist_12: no such experiment file. Did you mean"
         " 'lenet5_fashion_mnist_12k'? Shipped experiments: {}."),
        ("folder", "folder: is a folder without spec.json, so it is no run directory."),
    ],
)  # fmt: skip
def test_a_file_that_is_not_there_is_said_with_what_is(source, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lenet.py").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CnnjaxError) as caught:
        cnnjax.load(source)
    assert says(f"SpecError: {text}", caught.value), caught.value


def train(changes, **options):
    options = {"devices": jax.devices()[:1], "progress": False} | options
    return cnnjax.train(changed(changes), **options)


def claimed(folder: Path, changes):
    """A run directory of BASE with `changes`, not begun."""
    folder.mkdir()
    (folder / "spec.json").write_text(cnnjax.load(changed(changes)).to_json())


def test_the_directory_of_another_run_is_refused_with_the_difference(tmp_path):
    claimed(tmp_path / "run", {"schedule.seed": 3, "model.pool": "avg"})
    there = json.loads((tmp_path / "run" / "spec.json").read_text())["digest"]
    here = cnnjax.load(changed({})).digest
    with pytest.raises(CnnjaxError) as caught:
        train({}, out=tmp_path / "run")
    assert str(caught.value) == (
        f"{tmp_path / 'run'}: holds another run, digest {there[:8]}; this one is {here[:8]}. They"
        " differ in (- there, + asked for):\n"
        "  model.pool\n    - 'avg'\n    + None\n"
        "  schedule.seed\n    - 3\n    + 0\n"
        "Give another directory with --out DIR."
    )


def test_a_directory_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CnnjaxError) as caught:
        train({}, out=tmp_path)
    assert says(
        f"RunError: {tmp_path}: is not empty and holds no spec.json, so it is no run directory."
        " Give a new one with --out DIR.",
        caught.value,
    )


def test_a_batch_that_does_not_divide_over_the_devices_is_refused(tmp_path):
    with pytest.raises(CnnjaxError) as caught:
        train({"dataset.batch_size": 30}, out=tmp_path / "run", devices=jax.devices()[:8])
    assert says(
        "SpecError: spec: dataset.batch_size: 30 does not divide over 8 devices.", caught.value
    )


def test_augmentation_of_pictures_is_refused_for_signals(tmp_path):
    np.savez(tmp_path / "signals.npz", x_train=np.zeros((8, 30, 2)), y_train=np.arange(8) % 2)
    dataset = {
        "name": "arrays", "path": str(tmp_path / "signals.npz"), "signal": True, "batch_size": 4,
        "augment": [{"name": "flip"}],
    }  # fmt: skip
    with pytest.raises(CnnjaxError) as caught:
        train({"dataset": dataset, "model": {"name": "linear"}}, out=tmp_path / "run")
    assert says(
        "SpecError: spec: dataset.augment: flip is for pictures; 'arrays' holds arrays of 30x2. An"
        " augmentation of your own is written 'package.module:factory'.",
        caught.value,
    )


def test_a_folder_that_is_no_run_is_said_to_be_none(tmp_path):
    with pytest.raises(CnnjaxError) as caught:
        training.Run(tmp_path)
    assert says(f"RunError: {tmp_path}: is no run directory: it holds no spec.json.", caught.value)


@pytest.mark.parametrize("part", ["model", "data"])
def test_what_came_from_python_must_be_given_again(part, tmp_path):
    from flax import linen as nn

    content = {"model": changed({})["model"], "dataset": {"name": "digits", "batch_size": 8}}
    content["schedule"] = changed({})["schedule"]
    if part == "model":
        content["model"] = {"name": "python", "value": repr(nn.Dense(10))}
        text = (
            "SpecError: spec: model: its module was passed from Python; pass it again, as in"
            " cnnjax.train(spec, model=...)."
        )
    else:
        content["dataset"] |= {"name": "python", "value": "arrays"}
        text = (
            "SpecError: spec: dataset: its arrays were passed from Python; pass them again, as in"
            " cnnjax.train(spec, data=...)."
        )
    with pytest.raises(CnnjaxError) as caught:
        training.resolve(cnnjax.load(content))
    assert says(text, caught.value), caught.value


def test_a_loss_that_is_not_finite_says_where_and_how_to_replay_it(tmp_path):
    changes = {
        "dataset": {"name": "digits", "batch_size": 8},
        "model": {"name": "linear"},
        "schedule.learning_rate": {"name": "constant", "value": 1e38},
        "schedule.steps": 30,
    }
    with pytest.raises(CnnjaxError) as caught:
        train(changes, out=tmp_path / "run")
    assert says(
        f"RunError: {tmp_path / 'run'}: the loss was not finite at step 2. No checkpoint before"
        " it.\nIts batch: examples cnnjax.data.indices(0, 1437, 8, 16) of split 'train'.\n"
        "Often the learning rate is too high, or wants a warm-up or clipping.",
        caught.value,
    ), caught.value
