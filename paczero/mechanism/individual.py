"""Individual accounting of random signs: each unit spends what its own derivatives cost, and then contributes 0.

>>> share = Share.of(2.0, delta=1e-6)
>>> share.epsilon(1e-6) <= 2.0
True
>>> account = Account(share.rho, eps0=0.1, units=1)
>>> full = np.full((1, 1), 2**40)  # a derivative that is as large as the clip
>>> sum(int(account.admitted(full)[0, 0] > 0) for _ in range(100)), int(8 * share.rho / 0.1**2)
(70, 70)

A unit whose clipped derivative is a clips moves the log-odds of a bit by ε₀·a, which costs it ρ = ε₀²a²/8 of
zero-concentrated differential privacy. A unit contributes as long as its own sum of these stays at or below the share ρ
that (ε, δ) allows, and nothing from then on. So the whole run is ρ-zCDP against the zero-out of any one unit, however
derivatives adapt to earlier bits, and however many steps there are. docs/privacy.md has the proof. Source: Feldman &
Zrnic 2021, "Individual Privacy Accounting via a Rényi Filter" (arXiv 2008.11193).

What a unit has spent depends on its records: it is private, and no other unit's account depends on it.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from paczero.errors import PACZeroError
from paczero.mechanism.base import UnitIndices
from paczero.mechanism.gaussian_accounting import epsilon_at, require_noise
from paczero.mechanism.sign_accounting import concentrated_delta

Integers = npt.NDArray[np.int64]

_HALF_SCALE = 20  # bits: shares are squared at this resolution, rounded up
_MOST = 2**61  # of an account
_LEAST_SHARE = 1e-9
_UP = 1 + 1e-9  # covers the rounding of floats in the closed form
_DIGITS = 6
_SAFER = 1 - 1e-6


@dataclass(frozen=True)
class Share:
    """What a unit may spend in a whole run, and what that reveals about it.

    Attributes:
        rho: ρ > 0, of zero-concentrated differential privacy.

    Raises:
        PACZeroError: ρ is out of range.
    """

    rho: float

    def __post_init__(self) -> None:
        require_noise("rho", self.rho)

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, epsilon: float, *, delta: float) -> "Share":
        """The share that is (ε, δ)-differentially private: never too much, rounded down to six digits.

        Raises:
            PACZeroError: ε or δ is out of range.
        """
        if not (math.isfinite(epsilon) and epsilon > 0):
            raise PACZeroError(f"epsilon: {epsilon!r} was given; expected a finite number above 0")
        if not 1e-300 <= delta < 1:
            raise PACZeroError(f"delta: {delta!r} was given; expected a probability from 1e-300 to below 1")

        def excess(log_rho: float) -> float:
            return math.log(max(cls(math.exp(log_rho)).delta(epsilon), 1e-320) / delta)

        if cls(_LEAST_SHARE).delta(epsilon) > delta:
            raise PACZeroError(
                f"epsilon: {epsilon!r} was given with delta {delta!r}; expected more, as units share less than ρ = "
                f"{_LEAST_SHARE:g} then"
            )
        rho = math.exp(float(brentq(excess, math.log(_LEAST_SHARE), math.log(1e9), xtol=1e-9)))
        while cls(rho := _rounded_down(rho)).delta(epsilon) > delta:
            rho *= _SAFER
        return cls(rho)

    def delta(self, epsilon: float) -> float:
        """δ at ε >= 0, at most: of zCDP, or by Pinsker's inequality, where that is less."""
        return min(concentrated_delta(self.rho, epsilon) * _UP, math.sqrt(self.rho / 2) * _UP, 1.0)

    def epsilon(self, delta: float) -> float:
        """ε at δ in (0, 1), at most."""
        return epsilon_at(self.delta, delta)

    def log_odds(self, count: int, mean_square: float = 1.0) -> float:
        """ε₀, to six digits, at which a unit with derivatives of this mean square, in clips², spends it in T·K bits."""
        return _rounded_down(math.sqrt(8 * self.rho / (count * mean_square)))

    @property
    def success(self) -> float:
        """p = 1/2 + δ(0)/2: how often a guess whether a unit is in the pool is right, at most."""
        return min(0.5 + self.delta(0.0) / 2, 1.0)


class Account:
    """What each unit has spent, in squared clips.

    Args:
        rho: the share of a unit.
        eps0: ε₀ > 0, log-odds per clip.
        units: N.

    Attributes:
        spent: int64 (N,), in units of 2^−40 clips², each cost rounded up; no array of it is changed in place.
    """

    def __init__(self, rho: float, *, eps0: float, units: int) -> None:
        for name, value in (("rho", rho), ("eps0", eps0)):
            require_noise(name, value)
        self._limit = min(math.floor(8 * Fraction(rho) / Fraction(eps0) ** 2 * 2 ** (2 * _HALF_SCALE)), _MOST)
        self.spent: UnitIndices = np.zeros(units, dtype=np.int64)

    def admitted(self, quantised: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Charges one step, and gives what its units contribute: 0 from the direction on that a share does not allow.

        Args:
            quantised: (N, K), clipped derivatives in units of 2^−40 clips.
        """
        shares = (np.abs(quantised) + (2**_HALF_SCALE - 1)) >> _HALF_SCALE
        totals = self.spent[:, None] + np.cumsum(np.square(shares), axis=1)
        self.spent = np.minimum(totals[:, -1], self._limit + 1)
        return np.where(totals <= self._limit, quantised, 0)

    def restore(self, spent: UnitIndices) -> None:
        """Takes what the units had spent, on resume.

        Raises:
            PACZeroError: no account has this form or these values.
        """
        fine = spent.shape == self.spent.shape and spent.dtype == np.int64
        if not fine or spent.min() < 0 or spent.max() > self._limit + 1:
            raise PACZeroError(f"spent: {spent.dtype} of shape {spent.shape} was given; expected what an account wrote")
        self.spent = spent.copy()


def _rounded_down(value: float) -> float:
    scale = 10.0 ** (_DIGITS - 1 - math.floor(math.log10(value)))
    return math.floor(value * scale) / scale
