"""Claims: their data fit together, the rule of the verdict, and verdicts from plain files."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from records import ENV
from scipy import stats as scipy_stats
from statsmodels.stats.weightstats import ttost_paired

import cnnjax
from cnnjax.__main__ import main
from cnnjax.data import DataSet
from cnnjax.data.splits import resolve_split
from cnnjax.errors import RunError, SpecError
from cnnjax.models import build
from cnnjax.study import claims, stats
from cnnjax.study.claims import CLAIMS, report
from cnnjax.study.claims import run as runner
from cnnjax.study.claims.claim import Claim, Contrast, Setting
from cnnjax.study.claims.measures import FinalError, Rise, StepsTo, TrainingLoss, Value, windows
from cnnjax.study.claims.rule import rule, together
from cnnjax.study.claims.verdict import choose, judge
from cnnjax.study.runs import read
from cnnjax.study.stats import Effect
from cnnjax.training.experiment import load, resolve

SETTINGS = [(claim, tier) for claim in CLAIMS.values() for tier in claim.settings]
NAMED = [claim.study_name(tier) for claim, tier in SETTINGS]
# The networks of the larger tiers take a minute to trace.
TRACED = [
    pytest.param(claim, tier, id=name, marks=() if tier == "cpu" else pytest.mark.slow)
    for (claim, tier), name in zip(SETTINGS, NAMED, strict=True)
]

# --- the data of the claims -----------------------------------------------------------------------

# Classes, side, channels, training and test images, as their authors publish them.
PUBLISHED = {
    "fashion_mnist": (10, 28, 1, 60_000, 10_000),
    "cifar10": (10, 32, 3, 50_000, 10_000),
    "imagenet2012": (1000, None, 3, 1_281_167, 50_000),
}
# Networks of repeated units, checked with fewer of them: a repeated unit changes no shape.
FEWER = {32: 14, 44: 14, 56: 14, 110: 14, 164: 29, 1001: 29}


class Unread:
    """A split with a size and nothing in it."""

    nbytes = 0

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def gather(self, indices):
        raise AssertionError("no image is read to check a claim")


def without_its_images(options):
    """What is known of a data set that is not on this machine."""
    classes, side, channels, train, test = PUBLISHED[options["name"]]
    side = options.get("image_size", side)
    sizes = {"train": train, "test": test}
    return DataSet(
        options["name"],
        tuple(str(i) for i in range(classes)),
        (side, side, channels),
        lambda text: Unread(sum(b - a for _, a, b in resolve_split(text, sizes))),
        sizes,
        {"train": "train", "test": "test"},
    )


CHECKED = set()


@pytest.mark.parametrize(("claim", "tier"), TRACED)
def test_every_arm_of_every_tier_is_a_valid_experiment_whose_shapes_fit(claim, tier):
    """In larger tiers the first arm is traced, and those that the smallest has not."""
    small = claim.settings["cpu"].arms.values() if "cpu" in claim.settings else ()
    for i, changes in enumerate(claim.settings[tier].arms.values()):
        spec = load(claim.source(tier), changes=changes)
        if tier != "cpu" and i and changes in small:
            build(spec.model, num_classes=10, input_shape=(224, 224, 3))
            continue
        model, depth = spec.model, spec.model.get("depth")
        if depth in FEWER and model["name"] == "resnet_cifar":
            spec = load(spec, changes={"model.depth": FEWER[depth]})
        if model["name"] == "resnet":
            spec = load(spec, changes={"model.depth": 18, "model.stages": [1, 1, 1, 1]})
        key = json.dumps([spec.model, spec.dataset], sort_keys=True)
        if key in CHECKED:
            continue
        CHECKED.add(key)
        here = spec.dataset["name"] not in PUBLISHED
        resolve(spec, dataset=None if here else without_its_images(spec.dataset))


@pytest.mark.parametrize(("claim", "tier"), SETTINGS, ids=NAMED)
def test_a_contrast_names_arms_that_there_are_and_every_arm_differs(claim, tier):
    arms = claim.settings[tier].arms
    for contrast in claim.contrasts_at(tier):
        assert set(contrast.arms) <= set(arms)
        assert contrast.smallest > 0
        assert len(set(contrast.arms)) == len(contrast.arms)
    specs = [load(claim.source(tier), changes=changes) for changes in arms.values()]
    assert len({spec.digest for spec in specs}) == len(arms)


@pytest.mark.parametrize(("claim", "tier"), SETTINGS, ids=NAMED)
def test_what_a_measure_reads_is_recorded(claim, tier):
    asked = claim.settings[tier].experiment["dataset"].get("evaluations", {})
    for contrast in claim.contrasts_at(tier):
        match contrast.measure:
            case FinalError(split=split):
                assert split == "test"
            case Rise(low=low, high=high):
                assert {low, high} <= {"test", *asked}


def test_nothing_is_chosen_by_looking_at_test_images():
    for claim, tier in SETTINGS:
        for contrast in claim.contrasts_at(tier):
            if not isinstance(contrast.better, str) or not isinstance(contrast.worse, str):
                assert not contrast.measure.sees_test


def test_the_table_calls_claims_by_their_ids_and_the_small_tier_has_its_data():
    assert [claim.id for claim in CLAIMS.values()] == list(CLAIMS)
    small = [claim.settings["cpu"] for claim in CLAIMS.values() if "cpu" in claim.settings]
    assert len(small) >= 16
    for setting in small:
        assert setting.experiment["dataset"]["name"] == "fashion_mnist_12k"
        assert setting.seeds >= 3


# --- the rule -------------------------------------------------------------------------------------

CASES = {
    "beyond zero and large enough": (1.0, 0.2, 1.8, "lower", "reproduced"),
    "beyond zero, exactly the smallest": (0.5, 0.1, 0.9, "lower", "reproduced"),
    "beyond zero, too small, larger ones not excluded": (0.4, 0.1, 0.7, "lower", "inconclusive"),
    "beyond zero, larger ones excluded": (0.3, 0.2, 0.4, "lower", "contradicted"),
    "about zero, effects of interest excluded": (0.1, -0.2, 0.4, "lower", "contradicted"),
    "the other side": (-1.0, -1.5, -0.5, "lower", "contradicted"),
    "zero and effects of interest both inside": (0.4, -0.3, 1.1, "lower", "inconclusive"),
    "the end of the interval at the smallest": (0.2, -0.1, 0.5, "lower", "inconclusive"),
    "from zero on": (1.0, 0.0, 2.0, "lower", "inconclusive"),
    "equal: inside": (0.1, -0.3, 0.45, "equal", "reproduced"),
    "equal: inside though not zero": (0.3, 0.2, 0.4, "equal", "reproduced"),
    "equal: a difference": (1.0, 0.2, 1.8, "equal", "contradicted"),
    "equal: a difference the other way": (-1.0, -1.8, -0.2, "equal", "contradicted"),
    "equal: reaching out": (0.1, -0.6, 0.8, "equal", "inconclusive"),
    "equal: reaching out on one side": (0.3, 0.05, 0.55, "equal", "inconclusive"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_rule_on_worked_cases(case):
    effect, low, high, kind, outcome = case
    assert rule(Effect(5, effect, low, high), 0.5, kind).outcome == outcome


def test_one_pair_of_seeds_decides_nothing():
    assert rule(stats.paired({0: 9.0}, {0: 1.0}), 0.5).outcome == "inconclusive"
    assert rule(stats.paired({}, {}), 0.5, "equal").outcome == "inconclusive"


def test_the_rule_is_that_of_one_sided_tests_and_of_their_pair():
    draw = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        n, shift, spread = draw.integers(3, 9), draw.uniform(-1, 1.5), draw.uniform(0.1, 1)
        better = draw.normal(10, 0.3, n)
        worse = better + draw.normal(shift, spread, n)
        differences = worse - better
        mean = differences.mean()
        interval = scipy_stats.ttest_1samp(differences, 0.0).confidence_interval()
        effect = Effect(int(n), mean, interval.low, interval.high)
        lower, equal = rule(effect, 0.5).outcome, rule(effect, 0.5, "equal").outcome
        less = scipy_stats.ttest_1samp(differences, 0.5, alternative="less").pvalue
        more = scipy_stats.ttest_1samp(differences, 0.0, alternative="greater").pvalue
        assert (lower == "contradicted") == (less < 0.025)
        assert (lower == "reproduced") == (more < 0.025 and mean >= 0.5)
        assert (equal == "reproduced") == (ttost_paired(worse, better, -0.5, 0.5)[0] < 0.025)
        seen |= {("lower", lower), ("equal", equal)}
    assert len(seen) == 6


def test_a_bound_on_the_effect_decides_only_what_it_can():
    large, none = Effect(5, 2.0, 1.0, 3.0), Effect(5, 0.0, -0.2, 0.2)
    # The worse arm never got there: the effect is at least that large.
    assert rule(large, 0.5, worse_censored=True).outcome == "reproduced"
    assert rule(none, 0.5, worse_censored=True).outcome == "inconclusive"
    # The better arm never got there: it is at most that large.
    assert rule(large, 0.5, better_censored=True).outcome == "inconclusive"
    assert rule(none, 0.5, better_censored=True).outcome == "contradicted"
    assert rule(none, 0.5, "equal", better_censored=True).outcome == "inconclusive"


def test_a_claim_holds_with_all_its_parts_and_falls_with_one():
    assert together(["reproduced", "reproduced"]) == "reproduced"
    assert together(["reproduced", "inconclusive"]) == "inconclusive"
    assert together(["inconclusive", "contradicted"]) == "contradicted"
    assert together([]) == "inconclusive"


# --- measures -------------------------------------------------------------------------------------


def train_row(step, error, loss=1.0, n=64):
    return {"step": step, "split": "train", "loss": loss, "top1": 1 - error / 100, "n": n}


def write_run(directory, rows, *, top1=0.9, seed=0, steps=100, experiment="x"):
    """A finished run directory with these rows of metrics."""
    directory.mkdir(parents=True)
    spec = {
        "model": {"name": "linear"},
        "dataset": {"name": "digits", "batch_size": 64},
        "schedule": {"seed": seed, "steps": steps},
    }
    derived = {"steps": steps, "cost": {"params": {"trainable": 7}, "macs": 1000}}
    content = {**spec, "experiment": experiment, "digest": f"{seed:064d}", "derived": derived}
    (directory / "spec.json").write_text(json.dumps(content))
    (directory / "env.json").write_text(json.dumps({"sessions": [ENV]}))
    test = {"step": steps, "split": "test", "loss": 0.5, "top1": top1, "n": 2000}
    metrics = [*rows, test]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in metrics))
    timing = [{"event": "end", "step": steps, "images_per_s": 640.0}]
    (directory / "timing.jsonl").write_text("".join(json.dumps(r) + "\n" for r in timing))
    result = {**test, "selected": "last", "seed": seed, "digest": content["digest"]}
    (directory / "result.json").write_text(json.dumps(result))
    return directory


def falling(start, end, steps=100):
    """A training error that falls in a straight line, a row every two steps: a window each."""
    places = range(2, steps + 1, 2)
    return [train_row(s, start + (end - start) * s / steps) for s in places]


def test_the_steps_to_an_error_are_interpolated_between_windows(tmp_path):
    # 50 - 0.4 s percent in the row of steps s - 1 and s, whose centre is s - 1: 20 % in the row
    # that ends at 75, if there were one, and so at step 74.
    run = read(write_run(tmp_path / "run", falling(50, 10)))
    assert 2 ** StepsTo(20.0).of(run).value == pytest.approx(74.0)
    assert not StepsTo(20.0).of(run).censored


def test_a_run_that_never_comes_there_counts_with_its_last_step_and_is_flagged(tmp_path):
    run = read(write_run(tmp_path / "run", falling(50, 30)))
    assert StepsTo(20.0).of(run) == Value(math.log2(100), censored=True)


def test_the_final_training_loss_is_the_mean_of_the_last_tenth(tmp_path):
    rows = [train_row(s, 50, loss=float(s)) for s in range(1, 101)]
    run = read(write_run(tmp_path / "run", rows))
    assert TrainingLoss().of(run).value == pytest.approx(np.mean(np.arange(91, 101)))


def test_windows_weigh_rows_by_their_images_and_merge_once():
    rows = [
        train_row(1, 20, 1.0, n=30), train_row(2, 50, 4.0, n=10), train_row(4, 0, 2.0, n=40)
    ]  # fmt: skip
    merged = windows([*rows, {"step": 4, "split": "test", "top1": 0.1}], 100)
    assert [row["step"] for row in merged] == [2, 4]
    assert merged[0]["loss"] == pytest.approx((30 * 1 + 10 * 4) / 40)
    assert 100 * (1 - merged[0]["top1"]) == pytest.approx((30 * 20 + 10 * 50) / 40)
    assert windows(merged, 100) == merged


def test_an_evaluation_that_was_not_taken_is_missed_by_name(tmp_path):
    run = read(write_run(tmp_path / "run", falling(50, 10)))
    with pytest.raises(RunError, match="not scored on 'shifted'"):
        Rise("test", "shifted").of(run)


def test_a_rate_is_chosen_for_a_seed_by_the_other_seeds():
    def values(*numbers):
        return {seed: Value(float(v)) for seed, v in enumerate(numbers)}

    # Seed 0's own best is b, by luck; over the other two a is better.
    found, took = choose(("a", "b"), {"a": values(5, 1, 1), "b": values(0, 3, 3)})
    assert took == {0: "a", 1: "b", 2: "b"}
    assert {seed: v.value for seed, v in found.items()} == {0: 5, 1: 3, 2: 3}
    # An arm one of whose runs failed is not chosen from.
    lacking = {"a": values(5, 4, 4), "b": {0: Value(1.0), 1: Value(1.0)}}
    assert set(choose(("a", "b"), lacking)[1].values()) == {"a"}


# --- verdicts from plain files --------------------------------------------------------------------

TINY = Claim(
    id="tiny",
    statement="Decay helps.",
    paper="Nobody 1900",
    where="page 1",
    published=(),
    contrasts=(Contrast("with against without", "with", "without", FinalError(), 0.5),),
    settings={
        "cpu": Setting(
            "Digits.",
            {
                "model": {"name": "linear"},
                "dataset": {"name": "digits", "batch_size": 64},
                "schedule": {
                    "steps": 2,
                    "optimizer": {"name": "sgd"},
                    "learning_rate": {"name": "constant", "value": 0.1},
                },
            },
            {"without": {}, "with": {"schedule.optimizer.weight_decay": 0.1}},
            seeds=3,
        )
    },
)


@pytest.fixture
def tiny(monkeypatch):
    table = {"tiny": TINY}
    for module in (claims, report, runner):
        monkeypatch.setattr(module, "CLAIMS", table)
    return TINY


def write_study(directory, errors, *, steps=2, seeds=3):
    """A study of TINY with {arm: {seed: test error in percent}}."""
    runs = []
    for place, (arm, by_seed) in enumerate(errors.items()):
        for seed in range(seeds):
            folder = f"runs/{place}-{seed}"
            digest = f"{seed:064d}"
            runs.append({"arm": arm, "seed": seed, "digest": digest, "directory": folder})
            if seed in by_seed:
                rows = [train_row(s, 30) for s in range(1, steps + 1)]
                write_run(directory / folder, rows, top1=1 - by_seed[seed] / 100, seed=seed,
                          steps=steps, experiment="tiny")  # fmt: skip
    setting = TINY.settings["cpu"]
    spec = json.loads(json.dumps(setting.experiment))
    spec["schedule"]["steps"] = steps
    content = {
        "version": 1, "experiment": "tiny", "digest": "d", "base": "without", "spec": spec,
        "ablation": {"mode": "arms", "seeds": seeds},
        "arms": [{"name": k, "changes": dict(v)} for k, v in setting.arms.items()],
        "runs": runs,
    }  # fmt: skip
    (directory / "study.json").write_text(json.dumps(content))
    launch = {"run": "0", "host": "secret", "pid": 1, "exit_code": 0}
    # Two beside each other for 50 s, a pause, and one for 10 s; the end of the last is not known.
    spans = ((100.0, 140.0), (110.0, 150.0), (500.0, 510.0), (505.0, 508.0), (600.0, None))
    lines = [{**launch, "started": start, "ended": end} for start, end in spans]
    (directory / "launches.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    return directory


ERRORS = {"without": {0: 12.0, 1: 12.5, 2: 13.0}, "with": {0: 10.0, 1: 10.4, 2: 11.2}}


def test_a_verdict_has_effect_interval_cost_and_device(tiny, tmp_path):
    found = judge(tiny, "cpu", write_study(tmp_path / "tiny", ERRORS))
    part = found.parts[0]
    test = scipy_stats.ttest_rel([12.0, 12.5, 13.0], [10.0, 10.4, 11.2])
    interval = test.confidence_interval()
    assert part.effect.difference == pytest.approx((2.0 + 2.1 + 1.8) / 3)
    assert (part.effect.low, part.effect.high) == pytest.approx((interval.low, interval.high))
    assert (found.outcome, found.finished, found.planned) == ("reproduced", 6, 6)
    # Six runs of two steps of 64 images, a thousand multiply-adds each and twice that backward.
    assert found.macs == 6 * 2 * 64 * 1000 * 3
    assert found.minutes == pytest.approx(1.0)
    assert found.devices == ("1 x cpu",)
    assert found.changed == () == found.missing


def test_a_missing_run_leaves_the_claim_undecided(tiny, tmp_path):
    lacking = {"without": ERRORS["without"], "with": {0: 10.0, 1: 10.4}}
    found = judge(tiny, "cpu", write_study(tmp_path / "tiny", lacking))
    assert found.outcome == "inconclusive"
    assert found.missing == ("with (2 of 3 seeds)",)
    assert found.parts[0].effect.n == 2


def test_settings_that_were_overridden_are_said_and_marked(tiny, tmp_path):
    found = judge(tiny, "cpu", write_study(tmp_path / "tiny", ERRORS, steps=7))
    assert found.changed == ("schedule.steps: 7, claimed with 2",)
    assert report.rows(found)[0][1] == "reproduced*"


def test_the_table_is_written_from_run_directories_and_a_slim_copy_gives_the_same(
    tiny, tmp_path, capsys
):
    write_study(tmp_path / "full" / "tiny", ERRORS)
    assert main(["claims", "slim", str(tmp_path / "full"), str(tmp_path / "small")]) == 0
    capsys.readouterr()
    for folder in ("full", "small"):
        assert main(["claims", "table", str(tmp_path / folder), "--json"]) == 0
    full, small = re.split(r"(?<=\])\n(?=\[)", capsys.readouterr().out)
    assert json.loads(full) == json.loads(small)
    table = (tmp_path / "small" / "claims.md").read_text()
    assert "| tiny | reproduced | with against without | reproduced | +1.97 points |" in table
    files = [p for p in (tmp_path / "small").rglob("*") if p.is_file()]
    names = {p.name for p in files}
    assert names <= {
        "claims.md", "study.json", "launches.jsonl", "spec.json", "result.json", "env.json",
        "metrics.jsonl", "timing.jsonl",
    }  # fmt: skip
    assert not any("secret" in p.read_text() for p in files)
    assert cnnjax.compare(tmp_path / "small" / "tiny").base == "without"


def test_claims_are_listed_and_shown(capsys):
    assert main(["claims", "list", "--json"]) == 0
    assert [c["id"] for c in json.loads(capsys.readouterr().out)] == list(CLAIMS)
    assert main(["claims", "show", "resnet-degradation"]) == 0
    shown = capsys.readouterr().out
    assert "plain 18 layers 27.94" in shown
    assert "arXiv:1512.03385" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "resnet-degradaton"], "Did you mean 'resnet-degradation'?"),
        (["run"], "name the claims to run, or give --all"),
        (["run", "dropout", "--all"], "leave out dropout, or --all"),
        (["run", "dropout", "--tier", "gpuu"], "Did you mean 'gpu'?"),
        (["run", "dropout", "--tier", "gpu"], "dropout: has no tier 'gpu'"),
    ],
)
def test_what_is_asked_wrongly_is_refused_before_anything_runs(arguments, said, capsys):
    assert main(["claims", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_claims_is_said_to_be_one(tmp_path):
    with pytest.raises(RunError, match="holds no study of a claim"):
        report.verdicts(tmp_path)
    with pytest.raises(RunError, match="no such folder"):
        report.verdicts(tmp_path / "nowhere")
    with pytest.raises(SpecError, match="give another folder"):
        report.slim(tmp_path, tmp_path)


@pytest.mark.slow
def test_a_claim_is_run_as_a_study_and_run_again_trains_nothing(tiny, tmp_path):
    options = {"set": ["ablation.seeds=1"], "progress": False}
    said = []
    found = runner.run(["tiny"], tmp_path / "out", say=said.append, **options)
    written = json.loads((tmp_path / "out" / "tiny" / "verdict.json").read_text())
    assert written["verdict"] == found[0].outcome == "inconclusive"
    assert written["changed"] == ["seeds: 1, claimed with 3"]
    assert said[0].startswith("claim 1 of 1: tiny")
    launches = (tmp_path / "out" / "tiny" / "launches.jsonl").read_text()
    assert len(launches.splitlines()) == 2
    runner.run(["tiny"], tmp_path / "out", **options)
    assert (tmp_path / "out" / "tiny" / "launches.jsonl").read_text() == launches


def test_the_shipped_results_give_the_shipped_table(capsys):
    """Verdicts are worked out from the plain files anew: nobody typed them."""
    results = Path(__file__).parent.parent / "experiments" / "results"
    found = report.markdown(report.verdicts(results))
    assert found == (results / "claims.md").read_text()
    assert found.count("| reproduced |") > 1
