"""The record of a comparison: measure, arms, notes. It holds numbers and draws nothing."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cnnjax.errors import SpecError, did_you_mean
from cnnjax.study.groups import Group
from cnnjax.study.runs import Run
from cnnjax.study.stats import Effect, Summary


@dataclass(frozen=True)
class Measure:
    """A score of result.json, how it is shown and which way is better."""

    key: str
    name: str
    unit: str = ""
    scale: float = 1.0
    offset: float = 0.0
    lower: bool = True
    digits: int = 2

    def of(self, row: Mapping[str, Any]) -> float:
        """The value of a row of metrics.jsonl or of a result."""
        return round(self.offset + self.scale * row[self.key], 10)

    @property
    def label(self) -> str:
        """The name with its unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True)
class Arm:
    """One line of the table. `p` is corrected over the arms; `flags` say what besides the arm's own
    change differs from the base in data, budget or evaluation."""

    group: Group
    summary: Summary | None
    effect: Effect | None
    p: float | None
    flags: tuple[str, ...]
    best: bool = False

    @property
    def name(self) -> str:
        return self.group.name

    @property
    def runs(self) -> tuple[Run, ...]:
        return self.group.runs

    @property
    def n(self) -> int:
        return len(self.runs)

    @property
    def params(self) -> int | None:
        return self.group.sample.params if self.group.sample else None

    @property
    def macs(self) -> int | None:
        return self.group.sample.macs if self.group.sample else None

    @property
    def seconds(self) -> float | None:
        """Mean training time of a run at its own steady rate."""
        found = [run.seconds for run in self.runs if run.seconds is not None]
        return sum(found) / len(found) if found else None


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; `notes` are sentences that belong under the table."""

    measure: Measure
    base: str
    arms: tuple[Arm, ...]
    notes: tuple[str, ...]

    @property
    def base_arm(self) -> Arm:
        return next(arm for arm in self.arms if arm.name == self.base)

    @property
    def split(self) -> str:
        """The split that the base was scored on."""
        runs = self.base_arm.runs or next(arm.runs for arm in self.arms if arm.runs)
        assert runs[0].result is not None
        return runs[0].result["split"]

    @property
    def label(self) -> str:
        """What the numbers are, such as "test top-1 error (%)"."""
        return f"{self.split} {self.measure.label}"

    def values(self, arm: Arm) -> dict[int, float]:
        """Seed -> value."""
        return values(arm.group, self.measure)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `cnnjax compare --json` prints them."""
        return {
            "measure": self.label,
            "base": self.base,
            "arms": [self._arm(arm) for arm in self.arms],
            "notes": list(self.notes),
        }

    def _arm(self, arm: Arm) -> dict[str, Any]:
        return {
            "name": arm.name,
            "params": arm.params,
            "macs": arm.macs,
            "seconds": arm.seconds,
            **(asdict(arm.summary) if arm.summary else {"n": 0}),
            "effect": None if arm.effect is None else {**asdict(arm.effect), "p_holm": arm.p},
            "flags": list(arm.flags),
            "best": arm.best,
            "runs": [
                {"seed": run.seed, "directory": str(run.directory), "value": value}
                for run, value in zip(arm.runs, self.values(arm).values(), strict=True)
            ],
            "waiting": [str(path) for path in arm.group.waiting],
        }


def values(arm: Group, measure: Measure) -> dict[int, float]:
    """Seed -> value. SpecError where a run was not scored by this measure."""
    found = {}
    for run in arm.runs:
        assert run.result is not None
        if measure.key not in run.result:
            known = did_you_mean(
                measure.key, {"top1", "top5", "loss"} & set(run.result), label="It has"
            )
            raise SpecError(f"--measure: {run.directory} has no {measure.key}. {known}")
        found[run.seed] = measure.of(run.result)
    return found
