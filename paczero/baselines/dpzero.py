"""DPZero: the mean derivative along one direction, clipped and under Gaussian noise. (ε, δ)-DP over the pool.

>>> import numpy as np
>>> from paczero.mechanism.draws import Draws
>>> plain = DPZero(clip=8.0, sigma=0.0, units=2, draws=Draws())
>>> round(plain.release(0, np.array([[0.5], [1.0]])).y[0], 9)
0.75

Source: Zhang et al. 2023, "DPZero: Private Fine-Tuning of Language Models without Backpropagation" (arXiv 2310.09639).
It is DP-AggZO with K = 1, where clipping in L2 is clipping to ±c.
"""

from paczero.baselines.aggzo import AggZO
from paczero.mechanism.draws import Draws


class DPZero(AggZO):
    """The noisy mean of clipped derivatives.

    Args:
        clip, sigma, units, draws, sampling: as for `AggZO`.
    """

    name = "dpzero"

    def __init__(self, *, clip: float, sigma: float, units: int, draws: Draws, sampling: float = 1.0) -> None:
        super().__init__(clip=clip, sigma=sigma, units=units, draws=draws, sampling=sampling)
