"""The information in the re-runs, from below."""

import math

import numpy as np
import pytest

from paczero.audit.information import estimate, mean_at_least


def test_the_bound_on_a_mean_holds_as_often_as_it_says_wherever_one_stops():
    rng, above = np.random.default_rng(0), 0
    for _ in range(300):
        values = np.where(rng.random(120) < 0.2, 2.0, -0.5)  # mean 0
        above += any(mean_at_least(values[:n], least=-0.5, error=0.05) > 0 for n in range(20, 121, 20))
    assert above <= 25  # 15 are allowed on average


def test_it_comes_near_the_mean_with_many_values_and_says_nothing_with_few():
    rng = np.random.default_rng(1)
    values = 0.3 + 0.8 * np.clip(rng.standard_normal(3000), -2, 2)
    assert 0.2 < mean_at_least(values, least=-3.0, error=0.001) < 0.3
    assert mean_at_least(values[:3], least=-3.0, error=0.001) < 0
    assert mean_at_least([-3.0, -3.0], least=-3.0, error=0.001) == -3.0


@pytest.mark.parametrize("channel", ["bit", "gaussian"])
def test_honest_runs_stay_below_their_budget(simulation, tmp_path, channel):
    lab = simulation("mi", quick=True, budget=0.6, channel=channel)
    trials = [lab.run(tmp_path / str(number)) for number in range(30)]
    told = estimate(trials, 0.6, gaussian=channel == "gaussian")
    assert not told.exceeded and told.low <= told.estimate < math.log(8)


def test_a_mechanism_that_tells_the_sign_itself_tells_more_than_nothing(simulation, tmp_path):
    lab = simulation("half-sign", quick=True, steps=24)
    told = estimate([lab.run(tmp_path / str(number)) for number in range(30)], 0.01, gaussian=False)
    assert told.exceeded and told.low > 0.3
