"""What every release object has in common: its steps come once and in order, its derivatives in the right shape."""

import numpy as np
import numpy.typing as npt

from paczero.errors import PACZeroError
from paczero.mechanism.released import Part


class Ordered:
    """Counts the steps of K directions each.

    Args:
        directions: K >= 1.

    Raises:
        PACZeroError: K is below 1.
    """

    def __init__(self, directions: int) -> None:
        if directions < 1:
            raise PACZeroError(f"directions: {directions!r} was given; expected 1 or more")
        self.directions = directions
        self._step = 0

    def sample(self, step: int) -> Part:
        """The whole pool (None); see `Mechanism.sample`."""
        return None

    def _checked(self, derivatives: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        values = np.asarray(derivatives, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.directions:
            raise PACZeroError(f"derivatives: shape {values.shape} was given; expected (N, {self.directions})")
        return values

    def _next(self, step: int, error: type[PACZeroError]) -> None:
        if step != self._step:
            raise error(f"step: {step!r} was given; expected step {self._step}, each once and in order")
        self._step += 1
