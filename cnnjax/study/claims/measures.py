"""What a claim is measured by: one number of a finished run directory, the lower the better.

The training curve is read in WINDOWS equal parts of the run, so that a record thinned to these
parts gives the same numbers.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from cnnjax.errors import RunError
from cnnjax.study.runs import Run

WINDOWS = 50
FINAL = 5
"""Windows that the final training loss is averaged over: a tenth of the run."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Value:
    """A measured number; `censored` where the run ended before it, so that the truth is larger."""

    value: float
    censored: bool = False


@runtime_checkable
class Measure(Protocol):
    """A number of a run, with its name and unit."""

    @property
    def name(self) -> str: ...

    @property
    def unit(self) -> str: ...

    @property
    def sees_test(self) -> bool:
        """Whether test images enter, so that nothing may be chosen by it."""
        ...

    def of(self, run: Run) -> Value:
        """The number. RunError where the run has no rows for it."""
        ...


@dataclass(frozen=True)
class FinalError:
    """Top-1 error of the reported network on a split or evaluation, in percent."""

    split: str = "test"
    unit: str = "points"
    sees_test: bool = True

    @property
    def name(self) -> str:
        return f"{self.split} error"

    def of(self, run: Run) -> Value:
        return Value(_error(run, self.split))


@dataclass(frozen=True)
class Rise:
    """How much the error grows from the split or evaluation `low` to `high`, in points."""

    low: str
    high: str
    unit: str = "points"
    sees_test: bool = True

    @property
    def name(self) -> str:
        return f"{self.high} error less {self.low} error"

    def of(self, run: Run) -> Value:
        return Value(_error(run, self.high) - _error(run, self.low))


@dataclass(frozen=True)
class TrainingLoss:
    """Mean loss of the training batches over the last tenth of the run, as it was minimised."""

    unit: str = "nats"
    sees_test: bool = False
    name: str = "final training loss"

    def of(self, run: Run) -> Value:
        last = curve(run)[-FINAL:]
        return Value(sum(r["loss"] * r["n"] for r in last) / sum(r["n"] for r in last))


@dataclass(frozen=True)
class StepsTo:
    """Steps until the training error of a window first is `error` percent or less, as log2.

    A difference of 1 is twice the steps. The crossing is interpolated between the centres of two
    windows. A run that never comes there counts with its last step, and as censored.
    """

    error: float
    unit: str = "doublings"
    sees_test: bool = False

    @property
    def name(self) -> str:
        return f"steps to {self.error:g} % training error"

    def of(self, run: Run) -> Value:
        before: tuple[float, float] | None = None
        start = 0
        for row in curve(run):
            centre, error = (start + row["step"]) / 2, 100 * (1 - row["top1"])
            start = row["step"]
            if error <= self.error:
                if before is None:
                    return Value(math.log2(max(centre, 1.0)))
                share = (before[1] - self.error) / (before[1] - error)
                return Value(math.log2(before[0] + share * (centre - before[0])))
            before = centre, error
        return Value(math.log2(run.steps or run.step), censored=True)


def curve(run: Run) -> list[dict[str, Any]]:
    """The training rows merged into WINDOWS windows: step (the window's last), loss, top1, n."""
    found = windows(run.metrics, run.steps or run.step)
    if not found:
        raise RunError(f"{run.directory}: metrics.jsonl has no rows of training.")
    return found


def windows(rows: Iterable[Row], steps: int) -> list[dict[str, Any]]:
    """Training rows merged by window; those already merged come back as they are.

    A row belongs to the window in which its last step falls.
    """
    merged: dict[int, dict[str, Any]] = {}
    for row in rows:
        if row["split"] != "train":
            continue
        place = math.ceil(row["step"] * WINDOWS / steps)
        old = merged.get(place)
        if old is None:
            merged[place] = dict(row)
            continue
        n = old["n"] + row["n"]
        means = {
            k: (old[k] * old["n"] + row[k] * row["n"]) / n
            for k in ("loss", "top1", "top5")
            if k in row
        }
        merged[place] = {**row, **means, "n": n}
    return [merged[place] for place in sorted(merged)]


def _error(run: Run, split: str) -> float:
    """Percent; the last row of a split, or the result where it is the result's split."""
    rows = [row for row in run.metrics if row["split"] == split]
    if run.result is not None and run.result["split"] == split:
        rows.append(run.result)
    if not rows:
        known = ", ".join(sorted({row["split"] for row in run.metrics})) or "nothing"
        raise RunError(f"{run.directory}: was not scored on '{split}'. It has {known}.")
    return 100 * (1 - rows[-1]["top1"])
