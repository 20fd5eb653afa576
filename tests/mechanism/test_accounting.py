"""The noise gives the ε and p that were asked for, from the safe side, by independent formulas."""

import math
import sys

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import norm

from paczero.audit import clopper_pearson
from paczero.errors import PACZeroError
from paczero.mechanism.accounting import calibrate, calibrate_success, default_delta, epsilon_of, success_of
from paczero.mechanism.dp import DPSign, DPZero
from paczero.mechanism.randomness import RandomStreams


def gaussian_delta(epsilon, mu):
    """δ(ε) of Gaussian mechanisms whose sensitivity over σ is μ in all (Balle & Wang 2018, arXiv 1805.06530)."""
    return float(ndtr(mu / 2 - epsilon / mu) - math.exp(epsilon) * ndtr(-mu / 2 - epsilon / mu))


def sampled_delta(epsilon, sigma, rate):
    """δ(ε) of one Poisson-sampled Gaussian release, the worse of adding and removing, by summing over a fine grid."""
    y = np.linspace(-12 * sigma, 12 * sigma + 1, 400_001)
    without, with_unit = norm.pdf(y, 0, sigma), norm.pdf(y, 1, sigma)
    mixed = (1 - rate) * without + rate * with_unit
    pairs = ((mixed, without), (without, mixed))
    return max(np.maximum(p - math.exp(epsilon) * q, 0).sum() * (y[1] - y[0]) for p, q in pairs)


@pytest.mark.parametrize(
    ("name", "epsilon", "steps", "directions"),
    [("dp-aggzo", 0.2, 300, 4), ("dpzero", 2.0, 50, 1), ("dp-aggzo", 1.0, 200, 16), ("dpzero", 6.0, 10, 1)],
)
def test_gaussian_noise_without_sampling_is_the_formula(name, epsilon, steps, directions):
    delta = 1e-6
    sigma = calibrate(name, epsilon, delta=delta, steps=steps, directions=directions)
    assert gaussian_delta(epsilon, math.sqrt(steps) / sigma) <= delta
    assert gaussian_delta(epsilon, math.sqrt(steps) / (sigma * 0.999)) > delta, "and not much more noise than needed"
    found = epsilon_of(name, sigma, delta=delta, steps=steps, directions=directions)
    assert epsilon * 0.999 < found <= epsilon
    p = success_of(name, sigma, steps=steps, directions=directions)
    assert p == pytest.approx(norm.cdf(math.sqrt(steps) / (2 * sigma)), abs=1e-9), "K values are one release"


def test_a_very_small_delta_has_its_own_noise():
    assert calibrate("dpzero", 1.0, delta=1e-16, steps=24) == pytest.approx(38.09, abs=0.01)
    with pytest.raises(PACZeroError, match="delta: 1e-16 was given with sampling_prob"):
        epsilon_of("dpzero", 38.0, delta=1e-16, steps=24, sampling_prob=0.1)


def test_the_random_sign_of_the_design():
    eps0 = calibrate("dp-sign", 2.0, delta=1e-6, steps=500)
    assert 0.0396 < eps0 < 0.0401
    assert epsilon_of("dp-sign", eps0, delta=1e-6, steps=500) <= 2.0
    assert epsilon_of("dp-sign", eps0 * 1.001, delta=1e-6, steps=500) > 2.0
    assert calibrate("dp-sign", 2.0, delta=1e-6, steps=125, directions=4) == eps0, "T·K bits"
    # A Gaussian of the same slope at 0 has σ = 4/(ε₀ √(2π)); its sign's accounting knew half the signal only.
    assert calibrate("dpzero", 2.0, delta=1e-6, steps=500) / (4 / (eps0 * math.sqrt(2 * math.pi))) > 1.24


@pytest.mark.parametrize(("epsilon", "steps"), [(1e-3, 10**10), (0.1, 10**13), (1e-4, 10**6)])
def test_the_noise_keeps_its_epsilon_where_the_program_does_not_reach(epsilon, steps):
    eps0 = calibrate("dp-sign", epsilon, delta=1e-6, steps=steps)
    assert epsilon_of("dp-sign", eps0, delta=1e-6, steps=steps) <= epsilon
    # by the central limit, a lower bound of what so many bits reveal
    if steps > 10**5:
        assert gaussian_delta(epsilon, eps0 * math.sqrt(steps) / 2) <= 1e-6


def test_many_bits_take_no_longer_and_lose_little():
    short, long = (calibrate("dp-sign", 2.0, delta=1e-6, steps=steps) * math.sqrt(steps) for steps in (500, 20_000))
    assert 0.99 * short < long < 1.01 * short


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("dp-sign", {"steps": 60}),
        ("dp-sign", {"steps": 60, "sampling_prob": 0.1}),
        ("dp-aggzo", {"steps": 60, "directions": 4}),
        ("dpzero", {"steps": 60, "sampling_prob": 0.1}),
    ],
)
def test_noise_for_a_guess_keeps_the_guess(name, more):
    noise = calibrate_success(name, 0.6, **more)
    assert 0.5995 < success_of(name, noise, **more) <= 0.6


def test_the_default_delta_is_small_for_small_pools_too():
    assert default_delta(100) == 1e-6 and default_delta(10_000) == 1e-8


def test_one_sampled_release_is_the_sum_over_a_grid():
    epsilon, rate, delta = 1.0, 0.2, 1e-2
    sigma = calibrate("dpzero", epsilon, delta=delta, steps=1, directions=1, sampling_prob=rate)
    assert sampled_delta(epsilon, sigma, rate) <= delta
    assert sampled_delta(epsilon, sigma * 0.99, rate) > delta


def test_many_sampled_releases_are_within_the_renyi_bound_and_cost_less_than_the_whole_pool():
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
    from dp_accounting.rdp import RdpAccountant

    sigma = calibrate("dp-aggzo", 2.0, delta=1e-6, steps=1000, directions=64, sampling_prob=0.064)
    event = SelfComposedDpEvent(PoissonSampledDpEvent(0.064, GaussianDpEvent(sigma)), 1000)
    assert 1.8 < RdpAccountant().compose(event).get_epsilon(1e-6) < 2.3, "another accountant is near, from above"
    assert epsilon_of("dp-aggzo", sigma, delta=1e-6, steps=1000, directions=64, sampling_prob=0.064) <= 2.0
    assert sigma < calibrate("dp-aggzo", 2.0, delta=1e-6, steps=1000, directions=64) / 5
    assert sigma == calibrate("dpzero", 2.0, delta=1e-6, steps=1000, directions=1, sampling_prob=0.064)


def test_more_privacy_takes_more_noise():
    for name, order in (("dpzero", 1), ("dp-sign", -1)):
        noise = [calibrate(name, epsilon, delta=1e-6, steps=100) for epsilon in (4, 2, 1, 0.5)]
        assert noise[::order] == sorted(noise)
        assert all(float(f"{value:.6g}") == value for value in noise), "six digits"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"name": "zpl"}, "mechanism"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": math.nan}, "epsilon"),
        ({"epsilon": 1000.0}, "epsilon"),
        ({"delta": 0.0}, "delta"),
        ({"delta": 1.0}, "delta"),
        ({"steps": 0}, "steps"),
        ({"directions": 2}, "directions"),
        ({"sampling_prob": 0.0}, "sampling_prob"),
        ({"sampling_prob": 1.5, "name": "dp-sign"}, "sampling_prob"),
    ],
)
def test_what_is_refused(changes, name):
    given = {"name": "dpzero", "epsilon": 1.0, "delta": 1e-5, "steps": 10, "directions": 1} | changes
    with pytest.raises(PACZeroError, match=f"^{name}: "):
        calibrate(given.pop("name"), given.pop("epsilon"), **given)


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(PACZeroError, match=r"pip install 'paczero\[dp\]'"):
        epsilon_of("dpzero", 1.0, delta=1e-5, steps=1, directions=1, sampling_prob=0.5)
    assert epsilon_of("dpzero", 1.0, delta=1e-5, steps=1) > 0, "the whole pool needs scipy alone"


# An attack on runs with and without one canary unit. Every decision rule obeys P(yes with) <= e^ε P(yes without) + δ,
# and the reverse. The attack sees the sum of the released values, which is optimal for the means.

EPSILON, DELTA = 1.0, 0.05
RUNS, ERROR = 3000, 1e-4


def largest_excess(with_unit, without):
    """The largest certain P(yes with) − e^ε P(yes without) − δ over thresholds; above 0 the promise is broken."""
    worst = -math.inf
    for threshold in np.quantile(np.concatenate([with_unit, without]), np.linspace(0.05, 0.95, 19)):
        for yes in (np.greater_equal, np.less):
            many, few = (
                clopper_pearson(int(np.count_nonzero(yes(sums, threshold))), RUNS, 1 - 2 * ERROR)
                for sums in (with_unit, without)
            )
            for first, second in ((many, few), (few, many)):
                worst = max(worst, first.low - math.exp(EPSILON) * second.high - DELTA)
    return worst


def sums_of_signs(noise, canary):
    """64 directions in one step; the other unit's derivatives are 0."""
    eps0 = calibrate("dp-sign", EPSILON, delta=DELTA, steps=1, directions=64) / noise
    mechanism = DPSign(clip=1.0, eps0=eps0, units=2, rng=RandomStreams(20 + canary), directions=64)
    g = np.zeros((2, 64))
    g[1] = 9.0 * canary  # clipped to 1
    return np.array([sum(mechanism.release(run, g).y) for run in range(RUNS)])


def means(noise, canary, sampling_prob=1.0):
    """One step; without the canary its derivative is not in the sum."""
    sigma = calibrate("dpzero", EPSILON, delta=DELTA, steps=1, directions=1, sampling_prob=sampling_prob) * noise
    mechanism = DPZero(clip=1.0, sigma=sigma, units=2, rng=RandomStreams(30 + canary), sampling_prob=sampling_prob)
    g, released = np.array([[0.0], [9.0 * canary]]), []
    for run in range(RUNS):
        rows = mechanism.sample(run)
        released.append(mechanism.release(run, g if rows is None else g[rows], unit_indices=rows).y[0])
    return np.array(released)


@pytest.mark.parametrize(
    ("attack", "more"),
    [(sums_of_signs, {}), (means, {}), (means, {"sampling_prob": 0.3})],
    ids=["sign", "mean", "sampled"],
)
def test_an_attack_stays_within_the_promise_and_finds_half_the_noise(attack, more):
    assert largest_excess(attack(1.0, 1, **more), attack(1.0, 0, **more)) <= 0
    assert largest_excess(attack(0.5, 1, **more), attack(0.5, 0, **more)) > 0
