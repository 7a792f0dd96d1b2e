"""What a study is made of: study.json, which names its arms and the directory of every run."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from cnnjax import atomic
from cnnjax.errors import RunError
from cnnjax.study import launches, locks
from cnnjax.study.arms import Arm

State = Literal["finished", "running", "broken", "unfinished", "new"]
VERSION = 1


@dataclass(frozen=True)
class Cell:
    """One arm with one seed: a run, in a directory below the study's named by its digest."""

    arm: str
    seed: int
    digest: str
    directory: str

    @property
    def short(self) -> str:
        """The first twelve digits of the digest, by which the study's files are named."""
        return self.digest[:12]

    @property
    def name(self) -> str:
        return f"{self.arm}, seed {self.seed}"


@dataclass(frozen=True)
class Study:
    """A study directory's record. What a run's state is, its own directory says.

    `spec` is the experiment that was varied, as plain dicts; `digest` that of study and spec.
    """

    directory: Path
    experiment: str
    ablation: Mapping[str, Any]
    base: str
    arms: tuple[Arm, ...]
    runs: tuple[Cell, ...]
    spec: Mapping[str, Any]
    digest: str

    @classmethod
    def read(cls, directory: str | Path) -> "Study":
        """The study in `directory`. RunError where there is none, or one that cannot be read."""
        directory = Path(directory)
        path = directory / "study.json"
        if not path.is_file():
            raise RunError(f"{directory}: is no study: it holds no study.json.")
        try:
            content = json.loads(path.read_text())
            if content["version"] != VERSION:
                raise RunError(
                    f"{path}: is of version {content['version']}; this cnnjax reads {VERSION}."
                )
            return cls(
                directory, content["experiment"], content["ablation"], content["base"],
                tuple(Arm.of(a) for a in content["arms"]),
                tuple(Cell(**c) for c in content["runs"]),
                content.get("spec", {}), content.get("digest", ""),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}: cannot be read: {type(error).__name__}: {error}.") from None

    def write(self) -> None:
        """Write study.json, the whole file at once."""
        self.directory.mkdir(parents=True, exist_ok=True)
        atomic.write(self.directory / "study.json", json.dumps(self.to_dict(), indent=2) + "\n")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as study.json holds them."""
        return {
            "version": VERSION,
            "experiment": self.experiment,
            "digest": self.digest,
            "ablation": dict(self.ablation),
            "base": self.base,
            "arms": [arm.to_dict() for arm in self.arms],
            "runs": [asdict(cell) for cell in self.runs],
            "spec": dict(self.spec),
        }

    def arm(self, name: str) -> Arm:
        """The arm called `name`."""
        return next(arm for arm in self.arms if arm.name == name)

    def path(self, cell: Cell) -> Path:
        """Its run directory."""
        return self.directory / cell.directory

    def spec_path(self, cell: Cell) -> Path:
        """The experiment file that its `cnnjax train` is given."""
        return self.directory / "specs" / f"{cell.short}.json"

    def log_path(self, cell: Cell) -> Path:
        """What its process has printed."""
        return self.directory / "logs" / f"{cell.short}.log"

    def lock_path(self, cell: Cell) -> Path:
        """The file that is locked while it runs."""
        return self.directory / "locks" / f"{cell.short}.lock"

    def finished(self, cell: Cell) -> bool:
        return (self.path(cell) / "result.json").is_file()

    def states(self) -> dict[Cell, State]:
        """What has become of each run, read from the study's files.

        `broken`: its process ended by an error; `unfinished`: it was stopped and can go on.
        """
        last = launches.last(self.directory)
        return {cell: self._state(cell, last.get(cell.short)) for cell in self.runs}

    def _state(self, cell: Cell, launch: Mapping[str, Any] | None) -> State:
        if self.finished(cell):
            return "finished"
        if locks.holder(self.lock_path(cell)) is not None:
            return "running"
        if launch is not None and launches.failed(launch):
            return "broken"
        return "unfinished" if (self.path(cell) / "spec.json").is_file() else "new"

    def overview(self) -> dict[str, Any]:
        """The arms with their costs and how many of their runs are done, and every run's state."""
        states = self.states()
        runs = [
            {"arm": c.arm, "seed": c.seed, "state": s, "directory": str(self.path(c))}
            for c, s in states.items()
        ]
        arms = [
            {**arm.to_dict(), "base": arm.name == self.base,
             **{s: sum(r["arm"] == arm.name and r["state"] == s for r in runs)
                for s in get_args(State)}}
            for arm in self.arms
        ]  # fmt: skip
        return {
            "experiment": self.experiment,
            "directory": str(self.directory),
            "base": self.base,
            "arms": arms,
            "runs": runs,
        }
