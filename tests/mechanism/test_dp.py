"""dp-sign flips a bit with the right probability; the noisy means clip whole vectors and divide by public sizes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import ndtr

from paczero.errors import PACZeroError
from paczero.mechanism.dp import AggZO, DPSign, DPZero, clipped
from paczero.mechanism.nonprivate import FullSign, Mean
from paczero.mechanism.randomness import RandomStreams
from paczero.mechanism.signs import SCALE

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


def test_without_noise_dp_sign_is_full_sign():
    for clip in (1.0, 5.0):
        noiseless = DPSign(clip=clip, sigma=0.0, rng=RandomStreams(), directions=3)
        assert noiseless.release(0, G).y == FullSign(clip=clip, directions=3).release(0, G).y


class Word:
    """Streams that always give the same bytes."""

    def __init__(self, value):
        self.value = value

    def stream(self, purpose, step):
        return self

    def take(self, count):
        return self.value.to_bytes(count, "big")


@pytest.mark.parametrize("total", [0.0, 0.5, -0.5, 3.0, -30.0])
def test_dp_sign_turns_exactly_where_the_word_is_below_the_probability(total):
    sigma, g = 2.0, np.array([[total]])
    turned = float(ndtr(-min(abs(total), 1.0) / sigma))  # a unit's share is 1 at most
    edge = int(math.ldexp(turned, 128))
    kept = 1 if total >= 0 else -1
    for word, y in ((0, -kept), (edge - 1, -kept), (edge, kept), (2**128 - 1, kept)):
        assert DPSign(clip=1.0, sigma=sigma, rng=Word(word)).release(0, g).y == (y,)


def test_dp_sign_has_the_probability_of_a_gaussians_sign():
    units, sigma = 7, 4.0
    g = np.full((units, 200), 1.0)  # Σ/σ = 7/4
    mechanism = DPSign(clip=1.0, sigma=sigma, rng=RandomStreams(2), directions=200)
    plus = np.mean([[y > 0 for y in mechanism.release(step, g).y] for step in range(20)])
    p = float(ndtr(units / sigma))
    assert plus == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / 4000))


def test_dp_sign_takes_the_whole_pool_and_a_finite_noise():
    for sigma in (-1.0, math.nan, math.inf):
        with pytest.raises(PACZeroError, match="sigma"):
            DPSign(clip=1.0, sigma=sigma, rng=RandomStreams())
    with pytest.raises(PACZeroError, match="whole pool"):
        DPSign(clip=1.0, sigma=1.0, rng=RandomStreams()).release(0, G[:2, :1], unit_indices=np.array([0, 1]))
