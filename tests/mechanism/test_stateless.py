"""The releases without candidates: full-sign, coin and dp-sign, whose values are bits."""

import math

import numpy as np
import pytest
from scipy.special import ndtr

from paczero.errors import PACZeroError
from paczero.mechanism.dp import DPSign
from paczero.mechanism.nonprivate import Coin, FullSign
from paczero.mechanism.randomness import Draws
from paczero.mechanism.secret import SeededCoins, SystemCoins

G = np.random.default_rng(0).standard_normal((101, 3)) * 10


def test_full_sign_is_that_of_the_clipped_sum():
    for clip in (1.0, 5.0, 1e3):
        clipped = np.clip(G, -clip, clip).sum(axis=0)
        assert FullSign(clip=clip, directions=3).release(0, G).y == tuple(np.where(clipped >= 0, 1, -1).tolist())
    assert FullSign(clip=1.0).release(0, np.zeros((2, 1))).y == (1,)
    part = np.array([4, 9])
    assert FullSign(clip=9.0, directions=3).release(0, G[part], part=part).y == tuple(
        np.where(np.clip(G[part], -9, 9).sum(axis=0) >= 0, 1, -1).tolist()
    )
    assert FullSign(clip=9.0).budget is None


def test_a_coin_learns_nothing():
    others = [Coin(coins=SeededCoins(4), directions=3).release(0, values).y for values in (G, -G, G * math.nan)]
    assert len(set(others)) == 1
    fair = Coin(coins=SystemCoins())
    assert abs(sum(fair.release(t, G[:, :1]).y[0] for t in range(4000))) < 7 * math.sqrt(4000)


def test_without_noise_dp_sign_is_full_sign():
    for clip in (1.0, 5.0):
        noiseless = DPSign(clip=clip, sigma=0.0, draws=Draws(), directions=3)
        assert noiseless.release(0, G).y == FullSign(clip=clip, directions=3).release(0, G).y


class Word:
    """Draws whose streams always show the same bytes."""

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
        assert DPSign(clip=1.0, sigma=sigma, draws=Word(word)).release(0, g).y == (y,)


def test_dp_sign_has_the_probability_of_a_gaussians_sign():
    units, sigma = 7, 4.0
    g = np.full((units, 200), 1.0)  # Σ/σ = 7/4
    mechanism = DPSign(clip=1.0, sigma=sigma, draws=Draws(2), directions=200)
    plus = np.mean([[y > 0 for y in mechanism.release(step, g).y] for step in range(20)])
    p = float(ndtr(units / sigma))
    assert plus == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / 4000))


def test_what_is_out_of_range_is_refused():
    for sigma in (-1.0, math.nan, math.inf):
        with pytest.raises(PACZeroError, match="sigma"):
            DPSign(clip=1.0, sigma=sigma, draws=Draws())
    with pytest.raises(PACZeroError, match="whole pool"):
        DPSign(clip=1.0, sigma=1.0, draws=Draws()).release(0, G[:2, :1], part=np.array([0, 1]))
    for clip in (0.0, math.nan):
        with pytest.raises(PACZeroError, match="clip"):
            FullSign(clip=clip).release(0, G[:, :1])
