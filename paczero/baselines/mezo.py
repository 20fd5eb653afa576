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

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.released import Part, Release

_LARGEST = 1e300  # where nothing is clipped, derivatives end here, so that means stay finite


class Mean:
    """The mean over the units of their derivatives; the same for any order of the units.

    Args:
        clip: c > 0, each derivative is clipped to ±c; None leaves them as they are.
        directions: K >= 1.

    Raises:
        PACZeroError: c is not a finite number above 0, or K is below 1.
    """

    name = "none"
    budget: float | None = None
    spent = 0.0

    def __init__(self, *, clip: float | None = None, directions: int = 1) -> None:
        if clip is not None and not (math.isfinite(clip) and clip > 0):
            raise PACZeroError(f"clip: {clip!r} was given; expected a finite number above 0, or None")
        if directions < 1:
            raise PACZeroError(f"directions: {directions!r} was given; expected 1 or more")
        self.directions = directions
        self._clip = _LARGEST if clip is None else clip
        self._step = 0

    def release(
        self, step: int, derivatives: npt.NDArray[np.float64], *, nonfinite: int = 0, part: Part = None
    ) -> Release:
        """Releases step `step`: K means of (N, K) derivatives; what is not finite counts as 0. `part` changes nothing.

        Raises:
            PACZeroError: another step is next, or the derivatives are not (N, K) with N >= 1.
        """
        values = np.asarray(derivatives, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.directions or not len(values):
            raise PACZeroError(f"derivatives: shape {values.shape} was given; expected (N, {self.directions})")
        self._next(step, PACZeroError)
        finite = np.isfinite(values)
        values = np.where(finite, values, 0.0)
        values = np.clip(values, -self._clip, self._clip)
        # Divided first, so that no sum overflows; fsum rounds once, so that no order of the units matters.
        means = tuple(math.fsum(column) for column in (values / len(values)).T.tolist())
        return self._released(step, means, nonfinite + int(values.size - np.count_nonzero(finite)))

    def recall(self, release: Release) -> None:
        """Takes a written release again, on resume.

        Raises:
            IntegrityError: another step is next, or it is not what this mechanism writes.
        """
        self._next(release.step, IntegrityError)
        fine = len(release.y) == self.directions and all(type(y) is float and math.isfinite(y) for y in release.y)
        if not fine or release != self._released(release.step, release.y, release.nonfinite):
            raise IntegrityError(f"journal step {release.step}: not a release of {self.directions} real means")

    def _released(self, step: int, means: tuple[float, ...], nonfinite: int) -> Release:
        k = self.directions
        return Release(
            step=step,
            y=means,
            unanimous=(False,) * k,
            signs=(),
            q=(0.5,) * k,
            beta=(0.0,) * k,
            noise=(0.0,) * k,
            nonfinite=nonfinite,
        )

    def _next(self, step: int, error: type[PACZeroError]) -> None:
        if step != self._step:
            raise error(f"step: {step!r} was given; expected step {self._step}, each once and in order")
        self._step += 1
