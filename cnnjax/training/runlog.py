"""The run directory: plain files that say everything about a run.

spec.json, env.json, metrics.jsonl (no clock value in it), timing.jsonl (nothing but), result.json,
per_class.csv, curves.png, checkpoints/.
"""

import csv
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax import atomic
from cnnjax.errors import RunError
from cnnjax.spec import Spec, differences

PACKAGES = (
    "cnnjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint",
    "tensorflow-datasets", "grain", "numpy", "scipy",
)  # fmt: skip


class RunLog:
    """Writes the files of one run directory; only process 0 of a job does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.writes = jax.process_index() == 0

    def open(self, spec: Spec, derived: Mapping[str, Any]) -> bool:
        """Claim the directory for `spec`; True if it already holds this run.

        Raises RunError with the differences if it holds another one.
        """
        path = self.directory / "spec.json"
        if path.exists():
            _same_run(self.directory, json.loads(path.read_text()), spec)
            return True
        # A .tmp is what a process that was killed at its first file has left.
        if self.directory.is_dir() and any(p.suffix != ".tmp" for p in self.directory.iterdir()):
            raise RunError(
                f"{self.directory}: is not empty and holds no spec.json, so it is no run directory."
                " Give a new one with --out DIR."
            )
        if self.writes:
            self.directory.mkdir(parents=True, exist_ok=True)
            atomic.write(path, spec.to_json(**derived))
        return False

    def environment(self, **extra: Any) -> None:
        """Add this session's versions, device, git state and command to env.json."""
        if not self.writes:
            return
        path = self.directory / "env.json"
        earlier = json.loads(path.read_text())["sessions"] if path.exists() else []
        atomic.write(path, _json({"sessions": [*earlier, environment() | extra]}))

    def found(self, **facts: Any) -> None:
        """Add to this session in env.json what has become known since."""
        if not self.writes:
            return
        path = self.directory / "env.json"
        *earlier, session = json.loads(path.read_text())["sessions"]
        atomic.write(path, _json({"sessions": [*earlier, session | facts]}))

    def truncate(self, step: int) -> None:
        """Drop the rows of metrics.jsonl after `step`, and a last line cut short."""
        path = self.directory / "metrics.jsonl"
        if self.writes and path.exists():
            rows = path.read_text().splitlines(keepends=True)
            kept = [r for r in rows if r.endswith("\n") and json.loads(r)["step"] <= step]
            atomic.write(path, "".join(kept))

    def metrics(self, **row: Any) -> None:
        """Append a row to metrics.jsonl: a pure function of spec and step."""
        self._append("metrics.jsonl", row)

    def timing(self, **row: Any) -> None:
        """Append a row of clock values to timing.jsonl."""
        self._append("timing.jsonl", row)

    def confusion(self, counts: np.ndarray, names: Sequence[str]) -> None:
        """Write per_class.csv from counts (class, prediction)."""
        if not self.writes:
            return
        with (self.directory / "per_class.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["class", "name", "n", "correct", "recall", "predicted", "precision"])
            for i, name in enumerate(names):
                n, right, said = counts[i].sum(), counts[i, i], counts[:, i].sum()
                recall, precision = (f"{right / m:.6f}" if m else "" for m in (n, said))
                table.writerow([i, name, n, right, recall, said, precision])

    def result(self, result: Mapping[str, Any]) -> None:
        """Write result.json: the last file, which says that the run is finished."""
        if self.writes:
            atomic.write(self.directory / "result.json", _json(result))

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        if self.writes:
            with (self.directory / name).open("a") as file:
                file.write(json.dumps(row) + "\n")


def event_writer(log: RunLog) -> Any:
    """TensorBoard's own writer into events/, on process 0."""
    if not log.writes:
        return None
    try:
        from tensorboard.summary import Writer
    except ImportError:
        raise RunError("TensorBoard is not installed: pip install 'cnnjax[tensorboard]'.") from None
    return Writer(str(log.directory / "events"))


def environment() -> dict[str, Any]:
    """Versions, device, git state and command of this process."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    device = jax.devices()[0]
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "processes": jax.process_count(),
            "cores": os.cpu_count(),
        },
        "git": _git_state(),
        "flags": {k: v for k, v in os.environ.items() if k.startswith(("XLA_", "JAX_", "CNNJAX_"))},
    }


def _git_state() -> dict[str, Any] | None:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _same_run(directory: Path, found: Mapping[str, Any], spec: Spec) -> None:
    if found["digest"] == spec.digest:
        return
    ours = spec.to_dict()
    parts = ("model", "dataset", "schedule")
    lines = [
        f"  {path}\n    - {there!r}\n    + {here!r}"
        for path, there, here in differences(
            {p: found[p] for p in parts}, {p: ours[p] for p in parts}
        )
    ]
    raise RunError(
        f"{directory}: holds another run, digest {found['digest'][:8]}; this one is "
        f"{spec.digest[:8]}. They differ in (- there, + asked for):\n" + "\n".join(lines)
        + "\nGive another directory with --out DIR."
    )  # fmt: skip


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file; a line still being written is left out."""
    if not path.exists():
        return []
    return [json.loads(r) for r in path.read_text().splitlines(keepends=True) if r.endswith("\n")]


def _json(content: Any) -> str:
    return json.dumps(content, indent=2) + "\n"
