"""An evaluation whose first stages take a few images at a time, as long as their maps are large.

There the maps of a whole batch outgrow the processor's cache, and what a step waits for is memory;
later the kernels do, which are best read once for all images. On two cores with AVX-512 and 32 MiB
of cache, as tests/benchmarks/portions.py prints it, evaluations took of their time with all images
at once: 1,000 images of ResNet-20 0.62, of LeNet-5 0.74; 8 of VGG-11 0.79, SqueezeNet 0.91,
ResNet-50 0.92, GoogLeNet 0.94; 4 of Inception v3 and of Xception 0.93. While other machines use the
same cache little or nothing is gained, and LeNet-5 lost 0.12.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from math import prod
from typing import Any, NamedTuple

import jax
from jax import Array, lax

from cnnjax.ops.cpu_rows import fenced
from cnnjax.training.hoist import hoisted

LARGEST = 8 * 2**20  # bytes of a convolution's output, for all images of a portion
WHOLE = 4 * 2**20  # and for the whole batch in the stages that take all images at once
FEWEST = 512  # places of a map for all images of a portion; of fewer a product is slow


class Stage(NamedTuple):
    """What an evaluation has at the end of a stage."""

    map: jax.ShapeDtypeStruct
    largest: int  # bytes of the largest output of a convolution in this stage


class _Reached(Exception):
    """The end of the last stage that is wanted."""


def hoisted_in_portions(
    evaluation: Callable[..., Any], variables: Any, *batch: Array
) -> tuple[Callable[[Any], Any], Callable[..., Any]]:
    """`once` and `each` of evaluation(between, variables, *batch), as `hoisted` makes them.

    `evaluation` calls `between` as `lowering.for_evaluation` does. Each of `batch` has the images
    first; what is done with one must not depend on the others or on how many there are.
    """
    stages: list[Stage] = []

    def seen(x: Array, largest: int) -> Array:
        stages.append(Stage(jax.ShapeDtypeStruct(x.shape, x.dtype), largest))
        return x

    at_once = hoisted(partial(evaluation, seen), variables, *batch)
    n = len(batch[0])
    cut = _cut(stages, n)
    if cut is None:
        return at_once
    portions, last = cut
    few = [jax.ShapeDtypeStruct((n // portions, *a.shape[1:]), a.dtype) for a in batch]

    def maps(variables: Any, *few: Array) -> list[Array]:
        found: list[Array] = []

        def noted(x: Array, _: int) -> Array:
            found.append(x)
            if len(found) > last:
                raise _Reached
            return x

        with suppress(_Reached):
            evaluation(noted, variables, *few)
        return found

    traced, found = jax.make_jaxpr(maps, return_shape=True)(variables, *few)
    parts = [(_part(x.shape, portions), x.dtype) for x, _ in stages[: last + 1]]
    if traced.effects or [(x.shape, x.dtype) for x in found] != parts:
        return at_once  # what happens is to happen once, and maps are put together by images

    def begun(variables: Any, *few: Array) -> Array:
        # As long rows: what is fused into the write of a loop's result runs on one core.
        return fenced(maps(variables, *few)[last].reshape(n // portions, -1))

    def ended(variables: Any, x: Array, *batch: Array) -> Any:
        number = count()
        return evaluation(lambda own, _: x if next(number) == last else own, variables, *batch)

    begin_once, begin = hoisted(begun, variables, *few)
    end_once, end = hoisted(ended, variables, stages[last].map, *batch)

    def once(variables: Any) -> Any:
        return begin_once(variables), end_once(variables)

    def each(values: Any, variables: Any, *batch: Array) -> Any:
        for_begin, for_end = values
        split = [a.reshape(portions, n // portions, *a.shape[1:]) for a in batch]
        x = lax.map(lambda few: begin(for_begin, variables, *few), split)
        return end(for_end, variables, x.reshape(stages[last].map.shape), *batch)

    return once, each


def _cut(stages: Sequence[Stage], n: int) -> tuple[int, int] | None:
    """How many portions of n images, and the last stage that runs in portions, if any does."""
    of_images = {i: s for i, s in enumerate(stages) if s.map.shape[:1] == (n,)}
    least = max((stage.largest for stage in of_images.values()), default=0) / LARGEST
    portions = min(p for p in range(1, n + 1) if n % p == 0 and (p >= least or p == n))
    found = [
        i for i, (x, largest) in of_images.items()
        if largest > WHOLE and prod(x.shape[:-1]) >= FEWEST * portions
    ]  # fmt: skip
    # Where n has no divisor near, portions would be tiny.
    return (portions, found[-1]) if found and 1 < portions <= 4 * least else None


def _part(shape: tuple[int, ...], portions: int) -> tuple[int, ...]:
    return (shape[0] // portions, *shape[1:]) if shape else ()
