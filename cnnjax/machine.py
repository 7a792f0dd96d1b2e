"""What the command line sets up before JAX is loaded; importing the library changes none of it.

A run records the settings in force under `flags` of env.json.
"""

import ctypes
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

from cnnjax.errors import SpecError, did_you_mean

# Of glibc's malloc.h: large blocks from the heap and none given back, so that a step's buffers are
# not mapped and cleared by the kernel anew each time; one arena, since threads would hold one each.
_KEEP = {
    -4: 0,  # M_MMAP_MAX
    -1: -1,  # M_TRIM_THRESHOLD
    -2: 256 << 20,  # M_TOP_PAD
    -8: 1,  # M_ARENA_MAX
}


def set_up(environ: MutableMapping[str, str] = os.environ) -> None:
    """Keep compiled programs from one command to the next; keep memory where that is asked for.

    Programs go to JAX_COMPILATION_CACHE_DIR, by default `cnnjax/xla` in the user's cache directory;
    JAX_ENABLE_COMPILATION_CACHE=false turns that off. CNNJAX_MALLOC=keep lets the process keep the
    memory it once had, which saves large networks on a CPU the page faults of each step, at the
    price of never giving any back. SpecError for another value of it, or where the C library is not
    glibc.
    """
    environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_cache(environ) / "cnnjax" / "xla"))
    # The programs of small networks compile in less than JAX's threshold of one second, each.
    environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    policy = environ.get("CNNJAX_MALLOC", "default")
    if policy not in ("default", "keep"):
        hint = did_you_mean(policy, ["default", "keep"], label="Known policies")
        raise SpecError(f"CNNJAX_MALLOC: unknown policy {policy!r}. {hint}")
    if policy == "keep":
        _keep_memory()


def _cache(environ: MutableMapping[str, str]) -> Path:
    if "XDG_CACHE_HOME" in environ:
        return Path(environ["XDG_CACHE_HOME"])
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def _keep_memory() -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        raise SpecError("CNNJAX_MALLOC: 'keep' needs glibc, which this system has not. Unset it.")
    for parameter, value in _KEEP.items():
        mallopt(parameter, value)
