"""Metrics of membership attacks: AUC, TPR at a small FPR, and likelihood ratios from shadow models.

They take any scores; a higher score means a likelier member:

>>> members, others = [2.0, 1.5, 3.0, 0.2], [0.0, 0.5, -1.0, 0.1]
>>> auc(members, others).estimate
0.9375
>>> point = tpr_at_fpr(members, others, 0.25)
>>> point.threshold, point.fpr.estimate, point.tpr.estimate
(0.1, 0.25, 1.0)

Scores of different records must be independent for the intervals to hold; records of one run are not, and
the intervals ignore that. `lira` is the attack of Carlini et al. 2022, "Membership Inference Attacks From First
Principles" (arXiv 2112.03570).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from paczero.audit.arrays import Floats, flags, inside, numbers, share
from paczero.audit.intervals import Interval, clopper_pearson, epsilon_lower_bound
from paczero.errors import PACZeroError

_FEW = 64  # with fewer shadow scores of a kind, all canaries share one variance (Carlini et al. 2022, section VI-C)

_THRESHOLDS = 200  # the most thresholds that are tried

_CLOSEST = 1e-12  # probabilities are clipped this far from 0 and 1


@dataclass(frozen=True)
class OperatingPoint:
    """An attack's success at one threshold.

    Attributes:
        requested: the largest allowed FPR.
        threshold: scores above it count as members.
        fpr: share of the others above it, never more than `requested`, with its exact interval.
        tpr: share of the members above it, with its exact interval.
    """

    requested: float
    threshold: float
    fpr: Interval
    tpr: Interval


@dataclass(frozen=True, eq=False)
class Roc:
    """All points of an attack over its thresholds, from (0, 0) to (1, 1), without interpolation.

    Attributes:
        fpr: (P,) ascending.
        tpr: (P,) ascending.
        thresholds: (P,) descending; scores at or above one count as members. The first is infinite.
    """

    fpr: Floats
    tpr: Floats
    thresholds: Floats


def auc(scores_in: npt.ArrayLike, scores_out: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """The probability that a member scores higher than another (ties count half), with DeLong's interval.

    The interval is DeLong's, on the logistic scale so that it stays within [0, 1]. If every pair has the same
    order, its variance is 0; then the interval is the exact one of min(n, m) disjoint pairs.

    Args:
        scores_in: (n,) of members.
        scores_out: (m,) of others.
        confidence: in (0, 1), approximate for few scores.

    Raises:
        PACZeroError: no scores, or some that are not finite.

    Source: DeLong, DeLong and Clarke-Pearson 1988; by ranks as in Sun and Xu 2014.
    """
    members, others = numbers("scores_in", scores_in), numbers("scores_out", scores_out)
    confidence = inside("confidence", confidence)
    n, m = len(members), len(others)
    group = rankdata(np.concatenate([members, others]))
    above = (group[:n] - rankdata(members)) / m  # the share of others below each member
    below = 1 - (group[n:] - rankdata(others)) / n  # the share of members above each of the others
    area = float(above.mean())
    if area in (0.0, 1.0):
        pairs = min(n, m)
        exact = clopper_pearson(pairs if area else 0, pairs, confidence)
        return Interval(area, exact.low, exact.high, confidence)
    if min(n, m) < 2:
        return Interval(area, 0.0, 1.0, confidence)
    variance = float(above.var(ddof=1)) / n + float(below.var(ddof=1)) / m
    half = norm.isf((1 - confidence) / 2) * math.sqrt(variance) / (area * (1 - area))
    low, high = expit(logit(area) + np.array([-half, half])).tolist()
    return Interval(area, low, high, confidence)


def roc(scores_in: npt.ArrayLike, scores_out: npt.ArrayLike) -> Roc:
    """The curve of an attack; see `Roc`.

    Raises:
        PACZeroError: no scores, or some that are not finite.
    """
    members, others = np.sort(numbers("scores_in", scores_in)), np.sort(numbers("scores_out", scores_out))
    levels = np.unique(np.concatenate([members, others]))[::-1]
    fpr = 1 - np.searchsorted(others, levels, side="left") / len(others)
    tpr = 1 - np.searchsorted(members, levels, side="left") / len(members)
    return Roc(np.append(0.0, fpr), np.append(0.0, tpr), np.append(np.inf, levels))


def tpr_at_fpr(
    scores_in: npt.ArrayLike, scores_out: npt.ArrayLike, fpr: float, confidence: float = 0.95
) -> OperatingPoint:
    """The TPR at the threshold with an FPR of at most `fpr`.

    The threshold is the lowest score among the others that keeps the FPR at `fpr` or below. Nothing is interpolated:
    with fewer than 1/fpr others the FPR is 0. The threshold depends on the others alone, so the interval of the TPR is
    exact. The interval of the FPR covers the FPR of further others.

    Args:
        scores_in: (n,) of members.
        scores_out: (m,) of others.
        fpr: in [0, 1].
        confidence: in (0, 1), of each interval by itself.

    Raises:
        PACZeroError: no scores, some that are not finite, or an argument out of range.
    """
    members, others = numbers("scores_in", scores_in), np.sort(numbers("scores_out", scores_out))
    requested = share("fpr", fpr)
    # fpr · m = 3 − 1e-16 must allow 3.
    allowed = min(math.floor(requested * len(others) * (1 + 1e-12)), len(others) - 1)
    threshold = float(others[len(others) - 1 - allowed])
    accused, found = int(np.count_nonzero(others > threshold)), int(np.count_nonzero(members > threshold))
    return OperatingPoint(
        requested,
        threshold,
        clopper_pearson(accused, len(others), confidence),
        clopper_pearson(found, len(members), confidence),
    )


def epsilon_from_scores(
    scores_in: npt.ArrayLike, scores_out: npt.ArrayLike, *, delta: float = 0.0, confidence: float = 0.95
) -> float:
    """A lower bound on ε of (ε, δ)-DP from independent scores; one half sets the threshold, the other gives the bound.

    Args:
        scores_in: (n,) of members, in an order independent of the scores; those at even indices choose.
        scores_out: (m,) of others, likewise; two or more of each.
        delta: δ in [0, 1).
        confidence: in (0, 1).

    Returns:
        ε >= 0; 0.0 where nothing is shown.

    Raises:
        PACZeroError: fewer than two scores of a kind, some that are not finite, or an argument out of range.
    """
    members, others = numbers("scores_in", scores_in), numbers("scores_out", scores_out)
    if min(len(members), len(others)) < 2:
        raise PACZeroError(f"scores: {len(members)} and {len(others)} were given; expected two or more of each kind")

    def bound(threshold: float, part: int) -> float:
        inside, outside = members[part::2], others[part::2]
        counts = int(np.count_nonzero(inside > threshold)), len(inside), int(np.count_nonzero(outside > threshold))
        return epsilon_lower_bound(*counts, len(outside), delta=delta, confidence=confidence)

    levels = np.unique(np.concatenate([members[::2], others[::2]]))
    tried = levels[np.unique(np.linspace(0, len(levels) - 1, _THRESHOLDS).round().astype(int))]
    return bound(max(tried.tolist(), key=lambda threshold: bound(threshold, 0)), 1)


def logit_scores(losses: npt.ArrayLike) -> Floats:
    """ln(p/(1 − p)) of the right label's probability p = e^−loss, which is nearly Gaussian over shadow models.

    Args:
        losses: any shape, cross-entropies in nats, >= 0.

    Returns:
        float64 of the same shape, finite: p is clipped to [1e-12, 1 − 1e-12].

    Raises:
        PACZeroError: a loss is negative or not finite, or there are none.
    """
    array = numbers("losses", losses, dimensions=np.ndim(losses))
    if array.min() < 0:
        raise PACZeroError("losses: a negative one was given; expected cross-entropies in nats")
    loss = np.clip(array, _CLOSEST, -math.log(_CLOSEST))
    return -loss - np.log(-np.expm1(-loss))


def lira(shadow_scores: npt.ArrayLike, membership: npt.ArrayLike, target_scores: npt.ArrayLike) -> Floats:
    """The online likelihood-ratio attack: for each canary, the log likelihood ratio of the target's score.

    A Gaussian is fitted to each canary's scores in the shadow models that had it, and another to its scores in those
    that had not. With fewer than 64 scores of a kind, all canaries share one variance of that kind.

    Args:
        shadow_scores: (R, C) of R shadow models and C canaries, such as `logit_scores`.
        membership: (R, C) bool, whether model r was trained with canary c.
        target_scores: (C,) of the attacked model.

    Returns:
        (C,) ln of the likelihood ratio; a positive value indicates membership.

    Raises:
        PACZeroError: shapes disagree, values are not finite, or a canary was in (or out of) no shadow model, or only
            one where its own variance is needed.
    """
    scores = numbers("shadow_scores", shadow_scores, dimensions=2)
    members = flags("membership", membership, scores.shape)
    target = numbers("target_scores", target_scores)
    if target.shape != scores.shape[1:]:
        raise PACZeroError(f"target_scores: shape {target.shape} was given; expected ({scores.shape[1]},)")
    with_it, without = _gaussians(scores, members), _gaussians(scores, ~members)
    return _log_density(target, *with_it) - _log_density(target, *without)


def lira_each(scores: npt.ArrayLike, membership: npt.ArrayLike) -> Floats:
    """`lira` against each of R models in turn, the others being its shadows.

    Args:
        scores: (R, C).
        membership: (R, C) bool.

    Returns:
        (R, C) ln of the likelihood ratios.

    Raises:
        PACZeroError: as for `lira`.
    """
    array = numbers("scores", scores, dimensions=2)
    members = flags("membership", membership, array.shape)
    if len(array) < 3:
        raise PACZeroError(f"scores: {len(array)} models were given; expected three or more, each with shadows")
    keep = ~np.eye(len(array), dtype=bool)
    return np.stack([lira(array[keep[r]], members[keep[r]], array[r]) for r in range(len(array))])


def _gaussians(scores: Floats, chosen: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Mean and variance (C,) of each canary's chosen scores."""
    counts = chosen.sum(axis=0)
    if not counts.all():
        raise PACZeroError(
            f"membership: canary {int(np.argmin(counts))} is in or out of all shadow models; expected each both ways"
        )
    means = np.where(chosen, scores, 0.0).sum(axis=0) / counts
    squares = np.where(chosen, (scores - means) ** 2, 0.0).sum(axis=0)
    if counts.min() < _FEW:
        spare = int((counts - 1).sum())
        if not spare:
            raise PACZeroError("membership: every canary is in or out of one shadow model only; expected more models")
        variance = np.full(len(means), squares.sum() / spare)
    else:
        variance = squares / (counts - 1)
    # Constant scores have no variance; the smallest resolvable one keeps the ratio finite.
    least = (np.abs(scores).max() * 1e-9) ** 2 + 1e-30
    return means, np.maximum(variance, least)


def _log_density(values: Floats, means: Floats, variances: Floats) -> Floats:
    return -0.5 * ((values - means) ** 2 / variances + np.log(variances))
