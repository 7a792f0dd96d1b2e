"""What the command line sets up before JAX is loaded; importing the library changes none of it.

A run records the settings in force under `flags` of env.json.
"""

import ctypes
import gc
import os
import platform
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from cnnjax.errors import SpecError, did_you_mean

# The GNU C Library Reference Manual, Memory Allocation Tunables; hugetlb since 2.35. What a step
# frees is kept for the next, which would else have every page cleared anew.
TUNABLES = {
    "glibc.malloc.hugetlb": 1,
    "glibc.malloc.mmap_threshold": 1 << 40,
    "glibc.malloc.trim_threshold": 1 << 40,
}


def set_up(environ: MutableMapping[str, str] = os.environ) -> None:
    """Keep compiled programs from one command to the next.

    They go to JAX_COMPILATION_CACHE_DIR, by default `cnnjax/xla` in the user's cache directory;
    JAX_ENABLE_COMPILATION_CACHE=false turns that off.
    """
    environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_cache(environ) / "cnnjax" / "xla"))
    # The programs of small networks compile in less than JAX's threshold of one second, each.
    environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


def _cache(environ: MutableMapping[str, str]) -> Path:
    if "XDG_CACHE_HOME" in environ:
        return Path(environ["XDG_CACHE_HOME"])
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def take_memory(environ: MutableMapping[str, str] = os.environ) -> None:
    """Begin this command anew with memory in pages of 2 MiB, where CNNJAX_MALLOC=huge asks for it.

    A step of a large network on a CPU takes and frees hundreds of MiB; given back to the system
    each time, every page of 4 KiB is a fault. glibc reads its setting when a process begins.
    SpecError for another value, or where the C library cannot.
    """
    policy = environ.get("CNNJAX_MALLOC", "default")
    if policy not in ("default", "huge"):
        hint = did_you_mean(policy, ["default", "huge"], label="Known policies")
        raise SpecError(f"CNNJAX_MALLOC: unknown policy {policy!r}. {hint}")
    tunables = environ.get("GLIBC_TUNABLES", "")
    if policy == "default" or all(name in tunables for name in TUNABLES):
        return
    if not _has_huge_pages():
        found = " ".join(platform.libc_ver()).strip() or "another C library"
        raise SpecError(f"CNNJAX_MALLOC: 'huge' needs glibc 2.35, this is {found}. Unset it.")
    os.execve(sys.executable, sys.orig_argv, with_huge_pages(environ))


def _has_huge_pages() -> bool:
    library, version = platform.libc_ver()
    return library == "glibc" and tuple(map(int, version.split("."))) >= (2, 35)


def keeps_memory(environ: Mapping[str, str] = os.environ) -> bool | None:
    """Whether what a step frees is kept for the next one; None where it cannot be asked for."""
    return environ.get("CNNJAX_MALLOC") == "huge" if _has_huge_pages() else None


def with_huge_pages(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that keeps its memory; what is set there stays."""
    tunables = environ.get("GLIBC_TUNABLES", "")
    ours = [f"{name}={value}" for name, value in TUNABLES.items() if name not in tunables]
    tunables = ":".join(filter(None, (tunables, *ours)))
    return {**environ, "GLIBC_TUNABLES": tunables}


def run_programs_here(environ: Mapping[str, str] = os.environ) -> None:
    """Let this thread run JAX's programs on a CPU, where CNNJAX_MALLOC=huge keeps their memory.

    Only the arena of the main thread can keep large blocks, and each thread takes them from its
    own. One arena for all is no way out: XLA's threads wait for each other at every small block,
    and LeNet-5 takes 1.2 of the time. Must run before the first computation.
    """
    if environ.get("CNNJAX_MALLOC") == "huge":
        import jax

        jax.config.update("jax_cpu_enable_async_dispatch", False)


def collect_rarely() -> None:
    """Look for cyclic garbage after every 100,000 new objects, not every 700.

    What is imported and traced stays; looking through it all, again and again, takes a third of a
    second until the first step.
    """
    gc.set_threshold(100_000)


def give_back_memory() -> None:
    """Return to the system what compiling took and freed: hundreds of MiB for a large network."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
