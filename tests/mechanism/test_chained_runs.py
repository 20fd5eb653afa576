"""Two runs with one secret: the information of both transcripts together, by enumeration, equals what both charged.

The derivatives of the second run depend on the bits of the first, as they do where a person looks at one release before
the next run. The second run starts from the posterior that the first left. From a uniform one it would tell more than
both budgets allow.
"""

import copy
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paczero.mechanism.bounds import posterior_success
from paczero.mechanism.channels import BitChannel
from paczero.mechanism.pac import MI, ZPL
from paczero.mechanism.posterior import Posterior

from ..enumeration import Forced, Law, Told, chance, information_and_charges, joint_law, make_mi, success

Bits = tuple[int, ...]
Ask = Callable[[MI, Posterior, Bits], np.ndarray]
Settings = tuple[float, int, str]

# All halves of the candidates: every pattern of signs is the pattern of some derivatives.
MEMBERSHIPS = {
    subsets: np.array(
        [[m in half for m in range(subsets)] for half in itertools.combinations(range(subsets), subsets // 2)]
    )
    for subsets in (2, 4, 6)
}


def derivatives_of(membership: np.ndarray, patterns: np.ndarray) -> np.ndarray:
    """(N, K) derivatives along which the candidates have these signs (K, M)."""
    found = np.linalg.lstsq(membership.T.astype(float), patterns.T.astype(float), rcond=None)[0]
    return np.asarray(found / np.abs(found).max())  # below the clip


def follow(
    mechanism: Any, observer: Posterior, steps: int, ask: Ask, bits: Bits, weight: float
) -> Iterator[tuple[Any, Posterior, Bits, float]]:
    """Every end of a run from here: the mechanism, what an observer of all runs concludes, the bits, their chance."""
    step, directions = mechanism._step, mechanism.directions
    if step == steps:
        yield mechanism, observer, bits, weight
        return
    signs = ask(mechanism, observer, bits)
    for flips in itertools.product((False, True), repeat=directions):
        branch = copy.deepcopy(mechanism)
        branch._coins.flipped = {(step, k) for k, flip in enumerate(flips) if flip}
        release = branch.release(step, derivatives_of(mechanism._membership, signs))
        part = chance(release, branch._coins.flipped)
        if part == 0:
            continue
        known = observer
        for k in range(directions):
            if not release.unanimous[k]:
                known = known.observed(BitChannel.log_likelihood(signs[k], release.y[k], release.noise[k]))
        yield from follow(branch, known, steps, ask, bits + release.y, weight * part)


def at_random(mechanism: MI, observer: Posterior, bits: Bits) -> np.ndarray:
    """Signs (K, M) that are a function of all bits so far, and contested."""
    rng = np.random.default_rng([len(bits), *(bit + 1 for bit in bits)])
    signs = rng.choice((-1, 1), (mechanism.directions, observer.log_weights.size))
    signs[:, :2] = 1, -1
    return signs


def greedy(mechanism: MI, observer: Posterior, bits: Bits) -> np.ndarray:
    """The signs (K, M) that tell most to an observer of all runs, given the noise that the mechanism adds to them."""
    share = mechanism._allowance(mechanism._step)

    def told(signs: np.ndarray) -> float:
        noise = BitChannel.calibrate(mechanism.posterior.minority(signs), share)
        return BitChannel.information(observer.minority(signs), noise)

    splits = [np.array(split) for split in itertools.product((-1, 1), repeat=observer.log_weights.size)]
    return np.tile(max(splits[1:-1], key=told), (mechanism.directions, 1))


class TwoRuns:
    """The joint law of the transcripts of two runs of `MI` with one secret.

    Args:
        runs: (budget, steps, allocation) of each.
        ask: makes the candidates' signs.
        start: makes the start of the second run from the posterior that the first ended with.
    """

    def __init__(
        self,
        subsets: int,
        directions: int,
        runs: tuple[Settings, Settings],
        ask: Ask,
        start: Callable[[Posterior], Posterior] = lambda posterior: posterior,
    ):
        self.membership, self.directions = MEMBERSHIPS[subsets], directions
        self.runs, self.ask, self.start = runs, ask, start

    def mechanism(self, secret: Path, number: int, start: Posterior) -> MI:
        budget, steps, allocation = self.runs[number]
        more: dict[str, Any] = {"directions": self.directions, "budget": budget, "steps": steps, "start": start}
        return make_mi(self.membership, secret, Forced(), allocation=allocation, **more)

    def paths(self, secret: Path) -> dict[Bits, Told]:
        found: dict[Bits, Told] = {}
        uniform = Posterior.uniform(self.membership.shape[1])
        first = self.mechanism(secret, 0, uniform)
        for one, left, bits, weight in follow(first, uniform, self.runs[0][1], self.ask, (), 1.0):
            second = self.mechanism(secret, 1, self.start(one.posterior))
            for two, _, both, chance_of_both in follow(second, left, self.runs[1][1], self.ask, bits, weight):
                assert both not in found
                assert one.spent <= self.runs[0][0] and two.spent <= self.runs[1][0]
                found[both] = Told(chance_of_both, one.spent + two.spent, frozenset())
        return found

    def law(self, place: Path) -> Law:
        return joint_law(self.paths, self.membership.shape[1], place)


CASES: list[tuple[int, int, Settings, Settings]] = [
    # subsets, directions, (budget, steps, allocation) of each run
    (6, 1, (0.33, 2, "adaptive"), (0.33, 2, "adaptive")),
    (6, 1, (0.05, 1, "uniform"), (0.5, 3, "adaptive")),
    (4, 2, (0.3, 1, "adaptive"), (0.2, 1, "uniform")),
    (4, 1, (0.6, 2, "uniform"), (0.05, 3, "uniform")),
    (2, 1, (0.1, 3, "adaptive"), (0.5, 4, "adaptive")),
]


@pytest.mark.parametrize(("subsets", "directions", "first", "second"), CASES)
@pytest.mark.parametrize("ask", [at_random, greedy])
def test_information_equals_the_charges_of_both_runs(
    tmp_path: Path, subsets: int, directions: int, first: Settings, second: Settings, ask: Ask
) -> None:
    runs = TwoRuns(subsets, directions, (first, second), ask)
    law = runs.law(tmp_path)
    information, charges = information_and_charges(law)
    assert abs(information - charges) <= 1e-12
    assert 0 < charges <= first[0] + second[0]
    assert max(success(law, runs.membership)) <= posterior_success(first[0] + second[0]) + 1e-12


def test_a_start_that_forgets_the_first_run_tells_more_than_both_budgets(tmp_path: Path) -> None:
    _, _, first, second = CASES[0]
    forgetful = TwoRuns(6, 1, (first, second), greedy, lambda posterior: Posterior.uniform(6))
    information, charges = information_and_charges(forgetful.law(tmp_path))
    assert charges <= first[0] + second[0] == 0.66 < information - 0.05


def test_zpl_hands_on_what_it_started_from() -> None:
    start = Posterior(np.log([0.7, 0.1, 0.1, 0.1]))
    zpl = ZPL(MEMBERSHIPS[4], clip=1.0, coins=Forced(), start=start)
    zpl.release(0, derivatives_of(MEMBERSHIPS[4], np.array([[1, -1, 1, -1]])))
    assert zpl.posterior is start
