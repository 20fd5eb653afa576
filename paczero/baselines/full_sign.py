"""An ablation: the sign of the full pool's mean, as it is. No privacy: what is lost by taking the sign alone.

>>> import numpy as np
>>> FullSign(clip=1.0).release(0, np.array([[0.5], [-0.25]])).y
(1,)

The sum is that of the candidates' signs (`mechanism.signs`): derivatives clipped to ±c, as integers, 0 counts as +1.
"""

import numpy as np
import numpy.typing as npt

from paczero.baselines.plain import Plain, sign
from paczero.mechanism.signs import quantise


class FullSign(Plain):
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
