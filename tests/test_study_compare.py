"""Comparisons of run directories that are written as plain files."""

import csv
import json
import math
import shutil
import xml.etree.ElementTree as ET

import pytest
from records import ENV, SHOWCASE, changed, digest_of, write_run, write_study
from scipy import stats as scipy_stats

import cnnjax
from cnnjax.__main__ import main
from cnnjax.errors import RunError, SpecError
from cnnjax.study import bibliography, figures, latex, protocol, runs, tables
from cnnjax.study.compare import compare

ARMS = {
    "base": {"top1": {0: 0.90, 1: 0.91, 2: 0.93}},
    "none": {"changes": {"model.shortcut": "none"}, "top1": {0: 0.87, 1: 0.89, 2: 0.88}},
    "deep": {"changes": {"model.depth": 32}, "top1": {0: 0.91, 1: 0.915, 2: 0.932}},
}


@pytest.fixture
def study(tmp_path):
    return write_study(tmp_path / "study", ARMS)


def arm_of(comparison, name):
    return next(arm for arm in comparison.arms if arm.name == name)


def said(comparison):
    return "\n".join(comparison.notes)


def test_an_arm_is_set_against_the_base_in_percent_error_paired_by_seed(study):
    found = compare(study)
    arm = arm_of(found, "none")
    # By hand: 13, 11, 12 % against 10, 9, 7 %.
    assert arm.summary.mean == pytest.approx(12.0)
    assert arm.summary.sd == pytest.approx(1.0)
    assert arm.effect.difference == pytest.approx((3 + 2 + 5) / 3)
    expected = scipy_stats.ttest_rel([13, 11, 12], [10, 9, 7])
    assert arm.effect.p == pytest.approx(expected.pvalue)
    # Two arms: the smaller p value counts twice, the larger no less than that.
    other = arm_of(found, "deep")
    small, large = sorted([arm.effect.p, other.effect.p])
    assert sorted([arm.p, other.p]) == pytest.approx([2 * small, max(2 * small, large)])
    assert arm_of(found, "base").effect is None


def test_accuracy_turns_the_sign_and_the_best(study):
    error, accuracy = compare(study), compare(study, accuracy=True)
    for name in ("none", "deep"):
        one, other = arm_of(error, name).effect, arm_of(accuracy, name).effect
        assert one.difference == pytest.approx(-other.difference)
        assert one.p == pytest.approx(other.p)
    best = [[arm.name for arm in c.arms if arm.best] for c in (error, accuracy)]
    assert best == [["deep"], ["deep"]]
    assert accuracy.label == "test top-1 accuracy (%)"


def test_another_base_and_measure_may_be_asked_for(study):
    found = compare(study, base="none", measure="loss")
    assert arm_of(found, "base").effect.difference == pytest.approx(-(0.03 + 0.02 + 0.05) / 3)
    assert found.label == "test loss"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "non"}, "no arm 'non'. Did you mean 'none'?"),
        ({"measure": "top2"}, "no measure 'top2'. Did you mean"),
        ({"measure": "loss", "accuracy": True}, "loss is no accuracy"),
    ],
)
def test_what_is_not_there_is_named(study, options, message):
    with pytest.raises(SpecError, match=message):
        compare(study, **options)


def test_a_measure_that_a_run_has_not_is_refused(tmp_path):
    run = write_run(tmp_path / "run", 0.9)
    result = json.loads((run / "result.json").read_text())
    del result["top5"]
    (run / "result.json").write_text(json.dumps(result))
    with pytest.raises(SpecError, match="has no top5"):
        compare(run, measure="top5")


def test_plain_runs_are_arms_by_all_but_the_seed(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"plain-{seed}", 0.9 + seed / 100, seed=seed)
        write_run(tmp_path / f"deep-{seed}", 0.92, seed=seed, changes={"model.depth": 32})
    # Cadences and places of data do not make an arm.
    write_run(tmp_path / "often", 0.93, seed=2,
              changes={"schedule.eval_every": 5, "dataset.data_dir": "there"})  # fmt: skip
    found = compare([tmp_path / "plain-0", tmp_path])
    assert [(arm.name, arm.n) for arm in found.arms] == [("depth=20", 3), ("depth=32", 2)]
    assert found.base == "depth=20"


def test_arms_of_other_models_are_named_after_their_experiments(tmp_path):
    write_run(tmp_path / "a", 0.9, experiment="resnet20")
    write_run(tmp_path / "b", 0.9, changes={"model": {"name": "linear"}}, experiment="linear")
    assert [arm.name for arm in compare(tmp_path).arms] == ["resnet20", "linear"]


def test_a_run_counts_once_however_often_it_is_given(tmp_path):
    run = write_run(tmp_path / "run", 0.9)
    shutil.copytree(run, tmp_path / "copy")
    write_run(tmp_path / "again", 0.8)
    assert [arm.n for arm in compare([run, run, f"{tmp_path}/./run"]).arms] == [1]
    found = compare([run, tmp_path / "copy"])
    assert [arm.n for arm in found.arms] == [1]
    assert "seed 0 is there twice" in said(found)
    assert "with the same result" in said(found)
    found = compare([run, tmp_path / "again"])
    assert found.arms[0].summary.mean == pytest.approx(10.0)
    assert "ANOTHER result" in said(found)


def test_arms_of_one_spec_in_two_studies_are_one(tmp_path):
    more = {
        "base": {"top1": {3: 0.92}},
        "wide": {"changes": {"model.width": 2.0}, "top1": {3: 0.95}},
    }
    write_study(tmp_path / "one", ARMS)
    write_study(tmp_path / "two", more, experiment="width")
    found = compare([tmp_path / "one", tmp_path / "two"])
    assert [(a.name, a.n) for a in found.arms] == [
        ("shortcut: base", 4), ("shortcut: none", 3), ("shortcut: deep", 3), ("width: wide", 1),
    ]  # fmt: skip
    assert arm_of(found, "width: wide").effect.difference == pytest.approx(-3.0)


@pytest.mark.parametrize(
    ("changes", "options", "flag"),
    [
        ({"dataset.name": "cifar100"}, {}, "dataset.name: cifar100, base cifar10"),
        ({"dataset.normalize": "unit"}, {}, "dataset.normalize: unit, base cifar10"),
        ({"schedule.steps": 200}, {}, "steps: 200, base 100"),
        ({"dataset.batch_size": 64}, {}, "batch size: 64, base 128"),
        ({}, {"result": {"split": "validation"}}, "scored on: validation, base test"),
        ({}, {"result": {"n": 5_000}}, "images scored: 5,000, base 10,000"),
        ({}, {"result": {"selected": "best on validation"}}, "network reported: best on"),
        ({}, {"derived": {"splits": {"train": {"split": "train[:50%]", "examples": 25_000}}}},
         "train split: train[:50%] (25,000), base train (50,000)"),
    ],
)  # fmt: skip
def test_other_data_or_budget_is_flagged(tmp_path, changes, options, flag):
    arms = {
        "base": {"top1": {0: 0.9, 1: 0.91}},
        "other": {"changes": {**changes, "model.depth": 32}, "top1": {0: 0.93, 1: 0.95}, **options},
    }
    found = compare(write_study(tmp_path / "study", arms))
    assert any(flag in f for f in arm_of(found, "other").flags)
    assert "† other was not trained and scored as the base was" in said(found)
    assert "other†" in tables.markdown(found)
    assert not any(arm.best for arm in found.arms)


@pytest.mark.parametrize("path", ["dataset.augment", "model.depth", "schedule.optimizer"])
def test_what_an_arm_may_vary_is_not_flagged(tmp_path, path):
    value = {"dataset.augment": [], "model.depth": 32, "schedule.optimizer": {"name": "adam"}}[path]
    arms = {"base": {"top1": {0: 0.9}}, "other": {"changes": {path: value}, "top1": {0: 0.9}}}
    assert arm_of(compare(write_study(tmp_path / "study", arms)), "other").flags == ()


def test_another_loss_is_flagged_where_the_loss_is_compared(tmp_path):
    changes = {"schedule.loss.label_smoothing": 0.1}
    arms = {"base": {"top1": {0: 0.9}}, "smooth": {"changes": changes, "top1": {0: 0.9}}}
    study = write_study(tmp_path / "study", arms)
    assert arm_of(compare(study), "smooth").flags == ()
    assert "label_smoothing" in arm_of(compare(study, measure="loss"), "smooth").flags[0]


def test_one_seed_gives_no_interval_and_says_so(tmp_path):
    arms = {name: {**arm, "top1": {0: arm["top1"][0]}} for name, arm in ARMS.items()}
    found = compare(write_study(tmp_path / "study", arms))
    assert "One seed per arm: no interval is given" in said(found)
    assert not any(arm.best for arm in found.arms)
    table = tables.markdown(found).partition("\n\n")[0]
    assert "±" not in table
    assert table.count("[") == 0
    assert "+3.00" in table
    assert "p:" not in tables.caption(found)


def test_unfinished_runs_are_listed_and_not_counted(tmp_path):
    arms = {
        "base": {"top1": {0: 0.9, 1: 0.91}},
        "deep": {"changes": {"model.depth": 32}, "top1": {0: 0.92, 1: None, 2: None},
                 "absent": [2]},
    }  # fmt: skip
    study = write_study(tmp_path / "study", arms)
    found = compare(study)
    deep = arm_of(found, "deep")
    assert deep.n == 1
    assert len(deep.group.waiting) == 2
    assert all(str(path) in said(found) for path in deep.group.waiting)
    assert "One seed only, so no interval: deep." in said(found)


def test_seeds_that_the_base_has_not_are_said(tmp_path):
    arms = {
        "base": {"top1": {0: 0.9, 1: 0.91}},
        "deep": {"changes": {"model.depth": 32}, "top1": {1: 0.92, 2: 0.95}},
        "wide": {"changes": {"model.width": 2.0}, "top1": {7: 0.92}},
    }
    found = compare(write_study(tmp_path / "study", arms))
    assert arm_of(found, "deep").effect.n == 1
    assert "deep: 1 of its 2 seeds are also the base's" in said(found)
    assert "wide: none of its seeds are also the base's" in said(found)
    assert arm_of(found, "wide").effect.difference is None


def test_mixed_code_and_versions_are_noted(tmp_path):
    other = {**ENV, "git": {"commit": "b" * 40, "changed": True},
             "versions": {**ENV["versions"], "jax": "0.11.0"},
             "device": {**ENV["device"], "kind": "H100"}}  # fmt: skip
    write_run(tmp_path / "a", 0.9, seed=0)
    write_run(tmp_path / "b", 0.9, seed=1, env=other)
    write_run(tmp_path / "c", 0.9, seed=2, env=None)
    notes = said(compare(tmp_path))
    assert "different code states: aaaaaaaa (1 run), bbbbbbbb+ (1 run)" in notes
    assert "uncommitted changes" in notes
    assert "version of jax: 0.10.0 (1 run), 0.11.0 (1 run)" in notes
    assert "different devices: 1 x cpu (1 run), 1 x H100 (1 run)" in notes
    assert "1 run without env.json" in notes


def test_an_arm_that_changes_nothing_is_found_out(tmp_path):
    arms = {
        "base": {"top1": {0: 0.9, 1: 0.91}},
        "same": {"changes": {"model.depth": 32}, "top1": {0: 0.9, 1: 0.91}},
        "level": {"changes": {"model.depth": 44}, "top1": {0: 0.91, 1: 0.92}},
    }
    notes = said(compare(write_study(tmp_path / "study", arms)))
    assert "same: equal to the base in every seed" in notes
    assert "level: the same difference in all 2 seeds" in notes


@pytest.mark.parametrize("selected", ["best", "best on test", None])
def test_a_score_selected_on_test_is_refused(tmp_path, selected):
    write_run(tmp_path / "run", 0.9, result={"selected": selected})
    with pytest.raises(RunError, match=r"result\.json: selected is .* expected 'last' or 'best on"):
        compare(tmp_path / "run")


def test_files_of_two_runs_are_told_apart(tmp_path):
    write_run(tmp_path / "run", 0.9, result={"digest": "f" * 64})
    with pytest.raises(RunError, match="is of run ffffffff"):
        compare(tmp_path / "run")


def test_a_spec_that_was_edited_is_noted(tmp_path):
    run = write_run(tmp_path / "run", 0.9)
    text = (run / "spec.json").read_text()
    (run / "spec.json").write_text(text.replace('"depth": 20', '"depth": 8'))
    assert "is not the one that its digest was taken of" in said(compare(run))


def damage_result(run):
    (run / "result.json").write_text('{"top1": 0.')


def damage_metrics(run):
    (run / "metrics.jsonl").write_text('{"step": \n{"step": 2}\n')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_result, r"result\.json:1: not JSON"),
        (damage_metrics, r"metrics\.jsonl:1: not JSON"),
        (lambda run: (run / "spec.json").write_text("[]"), r"spec\.json: expected an object"),
        (lambda run: (run / "spec.json").write_text("{}"), r"spec\.json: has no model, dataset"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, damage, message):
    run = write_run(tmp_path / "run", 0.9)
    damage(run)
    with pytest.raises(RunError, match=message):
        compare(run)


def test_a_line_that_is_being_written_is_passed_over(tmp_path):
    run = write_run(tmp_path / "run")
    rows = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(rows + '{"step": 40, "spl')
    assert runs.read(run).step == 30


def test_bad_paths_say_what_was_found(tmp_path):
    write_run(tmp_path / "unfinished")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("")
    for path, message in {
        "unfinishd": r"unfinishd: no such folder\. Did you mean 'unfinished'\?",
        "empty": "empty: holds no run and no study",
        "notes.txt": r"notes\.txt: is a file",
        "unfinished": "none of the 1 runs is finished",
    }.items():
        with pytest.raises(RunError, match=message):
            compare(tmp_path / path)
    with pytest.raises(RunError, match="no runs to compare"):
        compare([])


@pytest.mark.slow
def test_slim_runs_give_the_same_tables(tmp_path):
    """What a paper ships: the plain files, in another place, without checkpoints."""
    study = write_study(tmp_path / "study", ARMS)
    for run in study.glob("runs/*"):
        (run / "checkpoints").mkdir()
        (run / "curves.png").write_bytes(b"")
    texts = (tables.markdown, tables.comma_separated, latex.latex, protocol.latex)
    full = [text(compare(study)) for text in texts]
    kept = {"spec.json", "result.json", "metrics.jsonl", "env.json", "timing.jsonl"}
    slim = tmp_path / "slim"
    for file in study.rglob("*.json*"):
        if file.name in kept | {"study.json"}:
            target = slim / file.relative_to(study)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    shutil.rmtree(study)
    assert [text(compare(slim)) for text in texts] == full


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of the showcase study, as the command line writes it."""
    study = write_study(tmp_path_factory.mktemp("showcase") / "study", SHOWCASE)
    assert main(["compare", str(study), "--json"]) == 0
    return study / "report"


def test_the_command_writes_everything_into_the_study(report):
    written = {path.name for path in report.iterdir()}
    assert {"report.html", "table.md", "table.tex", "table_page.tex", "table.csv", "setup.md",
            "setup.tex", "references.bib"} < written  # fmt: skip
    for name in ("curves", "parameters", "macs", "time", "effects"):
        assert {f"{name}.{kind}" for kind in ("pdf", "svg", "png")} < written


def test_figures_are_as_wide_as_a_column(report):
    for path in report.glob("*.svg"):
        width = ET.parse(path).getroot().get("width")
        assert width == "237.6pt"  # 3.3 inches of 72 points


def test_the_csv_has_the_numbers_in_full(report):
    with (report / "table.csv").open() as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    values = [100 - 100 * v for v in SHOWCASE["shortcut=none"]["top1"].values()]
    base = [100 - 100 * v for v in SHOWCASE["base"]["top1"].values()]
    row = rows["shortcut=none"]
    assert float(row["mean"]) == pytest.approx(sum(values) / 5)
    test = scipy_stats.ttest_rel(values, base)
    assert float(row["p"]) == pytest.approx(test.pvalue)
    assert float(row["difference_low"]) == pytest.approx(test.confidence_interval().low)
    assert row["seeds"] == "0 1 2 3 4"
    assert rows["depth=56"]["low"] == ""


def test_the_page_asks_nothing_of_the_network(report):
    text = (report / "report.html").read_text()
    assert "http" not in text.replace("http://www.w3.org/", "")
    assert text.count("<svg") == 5


def test_latex_escapes_what_it_must(report):
    text = (report / "table.tex").read_text()
    assert r"width=0.5 \& 50 \% fewer\_maps" in text
    assert r"\textbf{7.85 $\pm$ 0.15}" in text
    assert r"$-$0.87\textsuperscript{***}" in text
    assert latex.escape("a_b{c}^~\\#$<|") == (
        r"a\_b\{c\}\textasciicircum{}\textasciitilde{}\textbackslash{}\#\$$<$$|$"
    )


def test_the_set_up_is_that_of_the_specs(report):
    text = (report / "setup.md").read_text()
    for part in (
        "resnet_cifar (depth 20, shortcut identity, width 1) [@he2016; @ioffe2015]",
        "50,000 train images", "pad_crop (pad 4), flip (probability 0.5)",
        "100 steps of 128 images (0.256 epochs)", "sgd (momentum 0.9, weight decay 0.0001)",
        "model.depth 32 in place of 20, model.shortcut projection in place of identity",
    ):  # fmt: skip
        assert part in text
    assert "@inproceedings{he2016," in (report / "references.bib").read_text()
    assert r"~\cite{he2016,ioffe2015}" in (report / "setup.tex").read_text()


@pytest.mark.parametrize("number", [61_706, 999_600, 41_000_000, 270_000, 7, 998, None])
def test_amounts_are_within_half_a_percent(number):
    text = tables.amount(number)
    if number is None:
        assert text == ""
        return
    value, _, unit = text.partition(" ")
    shown = float(value) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unit]
    assert shown == pytest.approx(number, rel=0.005)
    assert "e" not in text


def test_the_front_holds_what_nothing_beats():
    points = [(1, 9.0), (2, 8.0), (2, 8.5), (3, 8.2), (4, 7.0), (5, 7.0)]
    front = [(1, 9.0), (2, 8.0), (4, 7.0)]
    beaten = [
        any(x <= a and y <= b and (x, y) != (a, b) for x, y in points) for a, b in points
    ]  # the definition
    assert front == [p for p, lost in zip(points, beaten, strict=True) if not lost]
    found = figures.pareto([(float(x), y) for x, y in points], lower=True)
    assert found == front
    mirrored = figures.pareto([(float(x), -y) for x, y in points], lower=False)
    assert mirrored == [(x, -y) for x, y in front]


def test_every_architecture_has_a_paper_or_is_no_paper_s():
    from cnnjax.models import MODELS

    assert set(bibliography.PAPERS.values()) <= set(bibliography.ENTRIES)
    without = {n for n in MODELS if not any(n.startswith(p) for p in bibliography.PAPERS)}
    assert without == {"linear", "mlp", "convnet"}
    for key, entry in bibliography.ENTRIES.items():
        assert entry.count("{") == entry.count("}")
        assert entry.partition("{")[2].startswith(f"{key},")


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ({"name": "resnet50v2"}, ["he2016", "he2016identity"]),
        ({"name": "resnet_cifar", "order": "full_preactivation"}, ["he2016", "he2016identity"]),
        ({"name": "resnet_cifar", "order": "original"}, ["he2016"]),
        ({"name": "vgg16"}, ["simonyan2015"]),
        ({"name": "nin_blocks:mine"}, []),
    ],
)
def test_papers_are_those_of_the_network(tmp_path, model, keys):
    derived = {"cost": {"params": {"trainable": 5, "batch_stats": 0}}}
    run = write_run(tmp_path / "run", 0.9, changes={"model": model}, derived=derived)
    assert bibliography.keys(runs.read(run)) == keys


def test_results_are_a_frame_of_runs(study):
    frame = cnnjax.results(study)
    assert len(frame) == 9
    assert frame["model.depth"].value_counts().to_dict() == {20: 6, 32: 3}
    mean = frame.groupby("model.shortcut")["top1"].mean()
    assert mean["none"] == pytest.approx((0.87 + 0.89 + 0.88) / 3)
    assert frame["cost.params.trainable"].unique().tolist() == [270_000]
    assert json.loads(frame["dataset.augment"][0])[1]["name"] == "flip"
    unfinished = write_run(study.parent / "more")
    frame = cnnjax.results([study, unfinished])
    assert frame["finished"].tolist() == [True] * 9 + [False]
    assert math.isnan(frame["top1"].iloc[-1])


def test_seconds_are_steps_at_the_steady_rate(tmp_path):
    run = runs.read(write_run(tmp_path / "run", 0.9, rate=640.0))
    assert run.seconds == pytest.approx(100 * 128 / 640)


def test_the_command_prints_json_and_nothing_else(study, tmp_path, capsys):
    run = next(study.glob("runs/*"))
    assert main(["compare", str(run), "--json", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    content = json.loads(printed.out)
    assert [(arm["name"], arm["n"]) for arm in content["arms"]] == [("shortcut", 1)]
    assert content["arms"][0]["runs"][0]["directory"] == str(run)
    assert content["report"] == str(tmp_path / "out" / "report.html")
    assert printed.err == ""


def test_a_report_is_not_written_over_a_run_or_a_file(study, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["compare", str(study), "--out", str(study)]) == 1
    assert "is a run or study directory" in capsys.readouterr().err
    assert main(["compare", str(study), "--out", str(tmp_path / "file")]) == 1
    assert "is a file" in capsys.readouterr().err


def test_plan_goes_both_ways(capsys):
    """R: power.t.test(power = .90, delta = 1, sd = 1) gives n = 22.02110."""
    assert main(["plan", "--effect", "1", "--sd", "1", "--power", "0.9", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seeds"] == 23
    assert main(["plan", "--seeds", "23", "--sd", "1", "--power", str(found["power"])]) == 0
    assert "smallest effect      1\n" in capsys.readouterr().out
    assert main(["plan", "--sd", "1"]) == 2
    assert "got neither" in capsys.readouterr().err
    assert main(["plan", "--sd", "1", "--seeds", "1"]) == 2


def test_fake_runs_have_the_digest_of_their_spec(study):
    """The files these tests write are like those of a real run in what is checked."""
    for path in study.glob("runs/*/spec.json"):
        content = json.loads(path.read_text())
        assert content["digest"] == digest_of({k: content[k] for k in runs.SECTIONS})
    assert digest_of(changed({"schedule.eval_every": 3})) == digest_of(changed({}))


def test_the_set_up_of_one_run_has_no_others(tmp_path):
    text = protocol.setup(compare(write_run(tmp_path / "run", 0.9)))
    assert "Every arm was run with seed 0;" in text
    assert "other arms" not in text
