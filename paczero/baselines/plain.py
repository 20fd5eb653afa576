"""What the releases without candidate subsets have in common: K values a step, made of the units' derivatives."""

import math
from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.ordered import Ordered
from paczero.mechanism.released import Part, Release

Values = tuple[int, ...] | tuple[float, ...]


class Plain(Ordered, ABC):
    """A release that is a function of the derivatives and of noise; a subclass says which.

    Args:
        directions: K >= 1.

    Attributes:
        name: as in a transcript's header.
        real: whether real numbers are released; +1 and -1 otherwise.
        budget: B in nats; None where nothing is promised.
        noise: σ, for the journal.
    """

    name: str
    real = False
    budget: float | None = None
    spent = 0.0
    noise = 0.0

    def release(
        self, step: int, derivatives: npt.NDArray[np.float64], *, nonfinite: int = 0, part: Part = None
    ) -> Release:
        """Releases step `step`: K values of (N, K) derivatives, where what is not finite counts as 0.

        Raises:
            PACZeroError: another step is next, the derivatives are not (N, K), or of other units than were drawn.
        """
        values = self._checked(derivatives)
        self._check_part(len(values), part)
        self._next(step, PACZeroError)
        finite = np.isfinite(values)
        found = int(values.size - np.count_nonzero(finite))
        return self._released(step, self._values(step, np.where(finite, values, 0.0)), nonfinite + found)

    def recall(self, release: Release) -> None:
        """Takes a written release again, on resume. Nothing is drawn.

        Raises:
            IntegrityError: another step is next, or it is not what this mechanism writes.
        """
        self._next(release.step, IntegrityError)
        fine = len(release.y) == self.directions and all(map(self._is_value, release.y))
        if not fine or release != self._released(release.step, release.y, release.nonfinite):
            what = "real numbers" if self.real else "signs"
            raise IntegrityError(f"journal step {release.step}: not a release of {self.directions} {what}")

    @abstractmethod
    def _values(self, step: int, derivatives: npt.NDArray[np.float64]) -> Values:
        """The K values of a step, from finite derivatives (n, K)."""

    def _check_part(self, rows: int, part: Part) -> None:
        """Refuses derivatives of other units than the step is measured on."""
        if not rows:
            raise PACZeroError(f"derivatives: no units were given; expected (N, {self.directions})")

    def _is_value(self, value: float) -> bool:
        if self.real:
            return type(value) is float and math.isfinite(value)
        return type(value) is int and value in (1, -1)

    def _released(self, step: int, values: Values, nonfinite: int) -> Release:
        k = self.directions
        return Release(
            step=step,
            y=values,
            unanimous=(False,) * k,
            signs=(),
            q=(0.5,) * k,
            beta=(0.0,) * k,
            noise=(self.noise,) * k,
            nonfinite=nonfinite,
        )


def sign(value: float) -> int:
    """+1 or -1; 0 counts as +1."""
    return 1 if value >= 0 else -1
