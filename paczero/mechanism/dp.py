"""Differential privacy over the pool: DPSign, DP-AggZO and DPZero. None of them reads the secret.

>>> import numpy as np
>>> from paczero.mechanism.randomness import RandomStreams
>>> g = np.array([[0.5, 1.0], [1.0, -1.0]])
>>> DPSign(clip=1.0, sigma=0.0, rng=RandomStreams(), directions=2).release(0, g).y
(1, 1)
>>> mean = AggZO(clip=8.0, sigma=0.0, units=2, rng=RandomStreams(), directions=2)
>>> [round(y, 9) for y in mean.release(0, g).y]
[0.75, 0.0]

σ is in units of the clip c. Adding or removing one unit moves a sum by c at most.

`DPSign` releases y = sign(Σ clip(g)/c + N(0, σ²)) for each direction: T·K Gaussian releases of sensitivity 1. The sum
is an exact integer in units of 2^−40. The bit is drawn as +1 with probability Φ(Σ/σ), by comparing 128 random bits with
that probability, so no noise is ever a float. Φ is right to about 1e-15 relative at the less likely side; the margin by
which `accounting` raises σ covers what that adds to ε.

`AggZO` releases the mean of K-vectors, each clipped in L2, under Gaussian noise: one Gaussian release a step. Where
steps use a Poisson sample of the pool, the sum is divided by the public expected size of the sample, never by the drawn
one. Everything up to the noise is in integers, in units of c·2^−40: a clipped vector is rounded towards 0, so that it
gets no longer, and the noise is an exact discrete Gaussian. The released float is made of the noisy integer alone.

`DPZero` is `AggZO` with K = 1, where clipping in L2 is clipping to ±c. Source: Zhang et al. 2023, "DPZero: Private
Fine-Tuning of Language Models without Backpropagation" (arXiv 2310.09639).
"""

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from paczero.errors import PACZeroError
from paczero.mechanism.base import Floats, StatelessMechanism, UnitIndices, sign
from paczero.mechanism.randomness import RandomStreams, bits, discrete_gaussian, poisson_sample
from paczero.mechanism.signs import LARGEST_POOL, SCALE, quantise

_BITS = 128
_SHORTER = 1 - 2.0**-45  # more than floats can make a clipped vector too long by


class DPSign(StatelessMechanism):
    """The noisy sign of the whole pool's sum, each direction by itself.

    Args:
        clip: c > 0, each unit's derivative along each direction is clipped to ±c.
        sigma: σ >= 0, in units of c; 0 releases the sign as it is.
        rng: where the noise comes from.
        directions: K >= 1.

    Raises:
        PACZeroError: a value out of range.
    """

    name = "dp-sign"
    budget = 0.0

    def __init__(self, *, clip: float, sigma: float, rng: RandomStreams, directions: int = 1) -> None:
        super().__init__(directions)
        if not (math.isfinite(sigma) and sigma >= 0):
            raise PACZeroError(f"sigma: {sigma!r} was given; expected a finite number of 0 or more")
        self.noise = float(sigma)
        self._clip = clip
        self._rng = rng

    def _check_units(self, rows: int, unit_indices: UnitIndices | None) -> None:
        super()._check_units(rows, unit_indices)
        if unit_indices is not None:
            raise PACZeroError("unit_indices: some were given; expected none: dp-sign is accounted for the whole pool")

    def _values(self, step: int, derivatives: Floats) -> tuple[int, ...]:
        stream = self._rng.stream("dp-sign", step)
        totals = quantise(derivatives, clip=self._clip)[0].sum(axis=0).tolist()
        return tuple(self._noisy_sign(total / SCALE, bits(stream, _BITS)) for total in totals)

    def _noisy_sign(self, total: float, word: int) -> int:
        """The sign, flipped where the word is below the probability that the noise flips it."""
        if self.noise == 0:
            return sign(total)
        flipped = word < int(math.ldexp(float(ndtr(-abs(total) / self.noise)), _BITS))
        return -sign(total) if flipped else sign(total)


class AggZO(StatelessMechanism):
    """The noisy mean of clipped K-vectors.

    Args:
        clip: c > 0, the Euclidean length of a unit's K-vector at most.
        sigma: σ >= 0, in units of c; 0 releases the mean as it is.
        units: N, public.
        rng: where samples and noise come from.
        sampling_prob: the Poisson rate, in (0, 1]; at 1 each step uses the whole pool.
        directions: K >= 1.

    Raises:
        PACZeroError: a value out of range.
    """

    name = "dp-aggzo"
    real = True
    budget = 0.0

    def __init__(
        self,
        *,
        clip: float,
        sigma: float,
        units: int,
        rng: RandomStreams,
        sampling_prob: float = 1.0,
        directions: int = 1,
    ) -> None:
        super().__init__(directions)
        for name, value, fine in (
            ("clip", clip, math.isfinite(clip) and clip > 0),
            ("sigma", sigma, math.isfinite(sigma) and sigma >= 0),
            ("units", units, 1 <= units <= LARGEST_POOL),
            ("sampling_prob", sampling_prob, 0 < sampling_prob <= 1),
        ):
            if not fine:
                raise PACZeroError(f"{name}: {value!r} was given; expected a value in range, see {type(self).__name__}")
        self.noise = float(sigma)
        self._clip, self._units, self._rate, self._rng = float(clip), units, float(sampling_prob), rng
        self._sigma = math.ceil(Fraction(self.noise) * int(SCALE))
        self._drawn: UnitIndices | None = None

    def sample(self, step: int) -> UnitIndices | None:
        """The secret Poisson sample of the units that step `step` is measured on; None for the whole pool at rate 1.

        Raises:
            PACZeroError: another step is next.
        """
        if step != self._step:
            raise PACZeroError(f"step: {step!r} was given; expected step {self._step}")
        if self._rate < 1:
            self._drawn = poisson_sample(self._rng.stream("sample", step), self._units, self._rate)
        return self._drawn

    def _check_units(self, rows: int, unit_indices: UnitIndices | None) -> None:
        drawn, self._drawn = self._drawn, None
        if self._rate < 1 and (drawn is None or unit_indices is None or not np.array_equal(drawn, unit_indices)):
            raise PACZeroError("unit_indices: not the sample of this step; expected what `sample` drew")
        if self._rate == 1 and unit_indices is not None:
            raise PACZeroError("unit_indices: some were given; expected none: the sampling rate 1 takes the whole pool")
        expected = self._units if drawn is None else len(drawn)
        if rows != expected:
            raise PACZeroError(f"derivatives: {rows} rows were given; expected one a unit, {expected} in this step")

    def _values(self, step: int, derivatives: Floats) -> tuple[float, ...]:
        stream = self._rng.stream("noise", step)
        totals = clipped(derivatives, self._clip).sum(axis=0).tolist()
        unit = self._clip / (SCALE * self._rate * self._units)
        return tuple(float(total + discrete_gaussian(stream, self._sigma)) * unit for total in totals)


class DPZero(AggZO):
    """The noisy mean of clipped derivatives along one direction.

    Args:
        clip, sigma, units, rng, sampling_prob: as for `AggZO`.
    """

    name = "dpzero"

    def __init__(
        self, *, clip: float, sigma: float, units: int, rng: RandomStreams, sampling_prob: float = 1.0
    ) -> None:
        super().__init__(clip=clip, sigma=sigma, units=units, rng=rng, sampling_prob=sampling_prob)


def clipped(derivatives: Floats, clip: float) -> npt.NDArray[np.int64]:
    """Rows scaled down to the length c where they are longer, in units of c·2^−40, rounded towards 0.

    Args:
        derivatives: (n, K), finite.
        clip: c > 0.

    Returns:
        int64 (n, K); no row is longer than 2^40.
    """
    largest = np.abs(derivatives).max(axis=1, keepdims=True, initial=0.0)
    shape = derivatives / np.where(largest > 0, largest, 1.0)  # within ±1, or squares could overflow
    length = np.sqrt(np.square(shape).sum(axis=1, keepdims=True))
    with np.errstate(over="ignore"):  # an infinite quotient is longer than the clip, which is all that matters here
        size = np.minimum(largest / clip, 1 / np.maximum(length, 1.0))
    return np.trunc(shape * (size * (_SHORTER * SCALE))).astype(np.int64)
