"""What each unit's absence changes, against the mechanism itself with that unit's derivative zeroed."""

import numpy as np
import pytest

from paczero.mechanism.margins import margins
from paczero.mechanism.pac import ZPL
from paczero.mechanism.randomness import Coins
from paczero.mechanism.signs import direction_signs
from paczero.mechanism.subsets import draw_subsets


def common(derivatives, members, empty="positive"):
    signs = direction_signs(derivatives, members, clip=1.0, empty=empty)[0]
    return [int(row[0]) if (row == row[0]).all() else 0 for row in signs]


def by_force(derivatives, members, numbers, empty="positive"):
    found = [{} for _ in range(derivatives.shape[1])]
    whole = common(derivatives, members[numbers], empty)
    for row, unit in enumerate(numbers):
        zeroed = derivatives.copy()
        zeroed[row] = 0.0
        for k, sign in enumerate(common(zeroed, members[numbers], empty)):
            if sign != whole[k]:
                found[k].setdefault(sign, []).append(int(unit))
    return [(sign, {key: tuple(units) for key, units in each.items()}) for sign, each in zip(whole, found, strict=True)]


@pytest.mark.parametrize("family", ["random", "paired"])
@pytest.mark.parametrize("drift", [0.0, 0.3, -0.6])
def test_each_unit_is_zeroed(family, drift):
    rng, kinds = np.random.default_rng(3), set()
    for seed in range(60):
        units, subsets = int(rng.integers(3, 12)), int(rng.choice([2, 4, 8]))
        features = {"features": rng.standard_normal((units, 3))} if family == "paired" else {}
        members = draw_subsets(units, subsets, seed=seed, family=family, **features)
        # Halves, so that sums of 0 and ties are common; some values pass the clip, some are not finite.
        values = np.round(2 * (rng.standard_normal((units, 2)) + drift)) / 2
        values[rng.random(values.shape) < 0.03] = np.nan
        found = margins(values, members, clip=1.0)
        expected = by_force(values, members, np.arange(units))
        assert [(margin.sign, margin.without) for margin in found] == expected
        kinds |= {(margin.sign, other) for margin in found for other in margin.without}
    assert {(0, 1), (0, -1), (1, 0), (-1, 0)} & kinds and len(kinds) >= 2


def test_steps_on_some_units_name_them_by_their_place_in_the_pool():
    rng = np.random.default_rng(5)
    for seed in range(60):
        members = draw_subsets(12, 4, seed=seed)
        numbers = np.sort(rng.choice(12, size=int(rng.integers(1, 5)), replace=False))
        values = np.round(2 * (rng.standard_normal((len(numbers), 1)) + 0.4)) / 2
        found = margins(values, members, clip=1.0, unit_indices=numbers)
        assert [(m.sign, m.without) for m in found] == by_force(values, members, numbers, "majority")


def test_the_margin_is_the_least_that_one_more_unit_must_add():
    """A unit is added to every half of the candidates, with every derivative in steps of 1/8 of the clip."""
    rng, halves = np.random.default_rng(1), [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    shares = np.concatenate([-np.arange(1, 25), np.arange(1, 25)]) / 8
    for seed in range(40):
        members = draw_subsets(5, 4, seed=seed)
        values = np.round(8 * (rng.standard_normal((5, 1)) * 0.4 + 0.3)).clip(-8, 8) / 8
        (found,) = margins(values, members, clip=1.0)
        sums = (values.T @ members)[0]
        needed = []
        for half in halves:
            row = np.isin(np.arange(4), half)
            for share in shares:
                signs = sums + share * row >= 0
                if (1 if signs.all() else -1 if not signs.any() else 0) != found.sign:
                    needed.append(abs(share))
        assert min(needed) - 1 / 8 <= found.margin <= min(needed)


def test_units_in_parts_and_a_mechanism_that_agrees(monkeypatch):
    monkeypatch.setattr("paczero.mechanism.margins._ENTRIES", 8)
    rng = np.random.default_rng(2)
    members = draw_subsets(40, 4, seed=0)
    values = rng.standard_normal((40, 30)) + 0.2
    mechanism = ZPL(members, clip=1.0, coins=Coins(0), directions=30)
    release, found = mechanism.release(0, values), margins(values, members, clip=1.0)
    assert release.unanimous == tuple(margin.sign != 0 for margin in found)
    assert [(m.sign, m.without) for m in found] == by_force(values, members, np.arange(40))
    assert mechanism.margins(values) == found and any(margin.without for margin in found)
