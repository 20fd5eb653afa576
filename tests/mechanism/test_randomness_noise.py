"""The exact discrete Gaussian: its law against a sum over all integers, and integers only."""

import math

import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from paczero.errors import PACZeroError
from paczero.mechanism.randomness import Draws, discrete_gaussian


@pytest.mark.parametrize("sigma", [1, 2, 5])
def test_small_ones_have_the_discrete_law(sigma):
    stream = Draws(3).stream("noise", sigma)
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
    stream = Draws(1).stream("noise", 0)
    drawn = [discrete_gaussian(stream, sigma) for _ in range(3000)]
    assert all(type(value) is int for value in drawn)
    assert len({value % 1024 for value in drawn}) > 900, "the low bits are noise too"
    assert kstest([value / sigma for value in drawn], "norm").pvalue > 1e-4


def test_no_noise_and_refusals():
    assert discrete_gaussian(Draws(0).stream("noise", 0), 0) == 0
    with pytest.raises(PACZeroError, match="sigma: -1"):
        discrete_gaussian(Draws(0).stream("noise", 0), -1)


def test_divergence_between_integer_means_is_the_continuous_ones():
    """What the accounting relies on, summed over the integers: ln Σ p^α q^(1−α) / (α − 1) <= α Δ² / 2σ²."""
    for sigma, shift, alpha in ((2, 1, 2.0), (5, 3, 7.5), (10, 10, 1.5)):
        values = np.arange(-60 * sigma, 60 * sigma + 1)
        p, q = (-((values - mean) ** 2) / (2 * sigma**2) for mean in (0, shift))
        p, q = (log - math.log(np.exp(log).sum()) for log in (p, q))
        divergence = math.log(np.exp(alpha * p + (1 - alpha) * q).sum()) / (alpha - 1)
        assert divergence <= alpha * shift**2 / (2 * sigma**2) * (1 + 1e-12)
