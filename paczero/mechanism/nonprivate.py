"""MeZO, which is the reference for utility, and two ablations.

>>> import numpy as np
>>> Mean(clip=None).release(0, np.array([[0.5], [1.0]])).y
(0.75,)
>>> FullSign(clip=1.0).release(0, np.array([[0.5], [-0.25]])).y
(1,)
>>> from paczero.mechanism.randomness import Coins
>>> one, other = (Coin(coins=Coins(0)).release(0, np.array([[g]])) for g in (0.5, -2.0))
>>> one.y == other.y
True

- `Mean` (`none`) releases the pool's real mean derivative. No privacy. Its learning rate has another size than that of
  a mechanism that releases bits. Source: Malladi et al. 2023, "Fine-Tuning Language Models with Just Forward Passes"
  (arXiv 2305.17333).
- `FullSign` releases the sign of that mean as it is. No privacy. It shows what is lost by taking the sign alone.
- `Coin` releases a fair coin and learns nothing of the pool. It shows whether noise alone helps.
"""

import math

import numpy as np

from paczero.errors import PACZeroError
from paczero.mechanism.base import Floats, StatelessMechanism, sign
from paczero.mechanism.channels import BitChannel
from paczero.mechanism.randomness import Coins
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

    def _values(self, step: int, derivatives: Floats) -> tuple[float, ...]:
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

    def _values(self, step: int, derivatives: Floats) -> tuple[int, ...]:
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

    def _values(self, step: int, derivatives: Floats) -> tuple[int, ...]:
        words = (self._coins.word(step, k) for k in range(self.directions))
        return tuple(int(BitChannel.sample(1, 0.5, word)) for word in words)
