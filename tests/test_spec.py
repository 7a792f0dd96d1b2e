"""The experiment file, its checks and its digest."""

import dataclasses
import json
import sys

import flax.linen as nn
import pytest

import cnnjax
from cnnjax import data, ops, spec, training
from cnnjax.layers import Conv
from cnnjax.training.optim import sgd as own_optimizer

EXPERIMENT = {
    "model": {"name": "linear"},
    "dataset": {"name": "digits", "batch_size": 16, "augment": [{"name": "shift", "max": 1}]},
    "schedule": {
        "epochs": 1,
        "optimizer": {"name": "sgd", "momentum": 0.5},
        "learning_rate": {"name": "constant", "value": 0.1},
    },
}
FILE = '''"""A line about it.

More.
"""

_size = 4
model = {"name": "mlp", "hidden": (_size * 2,)}
dataset = {"name": "digits", "batch_size": 16}
schedule = {"steps": 3, "optimizer": {"name": "sgd"},
            "learning_rate": {"name": "constant", "value": 1}}
'''


def with_part(part, **changes):
    return EXPERIMENT | {part: EXPERIMENT[part] | changes}


def reversed_keys(value):
    if isinstance(value, dict):
        return {k: reversed_keys(value[k]) for k in reversed(value)}
    return value


def test_digest_does_not_depend_on_key_order():
    a, b = cnnjax.load(EXPERIMENT), cnnjax.load(reversed_keys(EXPERIMENT))
    assert list(reversed_keys(EXPERIMENT)) != list(EXPERIMENT)
    assert a.digest == b.digest


def test_digest_counts_defaults_as_given():
    spelled_out = with_part("schedule", seed=0, dtype="float32", loss={"name": "cross_entropy"})
    assert cnnjax.load(spelled_out).digest == cnnjax.load(EXPERIMENT).digest


@pytest.mark.parametrize(
    "changed",
    [
        with_part("dataset", data_dir="/somewhere/else"),
        with_part("schedule", eval_every=7, checkpoint_every=9),
        EXPERIMENT | {"paper": {"arxiv": "1998"}, "ablation": {"vary": {"schedule.seed": [1]}}},
    ],
    ids=["data_dir", "cadences", "paper and ablation"],
)
def test_digest_leaves_out_what_does_not_decide_the_result(changed):
    assert cnnjax.load(changed).digest == cnnjax.load(EXPERIMENT).digest


@pytest.mark.parametrize(
    "override",
    ["schedule.seed=1", "dataset.batch_size=17", "model.name=mlp", "dataset.augment=[]",
     "schedule.optimizer.momentum=0.6", "schedule.epochs=2"],
)  # fmt: skip
def test_digest_follows_what_decides_the_result(override):
    assert cnnjax.load(EXPERIMENT, set=[override]).digest != cnnjax.load(EXPERIMENT).digest


def test_a_spec_is_frozen_and_gives_copies():
    found = cnnjax.load(EXPERIMENT)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.text = "{}"
    found.model["name"] = "mlp"
    assert found.model["name"] == "linear"
    assert hash(found) == hash(cnnjax.load(EXPERIMENT))


def test_json_and_back_is_the_same_spec(tmp_path):
    found = cnnjax.load(EXPERIMENT)
    path = tmp_path / "spec.json"
    path.write_text(found.to_json(steps=90))
    assert json.loads(path.read_text())["derived"] == {"steps": 90}
    for source in (path, tmp_path, found, found.to_dict()):
        again = cnnjax.load(source)
        assert again.text == found.text
        assert again.digest == found.digest


def test_a_file_runs_in_a_namespace_of_its_own(tmp_path):
    path = tmp_path / "some_experiment.py"
    path.write_text("import colorsys\n" + FILE)
    before = set(sys.modules) | {"colorsys"}
    found = cnnjax.load(path)
    assert set(sys.modules) - before == set()
    assert found.name == "some_experiment"
    assert found.model["hidden"] == [8]


def test_the_docstring_and_the_name_stay_with_the_run(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    found = cnnjax.load(path)
    assert found.doc.startswith("A line about it.")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "spec.json").write_text(found.to_json())
    again = cnnjax.load(tmp_path / "run")
    assert (again.name, again.doc, again.digest) == ("mine", found.doc, found.digest)


def test_a_whole_number_is_a_number(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    value = cnnjax.load(path).schedule["learning_rate"]["value"]
    assert isinstance(value, float)
    assert value == 1.0


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("schedule.seed=3", ["schedule", "seed"], 3),
        ("dataset.augment=[]", ["dataset", "augment"], []),
        ("model.name=lenet5", ["model", "name"], "lenet5"),
        ("model.name='lenet5'", ["model", "name"], "lenet5"),
        ("dataset.split.train=train[:90%]", ["dataset", "split", "train"], "train[:90%]"),
        ("a.b=x=y", ["a", "b"], "x=y"),
        ("schedule.clip=None", ["schedule", "clip"], None),
        ("model.hidden=(3, 4)", ["model", "hidden"], [3, 4]),
    ],
)
def test_overrides_are_python_literals_or_strings(text, path, value):
    assert spec.parse_override(text) == (path, value)


def test_overrides_reach_every_level_and_are_checked():
    found = cnnjax.load(
        EXPERIMENT,
        set=["schedule.seed=3", "dataset.augment.0.max=2", "schedule.learning_rate.warmup=0.1",
             "dataset.split.train=train[:50%]"],
    )  # fmt: skip
    assert found.schedule["seed"] == 3
    assert found.dataset["augment"] == [{"name": "shift", "max": 2, "fill": 0}]
    assert found.schedule["learning_rate"]["warmup"] == 0.1
    assert found.dataset["split"] == {"train": "train[:50%]"}


def test_an_override_of_the_duration_replaces_the_other_kind():
    found = cnnjax.load(EXPERIMENT, set=["schedule.steps=7"])
    assert found.schedule["steps"] == 7
    assert found.schedule["epochs"] is None


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        ({"steps": 7}, 7),
        ({"epochs": 1}, 4),  # ceil(10 / 3)
        ({"epochs": 2}, 7),  # ceil(20 / 3): positions run on across the end of an epoch
        ({"epochs": 0.1}, 1),  # one example
        ({"epochs": 0.3}, 1),  # three: 0.3 * 10 in floating point is more than 3
        ({"examples": 31}, 11),
        ({"examples": 30}, 10),
    ],
)
def test_durations_become_steps(schedule, steps):
    assert spec.steps_of(schedule, examples=10, batch_size=3) == steps


# "package.module:factory" in each table. The factories are this module's own.


class OwnNetwork(nn.Module):
    num_classes: int = 10
    features: int = 2

    @nn.compact
    def __call__(self, x, *, train=False):
        x = Conv(self.features, 3, name="conv")(x)
        return nn.Dense(self.num_classes, name="output")(x.reshape(len(x), -1))


def own_dataset(data_dir=None, *, examples: int = 40) -> data.DataSet:
    parts = data.digits().split(f"train[:{examples}]")
    return data.from_arrays(parts.images, parts.labels, parts.images, parts.labels, name="own")


def own_augment(*, value: int = 1):
    return lambda key, image: image + value


def own_loss(*, scale: float = 1.0):
    return lambda logits, labels, heads: scale * ops.cross_entropy(
        logits, labels, reduction="none"
    )  # fmt: skip


def own_learning_rate(steps: int, *, top: float):
    return lambda count: top * (1 - count / steps)


OWN = {
    "model": {"name": f"{__name__}:OwnNetwork", "features": 3},
    "dataset": {
        "name": f"{__name__}:own_dataset", "examples": 32, "batch_size": 8,
        "augment": [{"name": f"{__name__}:own_augment", "value": 2}],
    },
    "schedule": {
        "steps": 3,
        "optimizer": {"name": f"{own_optimizer.__module__}:sgd", "momentum": 0.9},
        "learning_rate": {"name": f"{__name__}:own_learning_rate", "top": 0.1},
        "loss": {"name": f"{__name__}:own_loss", "scale": 2.0},
    },
}  # fmt: skip


def test_a_factory_of_ones_own_stands_in_every_table(tmp_path):
    import jax

    run = cnnjax.train(OWN, out=tmp_path / "run", devices=jax.devices()[:1], progress=False)
    assert run.result["n"] == 32
    assert run.variables["params"]["conv"]["kernel"].shape == (3, 3, 1, 3)
    assert run.metrics[0]["learning_rate"] == pytest.approx(0.1)
    assert training.Run(tmp_path / "run").spec.digest == cnnjax.load(OWN).digest


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.featurse=3", "model: unknown key 'featurse'.\nDid you mean 'features'?"),
        ("dataset.examples=many", "dataset.examples: expected an integer, got 'many'."),
        ("schedule.loss.scale=x", "schedule.loss.scale: expected a number, got 'x'."),
        ("dataset.augment.0.valu=1", "augment[0]: unknown key 'valu'.\nDid you mean 'value'?"),
        ("schedule.learning_rate.top=None", "learning_rate.top: expected a number, got None."),
    ],
)
def test_factories_of_ones_own_are_checked_by_the_same_rules(override, said):
    with pytest.raises(cnnjax.errors.SpecError) as caught:
        cnnjax.load(OWN, set=[override])
    assert said in str(caught.value)
