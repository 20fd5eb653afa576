"""F1 and exact match of SQuAD v1.1, worked out by hand."""

import pytest

from paczero.data.metrics import exact_match, f1, normalised


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
