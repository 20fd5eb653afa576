"""The promise through the real loop: what whole runs of `Loop` tell about the secret is what their ledger charged.

As in the mechanism's own enumeration, every secret and every string of coins that can occur is followed; but each path
is a run of the loop that users have, with weights in torch, two-point differences at the displaced weights, a journal
and a transcript on disk. So it would be noticed if anything but the released bits moved the weights, or if what is
taken from a journal led elsewhere than what was drawn.
"""

import math
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from paczero.mechanism.base import Release
from paczero.mechanism.journal import Journal
from paczero.mechanism.pac import ZPL
from paczero.mechanism.posterior import Posterior
from paczero.mechanism.subsets import draw_subsets
from paczero.mechanism.transcript import Transcript
from paczero.optim.derivatives import Objective
from paczero.optim.directions import RADEMACHER
from paczero.optim.parameters import PerturbedParameters, WeightEMA
from paczero.training.loop import Loop, Schedule
from paczero.training.state import RunState

from ..enumeration import (
    Forced,
    Law,
    Told,
    chance,
    check_promise,
    flip_chance,
    information_and_charges,
    joint_law,
    kinds_met,
    kinds_of,
    make_mi,
    success,
)

UNITS, WIDTH, MU = 7, 4, 0.05
Flips = Collection[tuple[int, int]]


class Network:
    """Scores of two records a unit, nonlinear in the trained weights: in the place of a language model's `Scorer`."""

    records = 2 * UNITS

    def __init__(self, parameters: dict[str, nn.Parameter], seed: int):
        rng = np.random.default_rng(seed)
        self.inputs = rng.standard_normal((self.records, WIDTH))
        self.targets = rng.integers(2, size=self.records)
        self.weight, self.shift = (parameters[name].detach().numpy() for name in ("weight", "shift"))  # views

    def scores(self, wanted: np.ndarray | None = None) -> np.ndarray:
        hidden = 2 * np.tanh(self.inputs @ self.weight.astype(np.float64) + self.shift.astype(np.float64))
        return np.stack([hidden, -hidden], axis=1)


def losses(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Cross-entropy."""
    return np.logaddexp(scores[:, 0], scores[:, 1]) - scores[np.arange(len(targets)), targets]


@dataclass(frozen=True)
class Run:
    """A small run, but for secret, coins and place; `mechanism` makes one of (membership, secret file, coins)."""

    mechanism: Callable[..., Any]
    subsets: int
    directions: int
    steps: int
    seed: int = 0
    average: float = 0.0
    units_per_step: int | None = None

    @cached_property
    def membership(self) -> np.ndarray:
        return draw_subsets(UNITS, self.subsets, seed=self.seed)

    def trainer(self, place: Path, secret: Path, flipped: Flips, coins: type[Forced] = Forced) -> Loop:
        """A new process's trainer, as it were: on the journal that is there, or on a new one."""
        parameters = {"weight": nn.Parameter(torch.zeros(WIDTH)), "shift": nn.Parameter(torch.zeros(1))}
        weights = PerturbedParameters(parameters, law=RADEMACHER, seed=self.seed, mu=MU, restore="copy")
        network = Network(parameters, self.seed)
        path, header = place / "journal.jsonl", {"seed": self.seed}
        journal = Journal.open(path, header) if path.exists() else Journal.create(path, header)
        mechanism = self.mechanism(self.membership, secret, coins(flipped), directions=self.directions)
        public = {
            "format": "paczero-transcript/1",
            "mechanism": {"name": mechanism.name},
            "directions": self.directions,
            "steps": self.steps,
        }
        return Loop(
            Objective(network, network.targets, np.arange(network.records) // 2, losses),  # type: ignore[arg-type]
            weights,
            RunState(
                mechanism,
                journal,
                Transcript.resume(place / "transcript.jsonl", public, [entry["y"] for entry in journal.entries]),
            ),
            schedule=Schedule(
                steps=self.steps,
                directions=self.directions,
                rate=lambda step: 0.6 / (1 + 0.1 * step),
                seed=self.seed,
                units_per_step=self.units_per_step,
            ),
            average=WeightEMA(weights, self.average) if self.average else None,
        )


@dataclass(frozen=True)
class End:
    """How one run ended: its transcript's bits, its releases, the charges, the weights served and those trained."""

    bits: tuple[int, ...]
    releases: list[Release]
    spent: float
    served: dict[str, list[float]]
    trained: str


def ended(place: Path, trainer: Loop, trained: str) -> End:
    """What is on disk, read anew."""
    y = Transcript.read(place / "transcript.jsonl").y
    releases = [Release.from_journal(entry) for entry in Journal.open(place / "journal.jsonl").entries]
    assert [release.y for release in releases] == y
    assert trainer.state.mechanism.spent == pytest.approx(math.fsum(b for r in releases for b in r.beta), abs=1e-15)
    served = {name: tensor.tolist() for name, tensor in trainer.weights.snapshot().items()}
    return End(tuple(bit for values in y for bit in values), releases, trainer.state.mechanism.spent, served, trained)


def finished(trainer: Loop, place: Path) -> End:
    """Runs to the end; the trained weights are those after the last update, before the served ones replace them."""
    trained: list[str] = []
    update = trainer.weights.update

    def watched(*arguments: Any) -> None:
        update(*arguments)
        trained.append(trainer.weights.fingerprint())

    trainer.weights.update = watched  # type: ignore[method-assign]
    trainer.run()
    return ended(place, trainer, trained[-1])


def whole(run: Run, place: Path, secret: Path, flipped: Flips) -> End:
    return finished(run.trainer(place, secret, flipped), place)


class Killed(Exception):
    """In the place of a SIGKILL: nothing of the process is used after it but its files."""


def killed(_step: int, *_: Any) -> None:
    raise Killed


def in_two_processes(where: str, run: Run, place: Path, secret: Path, flipped: Flips) -> End:
    """Killed half-way, the release on disk and `where` (transcript or weights) not; then taken up again."""
    half = run.steps // 2
    trainer = run.trainer(place, secret, flipped)
    owner, name = {"transcript": (trainer.state.transcript, "append"), "weights": (trainer.weights, "update")}[where]
    act = getattr(owner, name)
    setattr(owner, name, lambda step, *rest: (killed if step == half else act)(step, *rest))
    with pytest.raises(Killed):
        trainer.run()

    class Unwritten(Forced):
        def word(self, step: int, k: int) -> int:
            assert step > half, "a release that is in the journal was drawn again"
            return super().word(step, k)

    again = run.trainer(place, secret, flipped, Unwritten)
    assert len(again.state.journal.entries) == half + 1
    return finished(again, place)


Follow = Callable[[Run, Path, Path, Flips], End]


class Runs:
    """Every run that can occur with one secret, found by flipping what may be flipped; keeps how each ended."""

    def __init__(self, run: Run, place: Path, follow: Follow = whole):
        self.run, self.place, self.follow = run, place, follow
        self.ends: dict[tuple[Path, tuple[int, ...]], End] = {}

    def paths(self, secret: Path) -> dict[tuple[int, ...], Told]:
        found: dict[tuple[int, ...], Told] = {}
        waiting: list[tuple[Flips, int]] = [(frozenset(), 0)]
        while waiting:  # a run whose releases before number `first` are flipped or not for good
            flipped, first = waiting.pop()
            end = self.follow(self.run, self.place, secret, flipped)
            for name in ("journal.jsonl", "transcript.jsonl"):
                (self.place / name).unlink()
            assert end.bits not in found
            probability = math.prod(chance(release, flipped) for release in end.releases)
            kinds = frozenset().union(*(kinds_of(release) for release in end.releases))
            found[end.bits] = Told(probability, end.spent, kinds)
            self.ends[secret, end.bits] = end
            for number in range(first, self.run.steps * self.run.directions):
                step, k = divmod(number, self.run.directions)
                if flip_chance(end.releases[step], k) > 0:
                    waiting.append(({*flipped, (step, k)}, number + 1))
        return found

    def law(self) -> Law:
        return joint_law(self.paths, self.run.subsets, self.place)

    def check_dependence(self) -> None:
        """The last step's signs differ with the bits before: the loop was closed, not a list of given derivatives."""
        assert len({end.releases[-1].signs for end in self.ends.values()}) > 1
        assert len({end.trained for end in self.ends.values()}) > self.run.steps


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real files without fsync: there are thousands of runs, and no test here cuts the power."""
    torch.set_num_threads(1)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def mi(subsets: int, directions: int, steps: int, budget: float, allocation: str, **more: Any) -> Run:
    mechanism = partial(make_mi, budget=budget, steps=steps, allocation=allocation)
    return Run(mechanism, subsets, directions, steps, **more)


def zpl(subsets: int, directions: int, steps: int, **more: Any) -> Run:
    def mechanism(membership: np.ndarray, _: Path, coins: Forced, *, directions: int) -> ZPL:
        return ZPL(membership, clip=2.0, coins=coins, directions=directions)

    return Run(mechanism, subsets, directions, steps, **more)


CASES = [
    # subsets, directions, steps, budget, allocation
    (6, 1, 5, 0.05, "adaptive"),
    (6, 1, 5, 0.33, "uniform"),
    (6, 2, 3, 0.68, "adaptive"),
    (4, 1, 8, 0.68, "uniform"),
    (4, 2, 3, 0.33, "adaptive"),
    (4, 2, 3, 0.05, "uniform"),
    (2, 1, 8, 0.33, "adaptive"),
    (2, 1, 11, 0.05, "uniform"),
    (2, 2, 5, 0.68, "uniform"),
]


@pytest.mark.parametrize(("subsets", "directions", "steps", "budget", "allocation"), CASES)
def test_information_equals_charges(
    tmp_path: Path, subsets: int, directions: int, steps: int, budget: float, allocation: str
) -> None:
    runs = Runs(mi(subsets, directions, steps, budget, allocation), tmp_path)
    law = runs.law()
    runs.check_dependence()
    assert "noisy" in kinds_met(law)
    check_promise(law, runs.run.membership, budget)


def test_unanimous_noisy_and_clear_steps_all_occur_in_one_run(tmp_path: Path) -> None:
    runs = Runs(mi(6, 1, 5, 0.68, "adaptive", seed=2), tmp_path)
    law = runs.law()
    assert kinds_met(law) == {"unanimous", "noisy", "clear"}
    check_promise(law, runs.run.membership, 0.68)


def test_a_part_of_the_units_a_step(tmp_path: Path) -> None:
    runs = Runs(mi(4, 1, 6, 0.33, "adaptive", seed=2, units_per_step=4), tmp_path)
    check_promise(runs.law(), runs.run.membership, 0.33)


@pytest.mark.parametrize(("subsets", "directions", "steps"), [(6, 1, 5), (4, 2, 3), (2, 1, 11)])
def test_zpl_tells_nothing_at_all(tmp_path: Path, subsets: int, directions: int, steps: int) -> None:
    runs = Runs(zpl(subsets, directions, steps), tmp_path)
    law = runs.law()
    runs.check_dependence()
    information, charges = information_and_charges(law)
    assert "noisy" in kinds_met(law)
    assert charges == 0.0
    assert abs(information) <= 1e-12
    assert max(success(law, runs.run.membership)) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("where", ["transcript", "weights"])
@pytest.mark.parametrize(
    "run",
    [
        mi(4, 1, 4, 0.68, "adaptive", seed=2, average=0.5),
        mi(2, 2, 3, 0.33, "uniform", seed=2),
        zpl(2, 1, 4, seed=2, average=0.9),
    ],
    ids=["mi-average", "mi-two-directions", "zpl-average"],
)
def test_runs_that_were_killed_end_like_whole_ones(tmp_path: Path, run: Run, where: str) -> None:
    """Every path of it: the same weights trained and served, releases and charges; so the same joint law."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    uninterrupted = Runs(run, tmp_path / "whole")
    resumed = Runs(run, tmp_path / "parts", partial(in_two_processes, where))
    law = resumed.law()
    assert law == uninterrupted.law()
    ends = [{(secret.name, bits): end for (secret, bits), end in r.ends.items()} for r in (uninterrupted, resumed)]
    assert ends[0] == ends[1]
    information, charges = information_and_charges(law)
    assert abs(information - charges) <= 1e-12
    # coins were drawn on both sides of the kill
    drawn = {release.step for end in ends[1].values() for release in end.releases if "noisy" in kinds_of(release)}
    assert min(drawn) <= run.steps // 2 < max(drawn)


@pytest.mark.parametrize(("subsets", "directions", "steps", "budget", "allocation"), [CASES[4], CASES[8]])
def test_a_forgotten_posterior_update_would_be_noticed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    subsets: int,
    directions: int,
    steps: int,
    budget: float,
    allocation: str,
) -> None:
    monkeypatch.setattr(Posterior, "observed", lambda self, log_likelihood: self)
    information, charges = information_and_charges(
        Runs(mi(subsets, directions, steps, budget, allocation), tmp_path).law()
    )
    assert abs(information - charges) > 1e-6


def test_weights_that_know_the_secret_would_be_noticed(tmp_path: Path) -> None:
    """Every bit is released as ever, but the weights move further for one half of the candidates."""

    def follow(run: Run, place: Path, secret: Path, flipped: Flips) -> End:
        trainer = run.trainer(place, secret, flipped)
        rate, factor = trainer.schedule.rate, 1 + 0.5 * (int(secret.stem) % 2)
        trainer.schedule.rate = lambda step: factor * rate(step)
        return finished(trainer, place)

    information, charges = information_and_charges(Runs(zpl(4, 1, 6), tmp_path, follow).law())
    assert charges == 0.0
    assert information > 1e-3
