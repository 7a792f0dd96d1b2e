"""Becomes the command that it is given, on its share of the cores, and ends with its parent.

Run by path and isolated (`python -I worker.py PARENT CORES COMMAND...`): it imports nothing of
ours, and after `exec` the process is the command and nothing else. CORES is "0,1", or "" for all.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: str, cores: str, *command: str) -> None:
    if sys.platform == "linux":
        # SIGTERM, after which `cnnjax train` saves its state; kept across exec.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):
            sys.exit(128 + signal.SIGTERM)  # it died before we asked to be told
        if cores:
            os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
