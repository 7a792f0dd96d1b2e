"""What differs between two runs, from their plain files."""

import json

import pytest
from records import ENV, write_run

from cnnjax.__main__ import main
from cnnjax.data.order import permutation
from cnnjax.errors import RunError
from cnnjax.study.diff import diff

LENET = {"model": {"name": "lenet5", "variant": "modern"}}
FACTS = {"input_shape": [28, 28, 1]}


def paths(rows):
    return {row["path"]: (row["a"], row["b"]) for row in rows}


def test_two_seeds_differ_in_seed_data_order_and_result_alone(tmp_path):
    a = write_run(tmp_path / "a", 0.90, changes=LENET, derived=FACTS)
    b = write_run(tmp_path / "b", 0.92, changes=LENET, derived=FACTS, seed=1)
    found = diff(a, b)
    assert paths(found["spec"]) == {"schedule.seed": (0, 1)}
    assert found["architecture"]["layers"] == []
    assert [found[k] for k in ("cost", "code", "versions", "machine")] == [[], [], [], []]
    order = found["data_order"]
    assert not order["same"]
    assert order["b"]["first"] == permutation(1, 50_000, 0)[:8].tolist()
    scores = {row["path"]: row["difference"] for row in found["result"]}
    assert scores["top1"] == pytest.approx(0.02)
    assert found["training"]["first_difference"] == {"step": 10, "split": "test"}


def test_the_same_run_twice_differs_in_nothing(tmp_path):
    a = write_run(tmp_path / "a", 0.9, changes=LENET, derived=FACTS)
    b = write_run(tmp_path / "b", 0.9, changes=LENET, derived=FACTS)
    found = diff(a, b)
    assert found["same_run"]
    assert found["spec"] == []
    assert found["data_order"]["same"]
    assert found["training"]["first_difference"] is None
    assert {row["difference"] for row in found["result"]} <= {0, None}


def test_networks_are_compared_layer_by_layer(tmp_path):
    """LeNet-5 and a linear classifier: counts by hand."""
    a = write_run(tmp_path / "a", 0.9, changes=LENET, derived=FACTS)
    b = write_run(tmp_path / "b", 0.9, changes={"model": {"name": "linear"}}, derived=FACTS)
    rows = {row["name"]: row for row in diff(a, b)["architecture"]["layers"]}
    assert rows["features/c1"]["b"] is None
    assert rows["features/c1"]["a"]["params"] == 5 * 5 * 6 + 6
    output = rows["classifier/output"]
    assert (output["a"]["params"], output["b"]["params"]) == (84 * 10 + 10, 784 * 10 + 10)


def test_a_network_that_cannot_be_rebuilt_is_said(tmp_path):
    a = write_run(tmp_path / "a", 0.9, changes=LENET, derived=FACTS)
    b = write_run(tmp_path / "b", 0.9, changes={"model": {"name": "nowhere:net"}}, derived=FACTS)
    assert "cannot be rebuilt" in diff(a, b)["architecture"]["unknown"]


def test_code_versions_and_machine_are_told_apart(tmp_path):
    other = {**ENV, "git": {"commit": "b" * 40, "changed": True}, "python": "3.13.0",
             "device": {**ENV["device"], "kind": "H100"}}  # fmt: skip
    a = write_run(tmp_path / "a", 0.9, changes=LENET, derived=FACTS)
    b = write_run(tmp_path / "b", changes=LENET, derived=FACTS, env=other)
    found = diff(a, b)
    assert paths(found["code"]) == {"commit": ("a" * 40, "b" * 40), "changed": (False, True)}
    assert paths(found["versions"]) == {"python": ("3.12.1", "3.13.0")}
    assert paths(found["machine"]) == {"device.kind": ("cpu", "H100")}
    assert {row["path"]: row["b"] for row in found["result"]}["top1"] is None


def test_a_folder_of_runs_is_no_run(tmp_path):
    run = write_run(tmp_path / "runs" / "a", 0.9)
    with pytest.raises(RunError, match=r"is no run directory, but holds some, such as .*a\."):
        diff(run, tmp_path / "runs")


def test_the_command_shows_both_forms(tmp_path, capsys):
    a = write_run(tmp_path / "a", 0.90, changes=LENET, derived=FACTS)
    b = write_run(tmp_path / "b", 0.92, changes=LENET, derived=FACTS, seed=1)
    assert main(["diff", str(a), str(b)]) == 0
    shown = capsys.readouterr().out
    assert "schedule.seed" in shown
    assert "equal: architecture, cost, code, versions, machine" in shown
    assert "data order: differs" in shown
    assert main(["diff", str(a), str(b), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == diff(a, b)
