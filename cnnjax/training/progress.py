"""What a person sees while a run goes on: a bar in a terminal, plain lines when piped."""

import sys
import time
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@runtime_checkable
class Reporter(Protocol):
    """Told of the run's length, of each logged row and of each evaluation."""

    def start(self, step: int, steps: int, note: str) -> None: ...
    def train(self, step: int, row: dict[str, Any], images_per_s: float) -> None: ...
    def evaluated(self, step: int, split: str, row: dict[str, Any]) -> None: ...
    def stop(self) -> None: ...


class Silent:
    """Says nothing: notebooks, tests, `--quiet`."""

    def start(self, step: int, steps: int, note: str) -> None: ...
    def train(self, step: int, row: dict[str, Any], images_per_s: float) -> None: ...
    def evaluated(self, step: int, split: str, row: dict[str, Any]) -> None: ...
    def stop(self) -> None: ...


class Terminal:
    """A bar with loss, top-1, images/s and time left, and a line per evaluation."""

    EVERY = 10.0
    """Seconds between plain lines where there is no terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
            TextColumn("{task.fields[now]}"), TimeRemainingColumn(compact=True),
            console=self._console, disable=not self._console.is_terminal, transient=True,
        )  # fmt: skip
        self._task: Any = None
        self._last = 0.0
        self._steps = 0

    def start(self, step: int, steps: int, note: str) -> None:
        self._steps = steps
        self._console.print(note, highlight=False)
        self._task = self._bar.add_task("train", total=steps, completed=step, now="")
        self._bar.start()
        self._last = time.monotonic()

    def train(self, step: int, row: dict[str, Any], images_per_s: float) -> None:
        now = f"loss {row['loss']:.4f}  top-1 {row['top1']:.4f}  {images_per_s:,.0f} images/s"
        self._bar.update(self._task, completed=step, now=now)
        if not self._console.is_terminal and time.monotonic() - self._last > self.EVERY:
            self._last = time.monotonic()
            self._console.print(f"step {step}/{self._steps}  {now}", highlight=False)

    def evaluated(self, step: int, split: str, row: dict[str, Any]) -> None:
        self._bar.update(self._task, completed=step)
        self._console.print(
            f"step {step:>{len(str(self._steps))}}  {split:<10} loss {row['loss']:.4f}"
            f"  top-1 {row['top1']:.4f}",
            highlight=False,
        )

    def stop(self) -> None:
        self._bar.stop()
