"""MeZO: the step is the pool's real mean derivative. No privacy: the reference for utility.

>>> import numpy as np
>>> mean = Mean(clip=None)
>>> mean.release(0, np.array([[0.5], [1.0]])).y
(0.75,)

A mechanism like the others, so the same loop trains with it; what it releases is a number and not a bit, so its
learning rate is of another size and is tuned by itself.

Source: Malladi et al. 2023, "Fine-Tuning Language Models with Just Forward Passes" (arXiv 2305.17333).

An ablation: the sign of the full pool's mean, as it is. No privacy: what is lost by taking the sign alone.

>>> import numpy as np
>>> FullSign(clip=1.0).release(0, np.array([[0.5], [-0.25]])).y
(1,)

The sum is that of the candidates' signs (`mechanism.signs`): derivatives clipped to ±c, as integers, 0 counts as +1.

An ablation: a fair coin every step, whatever was measured. Nothing of the pool is learnt: does noise alone help?

>>> import numpy as np
>>> from paczero.mechanism.secret import SeededCoins
>>> one, other = (Coin(coins=SeededCoins(0)).release(0, np.array([[g]])) for g in (0.5, -2.0))
>>> one.y == other.y
True
"""

import math

import numpy as np
import numpy.typing as npt

from paczero.errors import PACZeroError
from paczero.mechanism.base import StatelessMechanism, sign
from paczero.mechanism.channels import BitChannel
from paczero.mechanism.secret import Coins
from paczero.mechanism.signs import quantise

_LARGEST = 1e300  # where nothing is clipped, derivatives end here, so that means stay finite


class Mean(StatelessMechanism):
    """The mean over the units of their derivatives; the same for any order of the units.

    Args:
        clip: c > 0, each derivative is clipped to ±c; None leaves them as they are.
        directions: K >= 1.

    Raises:
        PACZeroError: c is not a finite number above 0, or K is below 1.
    """

    name = "none"
    real = True

    def __init__(self, *, clip: float | None = None, directions: int = 1) -> None:
        if clip is not None and not (math.isfinite(clip) and clip > 0):
            raise PACZeroError(f"clip: {clip!r} was given; expected a finite number above 0, or None")
        super().__init__(directions)
        self._clip = _LARGEST if clip is None else clip

    def _values(self, step: int, derivatives: npt.NDArray[np.float64]) -> tuple[float, ...]:
        values = np.clip(derivatives, -self._clip, self._clip)
        # Divided first, so that no sum overflows; fsum rounds once, so that no order of the units matters.
        return tuple(math.fsum(column) for column in (values / len(values)).T.tolist())


class FullSign(StatelessMechanism):
    """The sign of the sum of clipped derivatives over all units that a step is measured on.

    Args:
        clip: c > 0.
        directions: K >= 1.
    """

    name = "full-sign"

    def __init__(self, *, clip: float, directions: int = 1) -> None:
        super().__init__(directions)
        self._clip = clip

    def _values(self, step: int, derivatives: npt.NDArray[np.float64]) -> tuple[int, ...]:
        return tuple(sign(total) for total in quantise(derivatives, clip=self._clip)[0].sum(axis=0).tolist())


class Coin(StatelessMechanism):
    """+1 or -1, each with probability 1/2.

    Args:
        coins: word k of a step decides direction k, as for a contested direction of `ZPL`.
        directions: K >= 1.
    """

    name = "coin"
    budget = 0.0

    def __init__(self, *, coins: Coins, directions: int = 1) -> None:
        super().__init__(directions)
        self._coins = coins

    def _values(self, step: int, derivatives: npt.NDArray[np.float64]) -> tuple[int, ...]:
        words = (self._coins.word(step, k) for k in range(self.directions))
        return tuple(int(BitChannel.sample(1, 0.5, word)) for word in words)
