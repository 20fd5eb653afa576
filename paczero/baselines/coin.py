"""An ablation: a fair coin every step, whatever was measured. Nothing of the pool is learnt: does noise alone help?

>>> import numpy as np
>>> from paczero.mechanism.secret import TestCoins
>>> one, other = (Coin(coins=TestCoins(0)).release(0, np.array([[g]])) for g in (0.5, -2.0))
>>> one.y == other.y
True
"""

import numpy as np
import numpy.typing as npt

from paczero.baselines.plain import Plain
from paczero.mechanism.channels import BitChannel
from paczero.mechanism.secret import Coins


class Coin(Plain):
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
