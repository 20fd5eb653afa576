"""Bounds on an adversary's success: nats, posterior success and ε, each rounded to its safe side.

Before the release, an adversary guesses right about one unit with probability `prior`. The release carries at most I
nats about the secret. Then the adversary is right with probability at most p on average, where kl(p ‖ prior) = I. At
prior 1/2 that is ln 2 − h(p) = I, with h the binary entropy. (ε, δ)-DP gives p ≤ (e^ε + δ)/(1 + e^ε) at the same prior.
So two promises are compared by their p.

>>> round(posterior_success(0.01), 4), round(epsilon_for_nats(0.01), 3)
(0.5706, 0.284)

The p and ε that a run states are rounded up, a budget in nats that a promise allows is rounded down. So an error of the
last digit never claims more privacy than there is. Sources: PACZero (arXiv 2605.06505); the bound is data processing
of I(S*; Y) to "right or wrong" (Xiao and Devadas, PAC Privacy, arXiv 2210.03458).
"""

import math

from scipy.optimize import brentq

from paczero.errors import PACZeroError

# `_divergence` is right to about 1e-15 relative. The margins nest: posterior_success(nats_for_success(p)) <= p.
_SOLVE, _VERIFY, _DOWN = 1 + 2e-14, 1 + 1e-14, 1 - 5e-14
_SERIES_BELOW = 0.5
_SMALLEST = 1e-300  # nats below count as this many: floats have too few digits there


def at_least_zero(name: str, value: float) -> float:
    """`value` as a float; PACZeroError where it is NaN or negative. Infinity passes."""
    if not value >= 0:
        raise PACZeroError(f"{name}: {value!r} was given; expected a number that is not negative")
    return float(value)


def as_probability(name: str, value: float) -> float:
    """`value` as a float; PACZeroError where it lies outside [0, 1] or is NaN."""
    if not 0 <= value <= 1:
        raise PACZeroError(f"{name}: {value!r} was given; expected a probability from 0 to 1")
    return float(value)


def posterior_success(nats: float, prior: float = 0.5) -> float:
    """The highest probability of a right guess that I = `nats` allows, rounded up.

    Args:
        nats: I >= 0, mutual information between the secret and all that is released.
        prior: in (0, 1), the probability of a right guess before the release; 1/2 for "was unit i in S*?".

    Returns:
        p in [prior, 1] with kl(p ‖ prior) = nats; 1.0 from nats = −ln(prior) on, where nothing is promised.

    Raises:
        PACZeroError: negative or NaN nats, a prior outside (0, 1).
    """
    nats, prior = at_least_zero("nats", nats), _prior(prior)
    p = min(prior + _excess(nats, prior), 1.0)
    while p < 1 and _divergence(p - prior, prior) < nats * _VERIFY:
        p = math.nextafter(p, 1.0)
    return p


def nats_for_success(p: float, prior: float = 0.5) -> float:
    """The budget that keeps an adversary's success at `p` or below: kl(p ‖ prior) in nats, rounded down.

    Args:
        p: in [prior, 1].
        prior: in (0, 1).

    Raises:
        PACZeroError: p below the prior or above 1, a prior outside (0, 1).
    """
    p, prior = as_probability("p", p), _prior(prior)
    if p < prior:
        raise PACZeroError(f"p: {p!r} was given; expected at least the prior {prior!r}")
    return _divergence(p - prior, prior) * _DOWN


def epsilon_for_nats(nats: float, delta: float = 0.0) -> float:
    """The ε at which (ε, δ)-DP bounds a guess at prior 1/2 by the same p as I = `nats` does, rounded up.

    Returns:
        ε >= 0 with (e^ε + δ)/(1 + e^ε) = posterior_success(nats); 0.0 where δ alone allows that p, infinite at p = 1.

    Raises:
        PACZeroError: negative or NaN nats, δ outside [0, 1].
    """
    nats, delta = at_least_zero("nats", nats), as_probability("delta", delta)
    excess = _excess(nats, 0.5)
    if 2 * excess <= delta:
        return 0.0
    if excess >= 0.5:
        return math.inf
    return math.log1p((2 * excess - delta) / (0.5 - excess)) * _SOLVE


def success_for_epsilon(epsilon: float, delta: float = 0.0) -> float:
    """The highest probability of a right guess at prior 1/2 that (ε, δ)-DP allows, (e^ε + δ)/(1 + e^ε), rounded up.

    Raises:
        PACZeroError: negative or NaN ε, δ outside [0, 1].
    """
    return min((0.5 + _allowed_excess(epsilon, delta)) * _SOLVE, 1.0)


def epsilon_for_success(p: float, delta: float = 0.0) -> float:
    """The ε at which (ε, δ)-DP keeps a guess at prior 1/2 right with probability `p` at most, rounded down.

    Returns:
        ε >= 0; infinite at p = 1.

    Raises:
        PACZeroError: p below (1 + δ)/2, which δ alone allows, or above 1; δ outside [0, 1].
    """
    p, delta = as_probability("p", p), as_probability("delta", delta)
    if 2 * p - 1 < delta:
        raise PACZeroError(
            f"p: {p!r} was given; expected at least (1 + δ)/2 = {(1 + delta) / 2:g}, which δ alone allows"
        )
    return math.log1p((2 * p - 1 - delta) / (1 - p)) * _DOWN if p < 1 else math.inf


def nats_for_epsilon(epsilon: float, delta: float = 0.0) -> float:
    """The budget whose posterior success is what (ε, δ)-DP allows at prior 1/2, in nats, rounded down.

    Raises:
        PACZeroError: negative or NaN ε, δ outside [0, 1].
    """
    return _divergence(_allowed_excess(epsilon, delta), 0.5) * _DOWN


def _allowed_excess(epsilon: float, delta: float) -> float:
    """p − 1/2 of (ε, δ)-DP, written so that a small ε keeps its digits."""
    epsilon, delta = at_least_zero("epsilon", epsilon), as_probability("delta", delta)
    return min(0.5 * math.tanh(epsilon / 2) + delta / (1 + math.exp(min(epsilon, 700.0))), 0.5)


def _prior(prior: float) -> float:
    if not 0 < prior < 1:
        raise PACZeroError(f"prior: {prior!r} was given; expected a probability strictly between 0 and 1")
    return float(prior)


def _excess(nats: float, prior: float) -> float:
    """p − prior for kl(p ‖ prior) = nats, a little above the root; 1 − prior where there is none."""
    if nats == 0:
        return 0.0
    target, top = max(nats * _SOLVE, _SMALLEST), 1 - prior
    if target >= _divergence(top, prior):
        return top
    # kl >= 2 excess² (Pinsker), so the root lies below; a wrong end by rounding would leave no change of sign
    top = min(top, math.sqrt(target / 2) * (1 + 1e-9))
    return float(brentq(lambda excess: _divergence(excess, prior) / target - 1, 0.0, top, xtol=1e-300, rtol=1e-15))


def _divergence(excess: float, prior: float) -> float:
    """kl(prior + excess ‖ prior) in nats for 0 <= excess <= 1 − prior, as a sum of two terms that are not negative."""
    p, rest = prior + excess, (1 - prior) - excess
    first = p * _curvature(-excess / p, prior / p)
    second = rest * _curvature(excess / rest, (1 - prior) / rest) if rest > 0 else excess
    return first + second


def _curvature(x: float, one_plus_x: float) -> float:
    """x − ln(1 + x) >= 0 without cancellation."""
    if abs(x) >= _SERIES_BELOW:
        return x - math.log(one_plus_x)
    # ln(1 + x) = 2 (y + y³/3 + y⁵/5 + …) with y = x/(2 + x), and x − 2y = x·y
    y = x / (2 + x)
    total, power = 0.0, y * y
    for k in range(3, 41, 2):
        total += power / k
        power *= y * y
    return x * y - 2 * y * total
