"""What a person sees while a study goes on: a bar over its runs, plain lines when piped."""

import json
import sys
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cnnjax.study.record import Cell, Study


@runtime_checkable
class Reporter(Protocol):
    """Told of each run that starts, ends or is another process's."""

    def begin(self, study: Study, todo: int) -> None: ...
    def started(self, cell: Cell) -> None: ...
    def ended(self, cell: Cell, study: Study, seconds: float | None) -> None: ...
    def elsewhere(self, cell: Cell, holder: Mapping[str, Any]) -> None: ...
    def stop(self) -> None: ...


class Silent:
    """Says nothing."""

    def begin(self, study: Study, todo: int) -> None: ...
    def started(self, cell: Cell) -> None: ...
    def ended(self, cell: Cell, study: Study, seconds: float | None) -> None: ...
    def elsewhere(self, cell: Cell, holder: Mapping[str, Any]) -> None: ...
    def stop(self) -> None: ...


class Terminal:
    """A bar over the runs, and a line for each that ended."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr, markup=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("runs"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=self._console, disable=not self._console.is_terminal, transient=True,
        )  # fmt: skip
        self._task: Any = None
        self._now: list[Cell] = []
        self._done = self._total = 0
        self._told: set[Cell] = set()

    def begin(self, study: Study, todo: int) -> None:
        self._total, self._done = len(study.runs), len(study.runs) - todo
        note = f"{study.experiment}: {len(study.arms)} arms, {self._total} runs"
        there = f", {self._done} of them finished" if self._done else ""
        self._say(f"{note}{there}, in {study.directory}")
        self._task = self._bar.add_task("", total=self._total, completed=self._done)
        self._bar.start()

    def started(self, cell: Cell) -> None:
        self._now.append(cell)
        self._show()

    def ended(self, cell: Cell, study: Study, seconds: float | None) -> None:
        if cell in self._now:
            self._now.remove(cell)
        if study.finished(cell):
            self._done += 1
            result = json.loads((study.path(cell) / "result.json").read_text())
            said = f"{result['split']} top-1 {result['top1']:.4f}"
        else:
            said = f"not finished, see {study.log_path(cell)}"
        took = "" if seconds is None else f", {seconds:.1f} s"
        self._say(f"{self._done}/{self._total}  {cell.name}: {said}{took}")
        self._show()

    def elsewhere(self, cell: Cell, holder: Mapping[str, Any]) -> None:
        if cell not in self._told:
            self._told.add(cell)
            who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
            self._say(f"{cell.name}: is being trained by {who}")

    def stop(self) -> None:
        self._bar.stop()

    def _show(self) -> None:
        self._bar.update(
            self._task, completed=self._done, description="; ".join(c.name for c in self._now)
        )

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False)
