"""From derivatives to the sign of every candidate subset, by integers only.

>>> import numpy as np
>>> membership = np.array([[True, False], [False, True], [True, False]])
>>> subset_signs(np.array([3.0, -2.0, -1.0]), membership, clip=25.0)
array([ 1, -1], dtype=int8)

A unit's derivative is clipped to ±c and becomes the integer round(g/c · 2^40). A candidate's sign is that of the sum
over its members, and 0 counts as +1. Integer sums do not depend on the order of the records, on the number of threads
or on the machine. So the released bit does not either, once the derivatives are given.

Source: the sign quantisation of arXiv 2605.06505; the integers are ours.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from paczero.errors import PACZeroError

SCALE = 2.0**40
LARGEST_POOL = 2**22
# A row chunk of the membership matrix is turned into float64 for BLAS. Its integers stay at or below
# 2^40 · 2^13 = 2^53 in every partial sum, so the product is exact in whatever order BLAS adds. 2^11 rows of 128
# candidates are 2 MB: they stay in the cache.
_CHUNK_ROWS = 2**11
_CHUNK_ENTRIES = 2**18

Empty = Literal["positive", "majority"]


def quantise(derivatives: npt.ArrayLike, *, clip: float) -> tuple[npt.NDArray[np.int64], int]:
    """Clipped derivatives as integers.

    Args:
        derivatives: (N,) or (N, K) float64, one a unit (and direction).
        clip: c > 0, in the derivatives' unit.

    Returns:
        int64 of the same shape, each round(g/c · 2^40) in [-2^40, 2^40], and how many derivatives were not finite. They
        count as 0.

    Raises:
        PACZeroError: c is not a finite number above 0, there are no units, or more than 2^22.
    """
    values = np.asarray(derivatives, dtype=np.float64)
    if not (np.isfinite(clip) and clip > 0):
        raise PACZeroError(f"clip: {clip!r} was given; expected a finite number above 0")
    if values.ndim not in (1, 2) or values.size == 0:
        raise PACZeroError(f"derivatives: shape {values.shape} was given; expected one number or more a unit")
    if len(values) > LARGEST_POOL:
        raise PACZeroError(f"derivatives: {len(values)} units were given; sums are exact up to 2^22 = {LARGEST_POOL}")
    finite = np.isfinite(values)
    nonfinite = values.size - int(np.count_nonzero(finite))
    if nonfinite:
        values = np.where(finite, values, 0.0)
    scaled = np.clip(values, -clip, clip)
    scaled /= clip
    scaled *= SCALE
    return np.rint(scaled, out=scaled).astype(np.int64), nonfinite


def unit_means(
    record_values: npt.ArrayLike, unit_of_record: npt.ArrayLike, units: int
) -> tuple[npt.NDArray[np.float64], int]:
    """The mean derivative over each unit's records.

    Args:
        record_values: (R, K) derivatives.
        unit_of_record: (R,) each record's unit, in [0, units).
        units: N; each has one record or more.

    Returns:
        (N, K) float64, the same for any order of the records, and how many values were not finite. They count as 0.

    Raises:
        PACZeroError: shapes disagree, a unit number is out of range, or a unit has no record.
    """
    values, owner = np.asarray(record_values, dtype=np.float64), np.asarray(unit_of_record)
    if values.ndim != 2 or owner.shape != values.shape[:1]:
        raise PACZeroError(
            f"record_values: shapes {values.shape} and {owner.shape} were given; expected (R, K) and (R,)"
        )
    records = np.bincount(owner, minlength=units)
    if len(records) != units or not records.all():
        raise PACZeroError(f"unit_of_record: expected a record or more of each unit from 0 to {units - 1}")
    finite = np.isfinite(values)
    values = np.where(finite, values, 0.0)
    means = np.empty((units, values.shape[1]))
    starts = np.concatenate(([0], np.cumsum(records)[:-1]))
    for k in range(values.shape[1]):
        # Sorted by value within the unit: a float sum depends on the order, which must not be that of the records.
        order = np.lexsort((values[:, k], owner))
        # Divided before they are added: values near the largest float must not overflow to infinity.
        means[:, k] = np.add.reduceat(values[order, k] / records[owner[order]], starts)
    return means, int(values.size - np.count_nonzero(finite))


def subset_sums(quantised: npt.NDArray[np.int64], membership: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The exact sum over each candidate's members.

    Args:
        quantised: (N, K) from `quantise`.
        membership: (N, M) bool.

    Returns:
        (K, M) int64.
    """
    sums = np.zeros((quantised.shape[1], membership.shape[1]), dtype=np.int64)
    size = max(1, min(_CHUNK_ROWS, _CHUNK_ENTRIES // max(1, membership.shape[1])))
    for start in range(0, len(membership), size):
        stop = start + size
        rows = np.ascontiguousarray(quantised[start:stop].T).astype(np.float64)
        sums += (rows @ membership[start:stop].astype(np.float64)).astype(np.int64)
    return sums


def direction_signs(
    derivatives: npt.ArrayLike, membership: npt.ArrayLike, *, clip: float, empty: Empty = "positive"
) -> tuple[npt.NDArray[np.int8], int]:
    """Every candidate's sign for each of K directions; see `subset_signs`.

    Args:
        derivatives: (N, K).
        membership: (N, M) bool.

    Returns:
        int8 (K, M) and how many derivatives were not finite.
    """
    members = np.asarray(membership)
    quantised, nonfinite = quantise(derivatives, clip=clip)
    if quantised.ndim != 2 or members.ndim != 2 or members.dtype != np.bool_ or len(members) != len(quantised):
        raise PACZeroError(
            f"membership: {members.dtype} of shape {members.shape} was given for derivatives of shape "
            f"{quantised.shape}; expected bool (N, M) with a row for each unit"
        )
    signs = np.where(subset_sums(quantised, members) >= 0, 1, -1).astype(np.int8)
    if empty == "majority":
        filled = members.any(axis=0)
        if not filled.all():
            votes = signs[:, filled].sum(axis=1, dtype=np.int64)
            signs[:, ~filled] = np.where(votes >= 0, 1, -1)[:, None]
    elif empty != "positive":
        raise PACZeroError(f"empty: {empty!r} was given; expected 'positive' or 'majority'")
    return signs, nonfinite


def subset_signs(
    derivatives: npt.ArrayLike, membership: npt.ArrayLike, *, clip: float, empty: Empty = "positive"
) -> npt.NDArray[np.int8]:
    """Every candidate's sign for one direction.

    Args:
        derivatives: (N,) float64, one a unit; what is not finite counts as 0.
        membership: (N, M) bool, which unit is in which candidate.
        clip: c > 0.
        empty: what a candidate without members gets: `positive` (its sum is 0) or the `majority` of the others' signs
            (+1 at a tie), for steps that use some units of the pool.

    Returns:
        int8 (M,) of +1 and -1; a sum of 0 is +1.

    Raises:
        PACZeroError: shapes disagree, c is not above 0, or there are more than 2^22 units.
    """
    column = np.asarray(derivatives, dtype=np.float64)
    if column.ndim != 1:
        raise PACZeroError(f"derivatives: shape {column.shape} was given; expected (N,)")
    return direction_signs(column[:, None], membership, clip=clip, empty=empty)[0][0]
