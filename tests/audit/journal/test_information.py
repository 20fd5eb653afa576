"""Nats to 50 digits: against the definitions, the published table, and another library's δ."""

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paczero.audit.journal.information import (
    bit_information,
    entropy,
    epsilon_bound,
    gaussian_delta,
    gaussian_information,
    mp,
    success_bound,
    success_excess,
)


def near(found, expected, digits):
    return abs(found - expected) <= abs(expected) * mp.mpf(10) ** -digits


@given(st.floats(1e-12, 0.5), st.integers(0, 2**63))
def test_the_bit_is_the_sum_over_its_joint_law(minority, flips):
    m, f = mp.mpf(minority), mp.mpf(flips) / 2**64
    with mp.workdps(140):
        joint = {(s, y): (m if s else 1 - m) * (1 - f if s == y else f) for s in (0, 1) for y in (0, 1)}
        parts = [
            p * mp.log(p / ((m if s else 1 - m) * (joint[0, y] + joint[1, y]))) for (s, y), p in joint.items() if p > 0
        ]
        expected = mp.fsum(parts)
    found = bit_information(m, f)
    assert near(found, expected, 45) if expected else found == 0


@pytest.mark.parametrize(
    ("minority", "sigma"), [(0.5, 1), (0.3, 0.2), (0.01, 3), (0.4, 50), (1e-10, 1), (0.3, 4), (0.49, 0.5)]
)
def test_the_gaussian_is_its_integral(minority, sigma):
    """By mpmath's own quadrature of the mutual information's definition over a finite range."""
    m, s = mp.mpf(minority), mp.mpf(sigma)

    def density(x):
        plus, minus = m * mp.npdf(x, 1, s), (1 - m) * mp.npdf(x, -1, s)
        return plus * mp.log(plus / (m * (plus + minus))) + minus * mp.log(minus / ((1 - m) * (plus + minus)))

    edges = sorted({mp.mpf(side) + k * s for side in (-1, 1) for k in range(-14, 15, 4)})
    assert near(gaussian_information(m, s), mp.quad(density, edges), 18)


def test_the_ends_of_both_channels():
    m = mp.mpf("0.2")
    assert near(bit_information(m, mp.mpf(0)), entropy(m), 45) and gaussian_information(m, mp.mpf(0)) == entropy(m)
    assert bit_information(m, mp.mpf(1) / 2) == 0 == gaussian_information(m, mp.inf)
    assert bit_information(mp.mpf(0), mp.mpf("0.1")) == 0 == gaussian_information(mp.mpf(0), mp.mpf(1))
    assert near(gaussian_information(m, mp.mpf("0.03")), entropy(m), 40)
    tiny = mp.mpf(10) ** -400
    assert 0 < bit_information(tiny, mp.mpf("0.1")) <= entropy(tiny)


def test_a_very_noisy_gaussian_has_the_information_of_its_first_term():
    """I = 2 m (1 − m)/σ² (1 + O(1/σ²))."""
    m, sigma = mp.mpf("0.3"), mp.mpf(10) ** 9
    assert near(gaussian_information(m, sigma), 2 * m * (1 - m) / sigma**2, 15)


@pytest.mark.parametrize(
    ("nats", "p", "epsilon"),
    [
        (0.0, 0.5, 0.0),
        (0.001, 0.5224, 0.089),
        (0.01, 0.5706, 0.284),
        (0.1, 0.7198, 0.943),
        (0.33, 0.8819, 2.01),
        (0.68, 0.9982, 6.32),
    ],
)
def test_success_is_that_of_the_published_table(nats, p, epsilon):
    found = success_bound(mp.mpf(nats))
    assert float(found) == pytest.approx(p, abs=6e-5)
    assert float(epsilon_bound(mp.mpf(nats))) == pytest.approx(epsilon, abs=6e-4 if epsilon < 1 else 6e-3)
    assert near(mp.log(2) - entropy(found), mp.mpf(nats), 40) or nats == 0


def test_success_of_tiny_and_of_too_many_nats():
    assert near(success_excess(mp.mpf("1e-100")), mp.sqrt(mp.mpf("5e-101")), 40)
    assert near(epsilon_bound(mp.mpf("1e-100")), 4 * mp.sqrt(mp.mpf("5e-101")), 40)
    assert success_bound(mp.mpf("0.7")) == 1 and epsilon_bound(mp.mpf("0.7")) is None


@pytest.mark.parametrize(("sigma", "releases", "epsilon"), [(10.0, 100, 1.0), (5.0, 3, 0.5), (40.0, 1000, 4.0)])
def test_delta_is_that_of_gaussian_noise(sigma, releases, epsilon):
    from dp_accounting import GaussianDpEvent, NeighboringRelation, SelfComposedDpEvent, pld

    accountant = pld.PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=1e-4)
    accountant.compose(SelfComposedDpEvent(GaussianDpEvent(sigma), releases))
    found = gaussian_delta(mp.mpf(epsilon), mp.sqrt(releases) / mp.mpf(sigma))
    assert float(found) == pytest.approx(accountant.get_delta(epsilon), rel=2e-3)
    assert float(found) <= accountant.get_delta(epsilon)  # that one rounds up


def test_the_global_precision_is_unchanged():
    assert mpmath.mp.dps == 15 and mp.dps == 50
    assert mpmath.log(2) == mpmath.mpf("0.693147180559945309")
