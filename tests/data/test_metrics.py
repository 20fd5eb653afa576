"""F1 and exact match of SQuAD v1.1 by hand; losses, decisions and accuracy from candidate scores."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from paczero.data.metrics import accuracy, decisions, exact_match, f1, losses, median_threshold, normalised
from paczero.errors import PACZeroError


@pytest.mark.parametrize(
    ("prediction", "answers", "score", "same"),
    [
        ("October 1973", ["October 1973", "1973"], 1.0, 1.0),
        ("the Cat!", ["A cat"], 1.0, 1.0),
        ("in October 1973", ["October 1973"], 0.8, 0.0),  # 2 of 3 and 2 of 2
        ("1973", ["October 1973", "December 1974"], 2 / 3, 0.0),
        ("cat cat", ["cat"], 2 / 3, 0.0),
        ("$12", ["12 dollars", "12"], 1.0, 1.0),
        ("", ["something"], 0.0, 0.0),
        ("the", ["a"], 0.0, 1.0),  # nothing is left of either: no overlap, but the same
    ],
)
def test_by_hand(prediction: str, answers: list[str], score: float, same: float) -> None:
    assert f1(prediction, answers) == pytest.approx(score)
    assert exact_match(prediction, answers) == same


def test_the_normal_form() -> None:
    assert normalised("  The quick,  brown\tfox's   an-other a  ") == "quick brown foxs another"


finite = st.floats(-1e6, 1e6)
pairs = st.lists(st.tuples(finite, finite), min_size=1, max_size=30).map(np.array)


@given(st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=20).map(np.array), st.integers(0, 2))
def test_losses_are_cross_entropies(scores: np.ndarray, target: int) -> None:
    targets = np.full(len(scores), target)
    expected = -log_softmax(scores, axis=1)[:, target]
    np.testing.assert_allclose(losses(scores, targets), expected, rtol=1e-12, atol=1e-9)


@given(pairs, finite)
def test_losses_ignore_what_all_candidates_share(scores: np.ndarray, shared: float) -> None:
    targets = np.arange(len(scores)) % 2
    np.testing.assert_allclose(losses(scores + shared, targets), losses(scores, targets), atol=1e-9, rtol=1e-9)


def test_equal_scores_cost_their_number() -> None:
    assert losses(np.zeros((1, 3)), np.array([1])) == pytest.approx(math.log(3), rel=1e-15)


@pytest.mark.parametrize("row", [[math.inf, 0.0], [-math.inf, -math.inf], [math.nan, 0.0]])
def test_what_is_not_finite_stays_so_and_warns_of_nothing(row: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = losses(np.array([row, [0.0, 0.0]]), np.array([0, 0]))
    assert not math.isfinite(found[0])
    assert found[1] == pytest.approx(math.log(2))


@given(pairs)
def test_the_median_calls_half_of_the_records_one(scores: np.ndarray) -> None:
    ones = int(decisions(scores, median_threshold(scores)).sum())
    assert ones <= len(scores) // 2
    if len(np.unique(scores[:, 1] - scores[:, 0])) == len(scores):
        assert ones == len(scores) // 2


def test_the_median_needs_two_labels() -> None:
    with pytest.raises(PACZeroError, match="'median' was given with 3 labels"):
        median_threshold(np.zeros((2, 3)))


def test_decisions_and_accuracy() -> None:
    three = np.array([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    assert decisions(three).tolist() == [1, 0]
    assert accuracy(three, np.array([1, 2])) == 0.5
    two = np.array([[0.0, 0.5], [0.0, 1.5], [0.0, 0.0]])
    assert decisions(two).tolist() == [1, 1, 0]  # a tie is no 1
    assert decisions(two, 1.0).tolist() == [0, 1, 0]
    assert accuracy(two, np.array([0, 1, 0]), 1.0) == 1.0
