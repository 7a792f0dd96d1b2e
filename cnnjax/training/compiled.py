"""From an experiment to what runs on the devices: the compiled step, and the evaluators."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from cnnjax import data
from cnnjax.machine import give_back_memory
from cnnjax.schema import construct
from cnnjax.training import onednn
from cnnjax.training.evaluate import Evaluator, evaluator
from cnnjax.training.experiment import Experiment
from cnnjax.training.feed import Feed, ResidentFeed, StreamingFeed
from cnnjax.training.losses import LOSSES, Loss
from cnnjax.training.mesh import replicated, split_rows, stretch_of
from cnnjax.training.optim import Schedule, build_optimizer
from cnnjax.training.state import State, create_state
from cnnjax.training.step import Prepare, train_step

Step = Callable[..., State]
LARGE = 64 << 20  # bytes
BLOCK = 64  # steps whose order is put on the device at once, at least
MOMENT = 0.001  # seconds; after 0.0001 the memory is sometimes still taken


class Program:
    """A compiled function. One that needs much memory on a CPU has given it back when it returns.

    XLA:CPU takes the memory for temporary arrays when a call is dispatched, so those under way
    would each hold their own, and gives it back a moment after the results are there.
    """

    def __init__(self, executable: jax.stages.Compiled) -> None:
        self.executable = executable
        # The memory that a call takes beside its arguments and results, in bytes.
        self.temporary_bytes: int | None = getattr(
            executable.memory_analysis(), "temp_size_in_bytes", None
        )
        large = (self.temporary_bytes or 0) >= LARGE
        self._in_turn = large and jax.default_backend() == "cpu"
        self._is_new = True
        give_back_memory()  # what compiling took, before the next program takes as much

    @property
    def convolutions(self) -> str:
        """The library that runs those that the lowering has left: oneDNN, or XLA."""
        return onednn.library_of(self.executable.as_text() or "")

    def __call__(self, *args: Any) -> Any:
        results = self.executable(*args)
        if self._in_turn:
            jax.block_until_ready(results)
            time.sleep(MOMENT)
            if self._is_new:
                # What stays after the first call may lie where the next would have had room.
                self._is_new = False
                give_back_memory()
        return results


@dataclass(frozen=True)
class Parts:
    """The functions that an experiment's dicts name."""

    experiment: Experiment
    mesh: Mesh
    loss: Loss
    optimizer: optax.GradientTransformation
    rate: Schedule
    augments: Sequence[data.Augment]
    prepare: Prepare
    onednn: bool
    """Whether oneDNN runs what convolutions there are."""

    @classmethod
    def of(cls, experiment: Experiment, mesh: Mesh) -> "Parts":
        """Every factory called. Raises SpecError where one finds its options at odds."""
        schedule = experiment.spec.schedule
        where = f"{experiment.spec.where}: schedule"
        optimizer, rate = build_optimizer(schedule, experiment.steps, where)
        normalize = data.normalizer(experiment.spec.dataset["normalize"])
        # An augmentation may change the size of images: only a stated shape is a view of them.
        view = experiment.spec.model.get("input_shape")

        def prepare(images: Array) -> Array:
            x = normalize(images).astype(experiment.dtype)
            return x.reshape(len(x), *view) if view else x

        return cls(
            experiment=experiment,
            mesh=mesh,
            loss=construct(LOSSES, schedule["loss"], f"{where}.loss"),
            optimizer=optimizer,
            rate=rate,
            augments=[
                construct(data.AUGMENTS, a, f"{experiment.spec.where}: dataset.augment[{i}]")
                for i, a in enumerate(experiment.spec.dataset["augment"])
            ],
            prepare=prepare,
            onednn=onednn.runs_convolutions(experiment.steps),
        )

    def state(self) -> State:
        """The state before the first step."""
        schedule = self.experiment.spec.schedule
        return create_state(
            self.experiment.module, self.optimizer, self.experiment.input_shape,
            schedule["seed"], ema=schedule["ema"], mesh=self.mesh,
        )  # fmt: skip

    def feed(self, start: int, workers: int) -> Feed:
        """The training split: on the device if it fits there, else streamed from `start` on."""
        x = self.experiment
        train, seed = x.splits["train"], x.spec.schedule["seed"]
        if data.fits(train):
            # Whole windows of the log, since a stretch of steps ends with each.
            block = x.log_every * -(-BLOCK // x.log_every)
            return ResidentFeed(
                train, self.mesh, seed=seed, batch_size=x.batch_size, block=block
            )  # fmt: skip
        return StreamingFeed(
            train, self.mesh, seed=seed, batch_size=x.batch_size, start=start, workers=workers
        )

    def evaluator(self, split: str) -> Evaluator:
        """Sums over the whole of a split or evaluation, as a function of variables."""
        x = self.experiment
        asked = {**x.evaluations, **x.splits}[split]
        return evaluator(
            asked, self.mesh, onednn=self.onednn,
            module=x.module, loss=self.loss, prepare=self.prepare,
        )  # fmt: skip

    def step(self, feed: Feed) -> Step:
        """One training step as a function of (state, *inputs of the feed)."""
        x = self.experiment
        return feed.lift(
            partial(
                train_step, module=x.module, loss=self.loss, optimizer=self.optimizer,
                augment=partial(data.augment_batch, self.augments), prepare=self.prepare,
                ema=x.spec.schedule["ema"], log_every=x.log_every,
            )
        )  # fmt: skip

    def compile(self, feed: Feed, state: State, inputs: tuple[Any, ...]) -> Mapping[int, Program]:
        """The step, and a stretch of steps where the platform gains from one: {length: function}.

        A stretch ends at every row of the log, so its length divides theirs.
        """
        whole, rows = replicated(self.mesh), split_rows(self.mesh)
        resident = isinstance(feed, ResidentFeed)
        longest = stretch_of(self.mesh) if resident else 1
        every = self.experiment.log_every
        length = max(k for k in range(1, longest + 1) if every % k == 0)
        step = self.step(feed)
        functions = {1: step, length: stretched(step, length) if length > 1 else step}
        shardings = (whole, *((whole if resident else rows) for _ in inputs))
        compiled = {}
        for k, f in functions.items():
            jitted = jax.jit(f, in_shardings=shardings, out_shardings=whole, donate_argnums=0)
            executable = onednn.compiled(jitted, state, *inputs, onednn=self.onednn)
            compiled[k] = Program(executable)
        return compiled


def stretched(step: Step, length: int) -> Step:
    """`length` steps as one: the same function of the state, in a `lax.scan`."""

    def run(state: State, *inputs: Any) -> State:
        return jax.lax.scan(lambda s, _: (step(s, *inputs), None), state, None, length=length)[0]

    return run
