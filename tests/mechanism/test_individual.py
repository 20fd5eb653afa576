"""Individual accounting: no unit spends more than its share, and no adversary gets more than the share allows."""

import itertools
import math
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from paczero.errors import PACZeroError
from paczero.mechanism import dp
from paczero.mechanism.dp import DPSign
from paczero.mechanism.individual import Account, Share
from paczero.mechanism.randomness import RandomStreams
from paczero.mechanism.sign_accounting import Bits

ONE = 2**40  # a clip
EPSILONS = (0.0, 0.1, 0.5, 1.0, 1.5, 2.5)


# -- the share ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epsilon", "delta"), [(2.0, 1e-6), (0.1, 1e-9), (8.0, 1e-5), (40.0, 1e-6), (1.0, 0.2)])
def test_a_share_is_the_largest_that_epsilon_and_delta_allow(epsilon, delta):
    share = Share.of(epsilon, delta=delta)
    assert share.delta(epsilon) <= delta < Share(share.rho * 1.001).delta(epsilon)
    assert epsilon * 0.999 < share.epsilon(delta) <= epsilon
    assert 0.5 < share.success <= min(0.5 + math.sqrt(share.rho / 2) / 2 * 1.001, 1.0)


def test_a_share_that_bits_of_full_size_spend_is_accounted_as_they_are():
    for eps0, count in ((0.2, 20), (0.5, 4)):
        share, bits = Share(count * eps0**2 / 8), Bits(eps0, count)
        for epsilon in EPSILONS:
            assert share.delta(epsilon) >= bits.exact_delta(epsilon), "a filter is never accounted by the exact program"
            assert share.delta(epsilon) == pytest.approx(min(bits.renyi_delta(epsilon), bits.simple_delta()), rel=1e-5)
    assert Share(0.1).log_odds(100) == pytest.approx(math.sqrt(8 * 0.1 / 100), rel=1e-5)
    assert Share(0.1).log_odds(100, 0.25) == pytest.approx(2 * Share(0.1).log_odds(100), rel=1e-5)


@pytest.mark.parametrize("given_", [(0.0, 1e-6), (math.inf, 1e-6), (math.nan, 1e-6), (2.0, 0.0), (2.0, 1.0)])
def test_what_no_share_can_be_made_of_is_refused(given_):
    with pytest.raises(PACZeroError, match=r"epsilon|delta"):
        Share.of(given_[0], delta=given_[1])


@pytest.mark.parametrize("rho", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_share_is_refused(rho):
    for make in (lambda: Share(rho), lambda: Account(rho, eps0=0.1, units=1)):
        with pytest.raises(PACZeroError, match="rho: "):
            make()


# -- the account -------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    eps0=st.floats(1e-3, 50.0),
    bits=st.floats(0.3, 30.0),
    directions=st.integers(1, 4),
)
def test_no_unit_contributes_more_than_its_share(seed, eps0, bits, directions):
    """In exact fractions: Σ (ε₀a)²/8 of what is admitted is ρ at most, and nothing follows once a unit has stopped."""
    rng, rho = np.random.default_rng(seed), bits * eps0**2 / 8
    account = Account(rho, eps0=eps0, units=5)
    given_ = rng.integers(-ONE, ONE + 1, size=(12, 5, directions)) >> rng.integers(0, 41, size=(12, 5, 1))
    admitted = np.array([account.admitted(step) for step in given_]).transpose(1, 0, 2).reshape(5, -1)
    given_ = given_.transpose(1, 0, 2).reshape(5, -1)
    for contributed, all_ in zip(admitted.tolist(), given_.tolist(), strict=True):
        spent = sum(Fraction(value, ONE) ** 2 for value in contributed) * Fraction(eps0) ** 2 / 8
        assert spent <= Fraction(rho)
        first = next((i for i, pair in enumerate(zip(contributed, all_, strict=True)) if pair[0] != pair[1]), None)
        if first is not None:
            assert contributed[:first] == all_[:first] and not any(contributed[first:])
            owed = sum(Fraction(value, ONE) ** 2 for value in all_[: first + 1]) * Fraction(eps0) ** 2 / 8
            assert owed > Fraction(rho) * Fraction(999, 1000) - Fraction(eps0) ** 2 / 2**18, "and none stops early"


def test_an_account_looks_at_its_own_unit_alone_and_directions_are_bits_in_a_row():
    steps = np.random.default_rng(0).integers(-ONE, ONE, size=(10, 6, 3))
    whole = Account(0.5, eps0=1.0, units=6)
    expected = np.array([whole.admitted(step) for step in steps])
    for unit in range(6):
        alone, single = Account(0.5, eps0=1.0, units=1), Account(0.5, eps0=1.0, units=1)
        for step, admitted in zip(steps, expected, strict=True):
            assert np.array_equal(alone.admitted(step[[unit]]), admitted[[unit]])
            one_by_one = np.concatenate([single.admitted(step[[unit], [k]][:, None]) for k in range(3)], axis=1)
            assert np.array_equal(one_by_one, admitted[[unit]])
    assert (expected == 0).any() and (expected != 0).any()


def test_accounts_never_overflow():
    account = Account(1e12, eps0=1e-9, units=1)
    account.restore(np.array([2**61], dtype=np.int64))
    for _ in range(3):
        admitted = account.admitted(np.full((1, 2**16), ONE))
        assert not admitted.any() and account.spent[0] == 2**61 + 1


def test_what_no_account_wrote_is_not_taken_again():
    account = Account(0.5, eps0=1.0, units=3)
    for wrong in (np.zeros(2, np.int64), np.zeros(3), np.full(3, -1), np.full(3, 2**50)):
        with pytest.raises(PACZeroError, match="spent: "):
            account.restore(wrong)
    plain = DPSign(clip=1.0, eps0=1.0, units=3, rng=RandomStreams())
    assert plain.unit_spent is None
    with pytest.raises(PACZeroError, match="expected none without individual accounting"):
        plain.restore_spent(np.zeros(3, np.int64))
    with pytest.raises(PACZeroError, match=r"rho: 0\.5 was given with sampling_prob 0\.5"):
        DPSign(clip=1.0, eps0=1.0, units=3, rng=RandomStreams(), sampling_prob=0.5, rho=0.5)


# -- the whole run, by enumeration -------------------------------------------------------------------------------------

UNITS, EPS0, STEPS = 6, 1.2, 8
RHO = 3.01 * EPS0**2 / 8  # three full bits


class Forced:
    """In the place of the draw: the log-odds of each bit are kept, and the bit is the scripted one."""

    def __init__(self, bits):
        self.bits, self.log_odds = list(bits), []

    def __call__(self, stream, numerator, denominator):
        self.log_odds.append(numerator / denominator)
        return self.bits[len(self.log_odds) - 1]


def chance(monkeypatch, strategy, bits, present, make, resumed):
    """The probability of these bits, with the first unit's derivatives or with zeros in their place."""
    forced = Forced(bits)
    monkeypatch.setattr(dp, "logistic_sign", forced)
    mechanism, releases = make(), []
    for step in range(len(bits)):
        if resumed and step == len(bits) // 2:
            mechanism = resumed(mechanism, make(), releases)
        derivatives = np.array(strategy(tuple(bits[:step])))[:, None]
        derivatives[0] *= present
        releases.append(mechanism.release(step, derivatives))
    return math.exp(sum(math.log(expit(x * y)) for x, y in zip(forced.log_odds, bits, strict=True)))


def worst_excess(monkeypatch, strategy, resumed=None, steps=STEPS):
    """How far the true δ(ε) lies above the stated one, over several ε and both directions."""

    def make():
        return DPSign(clip=1.0, eps0=EPS0, units=UNITS, rng=RandomStreams(), rho=RHO)

    found = []
    for bits in itertools.product((1, -1), repeat=steps):
        found.append([chance(monkeypatch, strategy, bits, here, make, resumed) for here in (1.0, 0.0)])
    present, absent = np.array(found).T
    assert present.sum() == pytest.approx(1.0) and absent.sum() == pytest.approx(1.0)
    return max(
        float(np.maximum(p - math.exp(epsilon) * q, 0.0).sum()) - Share(RHO).delta(epsilon)
        for epsilon in EPSILONS
        for p, q in ((present, absent), (absent, present))
    )


def greedy(before):
    """The first unit always adds a clip; the others, in turn, hold the log-odds about half a clip below."""
    others = np.zeros(UNITS - 1)
    others[len(before) % (UNITS - 1)] = -0.5
    return [1.0, *others]


def adaptive(seed):
    """Derivatives of all units are drawn anew for each history."""

    @cache
    def strategy(before):
        rng = np.random.default_rng([seed, len(before), *(y + 1 for y in before)])
        own = rng.choice([1.0, -1.0, 0.7, -0.5, 0.2, 3.0, 0.0])
        others = rng.normal(scale=0.5, size=UNITS - 1)
        others[0] += -own / 2 - others.sum() if rng.random() < 0.7 else 0.0
        return [own, *others.tolist()]

    return strategy


def taken_again(mechanism, new, releases):
    """A resume: releases from the journal, accounts from their file."""
    for release in releases:
        new.restore(release)
    new.restore_spent(mechanism.unit_spent)
    return new


def forgotten(mechanism, new, releases):
    """A resume that lost the accounts."""
    for release in releases:
        new.restore(release)
    return new


def test_no_adversary_gets_more_than_the_share_allows(monkeypatch):
    assert worst_excess(monkeypatch, greedy) <= 1e-12


@pytest.mark.parametrize("seed", range(6))
def test_no_adversary_who_adapts_gets_more_than_the_share_allows(monkeypatch, seed):
    found = [worst_excess(monkeypatch, adaptive(seed), resumed, steps=6) for resumed in (None, taken_again)]
    assert found[0] == found[1] <= 1e-12


def test_a_share_that_is_forgotten_on_resume_is_noticed(monkeypatch):
    assert worst_excess(monkeypatch, greedy, resumed=forgotten) > 0.01


def test_a_unit_that_goes_on_after_its_share_is_noticed(monkeypatch):
    monkeypatch.setattr(Account, "admitted", lambda self, quantised: quantised)
    assert worst_excess(monkeypatch, greedy) > 0.1


def test_a_cost_that_is_not_squared_is_noticed(monkeypatch):
    """Derivatives of half a clip that are charged as a tenth each."""
    honest = Account.admitted
    monkeypatch.setattr(Account, "admitted", lambda self, q: np.where(honest(self, q // 5) != 0, q, 0))
    assert worst_excess(monkeypatch, greedy) > 0.1


def test_the_best_of_many_adversaries_stays_below():
    """Plain recursion over what an adversary may choose while the share lasts: how much to spend, and the log-odds."""
    sizes, places = (1.0, 0.7071, 0.5), (-1.0, -0.5, 0.0)

    @cache
    def value(log_ratio, left, steps, epsilon):
        best = max(math.exp(log_ratio) - math.exp(epsilon), 0.0)
        if not steps:
            return best
        for a, place in itertools.product(sizes, places):
            if a**2 <= left + 1e-9:
                q, p = expit(place * a * EPS0), expit(place * a * EPS0 + a * EPS0)
                up, down = round(log_ratio + math.log(p / q), 9), round(log_ratio + math.log((1 - p) / (1 - q)), 9)
                rest = round(left - a**2, 9)
                after = q * value(up, rest, steps - 1, epsilon) + (1 - q) * value(down, rest, steps - 1, epsilon)
                best = max(best, after)
        return best

    for epsilon in EPSILONS:
        found, stated = value(0.0, 3.01, 5, epsilon), Share(RHO).delta(epsilon)
        assert 0 < found <= stated


@pytest.mark.parametrize(("epsilon", "delta"), [(1e-4, 1e-10), (1e-5, 1e-6), (1e-6, 1e-200)])
def test_an_epsilon_that_is_too_small_is_refused_in_a_line(epsilon: float, delta: float) -> None:
    with pytest.raises(PACZeroError, match=r"epsilon: .* expected more"):
        Share.of(epsilon, delta=delta)
