"""dp-sign: the sign of the full pool's sum under Gaussian noise. (ε, δ)-DP over the pool, and the secret is never read.

>>> import numpy as np
>>> from paczero.mechanism.randomness import Draws
>>> DPSign(clip=1.0, sigma=0.0, draws=Draws()).release(0, np.array([[0.5], [-0.25]])).y
(1,)

y = sign(Σ clip(g)/c + N(0, σ²)): one unit more or less moves the sum by 1 at most. The sum is an exact integer in units
of 2^−40, and y is drawn as a bit, +1 with probability Φ(Σ/σ), by comparing 128 random bits with that probability; so no
noise is ever a float. Φ is right to about 1e-15, relative, at the less likely side: what that adds to ε is covered by
the margin with which `accounting` raises σ. Accounting: T·K Gaussian releases of sensitivity 1.

DP-AggZO: the mean of K-vectors of derivatives, each clipped in L2, under Gaussian noise. (ε, δ)-DP over the pool.

>>> import numpy as np
>>> from paczero.mechanism.randomness import Draws
>>> plain = AggZO(clip=8.0, sigma=0.0, units=2, draws=Draws(), directions=2)
>>> [round(y, 9) for y in plain.release(0, np.array([[0.5, 1.0], [1.0, -1.0]])).y]
[0.75, 0.0]

A step is one Gaussian release of a K-vector: one unit more or less moves the sum by c at most. Where steps use a
Poisson sample of the pool, the sum is divided by its public expected size, never by the one that was drawn.

Everything up to the noise is in integers, in units of c·2^−40: a clipped vector is rounded towards 0, so that it gets
no longer, and the noise is an exact discrete Gaussian (`mechanism.noise`). What is released is a float made of the
noisy integer, which cannot tell more than that does.

DPZero: the mean derivative along one direction, clipped and under Gaussian noise. (ε, δ)-DP over the pool.

>>> import numpy as np
>>> from paczero.mechanism.randomness import Draws
>>> plain = DPZero(clip=8.0, sigma=0.0, units=2, draws=Draws())
>>> round(plain.release(0, np.array([[0.5], [1.0]])).y[0], 9)
0.75

Source: Zhang et al. 2023, "DPZero: Private Fine-Tuning of Language Models without Backpropagation" (arXiv 2310.09639).
It is DP-AggZO with K = 1, where clipping in L2 is clipping to ±c.
"""

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from paczero.errors import PACZeroError
from paczero.mechanism.base import Part, StatelessMechanism, sign
from paczero.mechanism.randomness import Draws, bits, discrete_gaussian, poisson_sample
from paczero.mechanism.signs import LARGEST_POOL, SCALE, quantise

_BITS = 128


class DPSign(StatelessMechanism):
    """The noisy sign of the whole pool's sum, each direction by itself.

    Args:
        clip: c > 0, each unit's derivative along each direction is clipped to ±c.
        sigma: σ >= 0, in units of c; 0 releases the sign as it is.
        draws: where the noise comes from.
        directions: K >= 1.

    Raises:
        PACZeroError: a value out of range.
    """

    name = "dp-sign"
    budget = 0.0

    def __init__(self, *, clip: float, sigma: float, draws: Draws, directions: int = 1) -> None:
        super().__init__(directions)
        if not (math.isfinite(sigma) and sigma >= 0):
            raise PACZeroError(f"sigma: {sigma!r} was given; expected a finite number of 0 or more")
        self.noise = float(sigma)
        self._clip = clip
        self._draws = draws

    def _check_part(self, rows: int, part: Part) -> None:
        super()._check_part(rows, part)
        if part is not None:
            raise PACZeroError("part: units were chosen; dp-sign is accounted for the whole pool, so expected none")

    def _values(self, step: int, derivatives: npt.NDArray[np.float64]) -> tuple[int, ...]:
        stream = self._draws.stream("dp-sign", step)
        totals = quantise(derivatives, clip=self._clip)[0].sum(axis=0).tolist()
        return tuple(self._noisy_sign(total / SCALE, bits(stream, _BITS)) for total in totals)

    def _noisy_sign(self, total: float, word: int) -> int:
        """The sign, turned over where the word is below the probability of the noise doing so."""
        if self.noise == 0:
            return sign(total)
        turned = word < int(math.ldexp(float(ndtr(-abs(total) / self.noise)), _BITS))
        return -sign(total) if turned else sign(total)


_SHORTER = 1 - 2.0**-45  # more than floats can make a clipped vector too long by


class AggZO(StatelessMechanism):
    """The noisy mean of clipped K-vectors.

    Args:
        clip: c > 0, the Euclidean length of a unit's K-vector at most.
        sigma: σ >= 0, in units of c; 0 releases the mean as it is.
        units: N, public.
        draws: where samples and noise come from.
        sampling: the Poisson rate, in (0, 1]; at 1 each step uses the whole pool.
        directions: K >= 1.

    Raises:
        PACZeroError: a value out of range.
    """

    name = "dp-aggzo"
    real = True
    budget = 0.0

    def __init__(
        self, *, clip: float, sigma: float, units: int, draws: Draws, sampling: float = 1.0, directions: int = 1
    ) -> None:
        super().__init__(directions)
        for name, value, fine in (
            ("clip", clip, math.isfinite(clip) and clip > 0),
            ("sigma", sigma, math.isfinite(sigma) and sigma >= 0),
            ("units", units, 1 <= units <= LARGEST_POOL),
            ("sampling", sampling, 0 < sampling <= 1),
        ):
            if not fine:
                raise PACZeroError(f"{name}: {value!r} was given; expected a value in range, see {type(self).__name__}")
        self.noise = float(sigma)
        self._clip, self._units, self._rate, self._draws = float(clip), units, float(sampling), draws
        self._sigma = math.ceil(Fraction(self.noise) * int(SCALE))
        self._drawn: Part = None

    def sample(self, step: int) -> Part:
        """The secret Poisson sample that step `step` is to be measured on; None for the whole pool at rate 1.

        Raises:
            PACZeroError: another step is next.
        """
        if step != self._step:
            raise PACZeroError(f"step: {step!r} was given; expected step {self._step}")
        if self._rate < 1:
            self._drawn = poisson_sample(self._draws.stream("sample", step), self._units, self._rate)
        return self._drawn

    def _check_part(self, rows: int, part: Part) -> None:
        drawn, self._drawn = self._drawn, None
        if self._rate < 1 and (drawn is None or part is None or not np.array_equal(drawn, part)):
            raise PACZeroError("part: other units than the sample of this step; expected what `sample` drew")
        if self._rate == 1 and part is not None:
            raise PACZeroError("part: units were chosen; expected the whole pool, as sampling is 1")
        expected = self._units if drawn is None else len(drawn)
        if rows != expected:
            raise PACZeroError(f"derivatives: {rows} rows were given; expected one a unit, {expected} in this step")

    def _values(self, step: int, derivatives: npt.NDArray[np.float64]) -> tuple[float, ...]:
        stream = self._draws.stream("noise", step)
        totals = clipped(derivatives, self._clip).sum(axis=0).tolist()
        unit = self._clip / (SCALE * self._rate * self._units)
        return tuple(float(total + discrete_gaussian(stream, self._sigma)) * unit for total in totals)


def clipped(derivatives: npt.NDArray[np.float64], clip: float) -> npt.NDArray[np.int64]:
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
    with np.errstate(over="ignore"):  # an infinite quotient is longer than the clip, and that is all that is asked
        size = np.minimum(largest / clip, 1 / np.maximum(length, 1.0))
    return np.trunc(shape * (size * (_SHORTER * SCALE))).astype(np.int64)


class DPZero(AggZO):
    """The noisy mean of clipped derivatives.

    Args:
        clip, sigma, units, draws, sampling: as for `AggZO`.
    """

    name = "dpzero"

    def __init__(self, *, clip: float, sigma: float, units: int, draws: Draws, sampling: float = 1.0) -> None:
        super().__init__(clip=clip, sigma=sigma, units=units, draws=draws, sampling=sampling)
