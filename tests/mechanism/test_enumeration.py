"""The promise itself: the information of whole transcripts, by enumeration, equals what the ledger charged.

Every path of a small run is followed for every secret, with the mechanism's own objects and a real update loop in which
derivatives depend (nonlinearly) on the bits released before. The joint law of secret and transcript is then exact, and
I(S*; Y_1..T) = E[charges] must hold in equality: an inequality would not notice a posterior that is not updated.
"""

import copy
import itertools
import math

import numpy as np
import pytest

from paczero.mechanism import release as module
from paczero.mechanism.bounds import posterior_success
from paczero.mechanism.files import canonical
from paczero.mechanism.posterior import Posterior
from paczero.mechanism.release import MI, ZPL
from paczero.mechanism.subsets import draw_subsets

UNITS, WIDTH, RATE = 7, 4, 0.7
KEPT, FLIPPED = 2**64 - 1, 0


class Forced:
    """Coins whose words say which directions are flipped."""

    def __init__(self):
        self.words = ()

    def word(self, step, k):
        return self.words[k]


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


def paths(mechanism, model, steps):
    """Every transcript that one secret can lead to: its bits -> (probability, nats charged, kinds of steps met)."""
    found = {}

    def follow(mechanism, theta, step, bits, probability, kinds):
        if step == steps:
            assert bits not in found
            found[bits] = (probability, mechanism.spent, kinds)
            return
        derivatives = model.derivatives(theta, step)
        for words in itertools.product((KEPT, FLIPPED), repeat=model.directions):
            branch = copy.deepcopy(mechanism)
            branch._coins.words = words
            release = branch.release(step, derivatives)
            weight, met = 1.0, set()
            for k, word in enumerate(words):
                unanimous, noise = release.unanimous[k], release.noise[k]
                met.add("unanimous" if unanimous else "clear" if noise == 0 else "noisy")
                flip = 0.0 if unanimous else noise
                weight *= flip if word == FLIPPED else 1 - flip
            if weight > 0:  # a flip that cannot happen is no path
                after = model.update(theta, step, release.y)
                follow(branch, after, step + 1, bits + release.y, probability * weight, kinds | met)

    follow(mechanism, np.zeros(WIDTH), 0, (), 1.0, frozenset())
    return found


def joint_law(make, membership, model, steps, tmp_path):
    """P(y | m) and the charges, for every secret m, from real runs with that secret."""
    subsets = membership.shape[1]
    law, kinds = [], set()
    for index in range(subsets):
        secret = tmp_path / f"{index}.json"
        secret.write_bytes(canonical({"format": "paczero-secret/1", "index": index, "subsets": subsets}) + b"\n")
        secret.chmod(0o600)
        law.append(paths(make(secret), model, steps))
        assert math.fsum(p for p, _, _ in law[-1].values()) == pytest.approx(1, abs=1e-13)
        kinds |= set().union(*(met for _, _, met in law[-1].values()))
    return law, kinds


def information_and_charges(law):
    """I(S*; Y) of the joint law, and the expectation of what was charged."""
    marginal = {}
    for conditional in law:
        for bits, (p, _, _) in conditional.items():
            marginal[bits] = marginal.get(bits, 0.0) + p / len(law)
    terms = [p / len(law) * math.log(p / marginal[bits]) for own in law for bits, (p, _, _) in own.items()]
    charges = [p / len(law) * spent for own in law for p, spent, _ in own.values()]
    return math.fsum(terms), math.fsum(charges)


def success(law, membership):
    """Each unit's Bayes success, averaged over the transcripts."""
    everything = set().union(*law)
    inside = {bits: np.array([own.get(bits, (0.0,))[0] for own in law]) / len(law) for bits in everything}
    return [math.fsum(max(p[row].sum(), p[~row].sum()) for p in inside.values()) for row in membership]


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


def mi(membership, directions, steps, budget, allocation):
    return lambda secret: MI(
        membership,
        clip=2.0,
        coins=Forced(),
        directions=directions,
        budget=budget,
        steps=steps,
        channel="bit",
        allocation=allocation,
        secret=secret,
    )


@pytest.mark.parametrize(("subsets", "directions", "steps", "budget", "allocation", "family"), CASES)
def test_information_equals_charges(tmp_path, subsets, directions, steps, budget, allocation, family):
    membership, model = setting(subsets, directions, family=family)
    make = mi(membership, directions, steps, budget, allocation)
    law, kinds = joint_law(make, membership, model, steps, tmp_path)
    information, charges = information_and_charges(law)
    assert "noisy" in kinds
    assert abs(information - charges) <= 1e-12
    assert 0 < charges <= budget
    assert max(spent for own in law for _, spent, _ in own.values()) <= budget
    assert max(success(law, membership)) <= posterior_success(budget) + 1e-12
    # the transcripts do depend on the bits before: the same direction is asked of different weights
    assert max(len(own) for own in law) > steps


def test_unanimous_noisy_and_clear_steps_all_occur_in_one_run(tmp_path):
    membership, model = setting(6, 1, seed=4)
    law, kinds = joint_law(mi(membership, 1, 5, 3.0, "adaptive"), membership, model, 5, tmp_path)
    information, charges = information_and_charges(law)
    assert kinds == {"unanimous", "noisy", "clear"}
    assert abs(information - charges) <= 1e-12
    assert charges <= math.log(6)


@pytest.mark.parametrize(("subsets", "directions", "steps"), [(6, 1, 7), (4, 2, 4), (2, 1, 11)])
def test_zpl_tells_nothing_at_all(tmp_path, subsets, directions, steps):
    membership, model = setting(subsets, directions)
    law, kinds = joint_law(
        lambda _: ZPL(membership, clip=2.0, coins=Forced(), directions=directions), membership, model, steps, tmp_path
    )
    information, charges = information_and_charges(law)
    assert kinds == {"unanimous", "noisy"}
    assert charges == 0.0
    assert abs(information) < 1e-15  # every secret has the same law; the rest is the sum of its rounding
    assert max(success(law, membership)) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize(("subsets", "directions", "steps", "budget", "allocation"), [c[:5] for c in CASES[:5]])
def test_a_forgotten_posterior_update_would_be_noticed(
    tmp_path, monkeypatch, subsets, directions, steps, budget, allocation
):
    monkeypatch.setattr(Posterior, "observed", lambda self, log_likelihood: self)
    membership, model = setting(subsets, directions)
    law, _ = joint_law(mi(membership, directions, steps, budget, allocation), membership, model, steps, tmp_path)
    information, charges = information_and_charges(law)
    assert abs(information - charges) > 1e-6


def test_a_charge_below_what_is_told_would_be_noticed(tmp_path, monkeypatch):
    honest = module.BitChannel.information
    monkeypatch.setattr(module.BitChannel, "information", staticmethod(lambda q, noise: honest(q, noise) * (1 - 1e-9)))
    membership, model = setting(6, 1)
    law, _ = joint_law(mi(membership, 1, 6, 0.33, "adaptive"), membership, model, 6, tmp_path)
    information, charges = information_and_charges(law)
    assert information - charges > 1e-11
