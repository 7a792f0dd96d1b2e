"""Every test sees eight virtual CPU devices, and silent rank promotion is an error.

The suite's time is compile time, and each program runs once or twice: LLVM need not optimise it.
Programs that commands compile are kept for this session alone.
"""

import os
import tempfile

os.environ.setdefault("XDG_CACHE_HOME", tempfile.mkdtemp(prefix="cnnjax-tests-"))

FLAG = "--xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}".strip()

import jax  # noqa: E402  (XLA reads its flags when it is loaded)

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
