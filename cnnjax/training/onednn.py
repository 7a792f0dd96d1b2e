"""Programs whose convolutions oneDNN runs: on a CPU, where jaxlib holds it, for what runs long.

XLA:CPU hands convolutions and matrix products to oneDNN where it is asked to, by options of a
compilation; unasked it takes YNNPACK, or loops of its own where channels are few. With convolutions
alone, on two cores with AVX-512, the training step of ResNet-20 took 0.64 and 0.75 of the time
(`CNNJAX_MALLOC=huge cnnjax bench` beside the same with one of these options false in XLA_FLAGS); in
one process without that memory, ResNet-50's 0.95 and GoogLeNet's, most of whose windows are
Winograd's, 0.94 to 1.02. tests/benchmarks/lowerings.py has single operations.

Such a program cannot be kept for another process: XLA cannot write it down, and trying to is not
safe. So each process compiles it, and it is made only where that time comes back.
"""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.ops import lowering
from cnnjax.training.portions import hoisted_in_portions

CALL = "__onednn$convolution"  # what XLA puts in a convolution's place
PRODUCT = "__onednn$matmul"  # and in a matrix product's
# Steps of training: by those figures, what compiling takes is gained in the first 100 of ResNet-20,
# or 300 of ResNet-50.
LONG = 300
OPTIONS = {
    "xla_cpu_experimental_onednn_custom_call": True,
    # YNNPACK keeps the sums, for which oneDNN is not asked. Were products its too, evaluating
    # Xception would take 1.04 to 1.1 of the time, training VGG-11 1.03 to 1.08.
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
    # Else each step copies every kernel, since XLA does not see that the kernel's last reader is
    # done before its update is written in its place: AlexNet's step takes 0.9 of the time and 117
    # MiB instead of 249, VGG-11's 0.97 and 859 instead of 1,301, with the same bits.
    "xla_cpu_copy_insertion_use_region_analysis": True,
}
_NEVER = 1e9  # seconds
_THRESHOLD = "jax_persistent_cache_min_compile_time_secs"


def runs_convolutions(steps: int) -> bool:
    """Whether oneDNN is to run the convolutions of an experiment of so many steps of training.

    Never where the plain lowering is asked for, nor where XLA_FLAGS has one of these options.
    """
    return (
        steps >= LONG
        and not lowering.is_native()
        and not any(option in os.environ.get("XLA_FLAGS", "") for option in OPTIONS)
        and _is_there()
    )


@functools.cache
def _is_there() -> bool:
    """Whether this jaxlib has oneDNN, which those for other processors than x86 have not."""
    x, kernel = jnp.zeros((1, 4, 4, 8)), jnp.zeros((3, 3, 8, 8))
    layout = ("NHWC", "HWIO", "NHWC")
    convolve = jax.jit(
        lambda x, k: lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=layout)
    )
    try:
        with _kept_by_nobody():
            program = convolve.lower(x, kernel).compile(OPTIONS).as_text()
    except jax.errors.JaxRuntimeError:  # another version of XLA, with other options
        return False
    return CALL in (program or "")


def compiled(function: jax.stages.Wrapped, *args: Any, onednn: bool) -> jax.stages.Compiled:
    """A program for arguments like these; oneDNN runs its convolutions if wanted and there are any.

    `function` is jitted and has not been traced before.
    """
    with lowering.for_onednn() if onednn and _on_one_device(args) else nullcontext():
        lowered = function.lower(*args)
    if not onednn or "stablehlo.convolution" not in lowered.as_text():
        return lowered.compile()
    with _kept_by_nobody():
        return lowered.compile(OPTIONS)


def compiled_for_many(
    function: Callable[..., Any], variables: Any, *batch: Any, onednn: bool, **shardings: Any
) -> Callable[[Any], partial[Any]]:
    """`function` of variables and a batch, as a function of the one that gives one of the other.

    Where oneDNN runs the convolutions, what depends on variables alone is computed by the first.
    Norms are in the kernels then, no gradient is to be had, and the first stages may take a few
    images at a time, which are the rows of each array of the batch. `shardings` are for `jax.jit`,
    and `function` has not been traced before.
    """
    if not onednn or not _on_one_device((variables, *batch)):
        program = compiled(jax.jit(function, **shardings), variables, *batch, onednn=onednn)
        return lambda variables: partial(program, variables)

    def evaluation(between: lowering.Between, variables: Any, *batch: Any) -> Any:
        with lowering.for_evaluation(between):
            return function(variables, *batch)

    once, each = hoisted_in_portions(evaluation, variables, *batch)
    first = jax.jit(once).lower(variables).compile()
    then = compiled(jax.jit(each), first.out_info, variables, *batch, onednn=True)
    return lambda variables: partial(then, first(variables), variables)


def _on_one_device(args: Any) -> bool:
    """Else what oneDNN does by images would have to move those of other devices."""
    shardings = [getattr(a, "sharding", None) for a in jax.tree.leaves(args)]
    return all(s is None or len(s.device_set) == 1 for s in shardings)


def library_of(program: str) -> str:
    """Who runs the convolutions that a program still has, by its text."""
    return "oneDNN" if CALL in program else "XLA"


@contextmanager
def _kept_by_nobody() -> Iterator[None]:
    """Compile without writing to the persistent cache."""
    before = getattr(jax.config, _THRESHOLD)
    jax.config.update(_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        jax.config.update(_THRESHOLD, before)
