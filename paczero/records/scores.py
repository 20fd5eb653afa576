"""From candidate scores to losses, decisions and accuracy.

>>> losses(np.array([[0.0, 0.0]]), np.array([1])).round(4).tolist()
[0.6931]
"""

import numpy as np

from paczero.errors import PACZeroError


def losses(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Cross-entropy over the candidates.

    Args:
        scores: mean token log-probability of each candidate, up to a constant per record (R, C).
        targets: the right candidate (R,).

    Returns:
        Nats, float64 (R,). Where scores overflowed it is not finite, which whoever takes derivatives counts.
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
    """The share of records decided rightly, from 0 to 1."""
    return float((decisions(scores, threshold) == targets).mean())
