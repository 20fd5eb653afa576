"""The promise itself: the information of whole transcripts, by enumeration, equals what the ledger charged.

Every path of a small run is followed for every secret, with the mechanism's own objects and a real update loop in which
derivatives depend (nonlinearly) on the bits released before. The joint law of secret and transcript is then exact, and
I(S*; Y_1..T) = E[charges] must hold in equality: an inequality would not notice a posterior that is not updated.
"""

import copy
import itertools
import math
from functools import partial

import numpy as np
import pytest

from paczero.mechanism import pac as module
from paczero.mechanism.pac import ZPL
from paczero.mechanism.posterior import Posterior
from paczero.mechanism.subsets import draw_subsets

from ..enumeration import (
    Forced,
    Told,
    chance,
    check_promise,
    information_and_charges,
    joint_law,
    kinds_met,
    kinds_of,
    make_mi,
    success,
)

UNITS, WIDTH, RATE = 7, 4, 0.7


class Model:
    """A parameter vector; each unit's derivative is a nonlinear function of it along a random direction."""

    def __init__(self, seed, directions):
        self.rng_seed, self.directions = seed, directions
        rng = np.random.default_rng(seed)
        self.inputs = rng.standard_normal((UNITS, WIDTH))
        self.targets = rng.standard_normal(UNITS)

    def direction(self, step, k):
        return np.random.default_rng([self.rng_seed, step, k]).standard_normal(WIDTH)

    def derivatives(self, theta, step):
        hidden = np.tanh(self.inputs @ theta)
        slope = (hidden - self.targets) * (1 - hidden**2)
        return np.stack([slope * (self.inputs @ self.direction(step, k)) for k in range(self.directions)], axis=1)

    def update(self, theta, step, y):
        return theta - RATE * np.mean([y[k] * self.direction(step, k) for k in range(self.directions)], axis=0)


def paths(make, model, steps, secret):
    """Every transcript that one secret can lead to: its bits -> the path."""
    found = {}

    def follow(mechanism, theta, step, bits, probability, kinds):
        if step == steps:
            assert bits not in found
            found[bits] = Told(probability, mechanism.spent, kinds)
            return
        derivatives = model.derivatives(theta, step)
        for flips in itertools.product((False, True), repeat=model.directions):
            branch = copy.deepcopy(mechanism)
            branch._coins.flipped = {(step, k) for k, flip in enumerate(flips) if flip}
            release = branch.release(step, derivatives)
            weight = chance(release, branch._coins.flipped)
            if weight > 0:  # a flip that cannot happen is no path
                after = model.update(theta, step, release.y)
                follow(branch, after, step + 1, bits + release.y, probability * weight, kinds | kinds_of(release))

    follow(make(secret), np.zeros(WIDTH), 0, (), 1.0, frozenset())
    return found


def setting(subsets, directions, seed=0, family="random"):
    features = np.random.default_rng(seed).standard_normal((UNITS, 3))
    return draw_subsets(UNITS, subsets, seed=seed, family=family, features=features), Model(seed, directions)


CASES = [
    # subsets, directions, steps, budget, allocation, family
    (6, 1, 6, 0.01, "adaptive", "random"),
    (6, 1, 6, 0.33, "uniform", "random"),
    (6, 1, 6, 0.68, "adaptive", "random"),
    (6, 2, 3, 0.1, "adaptive", "random"),
    (6, 2, 3, 0.68, "uniform", "random"),
    (4, 1, 7, 0.1, "uniform", "random"),
    (4, 1, 7, 0.68, "adaptive", "paired"),
    (4, 2, 3, 0.33, "adaptive", "balanced"),
    (4, 2, 4, 0.01, "uniform", "random"),
    (2, 1, 8, 0.33, "adaptive", "random"),
    (2, 1, 11, 0.68, "adaptive", "random"),
    (2, 2, 4, 0.68, "uniform", "random"),
]


def mi_law(membership, model, place, *, steps, budget, allocation):
    """The joint law of a run of `MI`."""

    def make(secret):
        settings = {"directions": model.directions, "steps": steps, "budget": budget, "allocation": allocation}
        return make_mi(membership, secret, Forced(), **settings)

    return joint_law(partial(paths, make, model, steps), membership.shape[1], place)


@pytest.mark.parametrize(("subsets", "directions", "steps", "budget", "allocation", "family"), CASES)
def test_information_equals_charges(tmp_path, subsets, directions, steps, budget, allocation, family):
    membership, model = setting(subsets, directions, family=family)
    law = mi_law(membership, model, tmp_path, steps=steps, budget=budget, allocation=allocation)
    assert "noisy" in kinds_met(law)
    check_promise(law, membership, budget)
    # the transcripts do depend on the bits before: the same direction is asked of different weights
    assert max(len(own) for own in law) > steps


def test_unanimous_noisy_and_clear_steps_all_occur_in_one_run(tmp_path):
    membership, model = setting(6, 1, seed=4)
    law = mi_law(membership, model, tmp_path, steps=5, budget=3.0, allocation="adaptive")
    information, charges = information_and_charges(law)
    assert kinds_met(law) == {"unanimous", "noisy", "clear"}
    assert abs(information - charges) <= 1e-12
    assert charges <= math.log(6)


@pytest.mark.parametrize(("subsets", "directions", "steps"), [(6, 1, 7), (4, 2, 4), (2, 1, 11)])
def test_zpl_tells_nothing_at_all(tmp_path, subsets, directions, steps):
    membership, model = setting(subsets, directions)

    def make(_):
        return ZPL(membership, clip=2.0, coins=Forced(), directions=directions)

    law = joint_law(partial(paths, make, model, steps), subsets, tmp_path)
    information, charges = information_and_charges(law)
    assert kinds_met(law) == {"unanimous", "noisy"}
    assert charges == 0.0
    assert abs(information) < 1e-15  # every secret has the same law; the rest is the sum of its rounding
    assert max(success(law, membership)) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize(("subsets", "directions", "steps", "budget", "allocation"), [c[:5] for c in CASES[:5]])
def test_a_forgotten_posterior_update_would_be_noticed(
    tmp_path, monkeypatch, subsets, directions, steps, budget, allocation
):
    monkeypatch.setattr(Posterior, "observed", lambda self, log_likelihood: self)
    membership, model = setting(subsets, directions)
    law = mi_law(membership, model, tmp_path, steps=steps, budget=budget, allocation=allocation)
    information, charges = information_and_charges(law)
    assert abs(information - charges) > 1e-6


def test_a_charge_below_what_is_told_would_be_noticed(tmp_path, monkeypatch):
    honest = module.BitChannel.information
    monkeypatch.setattr(module.BitChannel, "information", staticmethod(lambda q, noise: honest(q, noise) * (1 - 1e-9)))
    membership, model = setting(6, 1)
    law = mi_law(membership, model, tmp_path, steps=6, budget=0.33, allocation="adaptive")
    information, charges = information_and_charges(law)
    assert information - charges > 1e-11
