"""Published numbers against ours: they agree under the named options, and the reasons are given."""

import json

import pytest

from cnnjax.audit import FACTS, audit, models_long
from cnnjax.errors import SpecError
from cnnjax.models import MODELS

# What no form of the network has, since the source itself does not add up; `why` says how.
DISAGREE = {
    ("alexnet", "activations"),
    ("inception_v3", "multiply-adds", 5e9),
    ("squeezenet1_0", "weights in MiB", 7.7),
}


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_0", "squeezenet1_1", "lenet5", "lenet1"])
def test_a_network_has_what_was_published_under_the_named_options(name):
    for row in audit(name):
        odd = {(name, row.quantity), (name, row.quantity, row.published)} & DISAGREE
        assert row.agrees != bool(odd), row
        assert row.why


def test_a_row_sets_paper_and_library_side_by_side():
    row = next(r for r in audit("alexnet") if r.published == 61_100_840)
    assert row.paper == 60_965_224
    assert row.ours == 61_100_840
    assert row.form["variant"] == "torchvision"
    assert "one-tower" in row.why
    assert row.to_dict()["source"].startswith("torchvision")


def test_numbers_that_were_not_read_in_their_source_are_marked():
    rows = {row.published: row.source for row in audit("squeezenet1_0")}
    assert rows[7.7].endswith("(from the paper, unverified)")
    assert "unverified" not in rows[1_248_424]


def test_resnet50s_stride_is_explained_by_its_multiply_adds():
    fact = next(f for f in FACTS if f.model == "resnet50" and f.value == 4_089_184_256)
    assert f"{4_089_184_256 - 3_857_973_248:,}" in fact.why


def test_facts_and_landmarks_are_about_models_of_the_table():
    named = {fact.model for fact in FACTS} | {row["name"] for row in models_long()}
    assert named <= set(MODELS)


def test_a_network_without_published_counts_is_refused():
    with pytest.raises(SpecError, match="Did you mean 'xception'"):
        audit("exception")


def test_the_command_line_shows_an_audit_and_the_landmarks(capsys):
    from cnnjax.__main__ import main

    assert main(["audit", "resnet18", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {r["published"] for r in rows} >= {11_689_512}
    assert main(["list", "models", "--long"]) == 0
    shown = capsys.readouterr().out
    assert "60,965,224" in shown
    assert "Simonyan & Zisserman" in shown
    assert main(["audit", "resnet19"]) == 2
    assert "Did you mean 'resnet1" in capsys.readouterr().err
    assert main(["list", "losses", "--long"]) == 2
