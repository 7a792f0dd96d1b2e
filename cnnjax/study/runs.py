"""A folder of run directories, one line each, read from their plain files."""

import json
from pathlib import Path
from typing import Any

from cnnjax.errors import RunError


def overview(folder: Path) -> list[dict[str, Any]]:
    """Experiment, digest, step, state and result of each run directory in `folder`, by name.

    `folder` may be a run directory itself. RunError where there is none.
    """
    if (folder / "spec.json").is_file():
        return [_line(folder)]
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder. Runs are written to runs/ unless --out says so.")
    found = sorted(path.parent for path in folder.glob("*/spec.json"))
    return [_line(directory) for directory in found]


def _line(directory: Path) -> dict[str, Any]:
    spec = json.loads((directory / "spec.json").read_text())
    steps = spec.get("derived", {}).get("steps")
    line: dict[str, Any] = {
        "directory": str(directory),
        "experiment": spec.get("experiment", directory.name),
        "model": spec["model"]["name"],
        "digest": spec["digest"],
        "seed": spec["schedule"]["seed"],
        "steps": steps,
    }
    result = directory / "result.json"
    if result.is_file():
        outcome = json.loads(result.read_text())
        kept = {k: outcome[k] for k in ("split", "top1", "top5", "loss", "n") if k in outcome}
        return line | {"state": "finished", "step": steps, **kept}
    return line | {"state": "unfinished", "step": _last_step(directory)}


def _last_step(directory: Path) -> int:
    """The step of the newest whole row of metrics.jsonl; 0 where there is none."""
    path = directory / "metrics.jsonl"
    rows = path.read_text().splitlines(keepends=True) if path.is_file() else []
    whole = [row for row in rows if row.endswith("\n")]
    return json.loads(whole[-1])["step"] if whole else 0
