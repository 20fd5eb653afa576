"""AUC, operating points and likelihood ratios: against slow versions, known distributions, and other libraries."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from paczero.audit import auc, clopper_pearson, epsilon_from_scores, lira, lira_each, logit_scores, roc, tpr_at_fpr
from paczero.errors import PACZeroError

SCORES = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


@given(SCORES, SCORES)
def test_auc_counts_pairs(members, others):
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in members for b in others]
    interval = auc(members, others)
    assert interval.estimate == pytest.approx(np.mean(pairs), abs=1e-12)
    labels = [1] * len(members) + [0] * len(others)
    assert interval.estimate == pytest.approx(roc_auc_score(labels, members + others), abs=1e-12)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_the_variance_is_delongs():
    """Against its definition by placements, over all pairs."""
    rng = np.random.default_rng(0)
    members, others = rng.standard_normal(23) + 1, rng.standard_normal(31)
    wins = (members[:, None] > others[None]) + 0.5 * (members[:, None] == others[None])
    area = wins.mean()
    variance = wins.mean(axis=1).var(ddof=1) / 23 + wins.mean(axis=0).var(ddof=1) / 31
    half = norm.ppf(0.975) * math.sqrt(variance) / (area * (1 - area))
    low, high = (1 / (1 + math.exp(-(math.log(area / (1 - area)) + sign * half))) for sign in (-1, 1))
    assert (auc(members, others).low, auc(members, others).high) == pytest.approx((low, high), rel=1e-12)


def test_the_interval_covers():
    rng = np.random.default_rng(1)
    truth, covered = norm.cdf(1 / math.sqrt(2)), 0
    for _ in range(400):
        interval = auc(rng.standard_normal(60) + 1, rng.standard_normal(80), 0.9)
        covered += interval.low <= truth <= interval.high
    assert covered / 400 > 0.86


def test_a_perfect_order_of_few_scores_is_no_certainty():
    assert auc([2.0, 3.0, 4.0], [1.0, 0.0]).low == clopper_pearson(2, 2).low < 0.2
    assert auc([0.0, 1.0], [2.0, 3.0, 4.0]).high == clopper_pearson(0, 2).high > 0.8
    assert auc([1.0], [1.0, 0.0]) == auc([1.0], [1.0, 0.0]).__class__(0.75, 0.0, 1.0, 0.95)


@given(SCORES, SCORES)
def test_the_curve_is_that_of_every_threshold(members, others):
    curve = roc(members, others)
    assert curve.fpr[0] == curve.tpr[0] == 0 and curve.fpr[-1] == curve.tpr[-1] == 1
    for fpr, tpr, threshold in zip(curve.fpr, curve.tpr, curve.thresholds, strict=True):
        assert fpr == pytest.approx(np.mean(np.array(others) >= threshold), abs=1e-12)
        assert tpr == pytest.approx(np.mean(np.array(members) >= threshold), abs=1e-12)
    labels = [1] * len(members) + [0] * len(others)
    fpr, tpr, _ = roc_curve(labels, members + others, drop_intermediate=False)
    assert curve.fpr == pytest.approx(fpr) and curve.tpr == pytest.approx(tpr)


@given(SCORES, SCORES, st.floats(0, 1))
def test_the_threshold_is_the_lowest_within_the_requested_fpr(members, others, fpr):
    point = tpr_at_fpr(members, others, fpr)
    assert point.threshold in others and point.fpr.estimate <= fpr + 1e-12
    assert point.tpr.estimate == np.mean(np.array(members) > point.threshold)
    for other in others:  # a lower threshold among the others would accuse too many
        if other < point.threshold:
            assert np.mean(np.array(others) > other) > fpr


def test_small_rates():
    others = np.arange(1000.0)
    members = np.arange(990.0, 1010.0)
    point = tpr_at_fpr(members, others, 0.001)
    assert point.threshold == 998.0 and point.fpr.estimate == 0.001 and point.tpr.estimate == 11 / 20
    assert tpr_at_fpr(members, others, 0.0009).fpr.estimate == 0.0
    assert tpr_at_fpr(members, others, 0.003).fpr.estimate == 0.003  # although 0.003 · 1000 is slightly less than 3
    assert point.tpr.low == clopper_pearson(11, 20).low and point.fpr.high == clopper_pearson(1, 1000).high
    assert json.loads(json.dumps(asdict(point)))["requested"] == 0.001


@pytest.mark.parametrize("mu", [0.0, 1.0, 2.0])
def test_the_bound_stays_below_the_epsilon_of_gaussian_noise(mu):
    """A Gaussian mechanism of sensitivity over noise mu, whose ε at this δ is known."""
    delta, rng = 1e-2, np.random.default_rng(4)

    def spent(epsilon):
        return norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)

    truth = brentq(lambda epsilon: spent(epsilon) - delta, 0, 20) if mu else 0.0
    bounds = np.array(
        [epsilon_from_scores(rng.standard_normal(4000) + mu, rng.standard_normal(4000), delta=delta) for _ in range(16)]
    )
    assert np.mean(bounds > truth) <= 0.15 and np.median(bounds) <= truth
    assert np.median(bounds) > 0.4 * truth - 0.1


def test_logits():
    p = np.array([[0.5, 0.9], [0.1, 1 - 1e-9]])
    assert logit_scores(-np.log(p)) == pytest.approx(np.log(p / (1 - p)), rel=1e-6)
    extreme = logit_scores([0.0, 1e9])
    assert np.isfinite(extreme).all() and extreme[0] > 27 > -27 > extreme[1]


def gaussian_scores(runs, canaries, gap, seed=0, spread=None):
    rng = np.random.default_rng(seed)
    members = rng.integers(0, 2, (runs, canaries)).astype(bool)
    members[:2] = [[True], [False]]
    members[2:4] = [[True], [False]]
    spread = np.ones(canaries) if spread is None else spread
    base = rng.standard_normal(canaries) * 5
    return base + spread * (rng.standard_normal((runs, canaries)) + gap * members), members


def test_lira_is_the_likelihood_ratio_of_the_fitted_gaussians():
    scores, members = gaussian_scores(200, 3, 1.5, spread=np.array([1.0, 3.0, 0.2]))
    target = scores[0] + 0.1
    found = lira(scores, members, target)
    for c in range(3):
        inside, outside = scores[members[:, c], c], scores[~members[:, c], c]
        expected = norm.logpdf(target[c], inside.mean(), inside.std(ddof=1)) - norm.logpdf(
            target[c], outside.mean(), outside.std(ddof=1)
        )
        assert found[c] == pytest.approx(expected, rel=1e-10)


def test_with_few_shadows_all_canaries_share_one_variance():
    scores, members = gaussian_scores(12, 5, 1.0)
    target = scores[1]
    variances = []
    for chosen in (members, ~members):
        rest = [scores[chosen[:, c], c] - scores[chosen[:, c], c].mean() for c in range(5)]
        variances.append(sum((r**2).sum() for r in rest) / sum(len(r) - 1 for r in rest))
    found = lira(scores, members, target)
    for c in range(5):
        means = [scores[chosen[:, c], c].mean() for chosen in (members, ~members)]
        laws = [norm.logpdf(target[c], m, math.sqrt(v)) for m, v in zip(means, variances, strict=True)]
        assert found[c] == pytest.approx(laws[0] - laws[1], rel=1e-10)


def test_each_model_is_attacked_with_the_others():
    scores, members = gaussian_scores(40, 30, 2.0)
    ratios = lira_each(scores, members)
    keep = np.arange(40) != 17
    assert (ratios[17] == lira(scores[keep], members[keep], scores[17])).all()
    area = auc(ratios[members], ratios[~members]).estimate
    # The optimal attack has Φ(2/√2) = 0.921; the canaries' levels differ, so raw scores do far worse.
    assert 0.88 < area < 0.94 and auc(scores[members], scores[~members]).estimate < 0.7
    none, coins = gaussian_scores(40, 30, 0.0)
    blind = lira_each(none, coins)
    assert abs(auc(blind[coins], blind[~coins]).estimate - 0.5) < 0.06


def test_constant_scores_have_a_finite_ratio():
    members = np.array([[True], [False], [True], [False]])
    assert lira(np.zeros((4, 1)), members, [0.0]) == [0.0]
    ratio = lira(np.where(members, 1.0, 0.0), members, [1.0])
    assert np.isfinite(ratio).all() and ratio[0] > 0


MEMBERS = np.array([[True, False], [False, True], [True, False]])


@pytest.mark.parametrize(
    "call",
    [
        lambda: auc([], [1.0]),
        lambda: auc([1.0], [math.nan]),
        lambda: auc([[1.0]], [1.0]),
        lambda: auc([1.0], [1.0], confidence=2),
        lambda: auc(["x"], [1.0]),
        lambda: auc(None, [1.0]),
        lambda: roc([1.0], []),
        lambda: tpr_at_fpr([1.0], [1.0], -0.1),
        lambda: tpr_at_fpr([1.0], [1.0], math.nan),
        lambda: tpr_at_fpr([1.0], [], 0.1),
        lambda: epsilon_from_scores([1.0], [1.0, 2.0]),
        lambda: epsilon_from_scores([1.0, 2.0], [1.0, math.nan]),
        lambda: epsilon_from_scores([1.0, 2.0], [1.0, 3.0], delta=2),
        lambda: logit_scores([-1.0]),
        lambda: logit_scores([]),
        lambda: lira(np.zeros((3, 2)), MEMBERS, [1.0]),
        lambda: lira(np.zeros((3, 2)), MEMBERS[:2], [1.0, 2.0]),
        lambda: lira(np.zeros((3, 2)), np.ones((3, 2), bool), [1.0, 2.0]),
        lambda: lira(np.zeros((2, 2)), MEMBERS[:2], [1.0, 2.0]),
        lambda: lira(np.zeros(3), MEMBERS, [1.0]),
        lambda: lira_each(np.zeros((2, 2)), MEMBERS[:2]),
        lambda: lira_each(np.full((3, 2), np.inf), MEMBERS),
    ],
)
def test_unusable_arguments_are_refused_in_one_line(call):
    with pytest.raises(PACZeroError) as error:
        call()
    assert "\n" not in str(error.value)
