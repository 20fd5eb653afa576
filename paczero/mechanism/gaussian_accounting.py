"""What Gaussian releases reveal about one unit: closed forms for the whole pool, Google's `dp-accounting` for samples.

>>> round(Gaussians(sigma=4.0, count=1).delta(1.0), 9)
2.924e-06
>>> round(Gaussians(sigma=10.0, count=100).epsilon(1e-6), 4)
4.8866

Each release is a sum of sensitivity 1 under Gaussian noise σ, both in units of the clip. T of them on the whole pool
are one release with μ = √T/σ, whose δ(ε) is known in closed form (Balle & Wang 2018, arXiv 1805.06530, Theorem 8).
Poisson samples are accounted by privacy loss distributions, rounded to the pessimistic side.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from scipy.optimize import brentq
from scipy.special import erfcx, log_ndtr, ndtr

from paczero.errors import PACZeroError

_UP, _UP_SMALL = 1 + 1e-9, 2e-14  # cover the rounding of floats in the closed form; the second one is over μ
_SMALLEST_DELTA = 1e-300
_LEAST_NOISE, _MOST_NOISE = 1e-9, 1e12
_CELL, _NARROWEST = 1e-4, 1e-6  # of privacy losses
_LEAST_DELTA = 1e-14  # the library drops masses of 1e-15


class MissingLibrary(PACZeroError):
    """`dp-accounting` is not installed."""


@dataclass(frozen=True)
class Gaussians:
    """A number of Gaussian releases in a row.

    Attributes:
        sigma: σ > 0, in units of the sensitivity.
        count: how many releases.
        rate: γ in (0, 1], the Poisson rate of each release's sample; 1 takes all units.
        cell: of samples, the width of a cell of privacy losses, in 1e-4; a wider one is faster and more pessimistic.
    """

    sigma: float
    count: int
    rate: float = 1.0
    cell: float = 1.0

    def __post_init__(self) -> None:
        require_noise("sigma", self.sigma)

    def delta(self, epsilon: float) -> float:
        """δ at ε >= 0, at most.

        Raises:
            MissingLibrary: of samples, `dp-accounting` is not installed.
        """
        if self.rate < 1:
            return float(self._sampled.get_delta(epsilon))
        mu = math.sqrt(self.count) / self.sigma
        up = _UP + _UP_SMALL / mu
        upper, lower = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
        if upper > 0:
            return min(float(ndtr(upper) - math.exp(epsilon + log_ndtr(lower))) * up, 1.0)
        # φ(upper) = e^ε φ(lower), so the difference is one of Mills' ratios: it keeps the digits of a small δ.
        ratios = erfcx(-upper / math.sqrt(2)) - erfcx(-lower / math.sqrt(2))
        return 0.5 * math.exp(-(upper**2) / 2) * float(ratios) * up

    def epsilon(self, delta: float) -> float:
        """ε at δ in (0, 1), at most; 0 where δ alone allows all that the releases reveal.

        Raises:
            PACZeroError: of samples, δ is below 1e-14.
            MissingLibrary: of samples, `dp-accounting` is not installed.
        """
        if self.rate < 1:
            if delta < _LEAST_DELTA:
                raise PACZeroError(f"delta: {delta!r} was given with sampling_prob; expected {_LEAST_DELTA:g} or more")
            return float(self._sampled.get_epsilon(delta))
        return epsilon_at(self.delta, delta)

    @cached_property
    def _sampled(self) -> Any:
        try:
            import dp_accounting
            from dp_accounting import pld
        except ImportError as error:
            raise MissingLibrary(
                "mechanism.sampling_prob: Gaussian releases of samples need dp-accounting, which is not installed; "
                "`pip install 'paczero[dp]'`"
            ) from error
        event = dp_accounting.PoissonSampledDpEvent(self.rate, dp_accounting.GaussianDpEvent(self.sigma))
        neighbours = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
        accountant = pld.PLDAccountant(neighbours, value_discretization_interval=max(self.cell * _CELL, _NARROWEST))
        return accountant.compose(dp_accounting.SelfComposedDpEvent(event, self.count))


def require_noise(name: str, value: float) -> None:
    """Raises PACZeroError where a noise is out of the range in which the accountants are right."""
    if not _LEAST_NOISE <= value <= _MOST_NOISE:
        raise PACZeroError(f"{name}: {value!r} was given; expected a number from {_LEAST_NOISE:g} to {_MOST_NOISE:g}")


def mean_of(epsilon: float, delta: float) -> tuple[float, float]:
    """About the mean μ at which one Gaussian release of variance 1 is (ε, δ)-DP, and d ln δ / d ln μ there."""

    def excess(log_mean: float) -> float:
        return math.log(max(Gaussians(math.exp(-log_mean), 1).delta(epsilon), 1e-320) / delta)

    root = float(brentq(excess, -20.0, 10.0, xtol=1e-6))
    return math.exp(root), (excess(root + 1e-3) - excess(root - 1e-3)) / 2e-3


def epsilon_at(delta_of: Callable[[float], float], delta: float) -> float:
    """The least ε >= 0, rounded up, at which a falling function δ(ε) is not above `delta`.

    Raises:
        PACZeroError: δ is no probability from 1e-300 to below 1.
    """
    if not _SMALLEST_DELTA <= delta < 1:
        raise PACZeroError(f"delta: {delta!r} was given; expected a probability from {_SMALLEST_DELTA:g} to below 1")
    if delta_of(0.0) <= delta:
        return 0.0
    high = 1.0
    while delta_of(high) > delta:
        high *= 2

    def excess(epsilon: float) -> float:
        return math.log(max(delta_of(epsilon), 1e-320) / delta)

    root = float(brentq(excess, 0.0, high, xtol=1e-12, rtol=1e-10))
    while delta_of(root) > delta:
        root *= 1 + 1e-9
    return root
