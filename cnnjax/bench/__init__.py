"""How fast a network trains and evaluates here, and where the time goes."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax import cost, machine, training
from cnnjax.bench.profile import breakdown
from cnnjax.data import DataSet, from_arrays
from cnnjax.ops import lowering
from cnnjax.spec import Spec
from cnnjax.training import onednn
from cnnjax.training.compiled import Parts, Program
from cnnjax.training.experiment import open_data
from cnnjax.training.mesh import data_mesh
from cnnjax.training.step import eval_step

WINDOWS = 7
_SCHEDULE = {
    "steps": 1_000_000,
    "optimizer": {"name": "sgd", "momentum": 0.9},
    "learning_rate": {"name": "constant", "value": 0.001},
}


def bench(
    source: Mapping[str, Any] | Spec,
    *,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    batch_size: int | None = None,
    native: bool = False,
    seconds: float = 1.0,
    brief: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure an experiment's, or a model dict's, training and evaluation steps on random images.

    The step is that of `cnnjax train`: gather, augmentation, normalisation, loss, optimizer and
    metrics; for a model dict, SGD with momentum and nothing done to the images. Windows of about
    `seconds` are timed, training and evaluation by turns: `images_per_s` is of the best one.
    FLOP/s count 2 for a multiply-add of the definition and backward as twice forward, over those of
    a matrix product timed in this process: `fraction_of_peak` may exceed one where Winograd's need
    fewer. `compile_s` is to trace and compile the training step and to write it to a cache,
    `cached_compile_s` to find it there; where oneDNN runs the `convolutions` it is not kept, and
    takes as long again. `native` turns off the platform's own formulations
    (`cnnjax.ops.lowering`). `eval_begin_s` is what an evaluation takes before its first batch, for
    what depends on the variables alone. `brief` leaves out compile seconds and breakdown. `report`
    is told what goes on.
    """
    report("preparing")
    found, dataset = _experiment(source, input_shape, num_classes, batch_size)
    experiment = training.resolve(found, dataset=dataset)
    batch, counted = experiment.batch_size, cost.cost(experiment.module, experiment.input_shape)
    with lowering.native() if native else nullcontext():
        report("compiling")
        steps = _Steps(Parts.of(experiment, data_mesh()), brief=brief)
    makers = [lambda: steps.train, steps.evaluation]
    trained, evaluated = _windows(makers, batch, seconds, report)
    report("timing a matrix product")
    peak = matmul_flops(seconds / 2)
    achieved = 6 * counted.totals.macs * max(trained)
    device = jax.devices()[0]
    if not brief:
        report("profiling")
    return {
        "model": dict(found.model),
        "input_shape": list(experiment.input_shape),
        "batch_size": batch,
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "cores": os.cpu_count(),
        "lowering": "native" if native or lowering.is_native() else device.platform,
        "convolutions": onednn.library_of(steps.program),
        "params": counted.totals.params.trainable,
        "macs": counted.totals.macs,
        "compile_s": steps.compile_s,
        "cached_compile_s": steps.cached_compile_s,
        "images_per_s": max(trained),
        "median_images_per_s": statistics.median(trained),
        "eval_images_per_s": max(evaluated),
        "median_eval_images_per_s": statistics.median(evaluated),
        "eval_begin_s": statistics.median(steps.begin_s),
        "flops_per_s": achieved,
        "matmul_flops_per_s": peak,
        "fraction_of_peak": achieved / peak,
        "temporary_bytes": steps.temporary_bytes,
        "keeps_memory": machine.keeps_memory() if device.platform == "cpu" else None,
        "breakdown": None if brief else breakdown(steps.train, steps.program),
    }


def _experiment(
    source: Mapping[str, Any] | Spec,
    input_shape: Sequence[int] | None,
    num_classes: int | None,
    batch_size: int | None,
) -> tuple[Spec, DataSet]:
    """The experiment to be timed, on random images in place of its own."""
    if isinstance(source, Spec):
        own = open_data(source)
        shape, classes = tuple(input_shape or own.shape), num_classes or own.num_classes
        content: dict[str, Any] = source.to_dict()
        batch = batch_size or content["dataset"]["batch_size"]
        content["dataset"] = {
            k: content["dataset"][k] for k in ("augment", "normalize")
        } | {"batch_size": batch}  # fmt: skip
        # As long as the timing takes; the order of the data is that of its first steps.
        lengths = ("epochs", "examples", "steps")
        content["schedule"] = {
            k: v for k, v in content["schedule"].items() if k not in lengths
        } | {"steps": 1_000_000}  # fmt: skip
    else:
        shape = tuple(input_shape or cost.default_of(source, "input_shape"))
        classes = num_classes or cost.default_of(source, "num_classes")
        batch = batch_size or 128
        content = {
            "model": dict(source), "dataset": {"batch_size": batch}, "schedule": _SCHEDULE
        }  # fmt: skip
    dataset = random_images(shape, classes, batch)
    return training.load(content, dataset=dataset), dataset


def random_images(shape: tuple[int, ...], num_classes: int, batch_size: int) -> DataSet:
    """Random bytes and labels, four batches of them."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (4 * batch_size, *shape), np.uint8)
    labels = np.arange(4 * batch_size) % num_classes
    return from_arrays(
        x_train=images, y_train=labels, x_test=images, y_test=labels,
        signal=len(shape) == 2, name="random images",
    )  # fmt: skip


class _Steps:
    """The compiled training and evaluation step of an experiment, each as a function of nothing."""

    def __init__(self, parts: Parts, *, brief: bool) -> None:
        feed = parts.feed(0, 0)
        self._state, self._inputs = parts.state(), feed.inputs(0)

        def compiled() -> tuple[Program, float]:
            jax.clear_caches()  # to trace it anew
            start = time.perf_counter()
            step = parts.compile(feed, self._state, self._inputs)[1]
            return step, time.perf_counter() - start

        self.compile_s: float | None = None
        self.cached_compile_s: float | None = None
        # First, as where an experiment is run: it takes the most memory.
        if brief:
            self._step = compiled()[0]
        else:
            with tempfile.TemporaryDirectory() as directory, _cache_at(directory):
                self._step, self.compile_s = compiled()
                is_kept = any(Path(directory).iterdir())
                self.cached_compile_s = compiled()[1] if is_kept else self.compile_s
        self.program = self._step.executable.as_text() or ""
        self.temporary_bytes = self._step.temporary_bytes
        batch = np.arange(parts.experiment.batch_size)
        images, labels = map(jnp.asarray, parts.experiment.splits["test"].gather(batch))
        self._batch = (images, labels, jnp.ones(len(batch), bool))
        evaluation = partial(
            eval_step, module=parts.experiment.module, loss=parts.loss, prepare=parts.prepare
        )
        self._begin = onednn.compiled_for_many(
            evaluation, self._state.variables(), *self._batch, onednn=parts.onednn
        )
        self.begin_s: list[float] = []  # what each evaluation took before its first batch

    def train(self, steps: int = 1) -> None:
        for _ in range(steps):
            # Beyond the block of the order that it was given, a step reads the block's last rows.
            self._state = self._step(self._state, *self._inputs)
        jax.block_until_ready(self._state)

    def evaluation(self) -> Callable[[int], None]:
        """An evaluation of the state as it is now, as a function of how many batches."""
        start = time.perf_counter()
        step = self._begin(self._state.variables())
        jax.block_until_ready(step.args)
        self.begin_s.append(time.perf_counter() - start)

        def evaluate(steps: int = 1) -> None:
            before: Any = None
            for _ in range(steps):
                sums = step(*self._batch)
                jax.block_until_ready(before)  # one ahead, as an evaluation is
                before = sums
            jax.block_until_ready(before)

        return evaluate


@contextmanager
def _cache_at(directory: str) -> Iterator[None]:
    """Compile with this directory for the persistent cache."""
    from jax.experimental.compilation_cache import compilation_cache

    wanted = {"jax_enable_compilation_cache": True, "jax_compilation_cache_dir": directory,
              "jax_persistent_cache_min_compile_time_secs": 0.0}  # fmt: skip
    before = {name: getattr(jax.config, name) for name in wanted}
    try:
        for name, value in wanted.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def _windows(
    makers: Sequence[Callable[[], Callable[[int], None]]],
    batch_size: int,
    seconds: float,
    report: Callable[[str], None],
) -> list[list[float]]:
    """Images per second of what each makes, in turn, in windows of about `seconds` each."""
    lengths = []
    report("warming up")
    for make in makers:
        function = make()
        function(1)
        start = time.perf_counter()
        function(1)
        lengths.append(max(1, round(seconds / (time.perf_counter() - start))))
    rates: list[list[float]] = [[] for _ in makers]
    for i in range(WINDOWS):
        report(f"timing, window {i + 1} of {WINDOWS}")
        for make, length, found in zip(makers, lengths, rates, strict=True):
            function = make()
            start = time.perf_counter()
            function(length)
            found.append(length * batch_size / (time.perf_counter() - start))
    return rates


def matmul_flops(seconds: float = 0.5, size: int = 2048) -> float:
    """The best FLOP/s of a square float32 matrix product: what this machine could do."""
    a = jnp.full((size, size), 1 / size)
    product = jax.jit(lambda a: a @ a).lower(a).compile()
    jax.block_until_ready(product(a))
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        jax.block_until_ready(product(a))
        times.append(time.perf_counter() - start)
    return float(2 * size**3 / min(times))
