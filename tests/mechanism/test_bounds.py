"""Nats, posterior success and ε against 50 digits, and the direction in which each is rounded."""

import math

import mpmath as mp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paczero.errors import PACZeroError
from paczero.mechanism import epsilon_for_nats, nats_for_epsilon, nats_for_success, posterior_success
from paczero.mechanism.bounds import epsilon_for_success, success_for_epsilon

LN2 = math.log(2)


def divergence(p: float, prior: float) -> mp.mpf:
    with mp.workdps(60):
        p, prior = mp.mpf(p), mp.mpf(prior)
        rest = (1 - p) * mp.log((1 - p) / (1 - prior)) if p < 1 else mp.mpf(0)
        return p * mp.log(p / prior) + rest


@pytest.mark.parametrize(
    ("nats", "p", "epsilon"),
    [
        (0.001, 0.5224, 0.089),
        (0.01, 0.5706, 0.284),
        (0.1, 0.7198, 0.943),
        (0.33, 0.8819, 2.01),
        (0.68, 0.9982, 6.32),
    ],
)
def test_the_table_of_the_promise(nats: float, p: float, epsilon: float) -> None:
    assert posterior_success(nats) == pytest.approx(p, abs=5e-5)
    assert epsilon_for_nats(nats) == pytest.approx(epsilon, abs=6e-4 if epsilon < 1 else 6e-3)


def test_nothing_released_and_nothing_promised() -> None:
    assert posterior_success(0.0) == 0.5
    assert posterior_success(0.0, prior=0.25) == 0.25
    assert epsilon_for_nats(0.0) == 0.0
    for nats in (LN2, 1.0, math.inf):
        assert posterior_success(nats) == 1.0
        assert epsilon_for_nats(nats) == math.inf
    assert posterior_success(0.7, prior=0.5) == 1.0
    assert posterior_success(0.7, prior=0.25) < 1.0
    assert posterior_success(-math.log(0.25), prior=0.25) == 1.0
    assert nats_for_epsilon(math.inf) == pytest.approx(LN2, rel=1e-13)
    assert nats_for_epsilon(0.0) == 0.0
    assert nats_for_success(0.5) == 0.0
    assert nats_for_success(1.0) <= LN2


@given(st.floats(1e-30, 0.7), st.sampled_from([0.5, 0.25, 0.75, 1 - 2.0**-10, 1e-6, 1 - 1e-9]))
def test_success_is_the_root_rounded_up(nats: float, prior: float) -> None:
    p = posterior_success(nats, prior)
    assert prior < p <= 1
    if p < 1:
        assert divergence(p, prior) >= nats
    lower = prior + (p - prior) * (1 - 1e-12) - 2e-15  # not further up than needed
    if lower > prior:
        assert divergence(lower, prior) < nats


@given(st.floats(0, 1), st.floats(0.001, 0.999))
def test_budget_is_rounded_down_and_keeps_the_success(share: float, prior: float) -> None:
    p = min(prior + share * (1 - prior), 1.0)
    nats, exact = nats_for_success(p, prior), divergence(p, prior)
    assert exact * (1 - mp.mpf(1e-13)) <= nats <= exact
    assert posterior_success(nats, prior) <= p


@given(st.floats(0, 0.69), st.floats(0, 0.69))
def test_more_nats_never_less_success(first: float, second: float) -> None:
    low, high = sorted((first, second))
    assert posterior_success(low) <= posterior_success(high)
    assert epsilon_for_nats(low) <= epsilon_for_nats(high)


@given(st.floats(1e-9, 30), st.sampled_from([0.0, 1e-9, 1e-5, 0.1]))
def test_epsilon_has_the_same_posterior(epsilon: float, delta: float) -> None:
    nats = nats_for_epsilon(epsilon, delta)
    with mp.workdps(60):
        p = (mp.exp(epsilon) + mp.mpf(delta)) / (1 + mp.exp(epsilon))
    exact = divergence(p, 0.5)
    assert exact * (1 - mp.mpf(2e-13)) <= nats <= exact
    assert epsilon_for_nats(nats, delta) == pytest.approx(epsilon, rel=1e-3 if epsilon > 15 else 1e-5)


@given(st.floats(1e-20, 0.68))
def test_epsilon_is_rounded_up(nats: float) -> None:
    epsilon = epsilon_for_nats(nats)
    with mp.workdps(60):
        e = mp.exp(mp.mpf(epsilon))
        assert divergence(e / (1 + e), 0.5) >= nats


@given(st.floats(1e-6, 30), st.sampled_from([0.0, 1e-9, 1e-5, 0.1]))
def test_the_success_that_epsilon_allows_and_back(epsilon: float, delta: float) -> None:
    p = success_for_epsilon(epsilon, delta)
    with mp.workdps(60):
        exact = (mp.exp(epsilon) + mp.mpf(delta)) / (1 + mp.exp(epsilon))
        assert exact <= p <= min(exact * (1 + mp.mpf(1e-12)), 1)
        if p < 1:
            back = epsilon_for_success(p, delta)
            assert (mp.exp(back) + mp.mpf(delta)) / (1 + mp.exp(back)) <= p, "rounded to the safe side"
            assert back == pytest.approx(epsilon, rel=1e-2 if epsilon > 15 else 1e-5)


def test_the_ends_of_epsilon() -> None:
    assert success_for_epsilon(0.0) == pytest.approx(0.5) and success_for_epsilon(math.inf) == 1.0
    assert epsilon_for_success(0.5) == 0.0 and epsilon_for_success(1.0, 0.1) == math.inf
    with pytest.raises(PACZeroError, match="which δ alone allows"):
        epsilon_for_success(0.52, 0.1)


def test_delta_alone_may_allow_the_posterior() -> None:
    assert epsilon_for_nats(0.001, delta=0.2) == 0.0  # p = 0.522 where δ = 0.2 gives 0.6 at ε = 0
    assert nats_for_epsilon(1.0, delta=1.0) == pytest.approx(LN2, rel=1e-13)


@pytest.mark.parametrize(
    "call",
    [
        lambda: posterior_success(-1e-9),
        lambda: posterior_success(math.nan),
        lambda: posterior_success(0.1, prior=0.0),
        lambda: posterior_success(0.1, prior=1.0),
        lambda: nats_for_success(0.4),
        lambda: nats_for_success(1.1),
        lambda: nats_for_success(math.nan),
        lambda: epsilon_for_nats(-0.1),
        lambda: epsilon_for_nats(0.1, delta=1.5),
        lambda: nats_for_epsilon(-1.0),
        lambda: nats_for_epsilon(math.nan),
        lambda: nats_for_epsilon(1.0, delta=-0.1),
        lambda: success_for_epsilon(-1.0),
        lambda: success_for_epsilon(1.0, delta=2.0),
        lambda: epsilon_for_success(1.2),
        lambda: epsilon_for_success(0.4),
    ],
)
def test_out_of_range_is_refused(call) -> None:
    with pytest.raises(PACZeroError, match="was given; expected"):
        call()
