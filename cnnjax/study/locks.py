"""One run, one process: a lock file that only a living process can hold.

The lock is `flock`, which the kernel drops when the last process that holds it ends, however it
ends: a lock that was left behind does not exist. Between hosts it holds where the file system
carries `flock` across: NFS (Linux 2.6.12 and later, not mounted with `local_lock`), GPFS, Lustre
mounted with `flock`. Where it does not, start a study from one host at a time.
"""

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import IO, Any


def take(path: Path) -> IO[str] | None:
    """Lock `path` and write into it who did; None where another process holds it.

    The lock lives as long as the file that is returned, or a process that inherited it, is open.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    file.truncate(0)
    file.write(json.dumps(owner()) + "\n")
    file.flush()
    return file


def holder(path: Path) -> dict[str, Any] | None:
    """Who holds `path`: host, pid and start; None where nobody does."""
    try:
        file = path.open()
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            try:
                return dict(json.loads(file.read()))
            except ValueError:
                return {}  # taken this moment, not yet signed
        return None


def owner() -> dict[str, Any]:
    """This process: host, pid and the time, in seconds since 1970."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": round(time.time(), 3)}
