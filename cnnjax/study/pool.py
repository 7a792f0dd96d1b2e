"""Several runs at once on this machine, each an ordinary `cnnjax train` in a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cnnjax.errors import RunError
from cnnjax.study import launches, locks
from cnnjax.study.progress import Reporter
from cnnjax.study.record import Cell, Study
from cnnjax.study.shares import Share

LOOK_EVERY, ASK_EVERY = 0.1, 1.0
"""Seconds between two looks at our processes, and between two at the locks of others."""
# What would make a run believe that it is one process of several.
OF_A_JOB = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "SLURM_STEP_NODELIST")
WORKER = Path(__file__).with_name("worker.py")


class Stopped(RunError):
    """A signal came; the runs saved their state, and the same command goes on with them."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


@dataclass
class _Running:
    cell: Cell
    share: Share
    process: subprocess.Popen[bytes]
    lock: IO[str]
    log: IO[bytes]
    row: dict[str, Any]


def command(study: Study, cell: Cell) -> list[str]:
    """The `cnnjax train` that is one run."""
    return [
        sys.executable, "-m", "cnnjax", "train", str(study.spec_path(cell)),
        "--out", str(study.path(cell)),
    ]  # fmt: skip


def environment(study: Study, share: Share) -> dict[str, str]:
    """What the process of a run finds in its environment.

    The seeds of an arm run the same program, so JAX keeps the compiled one; each host has its own,
    since it is compiled for the processor it runs on.
    """
    given = {k: v for k, v in os.environ.items() if k not in OF_A_JOB}
    compiled = study.directory.absolute() / "compiled" / socket.gethostname()
    kept = {
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    return {**kept, **given, **share.environment()}


def run(
    study: Study,
    todo: Sequence[Cell],
    shares: Sequence[Share],
    reporter: Reporter,
) -> list[Cell]:
    """Train what of `todo` is not finished, and return what failed.

    A run that another process has is left to it, and taken over if that process ends before the run
    does. Raises Stopped after SIGTERM or SIGINT, when every run has saved its state.
    """
    pool = _Pool(study, todo, shares, reporter)
    with _signals(pool):
        try:
            pool.run()
        finally:
            pool.end(signal.SIGKILL)
            reporter.stop()
    return pool.failed


class _Pool:
    def __init__(
        self, study: Study, todo: Sequence[Cell], shares: Sequence[Share], reporter: Reporter
    ) -> None:
        self.study, self.reporter, self.shares = study, reporter, shares
        self.waiting = list(todo)
        self.free = list(shares)
        self.running: list[_Running] = []
        self.failed: list[Cell] = []
        self.signal: int | None = None
        self.began, self.asked = time.time(), 0.0
        last = launches.last(study.directory)
        self.threads = {c: last[c.short].get("threads") for c in todo if c.short in last}

    def run(self) -> None:
        while self.waiting or self.running:
            self._reap()
            if self.signal is not None and not self.running:
                number = signal.Signals(self.signal)
                raise Stopped(
                    f"{self.study.directory}: stopped by {number.name}; the runs saved their state,"
                    " and the same command goes on with them.",
                    number,
                )
            if self.signal is None and time.monotonic() - self.asked > ASK_EVERY:
                self._start()
            time.sleep(LOOK_EVERY)

    def _start(self) -> None:
        """Give every free share a run that nobody else has."""
        self.asked = time.monotonic()
        for cell in [*self.waiting]:
            if not self.free:
                return
            lock = locks.take(self.study.lock_path(cell))
            if lock is None:
                holder = locks.holder(self.study.lock_path(cell)) or {}
                self.reporter.elsewhere(cell, holder)
                continue
            self.waiting.remove(cell)
            if self.study.finished(cell) or self._failed_meanwhile(cell):
                lock.close()
                self.failed += [] if self.study.finished(cell) else [cell]
                self.reporter.ended(cell, self.study, None)
                continue
            self.running.append(self._launch(cell, self.free.pop(0), lock))

    def _failed_meanwhile(self, cell: Cell) -> bool:
        """Whether another process has tried it since we began, and it failed."""
        row = launches.last(self.study.directory).get(cell.short)
        return row is not None and launches.failed(row) and row["ended"] > self.began

    def _launch(self, cell: Cell, share: Share, lock: IO[str]) -> _Running:
        path = self.study.log_path(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        log = path.open("ab")
        pinned = share.wider(self.threads.get(cell))
        cores = ",".join(map(str, pinned))
        process = subprocess.Popen(
            [sys.executable, "-I", str(WORKER), str(os.getpid()), cores,
             *command(self.study, cell)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env=environment(self.study, share),
            # The lock is the child's too: it holds as long as one of the two lives. Ctrl-C reaches
            # the child as the one SIGTERM that we send, and not twice.
            pass_fds=[lock.fileno()], process_group=0,
        )  # fmt: skip
        row = {
            "run": cell.short, "launcher": "pool", "slot": share.slot,
            "processes": len(self.shares), "threads": len(pinned) or None,
            "cores": list(pinned), "device": share.device, "host": socket.gethostname(),
            "pid": process.pid, "started": round(time.time(), 3),
        }  # fmt: skip
        launches.started(self.study.directory, row)
        self.reporter.started(cell)
        return _Running(cell, share, process, lock, log, row)

    def _reap(self) -> None:
        for one in [*self.running]:
            code = one.process.poll()
            if code is None:
                continue
            self.running.remove(one)
            self.free.append(one.share)
            self.asked = 0.0
            now = round(time.time(), 3)
            launches.ended(self.study.directory, one.row, now, code)
            one.log.close()
            one.lock.close()
            done = self.study.finished(one.cell)
            if not done and self.signal is None:
                self.failed.append(one.cell)
            self.reporter.ended(one.cell, self.study, now - one.row["started"])

    def note(self, number: int) -> None:
        """The first signal asks the runs to save and stop, a second one ends them at once."""
        again = self.signal is not None
        self.signal = number
        self.end(signal.SIGKILL if again else signal.SIGTERM)

    def end(self, number: int) -> None:
        """Send a signal to every process that is left."""
        for one in self.running:
            if one.process.poll() is None:
                one.process.send_signal(number)


@contextmanager
def _signals(pool: _Pool) -> Iterator[None]:
    """SIGTERM and SIGINT are passed on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, _: Any) -> None:
        pool.note(number)

    before = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
