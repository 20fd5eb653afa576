"""Information of noisy releases and bounds for a budget, to 50 digits; independent of the ledger that it checks.

>>> f = mp.mpf("0.4294")
>>> round(float(bit_information(mp.mpf("0.5"), f)), 6)
0.010002
>>> round(float(success_bound(mp.mpf("0.01"))), 4)
0.5706

The formulas are the definitions, computed with more digits where they cancel. Nothing is shared with
`paczero.mechanism`, which uses floats, series and safe-side roots. Sources: PACZero (arXiv 2605.06505) for the
channels; Balle and Wang 2018 (arXiv 1805.06530), theorem 8, for Gaussian noise.
"""

import math
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
from scipy.special import expit
from scipy.stats import binom

DIGITS = 50

mp = mpmath.mp.clone()  # its own precision; the global one stays as it is

mp.dps = DIGITS

Number = Any  # an mpf of `mp`

_RARE = -1000  # bits: a minority below 1e-301 carries less than 1e-298 nats for any noise

_LARGE_SNR = 40  # 1/σ beyond which h(q) − I is below 1e-190 of I for every q that a float can hold


def entropy(p: Number) -> Number:
    """Binary entropy h(p) in nats, for p in [0, 1]."""
    return -sum((x * mp.log(x) for x in (p, 1 - p) if x > 0), mp.mpf(0))


def bit_information(minority: Number, flip: Number) -> Number:
    """I in nats between a sign and the sign flipped with probability f: h(m(1 − f) + (1 − m)f) − h(f).

    Args:
        minority: m in [0, 1/2], the probability of the less likely sign.
        flip: f in [0, 1/2].
    """
    left = 1 - 2 * flip
    if minority == 0 or left == 0:
        return mp.mpf(0)
    if mp.mag(minority) < _RARE:
        return entropy(minority)  # an upper bound
    # I is of the size m (1 − 2f)²: that many digits cancel
    with mp.workdps(DIGITS + _digits(minority) + 2 * _digits(left)):
        return entropy(minority * (1 - flip) + (1 - minority) * flip) - entropy(flip)


def gaussian_information(minority: Number, sigma: Number) -> Number:
    """I in nats between a sign and the sign plus N(0, σ²), right to 20 digits.

    I = E[m w t − D ln D], the output z in units of σ around the majority's mean, t = 2z/σ + … the log likelihood ratio
    of the minority's sign, w = e^t, D = 1 − m + m w. The trapezoid rule on the whole line errs by about exp(−2π d/h),
    d being the distance π/(2 snr) of the nearest singularity.

    Args:
        minority: m in [0, 1/2], the probability of the less likely sign.
        sigma: σ >= 0; infinity allowed.
    """
    if minority == 0 or mp.isinf(sigma):
        return mp.mpf(0)
    if sigma == 0 or 1 / sigma >= _LARGE_SNR or mp.mag(minority) < _RARE:
        return entropy(minority)  # an upper bound, tight to 190 digits
    snr = 1 / sigma
    with mp.workdps(DIGITS + _digits(snr)):
        width = mp.mpf("0.15") / max(snr, mp.mpf("0.3"))
        count = int(mp.ceil((snr + 14) / width))
        total = mp.mpf(0)
        for index in range(-count, count + 1):
            z = index * width
            t = 2 * snr * z
            weighed = minority * mp.exp(t)
            mixed = 1 - minority + weighed
            total += mp.exp(-((z + snr) ** 2) / 2) * (weighed * t - mixed * mp.log(mixed))
        return total * width / mp.sqrt(2 * mp.pi)


def success_excess(nats: Number) -> Number:
    """p − 1/2 for the highest probability p of a right guess, ln 2 − h(p) = `nats`; 1/2 from ln 2 on."""
    half = mp.mpf(1) / 2
    if nats >= mp.log(2):
        return half
    if nats == 0:
        return mp.mpf(0)
    with mp.workdps(DIGITS + 2 * _digits(nats)):
        low, high = mp.mpf(0), min(mp.sqrt(nats / 2), half)  # kl(p ‖ 1/2) >= 2 (p − 1/2)²
        for _ in range(int(mp.prec)):
            middle = (low + high) / 2
            if mp.log(2) - entropy(half + middle) < nats:
                low = middle
            else:
                high = middle
        return high


def success_bound(nats: Number) -> Number:
    """p >= 1/2 with ln 2 − h(p) = `nats`: the highest probability of a right guess; 1 from ln 2 on."""
    return mp.mpf(1) / 2 + success_excess(nats)


def epsilon_bound(nats: Number) -> Number | None:
    """ε = ln(p/(1 − p)) for that p; None from ln 2 on."""
    excess = success_excess(nats)
    rest = mp.mpf(1) / 2 - excess
    return mp.log1p(2 * excess / rest) if rest > 0 else None


def gaussian_delta(epsilon: Number, mu: Number) -> Number:
    """δ(ε) of Gaussian noise with sensitivity over σ equal to μ: Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ)."""
    with mp.workdps(DIGITS + 20):
        return mp.ncdf(mu / 2 - epsilon / mu) - mp.exp(epsilon) * mp.ncdf(-mu / 2 - epsilon / mu)


def sign_delta(epsilon: float, eps0: float, count: int, rate: float = 1.0) -> float:
    """A lower bound of δ(ε) of `count` random signs: an attacker for whom one unit moves each log-odds by ε₀.

    The log-odds are the same for all signs, so the number of +1 is binomial. No correct accountant states less.

    Args:
        rate: the share of the signs' samples that hold the unit.
    """
    ones, worst = np.arange(count + 1), 0.0
    for x in np.linspace(-eps0, 0.0, 9):
        absent = float(expit(x))
        present = absent + rate * (float(expit(x + eps0)) - absent)
        for p, q in ((present, absent), (absent, present)):
            log_q = binom.logpmf(ones, count, q)
            log_p = log_q + ones * math.log(p / q) + (count - ones) * math.log((1 - p) / (1 - q))
            likelier = log_p > log_q + epsilon
            worst = max(worst, float((np.exp(log_p[likelier]) - np.exp(log_q[likelier] + epsilon)).sum()))
    return worst


def _digits(x: Number) -> int:
    """A bound on the decimal zeros of x > 0 after the point; at least 1."""
    return max(0, math.ceil(-float(mp.mag(x)) * math.log10(2))) + 1
