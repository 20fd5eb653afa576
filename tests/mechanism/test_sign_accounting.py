"""The accountant of random signs is above every adversary, near the best one, and below the closed form."""

import itertools
import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom

from paczero.mechanism import sign_accounting
from paczero.mechanism.sign_accounting import Bits


def deltas(eps0, rate, strategy, count, epsilon):
    """δ of both cases by enumeration of all bit strings, where `strategy` maps earlier bits to (x, s)."""
    worst = np.zeros(2)
    for bits in itertools.product((0, 1), repeat=count):
        absent = present = 1.0
        for t, y in enumerate(bits):
            x, s = strategy(bits[:t])
            q, p = expit(x), expit(x + s * eps0)
            p = q + rate * (p - q)
            absent, present = absent * (q if y else 1 - q), present * (p if y else 1 - p)
        worst += np.maximum([present - math.exp(epsilon) * absent, absent - math.exp(epsilon) * present], 0.0)
    return worst


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    eps0=st.floats(0.02, 3.0),
    rate=st.sampled_from([1.0, 0.7, 0.1]),
    count=st.integers(1, 10),
    share=st.floats(0.0, 0.9),
)
def test_no_adversary_who_adapts_to_earlier_bits_gets_more(seed, eps0, rate, count, share):
    rng = np.random.default_rng(seed)

    @cache
    def strategy(before):
        return rng.normal(scale=1 + 2 * eps0) - eps0 / 2, rng.choice((-1.0, 1.0, rng.uniform(-1, 1)))

    epsilon = share * eps0 * count
    bound = Bits(eps0, count, rate).exact_delta(epsilon)
    assert deltas(eps0, rate, strategy, count, epsilon).max() <= bound + 1e-15


def best_adversary(eps0, rate, count, epsilon, swapped, choices=61):
    """δ against the best of many adaptive adversaries, by plain recursion over all histories; no grid of ratios."""
    pairs = []
    for x in np.linspace(-4 - eps0, 4, choices):
        q = float(expit(x))
        p = q + rate * (float(expit(x + eps0)) - q)
        pairs.append((q, p) if swapped else (p, q))

    def value(ratio, left):
        if not left:
            return max(ratio - math.exp(epsilon), 0.0)
        return max(
            q * value(ratio * p / q, left - 1) + (1 - q) * value(ratio * (1 - p) / (1 - q), left - 1) for p, q in pairs
        )

    return value(1.0, count)


@pytest.mark.parametrize("rate", [1.0, 0.3])
@pytest.mark.parametrize(
    ("eps0", "count", "epsilon"), [(0.5, 2, 0.4), (1.5, 2, 1.0), (1.0, 1, 0.5), (2.0, 1, 0.0), (0.4, 3, 0.5)]
)
def test_it_is_near_the_best_adversary(eps0, rate, count, epsilon):
    best = max(best_adversary(eps0, rate, count, epsilon * rate, swapped) for swapped in (False, True))
    assert best <= Bits(eps0, count, rate).exact_delta(epsilon * rate) <= 1.04 * best


def at_one_log_odds(eps0, rate, count, epsilon):
    """δ against an adversary who holds all bits at the same log-odds, the best of some, by the binomial law."""
    ones, worst = np.arange(count + 1), 0.0
    for x in np.linspace(-eps0, 0.0, 9):
        q = float(expit(x))
        p = q + rate * (float(expit(x + eps0)) - q)
        for a, b in ((p, q), (q, p)):
            log_ratio = ones * math.log(a / b) + (count - ones) * math.log((1 - a) / (1 - b))
            gain = np.maximum(np.exp(log_ratio) - math.exp(epsilon), 0.0)
            worst = max(worst, float(np.exp(binom.logpmf(ones, count, b)) @ gain))
    return worst


@pytest.mark.parametrize(("eps0", "rate", "count"), [(0.04, 1.0, 500), (0.0063, 1.0, 20_000), (0.4, 0.1, 500)])
def test_it_is_near_bits_that_do_not_adapt(eps0, rate, count):
    bits = Bits(eps0, count, rate)
    for epsilon, slack in ((0.0, 1.02), (1.0, 1.09), (2.0, 1.25)):
        simple = at_one_log_odds(eps0, rate, count, epsilon)
        assert simple <= bits.exact_delta(epsilon) <= slack * simple


def test_the_closed_form_is_above_and_holds_for_each_order():
    for eps0, count in ((0.04, 500), (0.5, 4), (0.1, 100)):
        for epsilon in (0.2, 1.0, 2.0):
            bits = Bits(eps0, count)
            assert bits.exact_delta(epsilon) < bits.renyi_delta(epsilon)
            assert bits.delta(epsilon) == bits.exact_delta(epsilon)
    x = np.linspace(-6, 6, 2001)
    for eps0, order in itertools.product((0.1, 1.0, 3.0), (1.01, 2.0, 20.0)):
        p, q = expit(x + eps0), expit(x)
        renyi = np.log(p**order * q ** (1 - order) + (1 - p) ** order * (1 - q) ** (1 - order)) / (order - 1)
        assert renyi.max() <= order * eps0**2 / 8 * (1 + 1e-12), "a bit is ε₀²/8-zCDP whatever its log-odds"


def test_blocks_of_bits_and_wider_cells_only_add(monkeypatch):
    exact = [Bits(0.05, 300).exact_delta(epsilon) for epsilon in (0.0, 1.0, 2.0)]
    wide = [Bits(0.05, 300, cell=10.0).exact_delta(epsilon) for epsilon in (0.0, 1.0, 2.0)]
    monkeypatch.setattr(sign_accounting, "_LONGEST", 75)
    blocks = [Bits(0.05, 300).exact_delta(epsilon) for epsilon in (0.0, 1.0, 2.0)]
    assert all(a <= b <= 1.2 * a for a, b in zip(exact, blocks, strict=True))
    assert all(a <= b <= 2.0 * a for a, b in zip(exact, wide, strict=True))


def test_a_grid_that_ends_early_only_adds(monkeypatch):
    exact = Bits(0.05, 200).exact_delta(1.0)
    monkeypatch.setattr(sign_accounting, "_TAIL", 3.0)
    short = Bits(0.05, 200).exact_delta(1.0)
    assert exact <= short <= 1.1 * exact


def test_one_bit_is_the_exponential_mechanism():
    eps0 = 0.8
    # over all log-odds, the total variation of one bit is that at the symmetric one
    assert Bits(eps0, 1).exact_delta(0.0) == pytest.approx(math.tanh(eps0 / 4), rel=1e-5)
    assert Bits(eps0, 1).epsilon(1e-12) == pytest.approx(eps0, rel=1e-3)
    assert Bits(eps0, 1).epsilon(0.5) == 0.0, "δ alone allows more than one bit reveals"


def test_more_bits_a_larger_share_and_a_larger_rate_reveal_more():
    base = Bits(0.2, 40, 0.5).delta(0.5)
    assert base < min(Bits(0.2, 60, 0.5).delta(0.5), Bits(0.25, 40, 0.5).delta(0.5), Bits(0.2, 40, 0.8).delta(0.5))
    assert Bits(0.2, 40, 1 - 1e-9).delta(0.5) == pytest.approx(Bits(0.2, 40).delta(0.5), rel=0.01)


@pytest.mark.parametrize(
    ("eps0", "count", "rate", "least"),
    [
        (5.0, 10**8, 0.5, 1.0),
        (3.0, 10**13, 1.0, 1.0),
        (16.0, 600, 1.0, 1.0),
        (100.0, 1, 1.0, 1.0),
        (1e-8, 300, 1.0, 3.45e-8),
        (3.16e-8, 10**6, 1.0, 6.31e-6),
        (1e-8, 10**13, 1.0, 6.3e-3),
        (1.18664e-6, 1, 1.0, 2.966601e-7),
    ],
)
def test_where_floats_do_not_reach_nothing_is_promised_that_does_not_hold(eps0, count, rate, least):
    """Each gave 0, or less than the truth, where a float overflowed or cancelled."""
    bits = Bits(eps0, count, rate)
    assert bits.delta(0.0) >= least * (1 - 1e-12)
    assert bits.delta(0.0) >= bits.delta(1e-4) >= bits.delta(50.0)


def test_a_value_that_overflowed_counts_as_one(monkeypatch):
    profile = sign_accounting._Profile(np.array([0.1, np.inf, 0.1]), 0.1, 1)
    monkeypatch.setattr(Bits, "_profiles", lambda self, epsilon: [profile])
    assert Bits(0.1, 10).exact_delta(0.0) == 1.0


def test_a_unit_that_is_in_no_sample_reveals_nothing():
    assert Bits(20.0, 1, 0.01).delta(0.0) <= 0.0100001
    assert Bits(16.0, 1000, 0.01).delta(50.0) < 1.0
