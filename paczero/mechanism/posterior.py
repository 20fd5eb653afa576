"""What an observer of all releases so far concludes about the secret: a distribution over the M candidates.

>>> import numpy as np
>>> posterior = Posterior.uniform(4)
>>> signs = np.array([1, 1, 1, -1])
>>> posterior.minority(signs)
0.25
>>> posterior = posterior.observed(np.log([0.9, 0.9, 0.9, 0.1]))
>>> posterior.probabilities.round(3).tolist()
[0.321, 0.321, 0.321, 0.036]

Weights are kept as logarithms, since over thousands of steps a candidate may become very unlikely. Whether it is
*possible* decides whether a step is unanimous and costs nothing. So the candidates that no release has excluded are
counted; no float is compared with 0 or 1. Source: PACZero (arXiv 2605.06505), Bayes' rule after each release. Without
this update the charges would not add up to I(S*; Y).
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from paczero.errors import IntegrityError, PACZeroError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Posterior:
    """A distribution over M candidates; each observation makes a new one.

    Attributes:
        log_weights: (M,) float64, read-only, normalised: natural logarithms of the probabilities; −inf for a candidate
            that a noiseless release excluded, for good.

    Raises:
        PACZeroError: log weights that are not of shape (M,), hold NaN or +inf, or leave no candidate.
    """

    log_weights: Floats

    def __post_init__(self) -> None:
        weights = np.array(self.log_weights, dtype=np.float64)
        if weights.ndim != 1 or weights.size == 0:
            raise PACZeroError(f"log_weights: shape {weights.shape} was given; expected (M,) with M >= 1")
        if np.isnan(weights).any() or (weights == np.inf).any():
            raise PACZeroError("log_weights: NaN or +inf was given; expected finite numbers, or -inf: excluded")
        total = _log_sum(weights)
        if total == -np.inf:
            raise PACZeroError("log_weights: all were -inf; expected at least one possible candidate")
        weights -= total
        weights.flags.writeable = False
        object.__setattr__(self, "log_weights", weights)

    @classmethod
    def uniform(cls, subsets: int) -> "Posterior":
        """The distribution before the first release: each of M = `subsets` candidates alike."""
        return cls(np.zeros(subsets))

    @classmethod
    def from_json(cls, log_weights: Sequence[float | None]) -> "Posterior":
        """The distribution that `to_json` wrote."""
        return cls(np.array([-np.inf if value is None else value for value in log_weights]))

    def to_json(self) -> tuple[float | None, ...]:
        """Its log weights (M,), None in the place of −inf, which JSON has not."""
        return tuple(None if value == -np.inf else min(value, 0.0) for value in self.log_weights.tolist())

    @property
    def supported(self) -> npt.NDArray[np.bool_]:
        """(M,) bool: which candidates are still possible."""
        return self.log_weights > -np.inf

    @property
    def probabilities(self) -> Floats:
        """(M,) float64, summing to 1 up to rounding; very unlikely candidates may show as 0.0 here."""
        return np.exp(self.log_weights)

    def minority(self, signs: npt.NDArray[np.integer]) -> float:
        """The mass of the less likely of the two signs.

        Args:
            signs: (M,) of −1 and +1, one per candidate.

        Returns:
            In [0, 1/2]. It is 0.0 exactly where all possible candidates have one sign (counted), and above 0 otherwise:
            a mass below the smallest normal float becomes that float, which overstates what a release tells.

        Raises:
            PACZeroError: signs of another shape or with other values.
        """
        plus, minus = self._split(signs)
        if not (plus.size and minus.size):
            return 0.0
        masses = float(np.exp(plus).sum()), float(np.exp(minus).sum())
        return max(min(masses) / sum(masses), sys.float_info.min)

    def mass_of_plus(self, signs: npt.NDArray[np.integer]) -> float:
        """q: the mass of the candidates whose sign is +1, in [0, 1]; for display, as it may round to 0 or 1."""
        plus, minus = self._split(signs)
        mass, rest = float(np.exp(plus).sum()), float(np.exp(minus).sum())
        return mass / (mass + rest)

    def observed(self, log_likelihood: Floats) -> "Posterior":
        """Bayes' rule: the distribution after a release.

        Args:
            log_likelihood: (M,), log probability (or density) of what was released under each candidate, up to a shared
                constant; −inf where the candidate cannot have released it.

        Raises:
            PACZeroError: another shape, NaN or +inf.
            IntegrityError: no candidate that was possible could have released this.
        """
        evidence = np.asarray(log_likelihood, dtype=np.float64)
        if evidence.shape != self.log_weights.shape:
            raise PACZeroError(f"log_likelihood: shape {evidence.shape} was given; expected {self.log_weights.shape}")
        weights = self.log_weights + evidence
        if (weights == -np.inf).all():
            raise IntegrityError(
                "release: no possible candidate could have released this value; expected the sign of one of them; "
                "the journal and the candidates do not belong together"
            )
        return Posterior(weights)

    def _split(self, signs: npt.NDArray[np.integer]) -> tuple[Floats, Floats]:
        """Log weights of the possible candidates of sign +1 and of sign −1, relative to the likeliest of all."""
        array = np.asarray(signs)
        if array.shape != self.log_weights.shape:
            raise PACZeroError(f"signs: shape {array.shape} was given; expected {self.log_weights.shape}")
        plus = array == 1
        if not (plus | (array == -1)).all():
            raise PACZeroError("signs: a value other than -1 and +1 was given; expected the sign of every candidate")
        relative, supported = self.log_weights - self.log_weights.max(), self.supported
        return relative[plus & supported], relative[~plus & supported]


def _log_sum(logs: Floats) -> float:
    """ln Σ exp(logs); −inf where all are."""
    top = float(logs.max())
    return top if top == -np.inf else top + float(np.log(np.exp(logs - top).sum()))
