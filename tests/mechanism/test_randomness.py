"""Coins, noise and samples: from the operating system or of a test seed; the laws that the accounting assumes."""

import math

import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from paczero.errors import PACZeroError
from paczero.mechanism import randomness as module
from paczero.mechanism.randomness import (
    Coins,
    RandomStream,
    RandomStreams,
    below,
    bits,
    discrete_gaussian,
    logistic_sign,
    poisson_sample,
)


def test_the_operating_system_is_asked_each_time(monkeypatch):
    asked = []
    monkeypatch.setattr(module.os, "urandom", lambda count: asked.append(count) or bytes(count))
    stream = RandomStreams().stream("noise", 0)
    assert bits(stream, 64) == bits(stream, 12) == 0
    assert asked == [8, 2]


def test_a_test_seed_decides_and_keeps_uses_apart():
    def first(seed, purpose, step):
        return RandomStreams(seed).stream(purpose, step).take(16)

    assert first(1, "noise", 0) == first(1, "noise", 0)
    others = {first(1, "noise", 0), first(2, "noise", 0), first(1, "sample", 0), first(1, "noise", 1)}
    assert len(others) == 4
    stream = RandomStreams(1).stream("noise", 0)
    assert stream.take(16) != stream.take(16)
    assert RandomStreams().stream("noise", 0).take(16) != RandomStreams().stream("noise", 0).take(16)


def test_they_tell_nothing_of_themselves():
    assert repr(RandomStreams(5)) == "RandomStreams(redacted)" and repr(RandomStream("5")) == "RandomStream(redacted)"


@pytest.mark.parametrize("bound", [1, 2, 3, 7, 256, 257, 2**100 + 1])
def test_below_is_in_range_and_reaches_its_ends(bound):
    stream = RandomStreams(0).stream("test", bound)
    seen = [below(stream, bound) for _ in range(200)]
    assert all(0 <= value < bound for value in seen)
    assert bound > 7 or set(seen) == set(range(bound))


def test_below_is_uniform():
    stream = RandomStreams(0).stream("test", 0)
    counts = [0] * 5
    for _ in range(10_000):
        counts[below(stream, 5)] += 1
    assert sum((count - 2000) ** 2 / 2000 for count in counts) < 25  # chi square of 4 degrees: 1 in 20,000


def test_coins_are_fresh_or_a_function_of_the_test_seed():
    system, tested = Coins(), Coins(7)
    words = {system.word(0, 0) for _ in range(8)}
    assert len(words) == 8
    assert tested.word(3, 1) == Coins(7).word(3, 1)
    assert len({Coins(seed).word(t, k) for seed in (0, 1) for t in (0, 1) for k in (0, 1)}) == 8
    for made in (system, tested):
        assert all(0 <= made.word(t, 0) < 2**64 for t in range(100))
        assert "redacted" in repr(made)
        assert "7" not in repr(made)


@pytest.mark.parametrize("sigma", [1, 2, 5])
def test_small_ones_have_the_discrete_law(sigma):
    stream = RandomStreams(3).stream("noise", sigma)
    drawn = np.array([discrete_gaussian(stream, sigma) for _ in range(6000)])
    values = np.arange(-40 * sigma, 40 * sigma + 1)
    law = np.exp(-(values**2) / (2 * sigma**2))
    law /= law.sum()
    inner = np.abs(values) <= 2 * sigma
    observed = [np.count_nonzero(drawn == value) for value in values[inner]]
    observed += [np.count_nonzero(drawn < -2 * sigma), np.count_nonzero(drawn > 2 * sigma)]
    expected = [*law[inner], law[values < -2 * sigma].sum(), law[values > 2 * sigma].sum()]
    assert chisquare(observed, np.array(expected) * drawn.size).pvalue > 1e-4


def test_large_ones_are_gaussian():
    sigma = 3 * 2**40
    stream = RandomStreams(1).stream("noise", 0)
    drawn = [discrete_gaussian(stream, sigma) for _ in range(3000)]
    assert all(type(value) is int for value in drawn)
    assert len({value % 1024 for value in drawn}) > 900, "the low bits are noise too"
    assert kstest([value / sigma for value in drawn], "norm").pvalue > 1e-4


def test_no_noise_and_refusals():
    assert discrete_gaussian(RandomStreams(0).stream("noise", 0), 0) == 0
    with pytest.raises(PACZeroError, match="sigma: -1"):
        discrete_gaussian(RandomStreams(0).stream("noise", 0), -1)


def test_divergence_between_integer_means_is_the_continuous_ones():
    """What the accounting relies on, summed over the integers: ln Σ p^α q^(1−α) / (α − 1) <= α Δ² / 2σ²."""
    for sigma, shift, alpha in ((2, 1, 2.0), (5, 3, 7.5), (10, 10, 1.5)):
        values = np.arange(-60 * sigma, 60 * sigma + 1)
        p, q = (-((values - mean) ** 2) / (2 * sigma**2) for mean in (0, shift))
        p, q = (log - math.log(np.exp(log).sum()) for log in (p, q))
        divergence = math.log(np.exp(alpha * p + (1 - alpha) * q).sum()) / (alpha - 1)
        assert divergence <= alpha * shift**2 / (2 * sigma**2) * (1 + 1e-12)


class Words:
    """A stream whose words of 64 bits are given."""

    def __init__(self, *words):
        self.words = words

    def take(self, count):
        assert count == 8 * len(self.words)
        return b"".join(word.to_bytes(8, "little") for word in self.words)


@pytest.mark.parametrize(("numerator", "denominator"), [(0, 1), (1, 3), (-1, 3), (5, 2), (-9, 2), (10**30, 10**30)])
def test_logistic_signs_have_the_logistic_law(numerator, denominator):
    stream, count = RandomStreams(3).stream("sign", 0), 8000
    plus = sum(logistic_sign(stream, numerator, denominator) > 0 for _ in range(count)) / count
    p = 1 / (1 + math.exp(-numerator / denominator))
    assert abs(plus - p) < 5 * math.sqrt(p * (1 - p) / count)


def test_logistic_signs_far_from_zero_are_sure():
    stream = RandomStreams().stream("sign", 0)
    assert {logistic_sign(stream, sign * 10**40, 7) for _ in range(50) for sign in (1, -1)} == {1, -1}
    assert all(logistic_sign(stream, 10**40, 7) == 1 for _ in range(50))


def test_a_unit_is_in_it_where_its_word_is_below_the_rate():
    half, quarter = 2**63, 2**62
    assert poisson_sample(Words(half - 1, half, 0, 2**64 - 1), 4, 0.5).tolist() == [0, 2]
    assert poisson_sample(Words(quarter, quarter - 1), 2, 0.25).tolist() == [1]


def test_every_unit_equally_often_and_independently():
    draws, rate, steps = RandomStreams(0), 0.1, 3000
    member = np.zeros((steps, 40))
    for step in range(steps):
        member[step, poisson_sample(draws.stream("sample", step), 40, rate)] = 1
    deviation = math.sqrt(rate * (1 - rate) / steps)
    assert np.abs(member.mean(axis=0) - rate).max() < 5 * deviation
    sizes = member.sum(axis=1)  # of a fixed-size sample, the variance would be 0
    assert sizes.var() == pytest.approx(40 * rate * (1 - rate), rel=0.15)
    assert (sizes == 0).sum() > 0


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_other_rates_are_refused(rate):
    with pytest.raises(PACZeroError, match="sampling_prob: "):
        poisson_sample(RandomStreams(0).stream("sample", 0), 4, rate)
