"""What a mechanism is, and the release that it makes of each step.

>>> step = Release(step=0, y=(1,), unanimous=(True,), signs=(b"\\xf0",), q=(1.0,), beta=(0.0,), noise=(0.0,))
>>> Release.from_journal(step.to_journal()) == step
True

`StepCounter` is the base of all mechanisms: steps come once and in order. `StatelessMechanism` is the base of those
without candidate subsets, whose release is a function of one step's derivatives and of noise.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.margins import Margin
from paczero.utils.io import canonical

Floats = npt.NDArray[np.float64]
UnitIndices = npt.NDArray[np.integer[Any]]
Values = tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True)
class Release:
    """What a mechanism made of one step. Each tuple has K entries, one a direction. Only `y` is public.

    Attributes:
        step: t, from 0.
        y: what is released: +1 and -1 (`skip`: or 0), or finite floats of a real-valued mechanism.
        unanimous: whether all possible candidates had the same sign.
        signs: every candidate's sign, packed eight to a byte (1 = positive); empty where there are no candidates.
        q: the probability of a positive sign given all earlier releases; 0.5 where there are no candidates.
        beta: nats charged.
        noise: the flip probability (`gaussian` channel: σ) of a contested direction; σ in units of the clip of a
            differentially private mechanism; 0.0 where nothing was added.
        output: the real numbers of which y are the signs, for the `gaussian` channel only.
        nonfinite: how many derivatives were not finite and counted as 0.
    """

    step: int
    y: Values
    unanimous: tuple[bool, ...]
    signs: tuple[bytes, ...]
    q: tuple[float, ...]
    beta: tuple[float, ...]
    noise: tuple[float, ...]
    output: tuple[float, ...] | None = None
    nonfinite: int = 0

    def to_journal(self) -> dict[str, Any]:
        """A dictionary for JSON, from which `from_journal` makes the same release."""
        row = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        row["t"] = row.pop("step")
        row["signs"] = [packed.hex() for packed in self.signs]
        row["noise"] = ["inf" if math.isinf(value) else value for value in self.noise]  # JSON has no infinity
        return row

    @classmethod
    def from_journal(cls, entry: dict[str, Any]) -> "Release":
        """The release that `to_journal` wrote.

        Raises:
            IntegrityError: `to_journal` does not write such an entry.
        """
        try:
            row: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()
            }
            row |= {"signs": tuple(map(bytes.fromhex, row["signs"])), "noise": tuple(map(float, row["noise"]))}
            release = cls(step=row.pop("t"), **row)
            same = canonical(release.to_journal()) == canonical(entry)
            k = len(release.y)
            lists = (release.unanimous, release.q, release.beta, release.noise, release.signs or release.y)
            same &= {k} == {len(values) for values in (*lists, release.y if release.output is None else release.output)}
        except (KeyError, TypeError, ValueError):
            same = False
        if not same:
            raise IntegrityError(f"journal step {entry.get('t')!r}: paczero writes no such entry; restore the file")
        return release


class Mechanism(Protocol):
    """What the training loop uses: derivatives in, a `Release` out.

    Attributes:
        name: as in a transcript's header.
        directions: K, releases a step.
        budget: B in nats; 0 where the secret is never read, None where nothing is promised.
        spent: nats charged so far; private, for the owner's display.
    """

    name: str
    directions: int

    @property
    def budget(self) -> float | None: ...

    @property
    def spent(self) -> float: ...

    def sample(self, step: int) -> UnitIndices | None:
        """The units (n,) that step `step` is measured on, drawn in secret; None for the whole pool.

        The caller takes it before it measures the step, passes it to `release`, and does not keep it.
        """
        ...

    def release(
        self, step: int, derivatives: Floats, *, nonfinite: int = 0, unit_indices: UnitIndices | None = None
    ) -> Release:
        """Releases step `step` (from 0, consecutive).

        Args:
            derivatives: (N, K) float64, one row a unit; what is not finite counts as 0.
            nonfinite: how many record derivatives were not finite and already stand as 0; those found here are added.
            unit_indices: (n,) the units of the rows, where `derivatives` is (n, K); None for the whole pool.

        Raises:
            PACZeroError: another step is next, or a shape is wrong.
        """
        ...

    def restore(self, release: Release) -> None:
        """Takes a written release again, on resume, and restores posterior, ledger and step. Nothing is drawn.

        Raises:
            IntegrityError: this mechanism would not have written it.
        """
        ...

    @property
    def unit_spent(self) -> UnitIndices | None:
        """What each unit (N,) has spent so far, which no release tells; None where the journal alone is enough.

        The caller keeps it in private, on disk before the release is, and hands it back on resume.
        """
        ...

    def restore_spent(self, spent: UnitIndices) -> None:
        """Takes what the units had spent after the last written release."""
        ...

    def margins(self, derivatives: Floats, unit_indices: UnitIndices | None = None) -> tuple[Margin, ...]:
        """How much each direction of a step hangs on one unit, for the owner; empty without candidates.

        Args:
            derivatives, unit_indices: as for `release`.
        """
        ...


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

    @property
    def spent(self) -> float:
        """Nats charged so far."""
        return 0.0

    def sample(self, step: int) -> UnitIndices | None:
        """The whole pool (None); see `Mechanism.sample`."""
        return None

    @property
    def unit_spent(self) -> UnitIndices | None:
        """None: the journal is enough; see `Mechanism.unit_spent`."""
        return None

    def restore_spent(self, spent: UnitIndices) -> None:
        """Refuses it: there are no accounts of units."""
        raise PACZeroError(f"spent: accounts of {len(spent)} units were given; expected none with this mechanism")

    def margins(self, derivatives: Floats, unit_indices: UnitIndices | None = None) -> tuple[Margin, ...]:
        """Nothing, without candidates; see `Mechanism.margins`."""
        return ()

    def _checked(self, derivatives: Floats) -> Floats:
        values = np.asarray(derivatives, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.directions:
            raise PACZeroError(f"derivatives: shape {values.shape} was given; expected (N, {self.directions})")
        return values

    def _next(self, step: int, error: type[PACZeroError]) -> None:
        if step != self._step:
            raise error(f"step: {step!r} was given; expected step {self._step}, each once and in order")
        self._step += 1


class StatelessMechanism(StepCounter, ABC):
    """A release that is a function of the derivatives and of noise; a subclass says which.

    Args:
        directions: K >= 1.

    Attributes:
        name: as in a transcript's header.
        real: whether it releases real numbers; otherwise +1 and -1.
        budget: B in nats; None where nothing is promised.
        noise: σ, for the journal.
    """

    name: str
    real = False
    budget: float | None = None
    noise = 0.0

    def release(
        self, step: int, derivatives: Floats, *, nonfinite: int = 0, unit_indices: UnitIndices | None = None
    ) -> Release:
        """Releases step `step`; see `Mechanism.release`."""
        values = self._checked(derivatives)
        self._check_units(len(values), unit_indices)
        self._next(step, PACZeroError)
        finite = np.isfinite(values)
        found = int(values.size - np.count_nonzero(finite))
        return self._released(step, self._values(step, np.where(finite, values, 0.0)), nonfinite + found)

    def restore(self, release: Release) -> None:
        """Takes a written release again; see `Mechanism.restore`."""
        self._next(release.step, IntegrityError)
        fine = len(release.y) == self.directions and all(map(self._is_value, release.y))
        if not fine or release != self._released(release.step, release.y, release.nonfinite):
            what = "real numbers" if self.real else "signs"
            raise IntegrityError(f"journal step {release.step}: not a release of {self.directions} {what}")

    @abstractmethod
    def _values(self, step: int, derivatives: Floats) -> Values:
        """The K values of a step, from finite derivatives (n, K)."""

    def _check_units(self, rows: int, unit_indices: UnitIndices | None) -> None:
        """Refuses derivatives of other units than the step is to be measured on."""
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
