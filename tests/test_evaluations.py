"""Further scores of a finished network: other splits, and images altered the same way each time."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import cnnjax
from cnnjax import data
from cnnjax.errors import SpecError

TINY = {
    "model": {"name": "linear"},
    "dataset": {"name": "digits", "batch_size": 32},
    "schedule": {
        "steps": 3,
        "optimizer": {"name": "sgd"},
        "learning_rate": {"name": "constant", "value": 0.1},
    },
}
SHIFTED = {"split": "test", "augment": [{"name": "shift", "max": 2}]}


def with_evaluations(**evaluations):
    return {**TINY, "dataset": {**TINY["dataset"], "evaluations": evaluations}}


def shifts(image, max):
    """Every translation of an image by up to `max` pixels, with zeros coming in."""
    height, width, _ = image.shape
    padded = np.pad(image, ((max, max), (max, max), (0, 0)))
    places = range(2 * max + 1)
    return [padded[r : r + height, c : c + width] for r in places for c in places]


def altered_test():
    split = data.digits().split("test")
    return split, data.AugmentedSplit(split, (data.AUGMENTS["shift"](max=2),))


def test_each_altered_image_is_one_of_the_original_s_translations():
    split, altered = altered_test()
    before, labels = split.gather(np.arange(40))
    after, same = altered.gather(np.arange(40))
    np.testing.assert_array_equal(labels, same)
    for one, other in zip(before, after, strict=True):
        assert any(np.array_equal(other, candidate) for candidate in shifts(one, 2))
    assert sum(not np.array_equal(a, b) for a, b in zip(before, after, strict=True)) > 30


def test_what_is_drawn_depends_on_the_index_and_not_on_who_reads_with_it():
    _, altered = altered_test()
    whole, _ = altered.gather(np.arange(20))
    for index in (0, 7, 19):
        np.testing.assert_array_equal(altered.gather(np.array([index]))[0][0], whole[index])


def test_a_run_records_its_evaluations_beside_the_test_score(tmp_path):
    spec = with_evaluations(shifted=SHIFTED, seen={"split": "train[:100]"})
    run = cnnjax.train(spec, out=tmp_path / "run", progress=False)
    rows = {row["split"]: row for row in run.metrics if row["step"] == 3}
    assert set(rows) == {"train", "test", "seen", "shifted"}
    assert rows["seen"]["n"] == 100
    assert rows["seen"]["top1"] == run.evaluate("train[:100]")["top1"]
    _, altered = altered_test()
    images, labels = altered.gather(np.arange(len(altered)))
    logits = run.model.apply(run.variables, jnp.asarray(images, jnp.float32) / 255, train=False)
    right = np.mean(np.argmax(np.asarray(logits), -1) == labels)
    assert rows["shifted"]["top1"] == pytest.approx(right)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["split"] == "test"


def test_evaluations_are_no_part_of_the_digest():
    assert cnnjax.load(with_evaluations(shifted=SHIFTED)).digest == cnnjax.load(TINY).digest


@pytest.mark.parametrize(
    ("evaluations", "said"),
    [
        ({"test": SHIFTED}, "'test' is a split's own name"),
        ({"a": {"splt": "test"}}, "Did you mean 'split'?"),
        ({"a": {"augment": []}}, "expected a key 'split'"),
        ({"a": {"split": "test", "augment": [{"name": "shfit"}]}}, "Did you mean 'shift'?"),
        ({"a": {"split": "test", "augment": "shift"}}, "expected a list of dicts"),
    ],
)
def test_a_wrong_evaluation_says_where_it_is_wrong(evaluations, said):
    with pytest.raises(SpecError, match=r"dataset\.evaluations") as error:
        cnnjax.load(with_evaluations(**evaluations))
    assert said in str(error.value)


def test_an_evaluation_whose_images_change_size_is_refused():
    spec = with_evaluations(
        small={"split": "test", "augment": [{"name": "random_resized_crop", "size": 4}]}
    )
    with pytest.raises(SpecError, match=r"small: its images become \[4, 4, 1\]"):
        cnnjax.train(spec, progress=False)
