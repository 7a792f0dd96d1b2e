"""launches.jsonl: one row for each process that a study started, and how they were grouped.

run (12 digits of its digest), launcher, slot, processes (at once), threads and cores or device,
host, pid, started and ended (seconds since 1970), exit_code; the last two are None while it runs,
and stay so where whoever started it did not live to see its end.
"""

import fcntl
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cnnjax import atomic

NAME = "launches.jsonl"
# SIGINT, SIGTERM, as `cnnjax train` gives them and as the system does: stopped, to be continued.
STOPPED = (130, 143, -2, -15)


def read(directory: Path) -> list[dict[str, Any]]:
    """The rows of a study directory, in the order in which the runs were started."""
    path = directory / NAME
    if not path.exists():
        return []
    return [json.loads(r) for r in path.read_text().splitlines(keepends=True) if r.endswith("\n")]


def last(directory: Path) -> dict[str, dict[str, Any]]:
    """The newest row of each run."""
    return {row["run"]: row for row in read(directory)}


def failed(row: Mapping[str, Any]) -> bool:
    """Whether the process of a row ended by an error of its own."""
    return row.get("exit_code") not in (None, 0, *STOPPED)


def seconds_busy(rows: Iterable[Mapping[str, Any]]) -> float:
    """Time in which at least one process of `rows` ran, as a clock on the wall shows it."""
    spans = sorted((row["started"], row["ended"]) for row in rows if row.get("ended") is not None)
    total, until = 0.0, -math.inf
    for start, end in spans:
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def started(directory: Path, row: Mapping[str, Any]) -> None:
    """Append a row whose end is not known yet."""
    with _alone(directory), (directory / NAME).open("a") as file:
        file.write(json.dumps({**row, "ended": None, "exit_code": None}) + "\n")


def ended(directory: Path, row: Mapping[str, Any], when: float, exit_code: int) -> None:
    """Fill in the end of the row that `started` wrote."""
    same = ("run", "host", "pid", "started")
    with _alone(directory):
        rows = read(directory)
        for found in reversed(rows):
            if all(found.get(k) == row[k] for k in same):
                found |= {"ended": when, "exit_code": exit_code}
                break
        atomic.write(directory / NAME, "".join(json.dumps(r) + "\n" for r in rows))


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Nobody else writes meanwhile."""
    (directory / "locks").mkdir(parents=True, exist_ok=True)
    with (directory / "locks" / "launches.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
