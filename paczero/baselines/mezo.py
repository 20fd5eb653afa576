"""MeZO: the step is the pool's real mean derivative. No privacy: the reference for utility.

>>> import numpy as np
>>> mean = Mean(clip=None)
>>> mean.release(0, np.array([[0.5], [1.0]])).y
(0.75,)

A mechanism like the others, so the same loop trains with it; what it releases is a number and not a bit, so its
learning rate is of another size and is tuned by itself.

Source: Malladi et al. 2023, "Fine-Tuning Language Models with Just Forward Passes" (arXiv 2305.17333).
"""

import math

import numpy as np
import numpy.typing as npt

from paczero.baselines.plain import Plain
from paczero.errors import PACZeroError

_LARGEST = 1e300  # where nothing is clipped, derivatives end here, so that means stay finite


class Mean(Plain):
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
