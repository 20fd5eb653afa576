"""How much a step hangs on one unit: what each unit's absence would change. Private, for the owner.

>>> import numpy as np
>>> members = np.array([[True, False], [False, True], [True, False]])
>>> (found,) = margins(np.array([[1.0], [1.0], [-0.75]]), members, clip=1.0)
>>> found.sign, found.margin, found.without      # without unit 0, the first candidate's sum is below 0
(1, 0.25, {0: (0,)})

A unit is taken out by zeroing its derivative; the candidates stay as they are. All sums are the integers of `signs`,
so the answer is exact. Each unit is in half of the candidates; the sums of the other half do not move.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from paczero.mechanism.signs import SCALE, quantise, subset_sums

_ENTRIES = 2**22  # of the table units × candidates that is held at a time: 32 MB


@dataclass(frozen=True)
class Margin:
    """One direction of one step.

    Attributes:
        sign: the sign of all candidates, or 0 where they differ.
        margin: what one more unit would have to add to every candidate that it is in, in units of the clip, to change
            that: 1 or less can be had by one unit. The least |sum| where all agree; otherwise the largest |sum| of the
            candidates whose sign would have to change.
        without: what `sign` would be without a unit, and the units of which this is so; units that change nothing are
            left out. Units are numbered by their place in the pool.
    """

    sign: int
    margin: float
    without: dict[int, tuple[int, ...]]


def margins(
    derivatives: npt.ArrayLike,
    membership: npt.NDArray[np.bool_],
    *,
    clip: float,
    unit_indices: npt.NDArray[np.integer[Any]] | None = None,
) -> tuple[Margin, ...]:
    """The K directions of a step.

    Args:
        derivatives: (n, K) of the step's units.
        membership: (N, M) bool.
        clip: c > 0.
        unit_indices: (n,) the units of the rows, of which candidates without any are left out: they follow the others.
            None for the whole pool.
    """
    numbers, members = np.arange(len(membership)), membership
    if unit_indices is not None:
        numbers, members = np.asarray(unit_indices), membership[unit_indices]
        members = members[:, members.any(axis=0)]
    quantised, _ = quantise(derivatives, clip=clip)
    sums = subset_sums(quantised, members)
    return tuple(_margin(sums[k], quantised[:, k], members, numbers) for k in range(len(sums)))


def _margin(
    sums: npt.NDArray[np.int64],
    quantised: npt.NDArray[np.int64],
    members: npt.NDArray[np.bool_],
    numbers: npt.NDArray[np.integer[Any]],
) -> Margin:
    sign, positive = int(_signs(sums)), sums >= 0
    least = int(np.abs(sums).min() if sign else min(sums[positive].max(), -sums[~positive].min()))
    near = np.flatnonzero((np.abs(quantised) >= least) & (quantised != 0))
    without = np.full(len(quantised), sign)
    for part in np.array_split(near, 1 + near.size * members.shape[1] // _ENTRIES):
        without[part] = _signs(sums - quantised[part, None] * members[part])
    changed = {other: tuple(numbers[without == other].tolist()) for other in {-1, 0, 1} - {sign}}
    return Margin(sign, least / SCALE, {other: units for other, units in sorted(changed.items()) if units})


def _signs(sums: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The common sign of each row (..., M), 0 where there are both."""
    positive = sums >= 0
    return np.asarray(positive.all(axis=-1).astype(np.int64) - (~positive).all(axis=-1))
