"""The one training loop: derivatives, signs, release, update.

It knows neither tasks nor mechanisms. A resumed run goes through the same loop from the first step: where the journal
holds a step's release, that is taken instead of a new one, so a run that was killed ends bit for bit like one that was
not.

Of several processes, all evaluate, update and know what was released. Rank 0 alone has mechanism, journal, transcript
and observers; the others get its results, and its errors, by `ProcessGroup.broadcast_from_main`.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Protocol

import numpy as np
import torch

from paczero.config import PACZeroConfig
from paczero.distributed.base import SINGLE_PROCESS, ProcessGroup
from paczero.errors import PACZeroError
from paczero.mechanism.base import Release
from paczero.mechanism.margins import Margin
from paczero.mechanism.registry import spec_of
from paczero.mechanism.subsets import draw_units
from paczero.optim.derivatives import Derivatives, Objective
from paczero.optim.parameters import PerturbedParameters, WeightEMA
from paczero.training.state import RunState


@dataclass(frozen=True)
class Step:
    """What observers hear of a step; the owner's, never to be published (all but `index`, `y` and `rate`).

    Attributes:
        index: t, from 0.
        steps: T.
        rate: η_t.
        release: what was released and what it cost.
        spent: nats charged so far.
        loss: mean loss over the pool, nats; None for a step taken from the journal.
        seconds: how long it took.
        zero_derivatives: the number of its directions along which no record's loss changed; they say nothing.
        margins: how much each direction hangs on one unit; empty without candidates, and of a step from the journal.
    """

    index: int
    steps: int
    rate: float
    release: Release
    spent: float
    loss: float | None
    seconds: float
    zero_derivatives: int = 0
    margins: tuple[Margin, ...] = ()


@dataclass(frozen=True)
class DevResult:
    """The served weights on the dev set after `done` steps.

    Attributes:
        done: how many steps had been taken.
        accuracy: of a classification, from 0 to 1, at `threshold`.
        loss: mean loss, nats.
        threshold: where a binary decision was put (0 unless it was moved).
        f1: of generated answers, from 0 to 1.
        exact_match: of generated answers, from 0 to 1.
    """

    done: int
    accuracy: float | None = None
    loss: float = math.nan
    threshold: float = 0.0
    f1: float | None = None
    exact_match: float | None = None

    FIGURES: ClassVar = ("accuracy", "f1", "exact_match", "loss")

    @property
    def figures(self) -> dict[str, float]:
        """What there is of accuracy, F1, exact match and loss, by name."""
        values = {name: getattr(self, name) for name in self.FIGURES}
        return {name: float(value) for name, value in values.items() if value is not None}


class Observer(Protocol):
    """Receives each step and each evaluation of a run."""

    def on_step(self, step: Step) -> None:
        """Called after each step's update."""

    def on_dev(self, result: DevResult) -> None:
        """Called after each evaluation on the dev set."""


@dataclass
class Schedule:
    """When things happen; all of it public and fixed beforehand.

    Attributes:
        steps: T.
        directions: K.
        rate: step -> η_t.
        seed: the public seed.
        units_per_step: units drawn for a step; None for the whole pool.
        sampled: whether the mechanism draws each step's units in secret; the ranks know them for the step only.
        watch_pool: whether a step on which no derivative of the pool is finite ends the run. Not under a promise about
            the pool: that would be a release without noise.
        eval_steps: dev evaluations lie this far apart.
        select: by what the served step is chosen: `loss`, `accuracy` or `f1`; None serves the last step.
    """

    steps: int
    directions: int
    rate: Callable[[int], float]
    seed: int = 0
    units_per_step: int | None = None
    eval_steps: int = 100
    select: str | None = None
    sampled: bool = False
    watch_pool: bool = False

    @classmethod
    def of(cls, args: PACZeroConfig) -> "Schedule":
        """The schedule that the settings name."""
        return cls(
            steps=args.max_steps,
            directions=args.directions,
            rate=args.learning_rate_at,
            seed=args.seed,
            units_per_step=args.units_per_step,
            eval_steps=args.eval_steps,
            select=args.metric_for_best_model,
            sampled=args.mechanism.sampling_prob not in (None, 1.0),
            watch_pool=spec_of(args.mechanism.name).hides in ("half", "nothing"),
        )


@dataclass
class Outcome:
    """What training ended with; the weights that are served stand in the model.

    Attributes:
        done: steps taken.
        chosen: the step whose weights are served.
        dev: every dev evaluation, in order.
        diverged: why the run ended early, a clause; None if it did not.
    """

    done: int
    chosen: int
    dev: list[DevResult] = field(default_factory=list)
    diverged: str | None = None


class Loop:
    """Trains on one pool.

    Args:
        objective: the pool's losses.
        weights: the trained weights at the initial point.
        state: mechanism, journal and transcript; None on all ranks but the first.
        schedule: steps, rates, evaluations.
        average: the served average of iterates, or None to serve the iterates themselves.
        evaluate: (steps done) -> result on the dev set with the weights as they stand; None without a dev set.
        observers: told of every step and evaluation, on the first rank.
        stop: asked after each step, on the first rank; True ends the run there. It may look at public things only.
        group: the processes that share the work.
        check_steps: they compare their weights after every so many steps, and those that are served.
    """

    def __init__(
        self,
        objective: Objective,
        weights: PerturbedParameters,
        state: RunState | None,
        *,
        schedule: Schedule,
        average: WeightEMA | None = None,
        evaluate: Callable[[int], DevResult] | None = None,
        observers: Sequence[Observer] = (),
        stop: Callable[[], bool] = lambda: False,
        group: ProcessGroup = SINGLE_PROCESS,
        check_steps: int = 100,
    ):
        self.objective = objective
        self.weights = weights
        self.state = state
        self.schedule = schedule
        self.average = average
        self.evaluate = evaluate
        self.observers = observers
        self.stop = stop
        self.group = group
        self.check_steps = check_steps
        self._best: tuple[float, int, dict[str, torch.Tensor]] | None = None
        self._dev: list[DevResult] = []
        self._diverged: str | None = None
        self._released: Release | None = None  # on the first rank: it never leaves it

    def run(self) -> Outcome:
        """Trains to the end of the schedule, or until `stop` says so, or until the weights give no finite losses.

        Raises:
            PACZeroError: the run diverged, and no earlier step was kept to be served.
            WeightsDivergedError: the weights of the processes differ.
        """
        schedule, group = self.schedule, self.group
        written = group.broadcast_from_main(lambda: len(self._main_state().journal.entries))
        done = 0
        self._evaluate(done)
        for step in range(schedule.steps):
            if self._diverged:
                break
            started = time.perf_counter()
            rate = schedule.rate(step)
            measured = self._measure(step) if step >= written else None
            if measured is None:
                self._skip(step)
            elif self._overflows(measured):
                self._diverged = f"no derivative of step {step + 1:,} is finite"
                break
            y = group.broadcast_from_main(partial(self._release, step, measured))
            self.weights.update(step, rate, y)
            if self.average is not None:
                self.average.observe()
            done = step + 1
            seconds = time.perf_counter() - started
            group.on_main(partial(self._tell, step, rate, measured, seconds))
            if done % self.check_steps == 0:
                group.check_weights(self.weights.fingerprint, done)
            if done % schedule.eval_steps == 0 or done == schedule.steps:
                self._evaluate(done)
            if group.broadcast_from_main(self.stop):
                break
        if self._dev and self._dev[-1].done != done:
            self._evaluate(done)
        if self._diverged and self._best is None:
            raise PACZeroError(
                f"training: {self._diverged}, so the run has diverged and ends after {done:,} of {schedule.steps:,} "
                "steps; it cannot be published, since metric_for_best_model kept no earlier step; its journal keeps "
                f"what was charged. Begin another run with a smaller learning_rate (here {schedule.rate(0):g}), or "
                "with dtype float32"
            )
        return self._outcome(done)

    def _overflows(self, measured: Derivatives) -> bool:
        """Whether no derivative of the whole pool is finite. Nothing of the step is released then."""
        if not (self.schedule.watch_pool and measured.unit_indices is None and measured.nonfinite):
            return False
        return measured.nonfinite == self.objective.scorer.records * self.schedule.directions

    def _measure(self, step: int) -> Derivatives:
        unit_indices = self._units_of(step)
        if unit_indices is None or unit_indices.size:
            return self.objective.derivatives(self.weights, step, self.schedule.directions, unit_indices)
        self._skip(step)
        return Derivatives(np.zeros((0, self.schedule.directions)), 0, unit_indices, math.nan)

    def _skip(self, step: int) -> None:
        """Of a step in the journal, or one without units, what measuring it does to the weights."""
        for k in range(self.schedule.directions):
            self.weights.skip(step, k)

    def _main_state(self) -> RunState:
        if self.state is None:
            raise PACZeroError("state: none was given; rank 0 needs mechanism, journal and transcript")
        return self.state

    def _release(self, step: int, measured: Derivatives | None) -> Sequence[float]:
        """What the step releases; on the first rank."""
        self._released = self._main_state().release(step, measured)
        return self._released.y

    def _tell(self, index: int, rate: float, measured: Derivatives | None, seconds: float) -> None:
        """Tells the observers of a step; on the first rank."""
        if self._released is None or not self.observers:
            return
        mechanism = self._main_state().mechanism
        loss, zero = (None, 0) if measured is None else (measured.loss, measured.zero_derivatives)
        margins = () if measured is None else mechanism.margins(measured.values, measured.unit_indices)
        step = Step(index, self.schedule.steps, rate, self._released, mechanism.spent, loss, seconds, zero, margins)
        for observer in self.observers:
            observer.on_step(step)

    def _tell_dev(self, result: DevResult) -> None:
        for observer in self.observers:
            observer.on_dev(result)

    def _units_of(self, step: int) -> np.ndarray | None:
        """The units of the step: a public part of the pool, or what the mechanism draws in secret; None for all."""
        if self.schedule.units_per_step is None:
            return (
                self.group.broadcast_from_main(lambda: self._main_state().mechanism.sample(step))
                if self.schedule.sampled
                else None
            )
        return draw_units(self.objective.units, self.schedule.units_per_step, seed=self.schedule.seed, step=step)

    def _evaluate(self, done: int) -> None:
        if self.evaluate is None:
            if not all(bool(value.isfinite().all()) for value in self.weights.parameters.values()):
                self._diverged = f"weights after step {done:,} are not finite"
            return
        with self.served():
            result = self.evaluate(done)
            self._dev.append(result)
            if math.isnan(result.loss) or (math.isinf(result.loss) and math.isfinite(self._dev[0].loss)):
                self._diverged = self._diverged or f"the dev loss after step {done:,} is {result.loss}"
            by = self.schedule.select
            figure = None if by is None else -result.loss if by == "loss" else result.figures[by]
            sound = done > 0 and not self._diverged
            if sound and figure is not None and (self._best is None or figure > self._best[0]):
                self._best = (figure, done, self.weights.snapshot())
        self.group.on_main(partial(self._tell_dev, result))

    def served(self) -> AbstractContextManager[None]:
        """A context in which the weights are those that are served: the average, where one is kept."""
        return nullcontext() if self.average is None else self.average.applied()

    def _outcome(self, done: int) -> Outcome:
        chosen = done
        if self._best is not None:
            _, chosen, weights = self._best
            self.weights.load(weights)
        elif self.average is not None:
            self.weights.load(self.average.snapshot())
        self.group.check_weights(self.weights.fingerprint, done)
        return Outcome(done, chosen, self._dev, self._diverged)
