"""The processes of one run: each evaluates its share of the pool, one releases, all take the same update.

>>> ALONE.share(lambda: 3), ALONE.first
(3, True)
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Ranks:
    """One process among `size`; by itself where nobody else is there.

    Attributes:
        rank: from 0; rank 0 keeps the journal and the secret, draws the coins and writes all files.
        size: how many there are.
    """

    rank = 0
    size = 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that releases and writes."""
        return self.rank == 0

    def share(self, make: Callable[[], T]) -> T:
        """What rank 0 makes, on every rank."""
        return make()

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The sum over ranks, exact where each entry differs from 0 on one rank at most; same shape and type."""
        return values

    def mine(self, costs: Sequence[int]) -> list[int]:
        """Which pieces of work this rank takes, in ascending order; the ranks' totals of `costs` are about equal."""
        return list(range(len(costs)))


ALONE = Ranks()
