"""The built wheel, away from the source tree: everything it needs is inside."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = """
import json, cnnjax
from cnnjax import data, shipped
print(json.dumps({
    "file": cnnjax.__file__,
    "sizes": {name: dict(data.DATASETS[name]().sizes) for name in ("digits", "fashion_mnist_12k")},
    "experiments": sorted(shipped.experiments()),
    "model": cnnjax.load("lenet5_fashion_mnist_12k").model["name"],
}))
"""


def run(*command, **options):
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the source tree, into which building would write."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("cnnjax", "experiments"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=source)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel):
    """An environment in which the wheel comes before the source tree, and its commands."""
    site = wheel.parent / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", "--target", site, wheel)
    environment = os.environ | {"PYTHONPATH": str(site), "PYTHONWARNINGS": "default"}
    return environment, site


def test_the_wheel_holds_every_module_experiment_and_bundled_file(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "cnnjax").rglob("*.py")}
    shipped = (ROOT / "experiments").rglob("*.py")
    experiments = {f"cnnjax/{p.relative_to(ROOT)}" for p in shipped}
    folders = ("data/bundled", "study/assets")
    bundled = {str(p.relative_to(ROOT)) for f in folders for p in (ROOT / "cnnjax" / f).iterdir()}
    assert experiments
    assert bundled
    assert modules | experiments | bundled | {"cnnjax/py.typed"} <= held
    assert not [name for name in held if name.startswith(("tests/", "experiments/"))]
    assert any(name.endswith("licenses/LICENSE") for name in held)


def test_bundled_data_and_experiments_load_outside_the_tree(installed, tmp_path):
    environment, site = installed
    found = json.loads(run(sys.executable, "-c", OUTSIDE, cwd=tmp_path, env=environment))
    assert Path(found["file"]).is_relative_to(site)
    assert found["sizes"] == {
        "digits": {"train": 1_437, "test": 360},
        "fashion_mnist_12k": {"train": 10_000, "test": 2_000},
    }
    assert found["experiments"] == sorted(p.stem for p in (ROOT / "experiments").rglob("*.py"))
    assert found["model"] == "lenet5"


def test_the_installed_command_starts_a_new_experiment(installed, tmp_path):
    environment, site = installed
    command = site / "bin" / "cnnjax"
    run(command, "new", "mine", cwd=tmp_path, env=environment)
    found = json.loads(run(command, "check", "mine.py", "--json", cwd=tmp_path, env=environment))
    assert found["dataset"] == "fashion_mnist_12k"
    assert found["cost"]["params"]["trainable"] == 61_706
