"""Every command in README is one that the command line understands."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from cnnjax.__main__ import app

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
