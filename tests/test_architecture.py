"""The direction of imports: a module imports from lower floors, its own package, nothing else."""

import ast
from pathlib import Path

import cnnjax

ROOT = Path(cnnjax.__file__).parent
# From the ground up; rooms on one floor do not see each other.
FLOORS = [
    {"errors"},
    {"schema", "shipped", "ops", "machine", "atomic"},
    {"spec"},
    {"layers", "data"},
    {"models", "graph"},
    {"cost", "weights"},
    {"training"},
    {"audit", "study", "probe", "catalogue", "bench"},
    {"terminal"},
    {"__main__"},
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
# The package itself holds the public verbs: they import inside, and only the top imports them.
VERBS = "__init__"


def imports(source: str, package: str) -> set[str]:
    """The rooms of cnnjax that a module's code imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                modules = [name.name for name in names]
            case ast.ImportFrom(module="cnnjax", level=0, names=names):
                modules = [f"cnnjax.{name.name}" for name in names]
            case ast.ImportFrom(module=module, level=0) if module:
                modules = [module]
            case ast.ImportFrom():
                modules = [f"cnnjax.{package}"]  # a relative import stays inside
            case _:
                continue
        for module in modules:
            first, _, rest = module.partition(".")
            if first == "cnnjax":
                found.add(rest.partition(".")[0] or VERBS)
    return found


def violations(files: dict[str, str]) -> list[str]:
    """What in `files` (path below the package -> source) points up or sideways."""
    wrong = []
    for path, source in files.items():
        room = path.partition("/")[0].removesuffix(".py")
        if room == VERBS:
            continue
        for target in sorted(imports(source, room) - {room}):
            allowed = room == "__main__" if target == VERBS else FLOOR[target] < FLOOR[room]
            if not allowed:
                wrong.append(f"{path} imports {target}")
    return wrong


def shipped() -> dict[str, str]:
    return {str(p.relative_to(ROOT)): p.read_text() for p in sorted(ROOT.rglob("*.py"))}


def test_modules_import_lower_floors_only():
    assert violations(shipped()) == []


def test_every_room_has_its_floor():
    rooms = {path.partition("/")[0].removesuffix(".py") for path in shipped()} - {VERBS}
    assert rooms <= set(FLOOR)
    assert sum(map(len, FLOORS)) == len(FLOOR)


def test_a_planted_violation_is_seen():
    planted = {
        "ops/conv.py": "from cnnjax.layers import Conv",
        "data/order.py": "def f():\n    from cnnjax import layers",
        "spec.py": "import cnnjax.training.loop",
        "training/loop.py": "import cnnjax",
        "models/vgg.py": "from cnnjax import layers, ops\nfrom cnnjax.models.nin import nin",
        "study/runs.py": "from cnnjax.probe import filters",
    }
    assert violations(planted) == [
        "ops/conv.py imports layers",
        "data/order.py imports layers",
        "spec.py imports training",
        "training/loop.py imports __init__",
        "study/runs.py imports probe",
    ]


def test_experiments_import_nothing_of_ours():
    folder = ROOT.parent / "experiments"
    files = sorted(folder.rglob("*.py"))
    assert files
    for path in files:
        assert not imports(path.read_text(), "experiments"), path


def test_the_primitives_know_no_flax():
    for path in (ROOT / "ops").glob("*.py"):
        assert "flax" not in path.read_text(), path


def test_study_imports_no_training_but_to_plan_what_is_launched():
    for path in {*(ROOT / "study").rglob("*.py")} - {ROOT / "study" / "plan.py"}:
        assert "training" not in imports(path.read_text(), "study"), path
