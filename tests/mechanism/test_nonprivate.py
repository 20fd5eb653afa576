"""MeZO's mean is exact and the same for any order of the units; full-sign and coin release bits."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.base import Mechanism, Release
from paczero.mechanism.nonprivate import Coin, FullSign, Mean
from paczero.mechanism.randomness import Coins
from paczero.utils.io import canonical, parse_line

G = np.random.default_rng(0).standard_normal((101, 2)) * 10


def test_it_is_the_mean_of_clipped_derivatives_in_any_order():
    for clip in (None, 5.0):
        mechanism: Mechanism = Mean(clip=clip, directions=2)
        release = mechanism.release(0, G)
        clipped = G if clip is None else np.clip(G, -clip, clip)
        for k in range(2):
            exact = sum(map(Fraction, clipped[:, k].tolist())) / 101
            assert release.y[k] == pytest.approx(float(exact), rel=1e-13)
        order = np.random.default_rng(1).permutation(101)
        assert Mean(clip=clip, directions=2).release(0, G[order]) == release
        assert mechanism.budget is None
        assert mechanism.spent == 0.0
        assert mechanism.name == "none"


def test_what_is_not_finite_counts_as_zero_and_nothing_overflows():
    release = Mean().release(0, np.array([[math.nan], [math.inf], [1e299], [1e299]]), nonfinite=1)
    assert release.y == (5e298,)
    assert release.nonfinite == 3
    largest = np.finfo(float).max
    assert math.isfinite(Mean().release(0, np.full((3, 1), largest)).y[0])


def test_some_units_are_averaged():
    units = np.array([3, 5])
    release = Mean(directions=2).release(0, G[units], unit_indices=units)
    assert release.y == pytest.approx(G[units].mean(axis=0))


def test_a_written_release_is_taken_again():
    mechanism = Mean(directions=2)
    releases = [mechanism.release(step, G + step) for step in range(3)]
    resumed = Mean(directions=2)
    for release in releases[:2]:
        resumed.restore(Release.from_journal(parse_line(canonical(release.to_journal()), "entry")))
    assert resumed.release(2, G + 2) == releases[2]


@pytest.mark.parametrize(
    "edit",
    [
        {"step": 1},
        {"y": (1.0,)},
        {"y": (1, 1.0)},
        {"y": (math.nan, 1.0)},
        {"beta": (0.1, 0.0)},
        {"signs": (b"", b"")},
        {"output": (1.0, 1.0)},
        {"unanimous": (True, True)},
    ],
)
def test_an_edited_release_is_refused(edit):
    release = Mean(directions=2).release(0, G)
    with pytest.raises(IntegrityError, match="step"):
        Mean(directions=2).restore(dataclasses.replace(release, **edit))


def test_out_of_range_arguments_are_refused():
    for arguments in ({"clip": 0.0}, {"clip": math.nan}, {"directions": 0}):
        with pytest.raises(PACZeroError):
            Mean(**arguments)
    mechanism = Mean()
    for values in (np.zeros((3, 2)), np.zeros(3), np.zeros((0, 1))):
        with pytest.raises(PACZeroError, match="derivatives"):
            mechanism.release(0, values)
    with pytest.raises(PACZeroError, match="step 0"):
        mechanism.release(1, np.zeros((3, 1)))
    for clip in (0.0, math.nan):
        with pytest.raises(PACZeroError, match="clip"):
            FullSign(clip=clip).release(0, G[:, :1])


def test_full_sign_is_that_of_the_clipped_sum():
    for clip in (1.0, 5.0, 1e3):
        clipped = np.clip(G, -clip, clip).sum(axis=0)
        assert FullSign(clip=clip, directions=2).release(0, G).y == tuple(np.where(clipped >= 0, 1, -1).tolist())
    assert FullSign(clip=1.0).release(0, np.zeros((2, 1))).y == (1,)
    units = np.array([4, 9])
    assert FullSign(clip=9.0, directions=2).release(0, G[units], unit_indices=units).y == tuple(
        np.where(np.clip(G[units], -9, 9).sum(axis=0) >= 0, 1, -1).tolist()
    )
    assert FullSign(clip=9.0).budget is None


def test_a_coin_learns_nothing():
    others = [Coin(coins=Coins(4), directions=2).release(0, values).y for values in (G, -G, G * math.nan)]
    assert len(set(others)) == 1
    fair = Coin(coins=Coins())
    assert abs(sum(fair.release(t, G[:, :1]).y[0] for t in range(4000))) < 7 * math.sqrt(4000)
