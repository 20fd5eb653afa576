"""Every family: each unit in exactly half of the candidates, and in a given one half of the time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paczero.errors import PACZeroError
from paczero.mechanism import subsets as families
from paczero.mechanism.subsets import draw_subsets, draw_units

FAMILIES = ("random", "paired", "balanced")


def draw(units, subsets, family, seed, *, data_seed=0, pilots=True, labels=True):
    """A family over synthetic units of two labels."""
    rng = np.random.default_rng(data_seed)
    features, classes, derivatives = rng.standard_normal((units, 5)), rng.integers(0, 2, units), rng.random((units, 3))
    return draw_subsets(
        units,
        subsets,
        seed=seed,
        family=family,
        features=features,
        labels=classes if labels else None,
        pilots=derivatives if pilots else None,
    )


@pytest.mark.parametrize("family", FAMILIES)
@given(
    units=st.integers(1, 40),
    halves=st.integers(1, 8),
    seed=st.integers(0, 2**63 - 1),
    pilots=st.booleans(),
    labels=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_rows_sum_to_half_and_a_seed_decides(family, units, halves, seed, pilots, labels):
    membership = draw(units, 2 * halves, family, seed, pilots=pilots, labels=labels)
    assert membership.dtype == np.bool_
    assert membership.shape == (units, 2 * halves)
    assert (membership.sum(axis=1) == halves).all()
    assert (draw(units, 2 * halves, family, seed, pilots=pilots, labels=labels) == membership).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_another_seed_draws_others(family):
    assert (draw(40, 8, family, 0) != draw(40, 8, family, 1)).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_each_unit_is_in_a_given_candidate_half_of_the_time(family):
    draws, units, subsets = 2000, 9, 4
    counts = sum(draw(units, subsets, family, seed).astype(int) for seed in range(draws))
    # 36 binomial counts; beyond 6 standard deviations happens once in 10 million runs (and the seeds are fixed)
    assert np.abs(counts - draws / 2).max() < 6 * np.sqrt(draws / 4)


def test_pairs_share_nothing_and_are_alike():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((20, 16))
    features = np.repeat(centres, 2, axis=0) + 0.01 * rng.standard_normal((40, 16))
    membership = draw_subsets(40, 16, seed=3, family="paired", features=features)
    assert (membership[0::2] == ~membership[1::2]).all()


def test_pairs_stay_within_a_label_but_for_the_leftovers():
    features = np.random.default_rng(0).standard_normal((31, 4))
    labels = np.array([0] * 15 + [1] * 16)
    membership = draw_subsets(31, 32, seed=0, family="paired", features=features, labels=labels)
    complements = (membership[:, None, :] == ~membership[None, :, :]).all(axis=2)
    assert complements[:15, :15].sum() == 14
    assert complements[15:, 15:].sum() == 16


def test_large_pools_are_cut_and_still_paired(monkeypatch):
    monkeypatch.setattr(families, "_LARGEST_CELL", 16)
    monkeypatch.setattr(families, "_SIMILARITIES", 64)
    features = np.random.default_rng(0).standard_normal((101, 4))
    membership = draw_subsets(101, 64, seed=0, family="paired", features=features)
    complements = (membership[:, None, :] == ~membership[None, :, :]).all(axis=2)
    assert complements.sum() == 100


def test_halves_come_with_their_complement_and_balance_the_labels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    features = rng.standard_normal((300, 10))
    membership = draw_subsets(300, 16, seed=0, family="balanced", features=features, labels=labels)
    columns = {column.tobytes() for column in membership.T}
    assert all((~column).tobytes() in columns for column in membership.T)
    for label in range(3):
        share = membership[labels == label].mean(axis=0)
        assert np.abs(share - 0.5).max() < 0.06


def unanimity(membership, derivatives):
    positive = derivatives.T @ membership > 0
    return float((positive.all(axis=1) | ~positive.any(axis=1)).mean())


def test_designed_families_raise_unanimity_where_derivatives_follow_the_features():
    rng = np.random.default_rng(0)
    units, width = 500, 32
    labels = rng.integers(0, 2, units)
    features = rng.standard_normal((units, width)) * np.linspace(3, 0.3, width) + 0.2 * labels[:, None]
    directions = rng.standard_normal((width, 464))
    noise = 0.5 * np.abs(rng.standard_normal(464)) * rng.standard_normal((units, 464))
    derivatives = (2 * labels[:, None] - 1) * (features @ directions) + noise
    pilots, later = derivatives[:, :64], derivatives[:, 64:]
    common = {"seed": 0, "features": features, "labels": labels}
    random, paired, balanced = (
        unanimity(draw_subsets(units, 64, family=family, pilots=pilots, **common), later) for family in FAMILIES
    )
    alone = unanimity(draw_subsets(units, 64, family="balanced", pilots=pilots, seed=0), later)
    assert random + 0.1 < paired
    assert paired + 0.1 < balanced
    assert random + 0.1 < alone


SIGNS = np.where(np.random.default_rng(0).random((10, 3)) < 0.5, -1, 1)


def test_degenerate_features_are_no_trouble():
    for family in ("paired", "balanced"):
        for features in (np.zeros((10, 3)), np.full((10, 3), 3e38), np.full((10, 200), 1e-40), 3e38 * SIGNS):
            membership = draw_subsets(10, 4, seed=0, family=family, features=features)
            assert (membership.sum(axis=1) == 2).all()


def test_one_unit_and_two_candidates():
    assert draw_subsets(1, 2, seed=0).sum() == 1


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"units": 0}, "units"),
        ({"subsets": 3}, "subsets"),
        ({"subsets": 0}, "subsets"),
        ({"family": "other"}, "family"),
        ({"family": "paired"}, "features"),
        ({"family": "balanced"}, "features"),
        ({"family": "paired", "features": np.zeros((3, 2))}, "features"),
        ({"family": "paired", "features": np.zeros(4)}, "features"),
        ({"family": "paired", "features": np.full((4, 2), np.nan)}, "features"),
        ({"family": "balanced", "pilots": np.full((4, 2), np.inf)}, "pilots"),
        ({"family": "paired", "features": np.zeros((4, 2)), "labels": np.zeros(3, dtype=int)}, "labels"),
    ],
)
def test_out_of_range_arguments_are_refused_by_name(arguments, name):
    given_ = {"units": 4, "subsets": 4, "seed": 0} | arguments
    with pytest.raises(PACZeroError, match=f"^{name}:"):
        draw_subsets(given_.pop("units"), given_.pop("subsets"), **given_)


def test_the_units_of_a_step_are_public_and_drawn_anew_each_step():
    drawn = draw_units(100, 32, seed=1, step=5)
    assert drawn.shape == (32,)
    assert (np.diff(drawn) > 0).all()
    assert drawn.min() >= 0
    assert drawn.max() < 100
    assert (draw_units(100, 32, seed=1, step=5) == drawn).all()
    assert (draw_units(100, 32, seed=1, step=6) != drawn).any()
    assert (draw_units(100, 32, seed=2, step=5) != drawn).any()
    assert draw_units(3, 3, seed=0, step=0).tolist() == [0, 1, 2]
    for count in (0, 4):
        with pytest.raises(PACZeroError, match=f"count: {count} units"):
            draw_units(3, count, seed=0, step=0)
