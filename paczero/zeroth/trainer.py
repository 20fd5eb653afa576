"""The one training loop: derivatives, signs, release, update.

It knows neither tasks nor mechanisms. A resumed run goes through the same loop from the first step: where the journal
holds a step's release, that is taken instead of a new one, so a run that was killed ends bit for bit like one that was
not.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from paczero.mechanism.journal import Journal
from paczero.mechanism.release import Mechanism, Release
from paczero.mechanism.subsets import draw_part
from paczero.mechanism.transcript import Transcript
from paczero.zeroth.derivatives import Objective
from paczero.zeroth.updates import Average, Weights


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
    """

    index: int
    steps: int
    rate: float
    release: Release
    spent: float
    loss: float | None
    seconds: float


@dataclass(frozen=True)
class DevResult:
    """The served weights on the dev set after `done` steps.

    Attributes:
        done: how many steps had been taken.
        accuracy: from 0 to 1, at `threshold`.
        loss: mean cross-entropy, nats.
        threshold: where a binary decision was put (0 unless it was moved).
    """

    done: int
    accuracy: float
    loss: float
    threshold: float


class Observer(Protocol):
    """Whoever watches a run."""

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
        eval_steps: dev evaluations lie this far apart.
        select: `last`, `loss` or `accuracy`.
    """

    steps: int
    directions: int
    rate: Callable[[int], float]
    seed: int = 0
    units_per_step: int | None = None
    eval_steps: int = 100
    select: str = "last"


@dataclass
class Outcome:
    """What training ended with.

    Attributes:
        done: steps taken.
        chosen: the step whose weights are served.
        weights: the served weights, canonical name -> tensor on the CPU.
        dev: every dev evaluation, in order.
    """

    done: int
    chosen: int
    weights: dict[str, torch.Tensor]
    dev: list[DevResult] = field(default_factory=list)


class Trainer:
    """Runs the loop over one pool.

    Args:
        objective: the pool's losses.
        weights: the trained weights at the initial point.
        mechanism: what is released.
        journal: the releases written so far; new ones are appended and on disk before the weights move.
        transcript: what may be published of them; holds as many steps as the journal and follows it line by line.
        schedule: steps, rates, evaluations.
        average: the served average of iterates, or None to serve the iterates themselves.
        evaluate: (steps done) -> result on the dev set with the weights as they stand; None without a dev set.
        observers: told of every step and evaluation.
        stop: asked after each step; True ends the run there. It may look at public things only.
    """

    def __init__(
        self,
        objective: Objective,
        weights: Weights,
        mechanism: Mechanism,
        *,
        journal: Journal,
        transcript: Transcript,
        schedule: Schedule,
        average: Average | None = None,
        evaluate: Callable[[int], DevResult] | None = None,
        observers: Sequence[Observer] = (),
        stop: Callable[[], bool] = lambda: False,
    ):
        self.objective = objective
        self.weights = weights
        self.mechanism = mechanism
        self.journal = journal
        self.transcript = transcript
        self.schedule = schedule
        self.average = average
        self.evaluate = evaluate
        self.observers = observers
        self.stop = stop
        self._best: tuple[float, int, dict[str, torch.Tensor]] | None = None
        self._dev: list[DevResult] = []

    def run(self) -> Outcome:
        """Trains to the end of the schedule, or until `stop` says so."""
        schedule = self.schedule
        done = 0
        self._evaluate(done)
        for step in range(schedule.steps):
            started = time.perf_counter()
            rate = schedule.rate(step)
            release, loss = self._release(step)
            self.weights.update(step, rate, release.y)
            if self.average is not None:
                self.average.observe()
            done = step + 1
            seconds = time.perf_counter() - started
            self._tell(Step(step, schedule.steps, rate, release, self.mechanism.spent, loss, seconds))
            if done % schedule.eval_steps == 0 or done == schedule.steps:
                self._evaluate(done)
            if self.stop():
                break
        if self._dev and self._dev[-1].done != done:
            self._evaluate(done)
        return self._outcome(done)

    def _release(self, step: int) -> tuple[Release, float | None]:
        """The release of this step: the written one where there is one, else a new one, written before it is used."""
        if step < len(self.journal.entries):
            release = Release.from_journal(self.journal.entries[step])
            self.mechanism.recall(release)
            for k in range(self.schedule.directions):
                self.weights.pass_by(step, k)
            return release, None
        measured = self.objective.derivatives(self.weights, step, self.schedule.directions, self._part(step))
        release = self.mechanism.release(step, measured.values, nonfinite=measured.nonfinite, part=measured.part)
        self.journal.append(release.to_journal())
        self.transcript.append(step, release.y)
        return release, measured.loss

    def _part(self, step: int) -> np.ndarray | None:
        if self.schedule.units_per_step is None:
            return None
        return draw_part(self.objective.units, self.schedule.units_per_step, seed=self.schedule.seed, step=step)

    def _tell(self, step: Step) -> None:
        for observer in self.observers:
            observer.on_step(step)

    def _evaluate(self, done: int) -> None:
        if self.evaluate is None:
            return
        with self.served():
            result = self.evaluate(done)
            self._dev.append(result)
            figure = {"loss": -result.loss, "accuracy": result.accuracy}.get(self.schedule.select)
            if figure is not None and math.isnan(figure):  # of a model that overflows; nothing would be above it
                figure = -math.inf
            if done > 0 and figure is not None and (self._best is None or figure > self._best[0]):
                self._best = (figure, done, self.weights.snapshot())
        for observer in self.observers:
            observer.on_dev(result)

    def served(self) -> AbstractContextManager[None]:
        """A context in which the weights are those that are served: the average, where one is kept."""
        return nullcontext() if self.average is None else self.average.applied()

    def _outcome(self, done: int) -> Outcome:
        if self._best is not None:
            _, chosen, weights = self._best
        else:
            with self.served():
                chosen, weights = done, self.weights.snapshot()
        self.weights.load(weights)
        return Outcome(done, chosen, weights, self._dev)
