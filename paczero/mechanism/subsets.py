"""The M candidate subsets, each unit in exactly half of them: public, and fixed before the secret is drawn.

>>> membership = draw_subsets(6, 4, seed=0)
>>> membership.shape, membership.sum(axis=1).tolist()
((6, 4), [2, 2, 2, 2, 2, 2])

Every bound on what is learnt about a unit holds for any family of which each unit is in half of the members; what
the family changes is how often the candidates agree, and so what a step costs (or how often it is a coin):

- `random`: each unit's half is independent of the others' (the paper's, arXiv 2605.06505);
- `paired`: units of a label that are alike form pairs, and every candidate takes one of each pair;
- `balanced`: complementary halves chosen to resemble each other (after the discrepancy designs of experiments; see
  Harshaw, Sävje, Spielman & Zhang 2024, "Balancing covariates in randomized experiments with the Gram–Schmidt walk").

All are functions of public values: the seed, features of the base model, and the pool, which is known to everyone here.
So the candidates are fixed before the secret is drawn, also where they are computed after its file was written.
"""

import operator
from typing import Literal

import numpy as np
import numpy.typing as npt

from paczero.errors import PACZeroError
from paczero.mechanism.families import balanced, generator, paired, random

Family = Literal["random", "paired", "balanced"]
_PART = 0x50415254  # keeps the draw of a step's units apart from every other use of the seed


def draw_subsets(
    units: int,
    subsets: int,
    *,
    seed: int,
    family: Family = "random",
    features: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
    pilots: npt.ArrayLike | None = None,
) -> npt.NDArray[np.bool_]:
    """Draws which unit is in which candidate.

    Args:
        units: N >= 1.
        subsets: M, even, >= 2.
        seed: public, >= 0. The result is a function of the arguments.
        family: `random`, `paired` or `balanced`.
        features: (N, D) what the base model makes of each unit; `paired` and `balanced` need these or pilots.
        labels: (N,) integers; units are compared within a label. All are alike where left out.
        pilots: (N, P) derivatives along P public directions at the base model, clipped as the mechanism clips.

    Returns:
        bool (N, M); each row sums to M/2.

    Raises:
        PACZeroError: (a ValueError) an argument out of range, of another shape, or not finite.
    """
    units, subsets, seed = _whole("units", units, 1), _whole("subsets", subsets, 2), _whole("seed", seed, 0)
    if subsets % 2:
        raise PACZeroError(
            f"subsets: {subsets} was given; expected an even number, so that each unit is in half of them"
        )
    if family not in ("random", "paired", "balanced"):
        raise PACZeroError(f"family: {family!r} was given; expected 'random', 'paired' or 'balanced'")
    if family == "random":
        return random(units, subsets, generator(seed, family))
    known, pilot_values = _matrix("features", features, units), _matrix("pilots", pilots, units)
    groups = _groups(labels, units)
    rng = generator(seed, family)
    if family == "balanced" and (known is not None or pilot_values is not None):
        return balanced(subsets, groups, known, pilot_values, rng)
    likeness = known if known is not None else pilot_values
    if likeness is None:
        raise PACZeroError(f"features: none were given; the family {family!r} needs features (or pilots) of each unit")
    return paired(subsets, groups, likeness, rng)


def draw_part(units: int, part: int, *, seed: int, step: int) -> npt.NDArray[np.int64]:
    """The public random part of the pool that a step uses.

    Args:
        units: N >= 1.
        part: how many units, from 1 to N.
        seed: public, >= 0.
        step: t >= 0.

    Returns:
        (part,) different unit indices, ascending.

    Raises:
        PACZeroError: an argument out of range.
    """
    units, part = _whole("units", units, 1), _whole("part", part, 1)
    if part > units:
        raise PACZeroError(f"part: {part} units were asked for, but there are {units}; expected at most as many")
    rng = np.random.default_rng(np.random.SeedSequence([_whole("seed", seed, 0), _PART, _whole("step", step, 0)]))
    return np.sort(rng.choice(units, size=part, replace=False))


def _whole(name: str, value: int, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise PACZeroError(f"{name}: {value!r} was given; expected a whole number") from None
    if number < least:
        raise PACZeroError(f"{name}: {value!r} was given; expected {least} or more")
    return number


def _matrix(name: str, values: npt.ArrayLike | None, units: int) -> npt.NDArray[np.float32] | None:
    if values is None:
        return None
    matrix = np.asarray(values, dtype=np.float32)
    if matrix.ndim != 2 or len(matrix) != units or not matrix.shape[1]:
        raise PACZeroError(f"{name}: shape {matrix.shape} was given; expected ({units}, columns), a row for each unit")
    if not np.isfinite(matrix).all():
        raise PACZeroError(f"{name}: a value is not finite; expected finite numbers (is the base model sound?)")
    return matrix


def _groups(labels: npt.ArrayLike | None, units: int) -> list[npt.NDArray[np.int64]]:
    """The unit indices of each label."""
    if labels is None:
        return [np.arange(units)]
    values = np.asarray(labels)
    if values.shape != (units,) or not np.issubdtype(values.dtype, np.integer):
        raise PACZeroError(f"labels: {values.dtype} of shape {values.shape} was given; expected {units} integers")
    return [np.flatnonzero(values == value) for value in np.unique(values)]
