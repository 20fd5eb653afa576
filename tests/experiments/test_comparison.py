"""The bootstrap against the distribution that it samples, enumerated draw by draw on small cases."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paczero.errors import PACZeroError
from paczero.experiments.comparison import Paired, interval, resampled

DRAWS = 40_000


def seeds(*differences: Sequence[float], shared: bool) -> list[Paired]:
    return [
        Paired("one" if shared else f"test {index}", np.array(d, dtype=float)) for index, d in enumerate(differences)
    ]


def distribution(given: list[Paired]) -> Counter[float]:
    """Each value of a draw with its probability, over all draws of seeds and, for each, all draws of records."""
    count, total = len(given), Counter[float]()
    tests = list(dict.fromkeys(one.test for one in given))
    for picked in itertools.product(range(count), repeat=count):
        # Seeds of one test set share the drawn records; otherwise each drawn seed has its own.
        groups = [list(range(count))] if len(tests) == 1 else [[index] for index in range(count)]
        sizes = [given[picked[group[0]]].differences.size for group in groups]
        for records in itertools.product(*(itertools.product(range(size), repeat=size) for size in sizes)):
            means = [
                np.mean([given[picked[index]].differences[r] for r in drawn])
                for group, drawn in zip(groups, records, strict=True)
                for index in group
            ]
            weight = 1 / (count**count * math.prod(size**size for size in sizes))
            total[round(float(np.mean(means)), 9)] += weight
    return total


CASES = {
    "one seed": seeds([1, 0, -1], shared=True),
    "crossed": seeds([1, 0, -1], [1, 1, 0], shared=True),
    "crossed, real numbers": seeds([0.25, 0.5, -1], [0.75, 0, 0.1], shared=True),
    "nested": seeds([1, 0, 0], [-1, 1], shared=False),
    "nested, three seeds": seeds([1, 0], [-1, 1], [0, 0], shared=False),
    "crossed, three seeds": seeds([1, 0, 0], [-1, 1, 0], [0, 0, 1], shared=True),
}


@pytest.mark.parametrize("case", CASES)
def test_each_value_comes_as_often_as_it_should(case: str) -> None:
    expected = distribution(CASES[case])
    found = Counter(np.round(resampled(CASES[case], draws=DRAWS, seed=3), 9).tolist())
    assert math.isclose(sum(expected.values()), 1)
    assert set(found) <= set(expected)
    for value, p in expected.items():
        assert abs(found[value] / DRAWS - p) <= 5 * math.sqrt(p * (1 - p) / DRAWS) + 1e-12, value


def test_shared_records_matter() -> None:
    """Crossed and nested have the same mean and another spread where the seeds agree on which records differ."""
    pattern = [1, 1, 0, 0, 0, 0, 0, 0]
    crossed = resampled(seeds(*[pattern] * 4, shared=True), draws=DRAWS, seed=1)
    nested = resampled(seeds(*[pattern] * 4, shared=False), draws=DRAWS, seed=1)
    assert abs(crossed.mean() - nested.mean()) < 0.005
    one = 0.25 * 0.75 / 8
    assert crossed.var() == pytest.approx(one, rel=0.05)
    assert nested.var() == pytest.approx(one / 4, rel=0.05)


def test_one_seed_has_its_records_drawn_only() -> None:
    """The difference of two accuracies has the variance of a mean."""
    differences = np.array([1.0] * 30 + [-1.0] * 20 + [0.0] * 150)
    drawn = resampled([Paired("test", differences)], draws=DRAWS, seed=2)
    assert drawn.var() == pytest.approx(differences.var() / 200, rel=0.05)
    low, high = interval([Paired("test", differences)])
    middle, reach = differences.mean(), 1.96 * differences.std() / math.sqrt(200)
    assert (low, high) == pytest.approx((middle - reach, middle + reach), abs=0.01)


def test_without_any_difference_the_interval_is_a_point() -> None:
    assert interval(seeds([0] * 50, [0] * 50, shared=True)) == (0.0, 0.0)


@given(st.lists(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=4, max_size=4), min_size=1, max_size=4))
def test_two_calls_agree_and_stay_within_the_data(rows: list[list[float]]) -> None:
    for shared in (True, False):
        one, other = (interval(seeds(*rows, shared=shared), draws=500) for _ in range(2))
        assert one == other
        assert min(map(min, rows)) <= one[0] <= one[1] <= max(map(max, rows))


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(PACZeroError, match="one seed or more"):
        interval([])
    with pytest.raises(PACZeroError, match="one seed or more"):
        interval(seeds([], shared=True))
    with pytest.raises(PACZeroError, match="one test set with 1 and 2 records"):
        interval(seeds([1], [1, 0], shared=True))
