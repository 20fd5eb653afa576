"""Poisson samples: independent, of the rate asked for, possibly empty."""

import math

import numpy as np
import pytest

from paczero.errors import PACZeroError
from paczero.mechanism.randomness import Draws, poisson_sample


class Words:
    """A stream whose words of 64 bits are given."""

    def __init__(self, *words):
        self.words = words

    def take(self, count):
        assert count == 8 * len(self.words)
        return b"".join(word.to_bytes(8, "little") for word in self.words)


def test_a_unit_is_in_it_where_its_word_is_below_the_rate():
    half, quarter = 2**63, 2**62
    assert poisson_sample(Words(half - 1, half, 0, 2**64 - 1), 4, 0.5).tolist() == [0, 2]
    assert poisson_sample(Words(quarter, quarter - 1), 2, 0.25).tolist() == [1]


def test_every_unit_equally_often_and_independently():
    draws, rate, steps = Draws(0), 0.1, 3000
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
    with pytest.raises(PACZeroError, match="sampling: "):
        poisson_sample(Draws(0).stream("sample", 0), 4, rate)
    with pytest.raises(PACZeroError, match="units: 0"):
        poisson_sample(Draws(0).stream("sample", 0), 0, 0.5)
