"""Both channels against 50 digits: never more told than asked for, hardly less, at every scale of q and nats."""

import math
import warnings

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paczero.errors import PACZeroError
from paczero.mechanism import BitChannel, GaussianChannel, channel, channels

BOTH = pytest.mark.parametrize("kind", [BitChannel, GaussianChannel])
QS = [0.5, 0.5 - 2**-54, 0.5 + 1e-12, 0.499999, 0.3, 0.9, 0.25, 0.1, 1e-3, 1 - 1e-4, 1e-6, 1 - 1e-6, 1e-9]


def entropy(x: mp.mpf) -> mp.mpf:
    return mp.mpf(0) if x in (0, 1) else -x * mp.log(x) - (1 - x) * mp.log1p(-x)


def exact_entropy(q: float) -> mp.mpf:
    with mp.workdps(400):
        return entropy(mp.mpf(q))


def exact_bit(q: float, f: float, digits: int = 80) -> mp.mpf:
    """I by the defining difference, with digits enough that 50 are left after it."""
    with mp.workdps(digits):
        q, f = mp.mpf(q), mp.mpf(f)
        return entropy(q * (1 - f) + (1 - q) * f) - entropy(f)


def exact_gaussian(q: float, sigma: float) -> mp.mpf:
    """I = E[kl(posterior ‖ prior)] by adaptive quadrature; divided by m, as its tolerance is absolute."""
    with mp.workdps(30):
        m, snr = mp.mpf(min(q, 1 - q)), 1 / mp.mpf(sigma)

        def integrand(z: mp.mpf) -> mp.mpf:
            t = 2 * snr * z
            log_w = mp.log1p(m * mp.expm1(t))
            divergence = mp.exp(t - log_w) * t - log_w / m
            return divergence * ((1 - m) * mp.npdf(z + snr) + m * mp.npdf(z - snr))

        boundary = mp.log((1 - m) / m) / (2 * snr)  # where the posterior is 1/2
        ends = [-snr - 12, -snr - 3, -snr, 0, snr, snr + 3, snr + 12]
        if -snr - 12 < boundary < snr + 12:
            ends.append(boundary)
        return m * mp.quad(integrand, sorted(set(ends)))


def log_uniform(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(math.log(low), math.log(high)).map(lambda x: min(max(math.exp(x), low), high))


# q from 1e-9 to 1 − 1e-6, dense at both ends and in the middle
ANY_Q = st.one_of(
    log_uniform(1e-9, 0.5),
    log_uniform(1e-6, 0.5).map(lambda m: 1 - m),
    log_uniform(2**-54, 0.1).map(lambda gap: 0.5 - gap),
)


def check_bit(q: float, nats: float) -> None:
    f = BitChannel.calibrate(q, nats)
    assert type(f) is float
    scaled = mp.mpf(f) * 2**64
    assert scaled == int(scaled)
    exact = exact_bit(q, f)
    if nats >= exact_entropy(q) * (1 + mp.mpf(1e-15)):
        assert f == 0.0
    if f > 0.0:
        assert nats * (1 - mp.mpf(1e-5)) <= exact <= nats
        assert BitChannel.information(q, f) <= nats
    else:
        assert exact <= nats * (1 + mp.mpf(1e-14))
    assert BitChannel.information(q, f) == pytest.approx(float(exact), rel=1e-14)


@pytest.mark.parametrize("q", QS)
def test_bit_tells_what_was_asked_for(q: float) -> None:
    limit = float(exact_entropy(q))
    near = [limit * (1 - gap) for gap in (0.0, 1e-15, 1e-13, 1e-10, 1e-6, 1e-3, 0.1)]
    for nats in [1e-12, 3e-12, 1e-10, 1e-7, 1e-4, 0.01, 0.3, *near]:
        check_bit(q, nats)


@settings(max_examples=300)
@given(ANY_Q, st.floats(0, 1))
def test_bit_tells_what_was_asked_for_anywhere(q: float, level: float) -> None:
    limit = float(exact_entropy(q))
    check_bit(q, 1e-12 * (limit / 1e-12) ** level)


@settings(max_examples=300)
@given(log_uniform(1e-300, 0.5), st.one_of(log_uniform(2.0**-64, 0.5), log_uniform(1e-15, 0.5).map(lambda x: 0.5 - x)))
def test_bit_information_anywhere(q: float, f: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = BitChannel.information(q, f)
    assert found == pytest.approx(float(exact_bit(q, f, digits=400)), rel=1e-13)


@pytest.mark.parametrize("q", [0.5, 0.2, 1e-3, 1e-9, 1e-30, 1e-300])
@pytest.mark.parametrize("snr", [1e-8, 9.99e-4, 1.001e-3, 0.1, 1.0, 5.0, 30.0])
def test_gaussian_information(q: float, snr: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = GaussianChannel.information(q, 1 / snr)
    assert found == pytest.approx(float(exact_gaussian(q, 1 / snr)), rel=1e-10)


@pytest.mark.parametrize("q", [0.5, 0.9, 0.01, 1e-5, 1 - 1e-6, 1e-9])
def test_gaussian_tells_what_was_asked_for(q: float) -> None:
    limit = float(exact_entropy(q))
    levels = [nats for nats in (5e-8, 1e-6, 1e-4, 0.01, 0.3) if nats < limit] if limit > 6e-8 else [1e-9, 1e-8]
    for nats in [*levels, limit * 0.9, limit * (1 - 1e-6), limit * (1 - 1e-12)]:
        sigma = GaussianChannel.calibrate(q, nats)
        exact = exact_gaussian(q, sigma)
        assert nats * (1 - mp.mpf(1e-8)) <= exact <= nats
        assert GaussianChannel.information(q, sigma) <= nats


@settings(max_examples=50)
@given(ANY_Q, st.floats(0, 0.999))
def test_gaussian_below_what_needs_quadrature(q: float, level: float) -> None:
    """From 1e-30 to nearly h(q): the charge is never over, hardly under."""
    limit = float(exact_entropy(q))
    nats = 1e-30 * (limit / 1e-30) ** level
    found = GaussianChannel.information(q, GaussianChannel.calibrate(q, nats))
    assert nats * (1 - 1e-8) <= found <= nats


@BOTH
@pytest.mark.parametrize("q", [1e-300, 1e-9, 0.1, 0.5, 0.9, 1 - 1e-6])
def test_limits(kind, q: float) -> None:
    limit = kind.information(q, 0.0)
    assert limit == pytest.approx(float(exact_entropy(q)), rel=1e-15)
    for nats in (limit, 0.7, math.inf):
        assert kind.calibrate(q, nats) == 0.0
    silent = kind.calibrate(q, 0.0)
    assert silent == (0.5 if kind is BitChannel else math.inf)
    assert kind.information(q, silent) == 0.0
    for nats in (5e-324, 1e-320, 1e-300, 1e-299):
        assert kind.information(q, kind.calibrate(q, nats)) <= nats
    assert kind.calibrate(q, math.nextafter(limit, 0)) > 0.0


@BOTH
@pytest.mark.parametrize("q", [0.0, 1.0])
def test_a_known_sign_tells_nothing(kind, q: float) -> None:
    assert kind.calibrate(q, 0.1) == 0.0
    assert kind.information(q, 0.0) == kind.information(q, 0.25) == 0.0


@BOTH
@given(q=log_uniform(1e-6, 0.5), low=st.floats(0, 1), high=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_more_nats_never_more_noise(kind, q: float, low: float, high: float) -> None:
    low, high = sorted((low * 0.7, high * 0.7))
    assert kind.calibrate(q, low) >= kind.calibrate(q, high) * (1 - 1e-8)


@BOTH
@given(k=st.integers(1, 1023), level=st.floats(1e-9, 1))
@settings(max_examples=60, deadline=None)
def test_which_sign_is_called_plus_does_not_matter(kind, k: int, level: float) -> None:
    q = k / 1024
    noise = kind.calibrate(q, 0.6 * level)
    assert noise == kind.calibrate(1 - q, 0.6 * level)
    assert kind.information(q, noise) == kind.information(1 - q, noise)


@pytest.mark.parametrize(("q", "bit", "gaussian"), [(0.5, 0.1412, 0.1130), (0.9, 0.2339, 0.1873)])
def test_the_bit_carries_more_signal(q: float, bit: float, gaussian: float) -> None:
    """Correlation of the released sign with the secret's, at 0.01 nats."""
    assert 1 - 2 * BitChannel.calibrate(q, 0.01) == pytest.approx(bit, abs=6e-5)
    sigma = GaussianChannel.calibrate(q, 0.01)
    assert math.erf(1 / (sigma * math.sqrt(2))) == pytest.approx(gaussian, abs=6e-5)


def test_at_small_budgets_the_bit_is_worth_half_pi_of_the_nats() -> None:
    signal = 1 - 2 * BitChannel.calibrate(0.5, 1e-6)
    sigma = GaussianChannel.calibrate(0.5, 1e-6)
    assert (signal / math.erf(1 / (sigma * math.sqrt(2)))) ** 2 == pytest.approx(math.pi / 2, rel=1e-5)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("nats", [1e-12, 1e-3, 0.3, 0.693, math.log(2) * (1 - 1e-15)])
def test_bit_flips_exactly_the_words_below_f(sign: int, nats: float) -> None:
    f = BitChannel.calibrate(0.5, nats)
    threshold = int(mp.mpf(f) * 2**64)
    assert 0 < threshold <= 2**63
    for word, expected in [(0, -sign), (threshold - 1, -sign), (threshold, sign), (2**64 - 1, sign)]:
        assert BitChannel.sample(sign, f, word) == expected
    assert BitChannel.sample(sign, 0.0, 0) == sign
    assert BitChannel.sample(sign, 0.5, 2**63 - 1) == -sign
    assert BitChannel.sample(sign, 0.5, 2**63) == sign


def test_bit_likelihoods_are_those_of_the_sampler() -> None:
    signs = np.array([1, -1, 1], dtype=np.int8)
    f = BitChannel.calibrate(0.3, 0.05)
    assert np.exp(BitChannel.log_likelihood(signs, -1.0, f)) == pytest.approx([f, 1 - f, f], rel=1e-15)
    assert BitChannel.log_likelihood(signs, 1.0, 0.0).tolist() == [0.0, -math.inf, 0.0]


def test_gaussian_samples_are_the_noise_on_a_grid() -> None:
    words = np.random.default_rng(0).integers(0, 2**64, 4000, dtype=np.uint64, endpoint=False)
    sigma = 1.7
    for sign in (-1, 1):
        values = np.array([GaussianChannel.sample(sign, sigma, int(word)) for word in words])
        assert values.mean() == pytest.approx(sign, abs=0.1)
        assert values.std() == pytest.approx(sigma, rel=0.05)
        cells = values / (sigma * 2.0**-20) - 0.5
        assert np.abs(cells - np.round(cells)).max() < 1e-6
        assert np.all(values != 0.0)
    assert GaussianChannel.sample(-1, 0.0, 5) == -1.0


def test_gaussian_tails_are_finite_and_mirror_each_other() -> None:
    grid = 2.0**-20
    for word in (0, 1, 12345, 2**63 - 1):
        low, high = GaussianChannel.sample(1, 1.0, word), GaussianChannel.sample(-1, 1.0, 2**64 - 1 - word)
        assert low == pytest.approx(-high, abs=grid)
        assert math.isfinite(low)
    assert -8.0 > GaussianChannel.sample(1, 1.0, 0) > -8.3


def test_gaussian_of_no_budget_tells_nothing() -> None:
    for word in (0, 99, 2**64 - 1):
        assert GaussianChannel.sample(1, math.inf, word) == GaussianChannel.sample(-1, math.inf, word)
    assert GaussianChannel.log_likelihood(np.array([1, -1]), 0.3, math.inf).tolist() == [0.0, 0.0]


def test_gaussian_likelihood_ratio() -> None:
    plus, minus = GaussianChannel.log_likelihood(np.array([1, -1], dtype=np.int8), 0.4, 0.8)
    assert plus - minus == pytest.approx(2 * 0.4 / 0.8**2, rel=1e-14)
    assert GaussianChannel.log_likelihood(np.array([1, -1]), 1.0, 0.0).tolist() == [0.0, -math.inf]


def test_calibration_takes_few_evaluations(monkeypatch) -> None:
    """A run calibrates up to K·T times."""
    for kind, name in ((BitChannel, "_bit_information"), (GaussianChannel, "_gaussian_information")):
        information, calls = getattr(channels, name), []
        monkeypatch.setattr(channels, name, lambda *a, f=information, calls=calls: calls.append(a) or f(*a))
        for q, nats in [(0.5, 5e-8), (0.3, 0.1), (1e-3, 1e-3), (1e-9, 2e-8), (0.5, 0.693)]:
            calls.clear()
            kind.calibrate(q, nats)
            assert len(calls) < 60


def test_channels_by_name() -> None:
    assert channel("bit") is BitChannel
    assert channel("gaussian") is GaussianChannel
    with pytest.raises(PACZeroError, match="bit or gaussian"):
        channel("laplace")


@BOTH
@pytest.mark.parametrize(
    "call",
    [
        lambda kind: kind.calibrate(-0.1, 0.1),
        lambda kind: kind.calibrate(1.1, 0.1),
        lambda kind: kind.calibrate(math.nan, 0.1),
        lambda kind: kind.calibrate(0.5, -1e-9),
        lambda kind: kind.calibrate(0.5, math.nan),
        lambda kind: kind.information(2.0, 0.1),
        lambda kind: kind.information(0.5, -0.1),
        lambda kind: kind.information(0.5, math.nan),
        lambda kind: kind.sample(0, 0.1, 0),
        lambda kind: kind.sample(1, -0.1, 0),
        lambda kind: kind.log_likelihood(np.array([1, -1]), 0.5, 0.0),
    ],
)
def test_out_of_range_is_refused(kind, call) -> None:
    with pytest.raises(PACZeroError, match="expected"):
        call(kind)


def test_a_bit_cannot_be_flipped_more_than_half_of_the_time() -> None:
    with pytest.raises(PACZeroError, match="flip probability"):
        BitChannel.information(0.5, 0.6)
