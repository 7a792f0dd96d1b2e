"""The command line: what it prints where, and with which exit code."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import cnnjax
from cnnjax.__main__ import main

# Seconds, not minutes: a linear classifier on 8x8 digits. Batch 32 divides over eight devices.
EXPERIMENT = '''"""A line about it."""

model = {"name": "linear"}
dataset = {"name": "digits", "batch_size": 32}
schedule = {"steps": 30, "optimizer": {"name": "sgd"},
            "learning_rate": {"name": "constant", "value": 0.5}}
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder with one experiment in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick.py").write_text(EXPERIMENT)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run directory."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "quick.py").write_text(EXPERIMENT)
    assert main(["train", str(folder / "quick.py"), "--out", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


def python(code, **options):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, **options
    )


def test_help_does_not_import_jax():
    found = python(
        "import sys; from cnnjax.__main__ import main; code = main(['--help']);"
        "print([m for m in ('jax', 'flax', 'numpy', 'matplotlib') if m in sys.modules], code)"
    )
    assert found.stdout.rstrip().endswith("[] 0")
    assert "new" in found.stdout
    assert "train" in found.stdout


def test_the_module_runs_as_the_command():
    found = subprocess.run(
        [sys.executable, "-m", "cnnjax", "--version"], capture_output=True, text=True
    )
    assert (found.stdout, found.returncode) == (f"cnnjax {cnnjax.__version__}\n", 0)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["trian"], 2, "Did you mean 'train'"),
        (["train"], 2, "Missing argument 'FILE'"),
        (["train", "quick.py", "--steps", "3"], 2, "No such option: --steps"),
        (["check", "quik.py"], 2, "SpecError: quik.py: no such experiment file. Did you mean"),
        (["check", "quick.py", "--set", "model.hiden=3"], 2, "unknown key 'hiden'"),
        (["check", "quick.py", "--set", "dataset.name=mnist", "--data-dir", "no/where"], 2,
         "DataError: mnist is not prepared in no/where."),
        (["eval", "nowhere"], 1, "RunError: nowhere: is no run directory"),
        (["runs", "nowhere"], 1, "RunError: nowhere: no such folder."),
        (["summary", "lenet6"], 2, "SpecError: no model or experiment 'lenet6'. Did you mean"),
        (["summary", "lenet5", "--input", "28by28"], 2, "--input 28by28: expected sizes"),
        (["summary", "lenet5", "--set", "model.pool=avg"], 2, "expected KEY=VALUE"),
        (["summary", "vgg16", "--input", "8x8x3", "--set", "stem=imagenet"], 2,
         "ShapeError: features/stage4/pool: the map vanishes"),
        (["list", "model"], 2, "Did you mean 'models'? Kinds: augments, datasets, experiments,"),
        (["list", "models", "lenet"], 2, "unknown name 'lenet'. Did you mean 'lenet5'?"),
        (["new", "quick"], 2, "SpecError: quick.py: is there already."),
        (["new", "mine", "--like", "lenet5"], 2, "SpecError: no shipped experiment 'lenet5'."),
        (["data", "show", "digit"], 2, "no data set or experiment 'digit'. Did you mean 'digits'?"),
        (["weights", "import", "resnet18", "x.pt"], 2, "DataError: x.pt: expected a .safetensors"),
    ],
)  # fmt: skip
def test_bad_input_exits_with_its_code_and_says_why(arguments, code, said, here, capsys):
    assert main(arguments) == code
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""
    assert "Traceback" not in printed.err


def test_an_error_shows_its_traceback_when_asked(here, monkeypatch):
    monkeypatch.setenv("CNNJAX_TRACEBACK", "1")
    with pytest.raises(cnnjax.errors.SpecError):
        main(["check", "quik.py"])


def test_check_says_what_would_run(here, capsys):
    assert main(["check", "quick.py", "--json", "--set", "schedule.epochs=2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 90  # ceil(2 * 1437 / 32)
    assert found["cost"]["params"]["trainable"] == 650
    assert found["splits"]["test"] == {"split": "test", "examples": 360}
    assert not (here / "runs").exists()
    assert main(["check", "quick.py"]) == 0
    assert "train 1,437 ('train'), test 360 ('test')" in capsys.readouterr().out


def test_train_writes_to_its_own_place_and_a_finished_run_shows_its_result(here, capsys):
    assert main(["train", "quick.py", "--quiet", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    spec = cnnjax.load("quick.py")
    assert first["directory"] == f"runs/quick-{spec.digest[:8]}"
    assert first["result"]["n"] == 360
    assert [Path(p).name for p in first["pictures"]] == ["curves.png"]
    changed = (here / first["directory"] / "result.json").stat().st_mtime_ns
    for again in ("quick.py", first["directory"]):
        assert main(["train", again, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == first
    assert (here / first["directory"] / "result.json").stat().st_mtime_ns == changed
    assert [p.name for p in (here / "runs").iterdir()] == [Path(first["directory"]).name]


def test_messages_of_training_go_to_stderr(here, capsys):
    assert main(["train", "quick.py", "--out", "run"]) == 0
    printed = capsys.readouterr()
    assert "to step 30" in printed.err
    assert "to step 30" not in printed.out
    assert "curves.png" in printed.out


def test_train_refuses_the_directory_of_another_run(here, trained, capsys):
    code = main(["train", "quick.py", "--out", str(trained), "--set", "schedule.seed=1"])
    assert code == 1
    assert "  schedule.seed\n    - 0\n    + 1\n" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_stopped_by_a_signal_says_so_and_goes_on(here):
    command = [
        sys.executable, "-m", "cnnjax", "train", "quick.py", "--out", "run",
        "--set", "schedule.steps=200000",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    timing = here / "run" / "timing.jsonl"
    for _ in range(600):
        if process.poll() is not None or (timing.exists() and '"train"' in timing.read_text()):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "Interrupted: run: stopped by SIGTERM at step" in said
    assert (here / "run" / "checkpoints").is_dir()
    assert not (here / "run" / "result.json").exists()


def test_eval_scores_any_split(trained, capsys):
    assert main(["eval", str(trained), "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    result = json.loads((trained / "result.json").read_text())
    assert whole["n"] == 360
    assert whole["top1"] == result["top1"]
    assert main(["eval", str(trained), "--split", "train[:50]", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 50


def test_predict_names_classes_as_the_network_does(trained, tmp_path, capsys):
    dataset = cnnjax.data.digits()
    images, labels = dataset.split("test").gather(np.arange(20))
    paths = [str(tmp_path / f"{i}.png") for i in range(20)]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image[..., 0]).save(path)
    assert main(["predict", str(trained), *paths, "--top", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [f["image"] for f in found] == paths
    assert all(len(f["classes"]) == 3 for f in found)
    right = [int(f["classes"][0]["name"]) == label for f, label in zip(found, labels, strict=True)]
    run = cnnjax.training.Run(trained)
    inputs = jnp.asarray(images, jnp.float32) / 255
    logits = run.model.apply(run.variables, inputs, train=False)
    assert sum(right) == int((np.argmax(logits, -1) == labels).sum())
    exponentials = np.exp(np.asarray(logits[0], np.float64))
    expected = np.sort(exponentials / exponentials.sum())[::-1][:3]
    given = [c["probability"] for c in found[0]["classes"]]
    np.testing.assert_allclose(given, expected, rtol=1e-4)


def test_predict_cuts_the_centre_and_turns_colours_to_grey(trained, tmp_path, capsys):
    """A digit in the middle of a wide colour picture is what the digit alone is."""
    image = cnnjax.data.digits().split("test").gather(np.arange(1))[0][0, ..., 0]
    Image.fromarray(image).save(tmp_path / "plain.png")
    wide = np.full((8, 20, 3), 255, np.uint8)
    wide[:, 6:14] = image[..., None]
    Image.fromarray(wide).save(tmp_path / "wide.png")
    both = [str(tmp_path / name) for name in ("plain.png", "wide.png")]
    assert main(["predict", str(trained), *both, "--json"]) == 0
    plain, cut = json.loads(capsys.readouterr().out)
    assert plain["classes"] == cut["classes"]


def test_summary_counts_a_model_and_an_experiment(here, capsys):
    assert main(["summary", "lenet5", "--set", "variant=modern", "--json"]) == 0
    totals = json.loads(capsys.readouterr().out)["totals"]
    assert totals["params"]["trainable"] == 61_706
    assert totals["macs"] == 416_520  # 117600 + 240000 + 48000 + 10080 + 840
    assert main(["summary", "quick.py", "--set", "model.name=mlp", "--json"]) == 0
    totals = json.loads(capsys.readouterr().out)["totals"]
    assert totals["params"]["trainable"] == 64 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10
    assert main(["summary", "linear", "--input", "4x4x2", "--classes", "3"]) == 0
    assert "99" in capsys.readouterr().out  # 32 * 3 + 3


@pytest.mark.parametrize(
    "kind",
    ["models", "datasets", "augments", "losses", "optimizers", "learning_rates", "experiments"],
)
def test_list_has_a_line_for_every_entry(kind, capsys):
    assert main(["list", kind, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found
    assert all(entry["about"] for entry in found), [e["name"] for e in found if not e["about"]]
    assert main(["list", kind]) == 0
    printed = capsys.readouterr().out
    assert all(entry["name"] in printed for entry in found)


def test_list_reads_the_options_off_the_signature(capsys):
    assert main(["list", "optimizers", "sgd", "--json"]) == 0
    options = {o["name"]: o for o in json.loads(capsys.readouterr().out)["options"]}
    assert options["momentum"]["type"] == "a number >= 0 and < 1"
    assert options["nesterov"]["default"] == "False"
    assert "learning_rate" not in options
    assert main(["list", "models", "resnet18", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "depth" not in {o["name"] for o in found["options"]}
    assert found["about"] == "resnet with depth=18"


def test_runs_says_how_far_each_is(here, trained, capsys):
    folder = here / "runs"
    folder.mkdir()
    (folder / "done").symlink_to(trained)
    (folder / "half").mkdir()
    spec = cnnjax.load("quick.py", set=["schedule.seed=5"])
    (folder / "half" / "spec.json").write_text(spec.to_json(steps=30))
    (folder / "half" / "metrics.jsonl").write_text('{"step": 12}\n{"step": 13')
    assert main(["runs", "--json"]) == 0
    done, half = json.loads(capsys.readouterr().out)
    result = json.loads((trained / "result.json").read_text())
    assert (done["state"], done["top1"]) == ("finished", result["top1"])
    assert (half["state"], half["step"], half["steps"]) == ("unfinished", 12, 30)
    assert (half["experiment"], half["seed"]) == ("quick", 5)
    assert main(["runs"]) == 0
    assert "12/30" in capsys.readouterr().out


def test_new_writes_a_file_that_checks_and_overwrites_nothing(here, capsys):
    assert main(["new", "mine"]) == 0
    text = (here / "mine.py").read_text()
    assert "# The network. Every option of it: cnnjax list models lenet5" in text
    assert "cnnjax train mine.py" in text
    assert cnnjax.load("mine.py").digest == cnnjax.load("lenet5_fashion_mnist_12k").digest
    assert main(["new", "mine.py"]) == 2
    assert (here / "mine.py").read_text() == text


def test_new_starts_from_every_shipped_experiment(here, capsys):
    from cnnjax import shipped

    for name, path in shipped.experiments().items():
        assert main(["new", f"from_{name}", "--like", name]) == 0
        assert cnnjax.load(f"from_{name}.py").digest == cnnjax.load(path).digest
        text = (here / f"from_{name}.py").read_text()
        assert shipped.about(path) not in text
        assert max(map(len, text.splitlines())) <= 120


def test_data_show_draws_a_picture(here, capsys):
    assert main(["data", "show", "digits", "--set", 'augment=[{"name": "shift"}]']) == 0
    assert capsys.readouterr().out == "digits.png\n"
    with Image.open("digits.png") as picture:
        augmented = picture.size
    assert main(["data", "show", "quick.py", "--out", "q.png", "--split", "test"]) == 0
    with Image.open("q.png") as picture:
        assert picture.width < augmented[0]  # no augmented columns


def test_data_prepare_gives_the_exit_code_of_its_process(here, capfd):
    assert main(["data", "prepare", "mnist", "--from", "nowhere", "--data-dir", "d"]) == 2
    assert "DataError: mnist: --from nowhere: no such folder." in capfd.readouterr().err


def test_weights_go_out_and_come_back(here, capsys):
    """A narrow run's weights under torchvision's names, verified and taken back in."""
    narrow = ["depth=8", "width=0.25", "num_classes=10", "input_shape=[8,8,1]"]
    options = [word for option in narrow for word in ("--set", option)]
    changes = ["model.name=resnet_cifar", "model.depth=8", "model.width=0.25", "schedule.steps=1"]
    cnnjax.train("quick.py", set=changes, out="run", devices=jax.devices()[:1], progress=False)
    assert main(["weights", "export", "run", "w.safetensors", "--json"]) == 0
    assert main(["weights", "verify", "resnet_cifar", "w.safetensors", *options]) == 0
    capsys.readouterr()
    taken = [
        "weights",
        "import",
        "resnet_cifar",
        "w.safetensors",
        *options,
        "--out",
        "v.npz",
        "--json",
    ]
    assert main(taken) == 0
    facts = json.loads(capsys.readouterr().out)
    variables = cnnjax.training.Run(here / "run").variables
    with np.load("v.npz") as held:
        kernel = held["params/features/stem/conv/kernel"]
        np.testing.assert_array_equal(
            kernel, variables["params"]["features"]["stem"]["conv"]["kernel"]
        )
        assert facts["parameters"] == sum(held[k].size for k in held if k.startswith("params/"))
