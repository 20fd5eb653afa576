"""The optimal attacker is Bayes' rule; the trained one finds a leak if there is one, and none otherwise."""

from dataclasses import replace

import numpy as np
import pytest

from paczero.audit.attacks import bayes, half_guesses, trained
from paczero.audit.simulation import Trial
from paczero.errors import PACZeroError


def slow_bayes(trial, gaussian):
    """P(secret) · Π P(released | secret's sign), candidate by candidate."""
    steps, k, subsets = trial.signs.shape
    weights = []
    for m in range(subsets):
        total = 1.0
        for t in range(steps):
            for d in range(k):
                s, f, out = int(trial.signs[t, d, m]), trial.noise[t, d], trial.output[t, d]
                if len(set(trial.signs[t, d])) == 1:
                    continue
                if gaussian:
                    total *= np.exp(-((out - s) ** 2) / (2 * f * f)) if f else float(out == s)
                else:
                    total *= 1 - f if s == out else f
        weights.append(total)
    return np.array(weights) / sum(weights)


@pytest.mark.parametrize("channel", ["bit", "gaussian"])
def test_it_is_bayes_rule(simulation, tmp_path, channel):
    lab = simulation("mi", budget=0.6, channel=channel, directions=2)
    for number in range(5):
        trial = lab.run(tmp_path / str(number))
        np.testing.assert_allclose(
            bayes(trial, gaussian=channel == "gaussian"), slow_bayes(trial, channel == "gaussian"), rtol=1e-9
        )


@pytest.mark.parametrize("name", ["zpl", "skip"])
def test_no_information_leaves_the_prior(simulation, tmp_path, name):
    lab = simulation(name)
    np.testing.assert_allclose(bayes(lab.run(tmp_path / "one")), 1 / 8)


def test_noiseless_signs_exclude_candidates(simulation, tmp_path):
    lab = simulation("half-sign", steps=24)
    for number in range(4):
        trial = lab.run(tmp_path / str(number))
        belief = bayes(trial)
        assert belief[trial.secret] == belief.max() > 1 / 8
        assert (belief[(trial.signs[:, 0] != trial.y[:, :1]).any(axis=0)] == 0).all()


def test_the_coin_decides_ties():
    members = np.array([[True, False], [True, True]])
    for coin in (True, False):
        guesses = half_guesses(np.array([0.5, 0.5]), members, np.array([coin, coin]))
        assert guesses.tolist() == [coin, True]


def test_the_trained_attacker_learns_a_leak_and_nothing_from_noise():
    rng = np.random.default_rng(0)
    inside = rng.random(200) < 0.5
    noise = rng.standard_normal((200, 30))
    telling = noise.copy()
    telling[:, 3] += 2.5 * inside
    for rows, least, most in ((telling, 0.75, 1.0), (noise, 0.3, 0.7), (np.ones((200, 4)), 0.3, 0.7)):
        right = trained(list(rows[:100]), inside[:100], list(rows[100:])) == inside[100:]
        assert least <= right.mean() <= most


def test_runs_without_candidates_are_refused(simulation, tmp_path):
    trial = simulation("none").run(tmp_path / "one")
    assert isinstance(trial, Trial) and trial.signs is None
    with pytest.raises(PACZeroError, match="no candidates"):
        bayes(replace(trial))
