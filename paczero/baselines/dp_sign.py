"""dp-sign: the sign of the full pool's sum under Gaussian noise. (ε, δ)-DP over the pool, and the secret is never read.

>>> import numpy as np
>>> from paczero.mechanism.draws import Draws
>>> DPSign(clip=1.0, sigma=0.0, draws=Draws()).release(0, np.array([[0.5], [-0.25]])).y
(1,)

y = sign(Σ clip(g)/c + N(0, σ²)): one unit more or less moves the sum by 1 at most. The sum is an exact integer in units
of 2^−40, and y is drawn as a bit, +1 with probability Φ(Σ/σ), by comparing 128 random bits with that probability; so no
noise is ever a float. Φ is right to about 1e-15, relative, at the less likely side: what that adds to ε is covered by
the margin with which `accounting` raises σ. Accounting: T·K Gaussian releases of sensitivity 1.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from paczero.baselines.plain import Plain, sign
from paczero.errors import PACZeroError
from paczero.mechanism.draws import Draws, bits
from paczero.mechanism.released import Part
from paczero.mechanism.signs import SCALE, quantise

_BITS = 128


class DPSign(Plain):
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
