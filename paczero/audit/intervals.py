"""Exact intervals for an attack's success, comparison with a bound, and lower bounds on ε.

>>> compare(0.75, successes=412, trials=512, attacks=3).exceeded      # 80.5 % against a bound of 75 %
False
>>> compare(0.75, successes=470, trials=512, attacks=3).exceeded      # 91.8 %
True
>>> round(epsilon_lower_bound(95, 100, 2, 100, confidence=0.95), 2)
2.53

Intervals are two-sided and exact (Clopper and Pearson 1934): they hold for every number of trials.
They need *independent* trials. Guesses about several units of one run are dependent, since they share the secret and
the release: take one guess for each run, or each run's share of right guesses with `mean_interval`.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import rel_entr
from scipy.stats import beta, binom

from paczero.audit.arrays import count, flags, inside, numbers, share
from paczero.errors import PACZeroError


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval.

    Attributes:
        estimate: the observed value.
        low: lower end.
        high: upper end.
        confidence: the least probability that such an interval contains the truth.
    """

    estimate: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class Comparison:
    """An attack's success and its bound.

    Attributes:
        bound: the success probability that the promise allows.
        interval: the success, at the corrected confidence.
        trials: number of independent trials.
        attacks: number of attacks for which the confidence is corrected.
        exceeded: whether the lower end lies above the bound.
    """

    bound: float
    interval: Interval
    trials: int
    attacks: int
    exceeded: bool


@dataclass(frozen=True)
class OneRunAudit:
    """A lower bound on ε for pool membership, from one run.

    Attributes:
        canaries: m, records that were each put in with probability 1/2.
        guesses: r, number of guesses.
        correct: v, number of right guesses.
        delta: the δ at which ε is bounded.
        confidence: probability that the truth is not below `epsilon`, after the correction for `tried`.
        tried: number of tried values of r; the best is reported at a corrected confidence.
        epsilon: the lower bound; 0.0 if the guesses show nothing.
    """

    canaries: int
    guesses: int
    correct: int
    delta: float
    confidence: float
    tried: int
    epsilon: float


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """The exact interval for a probability, from independent trials.

    Args:
        successes: 0 to `trials`.
        trials: 1 or more.
        confidence: in (0, 1); the two sides share the rest evenly.

    Raises:
        PACZeroError: an argument out of range.

    Source: Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the
    binomial".
    """
    trials = count("trials", trials, 1)
    successes = count("successes", successes, 0, trials)
    confidence = inside("confidence", confidence)
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, successes, trials - successes + 1)) if successes else 0.0
    high = float(beta.isf(tail, successes + 1, trials - successes)) if successes < trials else 1.0
    return Interval(successes / trials, low, high, confidence)


def success_interval(guesses: npt.ArrayLike, truths: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """The share of right guesses, with the exact interval.

    Args:
        guesses: (n,) false or true, each of an independent trial.
        truths: (n,) false or true.
        confidence: in (0, 1).

    Raises:
        PACZeroError: shapes differ, there are no guesses, or a value is neither false nor true.
    """
    size = len(numbers("guesses", guesses))
    right = flags("guesses", guesses, (size,)) == flags("truths", truths, (size,))
    return clopper_pearson(int(np.count_nonzero(right)), size, confidence)


def mean_interval(values: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """The mean of independent values in [0, 1], such as each run's share of right guesses, with an interval.

    It holds for every distribution and every n: P(mean >= x) <= exp(−n kl(x ‖ p)) for independent values of mean p
    (Hoeffding 1963, theorem 1). Where all values are 0 or 1, `clopper_pearson` is narrower, by a sixth at 99.9 %.

    Args:
        values: (n,) in [0, 1], independent.
        confidence: in (0, 1).

    Raises:
        PACZeroError: no values, or one outside [0, 1].
    """
    array = numbers("values", values)
    if array.min() < 0 or array.max() > 1:
        raise PACZeroError("values: a value outside [0, 1] was given; expected shares")
    confidence = inside("confidence", confidence)
    mean = min(max(math.fsum(array.tolist()) / len(array), 0.0), 1.0)
    target = math.log(2 / (1 - confidence)) / len(array)
    return Interval(mean, _lower_end(mean, target), 1 - _lower_end(1 - mean, target), confidence)


def corrected(confidence: float, attacks: int) -> float:
    """The confidence of each of several intervals that hold together with `confidence` (Bonferroni).

    Raises:
        PACZeroError: a confidence outside (0, 1), or no attacks.
    """
    return 1 - (1 - inside("confidence", confidence)) / count("attacks", attacks, 1)


def compare(bound: float, successes: int, trials: int, attacks: int = 1, confidence: float = 0.999) -> Comparison:
    """An attack's success beside the bound that it must not pass.

    Args:
        bound: in [0, 1], such as `posterior_success(B)`.
        successes: right guesses, 0 to `trials`.
        trials: independent ones, 1 or more.
        attacks: number of attacks that are compared with bounds; more attacks make each interval wider.
        confidence: of all comparisons together.

    Raises:
        PACZeroError: an argument out of range.
    """
    bound = share("bound", bound)
    interval = clopper_pearson(successes, trials, corrected(confidence, attacks))
    return Comparison(bound, interval, int(trials), int(attacks), interval.low > bound)


def exceeds(bound: float, successes: int, trials: int, attacks: int = 1, confidence: float = 0.999) -> bool:
    """Whether the lower end of the corrected interval lies above the bound; see `compare`."""
    return compare(bound, successes, trials, attacks, confidence).exceeded


def compare_shares(bound: float, shares: npt.ArrayLike, attacks: int = 1, confidence: float = 0.999) -> Comparison:
    """`compare` for an attack that guesses about many units in each run, from each run's share of right guesses.

    Args:
        bound: in [0, 1], for a single guess, averaged over units.
        shares: (n,) in [0, 1], one a run; the runs are independent, guesses within one need not be.
        attacks, confidence: as for `compare`.

    Raises:
        PACZeroError: an argument out of range.
    """
    bound, size = share("bound", bound), len(numbers("shares", shares))
    interval = mean_interval(shares, corrected(confidence, attacks))
    return Comparison(bound, interval, size, int(attacks), interval.low > bound)


def epsilon_lower_bound(
    true_positives: int,
    members: int,
    false_positives: int,
    others: int,
    *,
    delta: float = 0.0,
    confidence: float = 0.95,
) -> float:
    """A lower bound on ε of (ε, δ)-DP from the counts of true and false positives; 0.0 if they show nothing.

    DP requires TPR <= e^ε FPR + δ and 1 − FPR <= e^ε (1 − TPR) + δ. Each rate is replaced by the end of a one-sided
    exact interval that gives the smaller ε; both intervals hold with `confidence`. The decision rule must be fixed in
    advance, or on other data.

    Args:
        true_positives: members that were called members.
        members: independent trials with members, 1 or more.
        false_positives: others that were called members.
        others: independent trials with others, 1 or more.
        delta: δ in [0, 1).
        confidence: in (0, 1).

    Raises:
        PACZeroError: an argument out of range.

    Source: Jagielski, Ullman and Oprea 2020 (arXiv 2006.07709); Nasr et al. 2021 (arXiv 2101.04535).
    """
    delta = share("delta", delta)
    # The end of a two-sided interval at this confidence is the one-sided end: half of the error on each rate.
    confidence = inside("confidence", confidence)
    tpr = clopper_pearson(true_positives, members, confidence).low
    fpr = clopper_pearson(false_positives, others, confidence).high
    odds = [(tpr - delta, fpr), (1 - fpr - delta, 1 - tpr)]
    return max([0.0, *(math.log(more / less) for more, less in odds if more > 0 and less > 0)])


def one_run_p_value(correct: int, guesses: int, canaries: int, epsilon: float, delta: float = 0.0) -> float:
    """An upper bound on the probability of `correct` or more right guesses if the run is (ε, δ)-DP.

    P(correct >= v) <= f(v) + 2 m δ max_i (f(v − i) − f(v))/i with f(v) = P(Binomial(r, e^ε/(1 + e^ε)) >= v). An
    independent fair coin decides about each canary; the attacker makes r guesses.

    Args:
        correct: v, 0 to r.
        guesses: r, 1 to m; it must not depend on which canaries were in the pool.
        canaries: m.
        epsilon: ε >= 0, add-or-remove-one.
        delta: δ in [0, 1].

    Raises:
        PACZeroError: an argument out of range.

    Source: Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training Run" (arXiv 2305.08846),
    theorem 5.2 and corollary 5.4.
    """
    canaries = count("canaries", canaries, 1)
    guesses = count("guesses", guesses, 1, canaries)
    correct = count("correct", correct, 0, guesses)
    delta = share("delta", delta)
    if not epsilon >= 0:
        raise PACZeroError(f"epsilon: {epsilon!r} was given; expected 0 or more")
    right = 1 / (1 + math.exp(-epsilon))
    tail = float(binom.sf(correct - 1, guesses, right))
    if not (delta and correct):
        return min(tail, 1.0)
    below = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guesses, right))  # f(v − i) − f(v), i = 1, 2, …
    slope = float((below / np.arange(1, correct + 1)).max())
    return min(tail + 2 * canaries * delta * slope, 1.0)


def epsilon_lower_bound_one_run(
    correct: int, guesses: int, canaries: int, *, delta: float = 0.0, confidence: float = 0.95
) -> float:
    """A lower bound on ε of (ε, δ)-DP, from the right guesses of one run: the smallest ε they do not refute.

    Args:
        correct, guesses, canaries, delta: as for `one_run_p_value`.
        confidence: in (0, 1).

    Returns:
        ε >= 0; 0.0 if the counts show nothing.

    Raises:
        PACZeroError: an argument out of range.
    """
    level = 1 - inside("confidence", confidence)

    def excess(epsilon: float) -> float:
        return one_run_p_value(correct, guesses, canaries, epsilon, delta) - level

    if excess(0.0) > 0:
        return 0.0
    # The p value rises with ε where 2 m δ <= 1, but need not beyond; the first ε that is not refuted is the safe one.
    low, stride = 0.0, 0.05
    while excess(low + stride) <= 0:
        low += stride
    return max(float(brentq(excess, low, low + stride, xtol=1e-10)) - 1e-9, 0.0)


def one_run(
    scores: npt.ArrayLike,
    included: npt.ArrayLike,
    guesses: int | list[int] | tuple[int, ...],
    *,
    delta: float = 0.0,
    confidence: float = 0.95,
) -> OneRunAudit:
    """The one-run audit of canaries' scores: guesses the highest r/2 in and the lowest r/2 out, and skips the rest.

    Args:
        scores: (m,) higher means likelier in the pool. The canaries' order breaks ties, so it must not depend on
            `included`.
        included: (m,) whether each was in the pool, drawn by its own fair coin.
        guesses: r, even, fixed before the scores are known; or several, of which the best is reported at a corrected
            confidence.
        delta: δ in [0, 1].
        confidence: in (0, 1), of the whole.

    Raises:
        PACZeroError: shapes differ, an argument is out of range, or a number of guesses is odd.
    """
    array = numbers("scores", scores)
    inside_pool = flags("included", included, array.shape)
    tried = list(guesses) if isinstance(guesses, list | tuple) else [guesses]
    if not tried:
        raise PACZeroError("guesses: none were given; expected one number or several")
    each = corrected(confidence, len(tried))
    order = np.argsort(-array, kind="stable")
    found = []
    for number in tried:
        size = count("guesses", number, 2, len(array))
        half = size // 2
        if size % 2:
            raise PACZeroError(f"guesses: {size} was given; expected an even number: as many in as out")
        guessed_in, guessed_out = inside_pool[order[:half]], inside_pool[order[len(array) - half :]]
        right = int(np.count_nonzero(guessed_in) + np.count_nonzero(~guessed_out))
        bound = epsilon_lower_bound_one_run(right, size, len(array), delta=delta, confidence=each)
        found.append(OneRunAudit(len(array), size, right, float(delta), float(confidence), len(tried), bound))
    return max(found, key=lambda audit: audit.epsilon)


def _lower_end(mean: float, target: float) -> float:
    """The p below `mean` with kl(mean ‖ p) = `target`; 0.0 if p is below 1e-12 of the mean."""
    least = mean * 1e-12
    if least == 0 or _divergence(mean, least) <= target:
        return 0.0
    return float(brentq(lambda p: _divergence(mean, p) - target, least, mean, xtol=1e-15))


def _divergence(x: float, p: float) -> float:
    """kl(x ‖ p) in nats for 0 < p <= x."""
    return float(rel_entr(x, p) + rel_entr(1 - x, 1 - p))
