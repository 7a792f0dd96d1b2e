"""Every test sees eight virtual CPU devices, and silent rank promotion is an error.

The suite's time is compile time, and each program runs once or twice: LLVM need not optimise it.
Programs are kept for this session alone, for its other processes and for the same one again.
"""

import gc
import os
import tempfile

os.environ.setdefault("XDG_CACHE_HOME", tempfile.mkdtemp(prefix="cnnjax-tests-"))
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{os.environ['XDG_CACHE_HOME']}/xla")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

FLAG = "--xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}".strip()

import jax  # noqa: E402  (XLA reads its flags when it is loaded)

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

# What was imported stays, and traced programs live long: to look through them often is wasted.
gc.freeze()
gc.set_threshold(50_000, 20, 20)
