"""Gaussian noise on integers, drawn exactly: no float takes part, so no low bit of one can tell what was added to what.

>>> from paczero.mechanism.draws import Draws
>>> stream = Draws(test_seed=0).stream("noise", 0)
>>> sum(discrete_gaussian(stream, 10) ** 2 for _ in range(2000)) // 2000   # its variance, about σ²
100

A float Gaussian added to a float sum has gaps that depend on the sum (Mironov 2012, "On significance of the least
significant bits"). Here sums are integers in units of c·2^−40 and the noise is the discrete Gaussian, P(x) ∝
exp(−x²/2σ²) over the integers. Its Rényi divergences between integer means are no larger than the continuous one's, and
at σ of 2^30 and more the two laws differ by less than any float can hold. Source: Canonne, Kamath & Steinke 2020, "The
Discrete Gaussian for Differential Privacy", algorithms 1 to 3.
"""

from paczero.errors import PACZeroError
from paczero.mechanism.draws import Stream, below


def discrete_gaussian(stream: Stream, sigma: int) -> int:
    """One draw; 0 where σ is 0.

    Args:
        stream: where the bytes come from.
        sigma: σ >= 0, a whole number.

    Raises:
        PACZeroError: σ is negative.
    """
    if sigma < 0:
        raise PACZeroError(f"sigma: {sigma} was given; expected 0 or more")
    if sigma == 0:
        return 0
    scale, variance = sigma + 1, sigma * sigma
    while True:
        value = _laplace(stream, scale)
        if _bernoulli_exp(stream, (abs(value) * scale - variance) ** 2, 2 * variance * scale * scale):
            return value


def _laplace(stream: Stream, scale: int) -> int:
    """P(x) ∝ exp(−|x|/scale)."""
    while True:
        rest = below(stream, scale)
        if not _bernoulli_exp(stream, rest, scale):
            continue
        whole = 0
        while _bernoulli_exp(stream, 1, 1):
            whole += 1
        value, negative = rest + scale * whole, below(stream, 2)
        if value or not negative:  # or 0 would come twice as often
            return -value if negative else value


def _bernoulli_exp(stream: Stream, numerator: int, denominator: int) -> bool:
    """True with probability exp(−numerator/denominator)."""
    while numerator > denominator:
        if not _bernoulli_exp(stream, 1, 1):
            return False
        numerator -= denominator
    k = 1
    while below(stream, denominator * k) < numerator:
        k += 1
    return k % 2 == 1
