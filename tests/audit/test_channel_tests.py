"""Released values against their law: exact p-values, further broken mechanisms, and honest ones."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from paczero.audit import channel_tests as module
from paczero.audit import simulation as simulation_module
from paczero.audit.channel_tests import channel_tests
from paczero.mechanism.individual import Account
from paczero.training.factory import mechanism_header


def results(lab, trials, **more):
    return {test.name: test for test in channel_tests(trials, lab, **more)}


def made(lab, folder, runs=40):
    return [lab.run(folder / str(number)) for number in range(runs)]


def changed(trials, rng, share, value):
    """With probability `share`, each contested bit is replaced by value(trial, t, k)."""
    found = []
    for trial in trials:
        y = trial.y.copy()
        for index in np.ndindex(y.shape):
            if abs(int(trial.signs[index].sum(dtype=int))) < trial.signs.shape[2] and rng.random() < share:
                y[index] = value(trial, index)
        found.append(replace(trial, y=y, output=y))
    return found


HONEST = [
    {"name": "zpl"}, {"name": "skip"}, {"name": "mi", "budget": 0.4}, {"name": "mi", "budget": 1e-3},
    {"name": "mi", "budget": 0.4, "channel": "gaussian"}, {"name": "mi", "budget": 0.4, "directions": 2},
    {"name": "dp-sign", "epsilon": 2.0}, {"name": "dp-sign", "epsilon": 2.0, "sampling_prob": 0.4},
    {"name": "dp-sign", "epsilon": 2.0, "individual": True, "directions": 2},
    {"name": "dpzero", "epsilon": 2.0, "sampling_prob": 0.4}, {"name": "dp-aggzo", "epsilon": 2.0, "directions": 3},
]  # fmt: skip


@pytest.mark.parametrize("given", HONEST, ids=str)
def test_honest_mechanisms_follow_their_law(simulation, tmp_path, given):
    lab = simulation(quick=True, **given)
    found = results(lab, made(lab, tmp_path))
    assert found and not [test for test in found.values() if test.failed]
    assert all(0 <= test.p_value <= 1 for test in found.values())
    assert len(found) * next(iter(found.values())).level <= module.ERROR / 2 * 1.001


def test_a_coin_that_follows_the_secret_with_probability_03_is_found(simulation, tmp_path):
    lab = simulation("zpl", quick=True, steps=12)
    trials = made(lab, tmp_path, 80)
    follows = changed(trials, np.random.default_rng(0), 0.3, lambda trial, at: trial.signs[at][trial.secret])
    assert results(lab, follows)["bits and S*"].failed and not results(lab, trials)["bits and S*"].failed
    against = changed(trials, np.random.default_rng(1), 0.4, lambda trial, at: -trial.signs[at][trial.secret])
    assert results(lab, against)["bits and S*"].failed, "bits that avoid S* tell of it as well"


@pytest.mark.parametrize("channel", ["bit", "gaussian"])
def test_flips_that_are_rarer_than_the_journal_says_are_found(simulation, tmp_path, channel):
    lab = simulation("mi", quick=True, budget=0.4, channel=channel, steps=24)
    trials = made(lab, tmp_path)
    kept = changed(trials, np.random.default_rng(0), 0.5, lambda trial, at: trial.signs[at][trial.secret])
    assert results(lab, kept)["bits and S*"].failed


def test_a_unanimous_bit_that_is_another_one_is_found(simulation, tmp_path):
    lab = simulation("zpl", quick=True, steps=24)
    trials = made(lab, tmp_path)
    signs = np.ones_like(trials[0].signs)
    trials[0] = replace(trials[0], signs=signs, y=np.ones_like(trials[0].y), output=np.ones_like(trials[0].y))
    assert not results(lab, trials)["unanimous bits"].failed
    y = trials[0].y.copy()
    y[3, 0] = -1
    trials[0] = replace(trials[0], y=y, output=y)
    assert results(lab, trials)["unanimous bits"].failed


def test_a_skipped_step_that_shows_a_sign_is_found(simulation, tmp_path):
    lab = simulation("skip", quick=True)
    trials = made(lab, tmp_path, 3)
    assert not results(lab, trials)["contested releases"].failed
    shown = changed(trials, np.random.default_rng(0), 0.1, lambda trial, at: 1.0)
    assert results(lab, shown)["contested releases"].failed


@pytest.mark.parametrize("what", ["halved", "shifted", "copied", "two values", "following"])
def test_wrong_noise_is_found_by_its_own_test(simulation, tmp_path, what):
    lab = simulation("dpzero", quick=True, epsilon=2.0)
    trials = made(lab, tmp_path)
    sigma, clip = mechanism_header(lab.args, lab.units)["sigma"], lab.args.mechanism.clip
    rng, found = np.random.default_rng(0), []
    shared = rng.standard_normal(trials[0].y.shape)
    for trial in trials:
        noise = rng.standard_normal(trial.y.shape)
        noise = {
            "halved": 0.5 * noise, "shifted": noise + 0.4, "copied": shared, "following": noise + 0.5 * trial.sums,
            "two values": np.sign(noise),
        }[what]  # fmt: skip
        found.append(replace(trial, y=(trial.sums + sigma * noise) * clip / lab.units))
    name = {"halved": "size", "shifted": "mean", "copied": "fresh", "two values": "shape", "following": "slope"}[what]
    assert results(lab, found)[f"noise, {name}"].failed


def test_units_that_go_on_after_their_share_are_found(simulation, tmp_path, monkeypatch):
    """With ε₀ so large that a share lasts for some bits only, later ones are coins, unless the account is ignored."""
    lab = simulation("dp-sign", epsilon=8.0, individual=True)
    monkeypatch.setattr(simulation_module, "measured_log_odds", lambda *_, **stated: 2.0 * stated["rho"] ** 0.5)
    honest = made(lab, tmp_path / "honest", 10)
    monkeypatch.setattr(Account, "admitted", lambda self, quantised: quantised)
    broken = made(lab, tmp_path / "broken", 10)
    assert [results(lab, trials)["spent shares"].failed for trials in (honest, broken)] == [False, True]
    assert all((trial.sums[:2] != 0).all() and (trial.stopped[-1] != 0).all() for trial in honest)


def test_samples_of_another_rate_are_found(simulation, tmp_path):
    lab = simulation("dpzero", quick=True, epsilon=2.0, sampling_prob=0.4)
    rng = np.random.default_rng(0)
    trials = [replace(trial, sampled=rng.random(trial.sampled.shape) < 0.5) for trial in made(lab, tmp_path)]
    found = results(lab, trials)
    assert found["samples, rate"].failed and not found["samples, fresh"].failed


def test_the_error_of_bits_is_as_stated_though_each_law_depends_on_earlier_bits():
    """The log-odds of each bit depend on the bits before it, and one stops where it looks worst."""
    rng, failed = np.random.default_rng(0), 0
    for _ in range(2000):
        bits, odds, ahead = [], [], 0
        for _ in range(40):
            odds.append(0.2 * np.tanh(ahead))
            bits.append(bool(rng.random() < expit(odds[-1])))
            ahead += 1 if bits[-1] else -1
            if ahead >= 7:
                break
        failed += module._bits_p(np.array(bits), np.array(odds)) < 0.05
    assert failed / 2000 <= 0.05


def test_what_cannot_happen_fails_at_once():
    assert module._bits_p(np.array([True, True]), np.array([0.0, np.inf])) == 1.0
    assert module._bits_p(np.array([True, False]), np.array([0.0, np.inf])) == 0.0
    assert module._bits_p(np.array([], dtype=bool), np.array([])) == 1.0


def test_an_unfair_coin_is_found_with_enough_bits():
    rng = np.random.default_rng(0)
    assert (
        module._bits_p(rng.random(4000) < 0.45, np.zeros(4000))
        < 1e-4
        < module._bits_p(rng.random(4000) < 0.5, np.zeros(4000))
    )
    odds = rng.normal(size=4000)
    assert module._bits_p(rng.random(4000) < expit(2 * odds), odds, module._FACTORS) < 1e-9


def test_later_looks_are_stricter_and_their_errors_add_up(simulation, tmp_path):
    lab = simulation("zpl", quick=True)
    trials = made(lab, tmp_path, 5)
    levels = [next(iter(channel_tests(trials, lab, look=look))).level for look in range(1, 200)]
    assert levels == sorted(levels, reverse=True) and sum(levels) * 6 < module.ERROR
