"""An attack on a toy: runs with and without a canary unit, told apart by what was released.

Whatever decides between the two, its rates obey P(yes with) <= e^ε P(yes without) + δ, and the other way round. The
attack looks at the sum of what was released, which for the means is the best there is. It stays within the bound, and
with half the noise it is seen to break it, so that a calibration that is wrong by so much would be found here.
"""

import math

import numpy as np
import pytest
from scipy.stats import beta

from paczero.mechanism.accounting import calibrate
from paczero.mechanism.dp import DPSign, DPZero
from paczero.mechanism.randomness import RandomStreams

EPSILON, DELTA = 1.0, 0.05
RUNS, SURE = 3000, 1e-4


def most_excess(with_unit, without):
    """The largest P(yes with) − e^ε P(yes without) − δ that is sure, over thresholds: above 0 the promise is broken."""
    worst = -math.inf
    for threshold in np.quantile(np.concatenate([with_unit, without]), np.linspace(0.05, 0.95, 19)):
        for yes in (np.greater_equal, np.less):
            many, few = (np.count_nonzero(yes(sums, threshold)) for sums in (with_unit, without))
            for first, second in ((many, few), (few, many)):
                low = beta.ppf(SURE, first, RUNS - first + 1) if first else 0.0
                high = beta.ppf(1 - SURE, second + 1, RUNS - second) if second < RUNS else 1.0
                worst = max(worst, low - math.exp(EPSILON) * high - DELTA)
    return worst


def of_signs(noise, canary):
    """A run of 64 directions in one step; another unit pulls nowhere."""
    sigma = calibrate("dp-sign", EPSILON, delta=DELTA, steps=1, directions=64) * noise
    mechanism = DPSign(clip=1.0, sigma=sigma, rng=RandomStreams(20 + canary), directions=64)
    g = np.zeros((2, 64))
    g[1] = 9.0 * canary  # clipped to 1
    return np.array([sum(mechanism.release(run, g).y) for run in range(RUNS)])


def of_means(noise, canary, sampling_prob=1.0):
    """A run of one step; without the canary its derivative is not in the sum."""
    sigma = calibrate("dpzero", EPSILON, delta=DELTA, steps=1, directions=1, sampling_prob=sampling_prob) * noise
    mechanism = DPZero(clip=1.0, sigma=sigma, units=2, rng=RandomStreams(30 + canary), sampling_prob=sampling_prob)
    g, sums = np.array([[0.0], [9.0 * canary]]), []
    for run in range(RUNS):
        part = mechanism.sample(run)
        sums.append(mechanism.release(run, g if part is None else g[part], unit_indices=part).y[0])
    return np.array(sums)


@pytest.mark.parametrize(
    ("attack", "more"),
    [(of_signs, {}), (of_means, {}), (of_means, {"sampling_prob": 0.3})],
    ids=["sign", "mean", "sampled"],
)
def test_it_stays_within_the_promise_and_would_see_half_the_noise(attack, more):
    assert most_excess(attack(1.0, 1, **more), attack(1.0, 0, **more)) <= 0
    assert most_excess(attack(0.5, 1, **more), attack(0.5, 0, **more)) > 0
