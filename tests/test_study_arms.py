"""The arms of an ablation against hand-listed ones; what a file says wrong; matched cost."""

import json

import jax
import jax.numpy as jnp
import pytest

import cnnjax
from cnnjax import models
from cnnjax.errors import SpecError
from cnnjax.study.arms import arms_of, written
from cnnjax.study.match import width_for
from cnnjax.study.plan import plan

FILE = {
    "model": {"name": "convnet", "stages": [[4, "pool"]], "dense": [8]},
    "dataset": {"name": "digits", "batch_size": 32},
    "schedule": {
        "steps": 30, "optimizer": {"name": "sgd"},
        "learning_rate": {"name": "constant", "value": 0.5}, "seed": 7,
    },
}  # fmt: skip


def study(**ablation):
    return FILE | {"ablation": ablation}


def arms(**ablation):
    spec = cnnjax.load(study(**ablation))
    base, found = arms_of(spec, spec.ablation)
    return base, {arm.name: arm.changes for arm in found}


def test_grid_is_every_combination_and_the_files_own_is_the_base():
    base, found = arms(vary={"model.norm": ["batch", "none"], "model.width": [0.5, 1]})
    assert base == "norm=none, width=1"
    assert found == {
        "norm=batch, width=0.5": {"model.norm": "batch", "model.width": 0.5},
        "norm=batch, width=1": {"model.norm": "batch", "model.width": 1},
        "norm=none, width=0.5": {"model.norm": "none", "model.width": 0.5},
        "norm=none, width=1": {"model.norm": "none", "model.width": 1},
    }
    assert arms(vary={"model.width": [2, 3]})[0] == "width=2"


def test_one_at_a_time_sets_one_path_and_has_the_file_as_its_base():
    vary = {"model.norm": ["batch", "none"], "schedule.optimizer.momentum": [0.5, 0.9]}
    base, found = arms(mode="one_at_a_time", vary=vary)
    assert base == "base"
    assert found == {
        "base": {},
        "norm=batch": {"model.norm": "batch"},
        "optimizer.momentum=0.5": {"schedule.optimizer.momentum": 0.5},
        "optimizer.momentum=0.9": {"schedule.optimizer.momentum": 0.9},
    }


def test_leave_one_out_puts_one_path_back_to_the_file():
    flip = [{"name": "flip"}]
    vary = {"model.norm": ["batch", "layer"], "dataset.augment": [flip], "model.dropout": [0.5]}
    base, found = arms(mode="leave_one_out", vary=vary)
    assert base == "full"
    assert found == {
        "full": {"model.norm": "batch", "dataset.augment": flip, "model.dropout": 0.5},
        "without norm=batch": {"dataset.augment": flip, "model.dropout": 0.5},
        "without augment=[flip]": {"model.norm": "batch", "model.dropout": 0.5},
        "without dropout=0.5": {"model.norm": "batch", "dataset.augment": flip},
    }


def test_arms_are_taken_as_they_are_written():
    listed = {"wide": {"model.width": 2}, "base": {}, "other": {"model": {"name": "linear"}}}
    assert arms(mode="arms", arms=listed) == ("base", listed)
    assert arms(arms={"a": {}, "b": {"model.width": 2}})[0] == "a"


def test_names_are_short_and_never_ambiguous():
    _, found = arms(vary={"model.name": ["mlp"], "dataset.name": ["digits"], "model.width": [1]})
    assert list(found) == ["model.name=mlp, dataset.name=digits, width=1"]
    assert written([{"name": "shift", "max": 2}, {"name": "flip"}]) == "[shift(max=2), flip]"


def test_run_i_has_the_files_seed_plus_i():
    planned = plan(study(vary={"model.width": [1, 2]}, seeds=2))
    assert [(r["arm"], r["seed"]) for r in planned["runs"]] == [
        ("width=1", 7), ("width=2", 7), ("width=1", 8), ("width=2", 8),
    ]  # fmt: skip
    for run in planned["runs"]:
        width = int(run["arm"][-1])
        changes = [f"model.width={width}", f"schedule.seed={run['seed']}"]
        assert run["digest"] == cnnjax.load(FILE, set=changes).digest
        assert run["directory"] == f"runs/{run['digest'][:12]}"
        file = json.loads(planned["files"][run["digest"][:12]])
        assert cnnjax.load({k: file[k] for k in FILE}).digest == run["digest"]
    assert len(plan(study(vary={"model.width": [1, 2]}), seeds=5)["runs"]) == 10


def test_an_arm_reaches_nested_keys_lists_and_whole_dicts():
    listed = {
        "augmented": {"dataset.augment": [{"name": "shift"}], "dataset.augment.0.max": 2},
        "features": {"model.stages.0.0": 6},
        "linear": {"model": {"name": "linear"}},
        "short": {"schedule.epochs": 1},
    }
    planned = plan(study(arms=listed, seeds=1))
    specs = [json.loads(planned["files"][r["digest"][:12]]) for r in planned["runs"]]
    assert specs[0]["dataset"]["augment"] == [{"name": "shift", "max": 2, "fill": 0}]
    assert specs[1]["model"]["stages"] == [[6, "pool"]]
    # 64 pixels and a bias for each of ten classes
    assert (specs[2]["model"]["name"], planned["arms"][2]["params"]) == ("linear", 650)
    assert (specs[3]["schedule"]["steps"], planned["arms"][3]["steps"]) == (None, 45)


def test_the_papers_number_stays_with_the_arm_that_is_the_paper():
    planned = plan(
        study(mode="one_at_a_time", vary={"model.width": [2]}, seeds=1) | {"paper": {"n": 1}}
    )
    base, wide = (json.loads(text) for text in planned["files"].values())
    assert base["paper"] == {"n": 1}
    assert "paper" not in wide


WRONG = {
    "no ablation": (None, "spec: has no ablation. Add one, such as ablation = {'vary':"),
    "an unknown key": ({"very": {}}, "spec: ablation: unknown key 'very'.\nDid you mean 'vary'?"),
    "no seeds": ({"vary": {"model.width": [1]}, "seeds": 0},
                 "spec: ablation.seeds: expected an integer >= 1, got 0."),
    "nothing varied": ({}, "spec: ablation: mode 'grid' needs 'vary', such as {'model.depth':"),
    "arms in a grid": ({"vary": {"model.width": [1]}, "arms": {"a": {}}},
                       "spec: ablation: mode 'grid' takes 'vary', not 'arms'."),
    "a value that is no list": ({"vary": {"model.width": 2}},
                                "ablation.vary.model.width: expected a list of at least one value"),
    "no values": ({"vary": {"model.width": []}},
                  "spec: ablation.vary.model.width: expected a list of at least one value, got []"),
    "a value twice": ({"vary": {"model.width": [1, 1]}}, "model.width: 1 stands there twice."),
    "an unknown dict": ({"vary": {"modle.width": [1]}},
                        "spec: ablation.vary: no path 'modle.width'. Did you mean 'model'?"),
    "an unknown path": ({"mode": "one_at_a_time", "vary": {"model.widht": [2]}},
                        "spec: arm 'widht=2': model: unknown key 'widht'.\nDid you mean 'width'?"),
    "an unknown nested path": (
        {"arms": {"a": {}, "fast": {"schedule.optimizer.momentun": 1}}},
        "spec: arm 'fast': schedule.optimizer: unknown key 'momentun'.\nDid you mean 'momentum'?"),
    "a bad value": ({"vary": {"model.norm": ["none", "bach"]}},
                    "spec: arm 'norm=bach': model.norm: expected one of"),
    "a shape that vanishes": (
        {"vary": {"model.stages": [[[4]], [[4, "pool"]] * 5]}},
        "model: does not fit images of 8x8x1"),
    "the seed": ({"vary": {"schedule.seed": [1, 2]}},
                 "spec: ablation.vary: 'schedule.seed' is what 'seeds' runs over"),
    "one run twice": ({"arms": {"a": {}, "b": {"model.norm": "none"}}},
                      "spec: ablation: arms 'a' and 'b' are one run."),
    "nothing left out": ({"mode": "leave_one_out", "vary": {"model.norm": ["none"]}},
                         "leaving out 'model.norm' changes nothing: 'none' is what the file has."),
    "a width that is matched": (
        {"vary": {"model.width": [1, 2]}, "match": "params"},
        "spec: arm 'width=2': 'match' sets model.width, which this arm sets too."),
}  # fmt: skip


@pytest.mark.parametrize(("ablation", "said"), WRONG.values(), ids=WRONG)
def test_what_an_ablation_says_wrong_is_said_clearly(ablation, said):
    with pytest.raises(SpecError) as caught:
        plan(FILE if ablation is None else study(**ablation))
    assert said in str(caught.value)


def test_a_width_is_found_where_counts_go_in_steps():
    def count(width):  # maps are whole
        return round(20 * width) * round(40 * width)

    for target in (800, 1000, 5000, 123):
        widths = [i / 1000 for i in range(1, 6000)]
        nearest = min(abs(count(w) - target) / target for w in widths)
        found = width_for(target, count, 1.0)
        assert found.reached == count(found.value)
        assert found.error == abs(found.reached - target) / target
        assert found.error <= max(nearest, 0.01)


def test_matched_arms_have_the_parameters_of_the_base():
    """A net with windows of 25 pixels has to have fewer maps than one with windows of 9."""
    model = {"name": "convnet", "stages": [[48, 60]], "dense": [], "global_pool": "avg"}
    ablation = {"vary": {"model.kernel_size": [3, 5]}, "match": "params", "seeds": 1}
    found = plan(FILE | {"model": model, "ablation": ablation})
    target = 48 * 9 + 48 + 48 * 60 * 9 + 60 + 60 * 10 + 10
    for arm, text in zip(found["arms"], found["files"].values(), strict=True):
        reached = count(json.loads(text)["model"])
        assert arm["params"] == reached
        assert abs(reached - target) / target <= 0.01
    base, large = (arm["matched"] for arm in found["arms"])
    assert base is None
    assert (large["path"], large["target"]) == ("model.width", target)
    assert 0.55 < large["value"] < 0.65  # about 3 / 5


def count(model):
    module = models.build(model, num_classes=10, input_shape=[8, 8, 1])
    image = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(lambda k, x: module.init(k, x, train=False), key, image)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_what_cannot_be_matched_says_how_near_it_is():
    """LeNet-5 has no width: table I joins 60 of 96 pairs of maps, 36 kernels of 25 fewer."""
    images = {"name": "fashion_mnist_12k", "batch_size": 32}
    file = FILE | {"model": {"name": "lenet5", "variant": "modern"}, "dataset": images}
    vary = {"model.connections": ["full", "table"]}
    full, table = plan(file | {"ablation": {"vary": vary, "match": "params", "seeds": 1}})["arms"]
    assert full["matched"] is None
    assert full["params"] - table["params"] == 36 * 25
    assert (table["matched"]["path"], table["matched"]["value"]) == (None, None)
    assert table["matched"]["error"] == 900 / full["params"]
