"""The devices of a run: one axis called `data`, over which batches are split."""

import os
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# Steps that run inside one `lax.scan`, per platform. A convolution in a loop body misses XLA:CPU's
# fast path (ResNet-50: 42-78 s a step scanned, 1.8-3.3 s not), so the CPU never scans. On an
# accelerator a stretch hides the dispatch of small steps; 16 is a choice, not a measurement.
STRETCH = {"cpu": 1, "gpu": 16, "cuda": 16, "rocm": 16, "tpu": 16}


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """All devices, or the given ones, on one axis."""
    return Mesh(np.asarray(devices if devices is not None else jax.devices()), ("data",))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split_rows(mesh: Mesh) -> NamedSharding:
    """The first axis cut evenly over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def stretch_of(mesh: Mesh) -> int:
    """How many steps go into one dispatch on this mesh's platform."""
    return STRETCH.get(mesh.devices.flat[0].platform, 1)


def is_first() -> bool:
    """Whether this is the process of its job that writes and prints."""
    return jax.process_index() == 0


def join_cluster() -> bool:
    """Join the other processes of this job where the environment says there are any.

    Inside `srun` with several tasks JAX finds them itself; elsewhere JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID say it. Must run before the first computation.
    """
    number = os.environ.get("JAX_NUM_PROCESSES")
    if number is not None and int(number) > 1:
        jax.distributed.initialize(
            os.environ["JAX_COORDINATOR_ADDRESS"], int(number), int(os.environ["JAX_PROCESS_ID"]),
            heartbeat_timeout_seconds=30,
        )  # fmt: skip
        return True
    if "SLURM_STEP_NODELIST" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        # One process sees every device of its node, not only the one of its local rank.
        jax.distributed.initialize(cluster_detection_method="slurm", heartbeat_timeout_seconds=30)
        return True
    return False
