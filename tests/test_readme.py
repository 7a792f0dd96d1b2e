"""Every command in README is one that the command line understands."""

import re
import shlex
from pathlib import Path

import jax
import pytest
import typer

import cnnjax
from cnnjax.__main__ import app
from cnnjax.errors import SpecError

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
SHELL = ("console", "sh", "bash", "shell")


def commands(text: str) -> list[str]:
    """The commands in shell blocks: after a `$`, or the lines that begin with a known word."""
    found = []
    for language, block in re.findall(r"^ *```(\w+)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        if language not in SHELL:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            line = re.split(r"\s[#|>]|&&", line.strip().removeprefix("$ "))[0].strip()
            if line.startswith(("cnnjax ", "python -m cnnjax ", "make ")):
                found.append(line)
    return found


def parse(arguments: list[str]) -> None:
    """Parse a command as click does, without running it; raises a usage error."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="cnnjax")
    while hasattr(command, "resolve_command") and not arguments[0].startswith("-"):
        _, command, arguments = command.resolve_command(context, arguments)
        context = typer.Context(command, parent=context, info_name=command.name)
    command.parse_args(context, list(arguments))


def words(line: str) -> list[str]:
    return shlex.split(line, comments=True)


@pytest.mark.parametrize("line", commands(README))
def test_readme_command_parses(line):
    match words(line.removeprefix("python -m ")):
        case ["make", *targets]:
            makefile = (ROOT / "Makefile").read_text()
            named = [t for t in targets if "=" not in t]
            assert all(re.search(rf"^{t}:", makefile, re.MULTILINE) for t in named), line
        case ["cnnjax", *arguments]:
            parse(arguments)


def test_readme_has_the_two_commands_of_a_new_user():
    assert {"make demo", "make test"} <= set(commands(README))


@pytest.mark.parametrize(
    "line", ["trian x.py", "train", "train x.py --sed 1", "data shw x", "list a b c", "eval"]
)
def test_a_wrong_command_does_not_parse(line):
    with pytest.raises(Exception, match=r"No such|Missing|unexpected"):
        parse(words(line))


def test_commands_are_found_in_shell_blocks_only():
    text = (
        "```console\n$ cnnjax train a.py \\\n    --out b\nloss 0.1\n```\n"
        "```python\ncnnjax train c.py\n```\n  ```sh\n  make demo\n  ```\n"
    )
    assert [words(c) for c in commands(text)] == [
        ["cnnjax", "train", "a.py", "--out", "b"],
        ["make", "demo"],
    ]


def python_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_block_of_ones_own_in_readme_trains(tmp_path, monkeypatch):
    named = {}
    for block in python_blocks():
        if title := re.match(r"# (\w+\.py)\n", block):
            named[title[1]] = block
            (tmp_path / title[1]).write_text(block)
    assert sorted(named) == ["my_blocks.py", "my_experiment.py"]
    monkeypatch.syspath_prepend(tmp_path)
    run = cnnjax.train(
        tmp_path / "my_experiment.py", out=tmp_path / "run", devices=jax.devices()[:1]
    )
    assert run.result["top1"] > 0.6
    assert run.spec.model == {"name": "my_blocks:squeezed", "features": 32, "squeeze": 16}


def test_the_first_experiment_in_readme_is_the_shipped_one(tmp_path):
    (block,) = [b for b in python_blocks() if b.startswith('"""LeNet-5')]
    (tmp_path / "shown.py").write_text(block)
    shipped = ROOT / "experiments" / "lenet5_fashion_mnist_12k.py"
    assert cnnjax.load(tmp_path / "shown.py").digest == cnnjax.load(shipped).digest


def test_the_error_shown_in_readme_is_the_one_that_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = ROOT / "experiments" / "lenet5_fashion_mnist_12k.py"
    Path("my_first.py").write_text(shipped.read_text().replace("weight_decay", "weigth_decay"))
    with pytest.raises(SpecError) as caught:
        cnnjax.load("my_first.py")
    assert f"SpecError: {caught.value}" in README
