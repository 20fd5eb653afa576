"""One step's release (the public values, and beside them what only the journal keeps), and who makes one.

>>> step = Release(step=0, y=(1,), unanimous=(True,), signs=(b"\\xf0",), q=(1.0,), beta=(0.0,), noise=(0.0,))
>>> Release.from_journal(step.to_journal()) == step
True

What every release object has in common: its steps come once and in order, its derivatives in the right shape.

What the releases without candidate subsets have in common: K values a step, made of the units' derivatives.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from paczero.errors import IntegrityError, PACZeroError

Part = npt.NDArray[np.integer[Any]] | None


@dataclass(frozen=True)
class Release:
    """What a mechanism made of one step; each tuple has K entries, one a direction.

    Attributes:
        step: t, from 0.
        y: what is released: +1 and -1 (`skip`: or 0), or finite floats of a real-valued mechanism; the rest is private.
        unanimous: whether all possible candidates had the same sign.
        signs: every candidate's sign, packed eight to a byte (1 = positive); none where there are no candidates.
        q: the probability of a positive sign under what was known before; 0.5 where there are no candidates.
        beta: nats charged.
        noise: flip probability or σ (of a differentially private mechanism: in units of the clip); 0.0 where nothing
            was added.
        output: the real numbers of which y are the signs, for the `gaussian` channel only.
        nonfinite: how many derivatives were not finite and counted as 0.
    """

    step: int
    y: tuple[int, ...] | tuple[float, ...]
    unanimous: tuple[bool, ...]
    signs: tuple[bytes, ...]
    q: tuple[float, ...]
    beta: tuple[float, ...]
    noise: tuple[float, ...]
    output: tuple[float, ...] | None = None
    nonfinite: int = 0

    def to_journal(self) -> dict[str, Any]:
        """A dictionary for JSON from which the release can be had back exactly (JSON has no infinity: it is text)."""
        return {
            "t": self.step,
            "y": list(self.y),
            "unanimous": list(self.unanimous),
            "signs": [packed.hex() for packed in self.signs],
            "q": list(self.q),
            "beta": list(self.beta),
            "noise": ["inf" if math.isinf(value) else value for value in self.noise],
            "output": None if self.output is None else list(self.output),
            "nonfinite": self.nonfinite,
        }

    @classmethod
    def from_journal(cls, entry: dict[str, Any]) -> "Release":
        """The release that `to_journal` wrote.

        Raises:
            IntegrityError: a key is missing or unknown, or a value has another type.
        """
        where = f"journal step {entry.get('t')!r}"
        names = {"t", "y", "unanimous", "signs", "q", "beta", "noise", "output", "nonfinite"}
        if set(entry) != names:
            raise IntegrityError(f"{where}: keys {sorted(set(entry) ^ names)} are missing or unknown; restore the file")
        try:
            release = cls(
                step=_typed(entry["t"], int),
                y=tuple(_typed(value, int, float) for value in entry["y"]),
                unanimous=tuple(_typed(value, bool) for value in entry["unanimous"]),
                signs=tuple(bytes.fromhex(text) for text in entry["signs"]),
                q=tuple(_typed(value, float) for value in entry["q"]),
                beta=tuple(_typed(value, float) for value in entry["beta"]),
                noise=tuple(math.inf if value == "inf" else _typed(value, float) for value in entry["noise"]),
                output=None if entry["output"] is None else tuple(_typed(value, float) for value in entry["output"]),
                nonfinite=_typed(entry["nonfinite"], int),
            )
        except (TypeError, ValueError):
            raise IntegrityError(f"{where}: a value has a type that paczero never writes; restore the file") from None
        sizes = {len(release.y), len(release.unanimous), len(release.q), len(release.beta), len(release.noise)}
        sizes |= {len(release.signs)} if release.signs else set()
        sizes |= {len(release.output)} if release.output is not None else set()
        if len(sizes) != 1:
            raise IntegrityError(f"{where}: it does not have one value of each kind a direction; restore the file")
        return release


class Mechanism(Protocol):
    """What the training loop sees: derivatives in, a `Release` out.

    Attributes:
        name: as in a transcript's header.
        directions: K, releases a step.
        budget: B in nats (0 where the secret is never read, None where no promise is made).
        spent: nats charged so far; private, for the owner's display.
    """

    name: str
    directions: int

    @property
    def budget(self) -> float | None: ...

    @property
    def spent(self) -> float: ...

    def sample(self, step: int) -> Part:
        """The units (n,) that step `step` is to be measured on, drawn in secret; None for the whole pool.

        Called before the step is measured. Whoever draws a sample releases the step from these units only, and keeps
        it no longer.
        """
        ...

    def release(
        self, step: int, derivatives: npt.NDArray[np.float64], *, nonfinite: int = 0, part: Part = None
    ) -> Release:
        """Releases step `step` (from 0, consecutive).

        Args:
            derivatives: (N, K) float64, one row a unit.
            nonfinite: how many record derivatives were not finite and already stand as 0; those found here are added.
            part: (n,) unit indices where `derivatives` has only these rows.
        """
        ...

    def restore(self, release: Release) -> None:
        """Takes a written release again, on resume: checks it and restores posterior, ledger and step.

        Raises:
            IntegrityError: it is not what this mechanism would have written.
        """
        ...


def _typed(value: Any, *types: type) -> Any:
    if type(value) not in types:
        raise TypeError(f"{value!r} is no {types[0].__name__}")
    return value


class StepCounter:
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


Values = tuple[int, ...] | tuple[float, ...]


class StatelessMechanism(StepCounter, ABC):
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

    def restore(self, release: Release) -> None:
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
