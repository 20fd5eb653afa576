"""One step's release (the public values, and beside them what only the journal keeps), and who makes one.

>>> step = Release(step=0, y=(1,), unanimous=(True,), signs=(b"\\xf0",), q=(1.0,), beta=(0.0,), noise=(0.0,))
>>> Release.from_journal(step.to_journal()) == step
True
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from paczero.errors import IntegrityError

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

    def recall(self, release: Release) -> None:
        """Takes a written release again, on resume: checks it and restores posterior, ledger and step.

        Raises:
            IntegrityError: it is not what this mechanism would have written.
        """
        ...


def _typed(value: Any, *types: type) -> Any:
    if type(value) not in types:
        raise TypeError(f"{value!r} is no {types[0].__name__}")
    return value
