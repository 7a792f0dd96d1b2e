"""How a machine is shared out among processes: cores on a CPU, devices where there are any."""

import importlib.metadata
import os
import subprocess
import sys
from dataclasses import dataclass

from cnnjax.errors import SpecError


@dataclass(frozen=True)
class Share:
    """What one process at a time may use. `cores` is empty where it is not pinned."""

    slot: int
    cores: tuple[int, ...] = ()
    device: str | None = None
    memory: float | None = None
    """The part of the device's memory that it may take, where it does not have it alone."""

    def environment(self) -> dict[str, str]:
        """What is set for its process."""
        if self.device is None:
            return {}
        found = {"CUDA_VISIBLE_DEVICES": self.device}
        if self.memory is not None:
            found["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{self.memory:.2f}"
        return found

    def wider(self, threads: int | None) -> tuple[int, ...]:
        """As many cores as a run began with, its own ones first.

        Sums are added up in an order that depends on the number of threads, so a run goes on with
        the number it began with, wherever it is continued.
        """
        if not self.cores or threads is None:
            return self.cores
        others = [core for core in cores() if core not in self.cores]
        return tuple([*self.cores, *others][:threads])


def shares(processes: int | None, runs: int) -> list[Share]:
    """One share for each process that runs at a time.

    By default one process for each NVIDIA device or, on a CPU, for each core, but no more than
    there are runs; one in all on another accelerator. Two on one core each do more than one on two,
    as long as networks are small.
    """
    devices, own = accelerators(), cores()
    room = len(devices) or (1 if _exclusive() else len(own))
    count = processes or min(room, max(1, runs))
    if count < 1:
        raise SpecError(f"--processes {processes}: expected at least 1.")
    pinned: list[tuple[int, ...]] = [()] * count
    if can_pin():
        each = max(1, len(own) // count)
        pinned = [tuple(own[(i * each + k) % len(own)] for k in range(each)) for i in range(count)]
    if not devices:
        return [Share(i, pinned[i]) for i in range(count)]
    crowd = -(-count // len(devices))
    memory = 0.9 / crowd if crowd > 1 else None
    return [Share(i, pinned[i], devices[i % len(devices)], memory) for i in range(count)]


def can_pin() -> bool:
    """Whether a process can be kept to some of the cores here; macOS has no such call."""
    return hasattr(os, "sched_setaffinity")


def cores() -> list[int]:
    """The cores this process may use."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _exclusive() -> bool:
    """Whether JAX has an accelerator that one process at a time takes as a whole."""
    names = {(d.name or "").lower() for d in importlib.metadata.distributions()}
    on_cpu = os.environ.get("JAX_PLATFORMS", "") == "cpu"
    return not on_cpu and any(n in ("libtpu", "jax-metal") or "rocm" in n for n in names)


def accelerators() -> list[str]:
    """The NVIDIA devices that a child would see, as CUDA_VISIBLE_DEVICES names them.

    Asked of the system and not of JAX, which would take their memory.
    """
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return []
    if not any((d.name or "").startswith("jax-cuda") for d in importlib.metadata.distributions()):
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [d.strip() for d in named.split(",") if d.strip() and d.strip() != "-1"]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(i) for i, _ in enumerate(r for r in listed.splitlines() if r.startswith("GPU "))]
