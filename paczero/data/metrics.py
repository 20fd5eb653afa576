"""Metrics of an evaluation: accuracy, F1 and exact match of answers, loss.

>>> f1("The year 1973.", ["1973"]), exact_match("the  Cat!", ["Cat", "dog"])
(0.6666666666666666, 1.0)

F1 and exact match are those of SQuAD v1.1 (Rajpurkar et al. 2016, arXiv 1606.05250): both sides in lower case, without
punctuation, without the articles a, an, the, white space folded; the best over the right answers counts.

>>> losses(np.array([[0.0, 0.0]]), np.array([1])).round(4).tolist()
[0.6931]
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paczero.errors import PACZeroError

_PUNCTUATION = str.maketrans("", "", string.punctuation)

_ARTICLE = re.compile(r"\b(a|an|the)\b")


@dataclass(frozen=True)
class Metric:
    """The metric of a kind of task.

    Attributes:
        name: its key in mappings and files.
        title: its name in a text.
        share: whether it is a share from 0 to 1 and higher is better; otherwise it is nats and lower is better.
    """

    name: str
    title: str
    share: bool = True

    def shown(self, value: float | None) -> str:
        """0.717 -> `71.7 %`; a loss in nats."""
        if value is None:
            return "unknown"
        return f"{100 * value:.1f} %" if self.share else f"{value:.4f} nats"

    def better(self, value: float) -> float:
        """The value, or its negative where lower is better."""
        return value if self.share else -value


ACCURACY, F1, EXACT_MATCH, LOSS = (
    Metric("accuracy", "accuracy"),
    Metric("f1", "F1"),
    Metric("exact_match", "exact match"),
    Metric("loss", "loss", share=False),
)

METRICS = {metric.name: metric for metric in (ACCURACY, F1, EXACT_MATCH, LOSS)}

METRIC_OF_KIND = {"classification": ACCURACY, "answer": F1, "chat": LOSS}


def normalised(text: str) -> str:
    """An answer in the form that is compared."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", bare).split())


def f1(prediction: str, answers: Sequence[str]) -> float:
    """The harmonic mean of precision and recall over words, 0 to 1; the best over the answers."""
    return max(_overlap(normalised(prediction).split(), normalised(answer).split()) for answer in answers)


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1 where the prediction is one of the answers, else 0."""
    return float(any(normalised(prediction) == normalised(answer) for answer in answers))


def _overlap(predicted: list[str], right: list[str]) -> float:
    common = sum((Counter(predicted) & Counter(right)).values())
    return 2 * common / (len(predicted) + len(right)) if common else 0.0


def losses(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Cross-entropy over the candidates.

    Args:
        scores: mean token log-probability of each candidate, up to a constant per record (R, C).
        targets: the right candidate (R,).

    Returns:
        Nats, float64 (R,); not finite where scores overflowed.
    """
    scores = np.asarray(scores, dtype=np.float64)
    top = scores.max(axis=1)
    with np.errstate(invalid="ignore"):  # Inf − Inf
        return np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - scores[np.arange(len(scores)), targets]


def median_threshold(scores: np.ndarray) -> float:
    """The median of score(candidate 1) − score(candidate 0): a decision there calls half of these records 1.

    Raises:
        PACZeroError: there are more than two candidates.
    """
    if scores.shape[1] != 2:
        raise PACZeroError(
            f"threshold: 'median' was given with {scores.shape[1]} labels; it moves a decision between two. Use 'none'"
        )
    return float(np.median(scores[:, 1] - scores[:, 0]))


def decisions(scores: np.ndarray, threshold: float = 0.0) -> np.ndarray:
    """The chosen candidate of each record (R,); with two candidates, 1 where the difference is above `threshold`."""
    if scores.shape[1] == 2:
        return (scores[:, 1] - scores[:, 0] > threshold).astype(np.int64)
    return scores.argmax(axis=1)


def accuracy(scores: np.ndarray, targets: np.ndarray, threshold: float = 0.0) -> float:
    """The share of right decisions, from 0 to 1."""
    return float((decisions(scores, threshold) == targets).mean())
