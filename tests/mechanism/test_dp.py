"""dp-sign flips a bit with the right probability; the noisy means clip whole vectors and divide by public sizes."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from paczero.errors import PACZeroError
from paczero.mechanism.dp import AggZO, DPSign, DPZero, clipped
from paczero.mechanism.nonprivate import FullSign, Mean
from paczero.mechanism.randomness import RandomStreams
from paczero.mechanism.signs import SCALE, quantise

UNITS = 101
G = np.random.default_rng(0).standard_normal((UNITS, 3)) * 10


def make(**changes):
    return AggZO(**({"clip": 5.0, "sigma": 1.0, "units": UNITS, "rng": RandomStreams(1), "directions": 3} | changes))


def test_without_noise_and_clipping_it_is_the_plain_mean():
    mean = Mean(directions=3).release(0, G).y
    assert make(clip=1e3, sigma=0.0).release(0, G).y == pytest.approx(mean, abs=1e3 * 2**-39)
    alone = DPZero(clip=1e3, sigma=0.0, units=UNITS, rng=RandomStreams())
    assert alone.release(0, G[:, :1]).y == pytest.approx(mean[:1], abs=1e3 * 2**-39)


def test_vectors_are_clipped_as_a_whole():
    lengths = np.linalg.norm(G, axis=1, keepdims=True)
    expected = (G * np.minimum(1, 5.0 / lengths)).mean(axis=0)
    assert make(sigma=0.0).release(0, G).y == pytest.approx(expected.tolist(), abs=1e-9)
    one = DPZero(clip=5.0, sigma=0.0, units=UNITS, rng=RandomStreams()).release(0, G[:, :1])
    assert one.y == pytest.approx([np.clip(G[:, 0], -5, 5).mean()], abs=1e-9)


FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.data(), st.integers(1, 70), st.floats(1e-6, 1e6))
def test_no_clipped_vector_is_too_long(data, directions, clip):
    values = data.draw(arrays(np.float64, (3, directions), elements=FLOATS))
    for row in clipped(values, clip).tolist():
        assert sum(value * value for value in row) <= int(SCALE) ** 2  # in integers: exactly
    short = values[np.abs(values).max(axis=1) < 0.9 * clip / math.sqrt(directions)]
    assert np.allclose(clipped(short, clip) / SCALE, short / clip, atol=2**-39)


def test_the_noise_is_that_of_sigma_and_the_same_in_all_directions():
    mechanism = make(sigma=3.0, directions=8, units=4)
    drawn = np.array([mechanism.release(step, np.zeros((4, 8))).y for step in range(400)]) * 4 / 5.0
    assert drawn.std() == pytest.approx(3.0, rel=0.06)
    assert abs(drawn.mean()) < 5 * 3.0 / math.sqrt(drawn.size)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(8)).max() < 0.25


def test_sums_are_divided_by_the_expected_size_and_samples_are_secret_and_fresh():
    mechanism = make(sigma=0.0, sampling_prob=0.25, clip=1e3)
    seen = []
    for step in range(30):
        units = mechanism.sample(step)
        seen.append(units.tolist())
        y = mechanism.release(step, G[units], unit_indices=units).y
        assert y == pytest.approx((G[units].sum(axis=0) / (0.25 * UNITS)).tolist(), abs=1e-6)
        assert not any(isinstance(value, np.ndarray) for value in vars(mechanism).values()), "it is kept no longer"
    assert len({tuple(units) for units in seen}) == 30 and len({len(units) for units in seen}) > 5


def test_an_empty_sample_releases_noise():
    mechanism = AggZO(clip=1.0, sigma=1.0, units=2, rng=RandomStreams(0), sampling_prob=1e-6, directions=2)
    units = mechanism.sample(0)
    assert units.tolist() == []
    release = mechanism.release(0, np.zeros((0, 2)), unit_indices=units)
    assert all(math.isfinite(y) and y != 0 for y in release.y)


def test_only_the_units_that_were_drawn_are_taken():
    whole = make()
    assert whole.sample(0) is None
    with pytest.raises(PACZeroError, match="whole pool"):
        whole.release(0, G[:2], unit_indices=np.array([0, 1]))
    with pytest.raises(PACZeroError, match="derivatives: 100 rows"):
        whole.release(0, G[:100])
    for wrong in (None, np.array([0, 1]), np.arange(UNITS)):
        mechanism = make(sampling_prob=0.5)
        mechanism.sample(0)
        with pytest.raises(PACZeroError, match="what `sample` drew"):
            mechanism.release(0, G if wrong is None else G[wrong], unit_indices=wrong)
    mechanism = make(sampling_prob=0.5)
    with pytest.raises(PACZeroError, match="what `sample` drew"):
        mechanism.release(0, G)
    with pytest.raises(PACZeroError, match="expected step 0"):
        mechanism.sample(1)


@pytest.mark.parametrize(
    "changes",
    [
        {"clip": 0.0},
        {"clip": math.nan},
        {"sigma": -1.0},
        {"sigma": math.inf},
        {"units": 0},
        {"sampling_prob": 0.0},
        {"sampling_prob": 1.5},
        {"directions": 0},
    ],
)
def test_what_is_out_of_range_is_refused(changes):
    with pytest.raises(PACZeroError, match=next(iter(changes))):
        make(**changes)


def sign(**changes):
    return DPSign(**({"clip": 5.0, "eps0": 0.1, "units": UNITS, "rng": RandomStreams(1), "directions": 3} | changes))


def test_with_large_log_odds_dp_sign_is_full_sign_and_without_any_a_coin():
    for clip in (1.0, 5.0):
        assert sign(clip=clip, eps0=1e6).release(0, G).y == FullSign(clip=clip, directions=3).release(0, G).y
    coins = sign(eps0=0.0, units=2, directions=1000).release(0, np.full((2, 1000), 5.0)).y
    assert abs(sum(coins)) < 5 * math.sqrt(1000)


@pytest.mark.parametrize("total", [-2.5, -0.25, 0.0, 1.0, 7.0])
def test_dp_sign_has_the_logistic_probability_of_the_clipped_sum(total):
    units, eps0, count = 8, 0.7, 4000
    g = np.zeros((units, count))
    g[:7] = total / 7
    plus = np.mean(np.array(sign(clip=1.0, eps0=eps0, units=units, directions=count).release(0, g).y) > 0)
    p = 1 / (1 + math.exp(-eps0 * total))
    assert plus == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / count) + 1e-9)


def test_one_unit_moves_the_log_odds_by_eps0_at_most():
    """The draw's own ratio of integers: what goes into the exact Bernoulli variable."""
    seen = []

    class Watched(DPSign):
        def _values(self, step, derivatives):
            seen.append(self._per_unit * int(quantise(derivatives, clip=self._clip)[0].sum()))
            return super()._values(step, derivatives)

    for value in (0.0, 3.0, -1e9, math.inf):
        g = np.concatenate([G[:, :1], [[value]]])
        Watched(clip=5.0, eps0=0.1, units=UNITS + 1, rng=RandomStreams()).release(0, g)
    absent, *present = seen
    assert all(abs(log_odds - absent) <= Fraction(0.1) for log_odds in present)
    assert abs(present[1] - absent) == Fraction(0.1), "and a clipped unit by exactly that"
    assert present[2] == absent, "what is not finite counts as 0"


def test_each_bit_of_a_sampled_dp_sign_has_a_sample_of_its_own():
    mechanism = sign(sampling_prob=0.3, directions=1)
    drawn = [mechanism.sample(0)]
    assert mechanism.release(0, G[drawn[0], :1], unit_indices=drawn[0]).y[0] in (1, -1)
    drawn.append(mechanism.sample(1))
    assert not np.array_equal(*drawn)
    with pytest.raises(PACZeroError, match=r"directions: 2 was given with sampling_prob 0\.3"):
        sign(sampling_prob=0.3, directions=2)


def test_an_empty_sample_of_dp_sign_is_a_coin():
    found = []
    for seed in range(60):
        mechanism = sign(sampling_prob=1e-9, directions=1, rng=RandomStreams(seed))
        found += mechanism.release(0, np.zeros((0, 1)), unit_indices=mechanism.sample(0)).y
    assert 10 < found.count(1) < 50


@pytest.mark.parametrize("eps0", [-1.0, math.nan, math.inf])
def test_dp_sign_refuses_what_is_no_noise(eps0):
    with pytest.raises(PACZeroError, match="eps0"):
        sign(eps0=eps0)
    with pytest.raises(PACZeroError, match="whole pool"):
        sign(units=UNITS, directions=3).release(0, G[:5], unit_indices=np.arange(5))
