"""The experiment files that come with the package, and a new file started from one of them."""

import ast
from pathlib import Path

from cnnjax.errors import SpecError, did_you_mean

# What `started_from` writes above each dict of the file it copies.
_NOTES = {
    "model": "The network. Every option of it: cnnjax list models {model}",
    "dataset": "The images. Other sets: cnnjax list datasets; augmentations: cnnjax list augments",
    "schedule": "The training. Its length is one of epochs, steps and examples.",
    "ablation": "What an ablation varies.",
}


def folder() -> Path:
    """Where the files are: inside an installed package, beside it in a source tree."""
    here = Path(__file__).parent
    installed = here / "experiments"
    return installed if installed.is_dir() else here.parent / "experiments"


def experiments() -> dict[str, Path]:
    """The shipped experiments by name; those in folders of their own, such as ablations, last."""
    paths = [*sorted(folder().glob("*.py")), *sorted(folder().glob("*/*.py"))]
    return {path.stem: path for path in paths if path.stem[0] != "_"}


def names(path: Path) -> Path | None:
    """The shipped experiment that `path` names where no such file is: "shortcut" or
    "ablations/shortcut"."""
    found = experiments().get(path.name)
    if found is None or path.exists() or path.parent not in (Path(), Path(found.parent.name)):
        return None
    return found


def about(path: Path) -> str:
    """The first line of a file's docstring."""
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    return doc.partition("\n")[0].rstrip(".")


def find(name: str) -> Path:
    """The shipped experiment called `name`. SpecError with the nearest name if there is none."""
    found = experiments()
    if name not in found:
        hint = did_you_mean(name, found, label="Shipped experiments")
        raise SpecError(f"no shipped experiment '{name}'. {hint}")
    return found[name]


def start(name: str, like: str) -> Path:
    """Write `name`.py, started from the shipped experiment `like`; refuses to overwrite."""
    path = Path(name) if name.endswith(".py") else Path(f"{name}.py")
    text = started_from(like, path)
    if not path.parent.is_dir():
        raise SpecError(f"{path}: there is no folder {path.parent}.")
    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise SpecError(f"{path}: is there already. Choose another name.") from None
    return path


def started_from(like: str, path: Path) -> str:
    """The text of a new experiment file `path`: the dicts of the shipped experiment `like`.

    Its docstring is not taken along, since it reports results of its own.
    """
    text = find(like).read_text()
    lines, kept = text.splitlines(), list[str]()
    end = 0
    for node in ast.parse(text).body:
        before, own = lines[end : node.lineno - 1], lines[node.lineno - 1 : node.end_lineno]
        end = node.end_lineno or end
        match node:
            case ast.Expr(value=ast.Constant()) | ast.Assign(targets=[ast.Name(id="paper")]):
                continue
            case ast.Assign(targets=[ast.Name(id=name)]) if name in _NOTES:
                own = [f"# {_NOTES[name].format(model=_name_of(node.value))}", *own]
        kept += [*before, *own]
    return f"{_HEADER.format(file=path, like=like)}\n{'\n'.join(kept).strip()}\n"


def _name_of(node: ast.expr) -> str:
    """The value of "name" in a dict as it is written, or nothing."""
    found = ast.literal_eval(node)
    return str(found.get("name", "")) if isinstance(found, dict) else ""


_HEADER = '''"""What is tried here, and why: one line. Then what came out, when it has been run.

    cnnjax check {file}
    cnnjax train {file}
    cnnjax train {file} --set schedule.seed=1

Started from {like}. Three dicts of plain values say everything; nothing of cnnjax is imported.
A name written "package.module:factory" is a factory of your own.
"""
'''
