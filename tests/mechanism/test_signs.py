"""Signs are exact integers' signs: order, rounding of sums and bad records cannot change them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paczero.errors import PACZeroError
from paczero.mechanism import signs as module
from paczero.mechanism.signs import SCALE, direction_signs, quantise, subset_signs, subset_sums, unit_means

any_float = st.floats(allow_nan=True, allow_infinity=True, width=64)


@st.composite
def pools(draw):
    units, subsets = draw(st.integers(1, 12)), 2 * draw(st.integers(1, 4))
    derivatives = np.array(draw(st.lists(any_float, min_size=units, max_size=units)))
    bits = draw(st.lists(st.booleans(), min_size=units * subsets, max_size=units * subsets))
    return derivatives, np.array(bits).reshape(units, subsets)


@given(pools(), st.floats(1e-6, 1e6), st.randoms())
@settings(deadline=None)
def test_signs_are_those_of_python_integers_and_ignore_the_order(pool, clip, random):
    derivatives, membership = pool
    signs = subset_signs(derivatives, membership, clip=clip)
    order = random.sample(range(len(derivatives)), len(derivatives))
    assert (subset_signs(derivatives[order], membership[order], clip=clip) == signs).all()
    whole = [round(max(-clip, min(clip, g)) / clip * 2**40) if math.isfinite(g) else 0 for g in derivatives.tolist()]
    sums = [sum(g for g, inside in zip(whole, column, strict=True) if inside) for column in membership.T]
    assert signs.dtype == np.int8
    assert signs.tolist() == [1 if total >= 0 else -1 for total in sums]


def test_sums_are_exact_at_the_extremes_and_across_chunks():
    rng = np.random.default_rng(0)
    units = 3 * module._CHUNK_ROWS + 7
    quantised = rng.integers(-(2**40), 2**40, size=(units, 2), endpoint=True)
    quantised[: units // 2] = 2**40 - 1
    membership = rng.random((units, 6)) < 0.5
    expected = [[int(quantised[membership[:, m], k].sum()) for m in range(6)] for k in range(2)]
    assert subset_sums(quantised, membership).tolist() == expected


def test_one_unit_in_two_to_the_forty_decides():
    # a float32 or a float16 sum would lose the last unit among ten thousand large ones
    derivatives = np.concatenate([np.full(5000, 25.0), np.full(5000, -25.0), [25.0 / SCALE, -25.0 / SCALE]])
    membership = np.ones((len(derivatives), 2), dtype=bool)
    membership[-1, 0] = membership[-2, 1] = False
    assert subset_signs(derivatives, membership, clip=25.0).tolist() == [1, -1]


def test_what_is_not_finite_counts_as_zero_and_is_counted():
    quantised, nonfinite = quantise([math.nan, math.inf, -math.inf, -1e308, 0.5], clip=1.0)
    assert quantised.tolist() == [0, 0, 0, -(2**40), 2**39]
    assert nonfinite == 3
    assert subset_signs([math.inf, -1.0], np.ones((2, 2), dtype=bool), clip=1.0).tolist() == [-1, -1]


def test_ties_and_empty_subsets_are_positive():
    membership = np.array([[True, False], [True, False]])
    assert subset_signs([1.0, -1.0], membership, clip=1.0).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("derivatives", "expected"), [([-1.0, -1.0, -1.0], -1), ([1.0, 1.0, 1.0], 1), ([1.0, -1.0, 0.0], 1)]
)
def test_an_empty_subset_may_follow_the_majority(derivatives, expected):
    membership = np.array([[True, False, False, False], [False, True, False, False], [False, False, False, True]])
    assert subset_signs(derivatives, membership, clip=1.0, empty="majority")[2] == expected
    assert subset_signs(derivatives, membership, clip=1.0)[2] == 1


def test_directions_are_independent_columns():
    rng = np.random.default_rng(1)
    derivatives, membership = rng.standard_normal((50, 3)), rng.random((50, 8)) < 0.5
    signs, nonfinite = direction_signs(derivatives, membership, clip=1.0)
    assert nonfinite == 0
    for k in range(3):
        assert (signs[k] == subset_signs(derivatives[:, k], membership, clip=1.0)).all()


@given(st.lists(st.tuples(st.integers(0, 3), any_float), min_size=1, max_size=20), st.randoms())
@settings(deadline=None)
def test_unit_means_ignore_the_order_of_records(records, random):
    records = records + [(unit, 1.0) for unit in range(4)]
    shuffled = random.sample(records, len(records))
    results = [
        unit_means(np.array([[g] for _, g in rows]), np.array([unit for unit, _ in rows]), 4)
        for rows in (records, shuffled)
    ]
    assert (results[0][0] == results[1][0]).all()
    assert results[0][1] == results[1][1] == sum(not math.isfinite(g) for _, g in records)
    for unit in range(4):
        own = [g / sum(u == unit for u, _ in records) for u, g in records if u == unit and math.isfinite(g)]
        scale = max(map(abs, own), default=0.0)
        assert results[0][0][unit, 0] == pytest.approx(math.fsum(own), rel=1e-12, abs=1e-12 * scale)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: quantise([1.0], clip=0.0), "clip"),
        (lambda: quantise([1.0], clip=math.nan), "clip"),
        (lambda: quantise([1.0], clip=math.inf), "clip"),
        (lambda: quantise([], clip=1.0), "derivatives"),
        (lambda: quantise(np.zeros(2**22 + 1, dtype=np.float32), clip=1.0), "derivatives"),
        (lambda: subset_signs([1.0], np.ones((2, 2), dtype=bool), clip=1.0), "membership"),
        (lambda: subset_signs([1.0], np.ones((1, 2)), clip=1.0), "membership"),
        (lambda: subset_signs([[1.0]], np.ones((1, 2), dtype=bool), clip=1.0), "derivatives"),
        (lambda: subset_signs([1.0], np.ones((1, 2), dtype=bool), clip=1.0, empty="no"), "empty"),
        (lambda: unit_means([[1.0]], [1], 1), "unit_of_record"),
        (lambda: unit_means([[1.0]], [0], 2), "unit_of_record"),
        (lambda: unit_means([1.0], [0], 1), "record_values"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(call, name):
    with pytest.raises(PACZeroError, match=name):
        call()
