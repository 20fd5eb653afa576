"""Exact intervals cover, bounds are compared at a corrected confidence, lower bounds on ε stay below the truth."""

import itertools
import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from paczero.audit import (
    clopper_pearson,
    compare,
    compare_shares,
    corrected,
    epsilon_lower_bound,
    epsilon_lower_bound_one_run,
    exceeds,
    mean_interval,
    one_run,
    one_run_p_value,
    posterior_success,
    success_interval,
)
from paczero.errors import PACZeroError


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999, 1 - 1e-6])
def test_clopper_pearson_is_the_inverted_exact_test(confidence):
    for trials, successes in ((1, 0), (1, 1), (7, 3), (50, 50), (1000, 511)):
        interval = clopper_pearson(successes, trials, confidence)
        other = binomtest(successes, trials).proportion_ci(confidence, method="exact")
        assert (interval.low, interval.high) == pytest.approx((other.low, other.high), rel=1e-9, abs=1e-12)
        tail = (1 - confidence) / 2
        if successes:
            assert binom.sf(successes - 1, trials, interval.low) == pytest.approx(tail, rel=1e-6)
        if successes < trials:
            assert binom.cdf(successes, trials, interval.high) == pytest.approx(tail, rel=1e-6)


@pytest.mark.parametrize("p", [0.02, 0.5, 0.77])
def test_its_coverage_is_never_below_the_confidence(p):
    trials, confidence = 40, 0.9
    covered = sum(
        binom.pmf(k, trials, p)
        for k in range(trials + 1)
        if clopper_pearson(k, trials, confidence).low <= p <= clopper_pearson(k, trials, confidence).high
    )
    assert covered >= confidence


def test_success_of_guesses():
    interval = success_interval([True, False, True, True], [True, False, False, True])
    assert interval == clopper_pearson(3, 4)
    assert interval == success_interval([1, 0, 1, 1], np.array([1, 0, 0, 1]))


@pytest.mark.parametrize("p", [0.5, 0.9])
def test_the_interval_of_a_mean_covers_every_distribution(p):
    """Exact for shares of two units that are always equal: each mean is k/n with a binomial k."""
    runs, confidence = 30, 0.9
    ends = [mean_interval([1.0] * k + [0.0] * (runs - k), confidence) for k in range(runs + 1)]
    covered = sum(binom.pmf(k, runs, p) for k, end in enumerate(ends) if end.low <= p <= end.high)
    assert covered >= confidence
    for k, end in enumerate(ends):
        exact = clopper_pearson(k, runs, confidence)
        assert end.low <= exact.low and end.high >= exact.high and 0 <= end.low <= end.estimate <= end.high <= 1
    narrow = mean_interval(np.full(10**6, p), 0.999)
    assert abs(narrow.low - p) < 0.003 and abs(narrow.high - p) < 0.003


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.sampled_from([0.5, 0.95, 1 - 1e-9]))
def test_the_ends_of_a_mean_solve_their_equation(values, confidence):
    interval = mean_interval(values, confidence)
    target = math.log(2 / (1 - confidence)) / len(values)

    def divergence(x, p):
        return sum(a * math.log(a / b) for a, b in ((x, p), (1 - x, 1 - p)) if a > 0)

    for end, inner in ((interval.low, 1e-9), (interval.high, -1e-9)):
        if 0 < end < 1:
            assert divergence(interval.estimate, end) == pytest.approx(target, rel=1e-3, abs=1e-9), inner
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_more_attacks_widen_each_interval():
    assert corrected(0.999, 1) == 0.999 and corrected(0.99, 10) == pytest.approx(0.999)
    alone, among = compare(0.75, 420, 500), compare(0.75, 420, 500, attacks=10**9)
    assert alone.exceeded and not among.exceeded
    assert among.interval.low < alone.interval.low < alone.interval.estimate == 0.84
    assert exceeds(0.75, 420, 500) and not exceeds(0.75, 420, 500, attacks=10**9)
    assert json.loads(json.dumps(asdict(among)))["interval"]["estimate"] == 0.84


def test_perfect_guesses_exceed_every_bound_and_a_coin_none():
    bound = posterior_success(0.1)
    assert exceeds(bound, 400, 400, attacks=20) and not exceeds(bound, 200, 400)
    assert not exceeds(1.0, 400, 400)


def test_the_rate_of_false_alarms_is_at_most_half_the_error():
    """Exact, for an attack whose success equals the bound."""
    alarms = sum(binom.pmf(k, 200, 0.7) for k in range(201) if exceeds(0.7, k, 200, confidence=0.9))
    assert 0.02 < alarms <= 0.05


def test_shares_of_runs_are_compared_by_their_mean():
    """50 guesses of a run that are right or wrong together are one trial, not 50."""
    alike = [1.0] * 18 + [0.0] * 2
    assert not compare_shares(0.7, alike).exceeded and exceeds(0.7, 18 * 50, 20 * 50)
    found = compare_shares(0.7, [0.9] * 400, attacks=4)
    assert found.exceeded and found.trials == 400
    assert found.interval == mean_interval([0.9] * 400, corrected(0.999, 4))


# ε from counts of many runs.


@pytest.mark.parametrize("epsilon", [0.2, 1.0, 3.0])
def test_the_bound_nearly_reaches_the_epsilon_of_randomised_response(epsilon):
    right = 1 / (1 + math.exp(-epsilon))
    rng = np.random.default_rng(3)
    trials = 20_000
    bounds = [
        epsilon_lower_bound(rng.binomial(trials, right), trials, rng.binomial(trials, 1 - right), trials)
        for _ in range(200)
    ]
    assert np.mean(np.array(bounds) > epsilon) <= 0.05 and np.median(bounds) > 0.9 * epsilon - 0.02


def test_epsilon_is_bounded_from_either_kind_of_error():
    few_accused = epsilon_lower_bound(300, 1000, 0, 1000)
    few_missed = epsilon_lower_bound(1000, 1000, 700, 1000)
    assert few_accused == pytest.approx(few_missed) and few_accused > 4
    assert epsilon_lower_bound(500, 1000, 500, 1000) == 0.0
    assert epsilon_lower_bound(300, 1000, 0, 1000, delta=0.4) == 0.0
    assert epsilon_lower_bound(300, 1000, 0, 1000, delta=0.1) < few_accused
    tpr, fpr = clopper_pearson(300, 1000, 0.95).low, clopper_pearson(0, 1000, 0.95).high
    assert few_accused == pytest.approx(math.log(tpr / fpr))


# ε from one run.


def test_the_p_value_is_the_binomial_tail_if_delta_is_zero():
    for guesses, correct, epsilon in ((10, 9, 0.0), (100, 80, 1.0), (1000, 500, 0.2), (7, 0, 1.0)):
        right = 1 / (1 + math.exp(-epsilon))
        tail = sum(math.comb(guesses, k) * right**k * (1 - right) ** (guesses - k) for k in range(correct, guesses + 1))
        assert one_run_p_value(correct, guesses, 2 * guesses, epsilon) == pytest.approx(tail, rel=1e-9)


def test_the_p_value_with_delta_is_the_theorems():
    correct, guesses, canaries, epsilon, delta = 8, 10, 30, 0.7, 1e-3
    right = math.exp(epsilon) / (1 + math.exp(epsilon))

    def at_least(v):
        return sum(
            math.comb(guesses, k) * right**k * (1 - right) ** (guesses - k) for k in range(max(v, 0), guesses + 1)
        )

    slope = max((at_least(correct - i) - at_least(correct)) / i for i in range(1, canaries + 1))
    expected = at_least(correct) + 2 * canaries * delta * slope
    assert one_run_p_value(correct, guesses, canaries, epsilon, delta) == pytest.approx(expected, rel=1e-12)


def test_perfect_guesses_of_a_pure_run_have_a_closed_form():
    """(e^ε/(1 + e^ε))^r = 1 − confidence."""
    for guesses in (10, 100, 10_000):
        right = 0.05 ** (1 / guesses)
        bound = epsilon_lower_bound_one_run(guesses, guesses, guesses)
        assert bound == pytest.approx(math.log(right / (1 - right)), rel=1e-6) and bound > 0


def test_the_bound_rises_with_right_guesses_and_falls_with_delta():
    bounds = [epsilon_lower_bound_one_run(correct, 200, 400) for correct in range(100, 201, 10)]
    assert bounds == sorted(bounds) and bounds[0] == 0.0 < bounds[4]
    doubts = [epsilon_lower_bound_one_run(190, 200, 400, delta=delta) for delta in (0, 1e-6, 1e-4, 1e-3, 1e-2)]
    assert doubts == sorted(doubts, reverse=True) and doubts[0] - doubts[1] < 0.01 and doubts[-1] == 0.0
    assert epsilon_lower_bound_one_run(190, 200, 400, delta=1e-5, confidence=0.999) < doubts[1]


def test_at_the_bound_the_p_value_is_the_level():
    for delta in (0.0, 1e-5):
        bound = epsilon_lower_bound_one_run(170, 200, 1000, delta=delta)
        assert one_run_p_value(170, 200, 1000, bound, delta) <= 0.05
        assert one_run_p_value(170, 200, 1000, bound + 1e-6, delta) > 0.05


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("confidence", [0.95, 0.999])
def test_the_bound_exceeds_the_truth_as_rarely_as_stated(epsilon, confidence):
    """Exact for randomised response, whose right guesses are binomial; no (ε, 0)-DP run has more."""
    guesses, right = 60, 1 / (1 + math.exp(-epsilon))
    bounds = [epsilon_lower_bound_one_run(v, guesses, 100, confidence=confidence) for v in range(guesses + 1)]
    passed = sum(binom.pmf(v, guesses, right) for v, bound in enumerate(bounds) if bound > epsilon)
    assert 0.1 * (1 - confidence) < passed <= 1 - confidence


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
def test_the_bound_of_many_canaries_is_near_the_truth(epsilon):
    rng = np.random.default_rng(7)
    canaries, right = 5000, 1 / (1 + math.exp(-epsilon))
    bounds = []
    for _ in range(40):
        included = rng.integers(0, 2, canaries).astype(bool)
        answers = np.where(rng.random(canaries) < right, included, ~included)
        bounds.append(one_run(answers * 1.0 + rng.random(canaries) / 2, included, canaries // 2).epsilon)
    assert np.mean(np.array(bounds) > epsilon) <= 0.15
    assert epsilon - 0.2 < np.median(bounds) <= epsilon


def test_one_run_guesses_the_highest_in_and_the_lowest_out():
    included = np.array([True, True, False, True, False, False])
    audit = one_run([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], included, 4)
    assert (audit.canaries, audit.guesses, audit.correct) == (6, 4, 4)
    assert one_run([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], ~included, 4).correct == 0
    assert one_run([0.0] * 6, included, 6).correct == 4  # the order breaks ties


def test_several_numbers_of_guesses_lower_the_confidence_of_each():
    rng = np.random.default_rng(0)
    included = rng.integers(0, 2, 400).astype(bool)
    scores = included * 2.0 + rng.standard_normal(400)
    alone = {k: one_run(scores, included, k).epsilon for k in (20, 100, 200)}
    best = one_run(scores, included, [20, 100, 200])
    assert best.tried == 3 and 0 < best.epsilon < max(alone.values())
    assert best.epsilon == max(one_run(scores, included, k, confidence=corrected(0.95, 3)).epsilon for k in alone)
    assert best.confidence == 0.95 and json.dumps(asdict(best))


@pytest.mark.parametrize(
    "call",
    [
        lambda: clopper_pearson(1, 0),
        lambda: clopper_pearson(2, 1),
        lambda: clopper_pearson(-1, 1),
        lambda: clopper_pearson(0.5, 1),
        lambda: clopper_pearson(1, 1, 1.0),
        lambda: clopper_pearson(1, 1, math.nan),
        lambda: success_interval([], []),
        lambda: success_interval([True], [True, False]),
        lambda: success_interval([2], [1]),
        lambda: mean_interval([0.5, 1.5]),
        lambda: mean_interval([math.nan]),
        lambda: mean_interval([]),
        lambda: mean_interval([[0.5]]),
        lambda: mean_interval(["a"]),
        lambda: corrected(0.9, 0),
        lambda: compare(1.5, 1, 2),
        lambda: compare_shares(0.5, [1.1]),
        lambda: compare_shares(0.5, []),
        lambda: compare("much", 1, 2),
        lambda: epsilon_lower_bound(1, 2, 3, 2),
        lambda: epsilon_lower_bound(1, 2, 1, 2, delta=-1),
        lambda: one_run_p_value(3, 2, 4, 1.0),
        lambda: one_run_p_value(1, 5, 4, 1.0),
        lambda: one_run_p_value(1, 2, 4, -1.0),
        lambda: one_run_p_value(1, 2, 4, math.nan),
        lambda: epsilon_lower_bound_one_run(1, 2, 4, confidence=0),
        lambda: one_run([1.0, 2.0], [True], 2),
        lambda: one_run([1.0, 2.0], [True, False], 1),
        lambda: one_run([1.0, 2.0], [True, False], 4),
        lambda: one_run([1.0, math.inf], [True, False], 2),
        lambda: one_run([1.0, 2.0], [True, False], []),
    ],
)
def test_unusable_arguments_are_refused_in_one_line(call):
    with pytest.raises(PACZeroError) as error:
        call()
    assert "\n" not in str(error.value) and " given" in str(error.value)


def test_every_public_name_is_there():
    import paczero.audit

    for name in paczero.audit.__all__:
        assert getattr(paczero.audit, name).__doc__
    assert sorted(paczero.audit.__all__) == paczero.audit.__all__ and set(paczero.audit.__all__) <= set(
        dir(paczero.audit)
    )
    with pytest.raises(AttributeError, match="nothing"):
        _ = paczero.audit.nothing


def test_nothing_heavy_is_loaded_with_the_package():
    import subprocess
    import sys

    code = "import sys, paczero.audit; print(sorted({'torch', 'sklearn', 'mpmath', 'scipy.stats'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_a_higher_true_positive_rate_shows_a_loss():
    for counts in itertools.product((0, 3, 10), repeat=2):
        bound = epsilon_lower_bound(counts[0], 10, counts[1], 10)
        assert bound == 0.0 or counts[0] > counts[1]
