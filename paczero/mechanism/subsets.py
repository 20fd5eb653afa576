"""The M candidate subsets, each unit in exactly half of them: public, and fixed before the secret is drawn.

>>> membership = draw_subsets(6, 4, seed=0)
>>> membership.shape, membership.sum(axis=1).tolist()
((6, 4), [2, 2, 2, 2, 2, 2])

Every bound on what is learnt about a unit holds for any family in which each unit is in half of the candidates. The
family decides how often the candidates agree, and so what a step costs, or how often it is a coin:

- `random`: each unit's half is independent of the others' (the paper's, arXiv 2605.06505).
- `paired`: units of a label that are alike form pairs, and every candidate takes one of each pair.
- `balanced`: complementary halves that resemble each other (after the discrepancy designs of experiments; see Harshaw,
  Sävje, Spielman & Zhang 2024, "Balancing covariates in randomized experiments with the Gram–Schmidt walk").

All are functions of public values: the seed, features of the base model, and the pool, which is known to everyone here.
So the candidates do not depend on the secret, whichever of the two is computed first. Memory stays at a small multiple
of the features for any number of units: similarities are computed in blocks, and only the nearest units are kept.
"""

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from paczero.errors import PACZeroError

Family = Literal["random", "paired", "balanced"]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

# Each keeps one use of the public seed apart from all others.
_PURPOSES = {"random": 0x52414E44, "paired": 0x50414952, "balanced": 0x42414C41, "units of a step": 0x50415254}
_NEAREST = 24  # candidates for a partner, per unit and round
_LARGEST_CELL = 12288  # units compared all with all; more are first split by random cuts
_SIMILARITIES = 2**22  # at a time: 16 MB
_REDUCED = 64  # dimensions of features per label, and of pilots
_SWEEPS = 10
_BLOCK = 32  # units whose mutual products are computed at once


def draw_subsets(
    units: int,
    subsets: int,
    *,
    seed: int,
    family: Family = "random",
    features: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
    pilots: npt.ArrayLike | None = None,
) -> Bools:
    """Draws which unit is in which candidate.

    Args:
        units: N >= 1.
        subsets: M, even, >= 2.
        seed: public, >= 0. The result is a function of the arguments.
        family: `random`, `paired` or `balanced`.
        features: (N, D) the base model's hidden state of each unit; `paired` and `balanced` need these or pilots.
        labels: (N,) integers; units are compared within a label. Without them all units have the same label.
        pilots: (N, P) derivatives along P public directions at the base model, clipped as the mechanism clips.

    Returns:
        bool (N, M); each row sums to M/2.

    Raises:
        PACZeroError: an argument out of range, of another shape, or not finite.
    """
    if units < 1:
        raise PACZeroError(f"units: {units!r} was given; expected 1 or more")
    if subsets < 2 or subsets % 2:
        raise PACZeroError(f"subsets: {subsets!r} was given; expected an even number, 2 or more")
    if family not in get_args(Family):
        raise PACZeroError(f"family: {family!r} was given; expected one of {', '.join(get_args(Family))}")
    rng = _generator(seed, family)
    if family == "random":
        return _random(units, subsets, rng)
    known, derivatives = _matrix("features", features, units), _matrix("pilots", pilots, units)
    alike = known if known is not None else derivatives
    if alike is None:
        raise PACZeroError(f"features: none were given; the family {family!r} needs features (or pilots) of each unit")
    values = np.zeros(units, dtype=np.int64) if labels is None else np.asarray(labels)
    if values.shape != (units,):
        raise PACZeroError(f"labels: shape {values.shape} was given; expected ({units},)")
    groups = [np.flatnonzero(values == value) for value in np.unique(values)]
    if family == "balanced":
        return _balanced(subsets, groups, known, derivatives, rng)
    return _paired(subsets, groups, alike, rng)


def draw_units(units: int, count: int, *, seed: int, step: int) -> Indices:
    """The public random choice of the units that a step uses.

    Args:
        units: N >= 1.
        count: how many, from 1 to N.
        seed: public, >= 0.
        step: t >= 0.

    Returns:
        (count,) different unit indices, ascending.

    Raises:
        PACZeroError: the count is out of range.
    """
    if not 1 <= count <= units:
        raise PACZeroError(f"count: {count!r} units were requested; expected 1 to {units}")
    return np.sort(_generator(seed, "units of a step", step).choice(units, size=count, replace=False))


def _generator(seed: int, purpose: str, *more: int) -> np.random.Generator:
    """The public random stream of one use of the seed."""
    return np.random.default_rng(np.random.SeedSequence([seed, _PURPOSES[purpose], *more]))


def _matrix(name: str, values: npt.ArrayLike | None, units: int) -> Floats | None:
    if values is None:
        return None
    matrix = np.asarray(values, dtype=np.float32)
    if matrix.ndim != 2 or len(matrix) != units or not matrix.shape[1]:
        raise PACZeroError(f"{name}: shape {matrix.shape} was given; expected ({units}, columns), a row for each unit")
    if not np.isfinite(matrix).all():
        raise PACZeroError(f"{name}: a value is not finite; expected finite numbers (is the base model sound?)")
    return matrix


def _random(units: int, subsets: int, rng: np.random.Generator) -> Bools:
    """Each row an independent, uniformly random half of the M columns."""
    membership = np.zeros((units, subsets), dtype=np.uint8)
    membership[:, : subsets // 2] = 1
    rng.permuted(membership, axis=1, out=membership)
    return membership.view(np.bool_)


def _paired(subsets: int, groups: list[Indices], features: Floats, rng: np.random.Generator) -> Bools:
    """One of each pair in every candidate; pairs are alike within a label, most alike first.

    Args:
        subsets: M.
        groups: the unit indices of each label.
        features: (N, D).
        rng: the family's stream.
    """
    pairs, leftovers = [np.empty((0, 2), dtype=np.int64)], []
    for members in groups:
        for cell in _cells(_directions_of(features[members]), np.arange(len(members)), rng):
            found, rest = _match(_directions_of(features[members[cell]]), rng)
            pairs.append(members[cell[found]])
            leftovers.append(members[cell[rest]])
    rest = rng.permutation(np.concatenate(leftovers))
    even = len(rest) - len(rest) % 2
    pairs.append(rest[:even].reshape(-1, 2))
    first, second = np.concatenate(pairs).T
    membership = np.empty((len(features), subsets), dtype=np.bool_)
    membership[first] = _random(len(first), subsets, rng)
    membership[second] = ~membership[first]
    membership[rest[even:]] = _random(len(rest) - even, subsets, rng)
    return membership


def _directions_of(features: Floats) -> Floats:
    """Centred rows of length 1 (0 for a row at the mean), so that products are cosines."""
    tamed = _tamed(features)
    centred = _tamed(tamed - tamed.mean(axis=0, dtype=np.float64).astype(np.float32))
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return (centred / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)


def _tamed(values: Floats) -> Floats:
    """Values divided by the largest of them, so that squares neither overflow nor vanish."""
    largest = max(float(np.abs(values).max(initial=0.0)), float(np.finfo(np.float32).tiny))
    return (values / np.float32(largest)).astype(np.float32, copy=False)


def _cells(directions: Floats, members: Indices, rng: np.random.Generator) -> Iterator[Indices]:
    """Splits units at the median along random directions until the units of a cell can be compared all with all."""
    if len(members) <= _LARGEST_CELL:
        yield members
        return
    axis = rng.standard_normal(directions.shape[1], dtype=np.float32)
    order = np.argsort(directions[members] @ axis, kind="stable")
    middle = len(members) // 4 * 2  # even, so that every unit of the first cell finds a partner
    yield from _cells(directions, members[order[:middle]], rng)
    yield from _cells(directions, members[order[middle:]], rng)


def _match(directions: Floats, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Greedy pairs by cosine among `directions` (n, D): (n // 2, 2) indices, and the one left over, if any."""
    free = rng.permutation(len(directions))
    pairs = []
    while len(free) > 1:
        left, right, cosines = _nearest(directions[free], min(_NEAREST, len(free) - 1))
        taken = np.zeros(len(free), dtype=bool)
        order = np.argsort(-cosines, kind="stable")
        for one, other in zip(left[order].tolist(), right[order].tolist(), strict=True):
            if not (taken[one] or taken[other]):
                taken[one] = taken[other] = True
                pairs.append((free[one], free[other]))
        free = free[~taken]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2), free


def _nearest(directions: Floats, count: int) -> tuple[Indices, Indices, Floats]:
    """For each row its `count` nearest others: indices of both, and their cosine; each (n · count,)."""
    rows = len(directions)
    partners, cosines = np.empty((rows, count), dtype=np.int64), np.empty((rows, count), dtype=np.float32)
    size = max(1, _SIMILARITIES // rows)
    for start in range(0, rows, size):
        block = directions[start : start + size] @ directions.T
        here = np.arange(len(block))
        block[here, start + here] = -np.inf
        best = np.argpartition(block, rows - count, axis=1)[:, rows - count :]
        partners[start : start + size] = best
        cosines[start : start + size] = np.take_along_axis(block, best, axis=1)
    return np.repeat(np.arange(rows), count), partners.ravel(), cosines.ravel()


def _balanced(
    subsets: int, groups: list[Indices], features: Floats | None, pilots: Floats | None, rng: np.random.Generator
) -> Bools:
    """M/2 halves with a small imbalance, and their complements, in a random order of columns.

    The imbalance of a half x in {-1, +1}^N is |Fᵀx|². F stacks, per label, the reduced features and a constant (so that
    labels stay balanced in number), and the pilots. Each of the three has the same sum of squares.

    Args:
        subsets: M.
        groups: the unit indices of each label.
        features: (N, D) or None.
        pilots: (N, P) or None; not both None.
        rng: the family's stream.
    """
    units = sum(len(members) for members in groups)
    constants = np.zeros((units, len(groups)), dtype=np.float32)
    blocks = [constants]
    for number, members in enumerate(groups):
        constants[members, number] = 1
    if features is not None:
        width = min(_REDUCED, features.shape[1])
        kernel = np.zeros((units, len(groups) * width), dtype=np.float32)
        for number, members in enumerate(groups):
            kernel[members, number * width : (number + 1) * width] = _reduced(_directions_of(features[members]), rng)
        blocks.append(kernel)
    if pilots is not None:
        blocks.append(_reduced(_tamed(pilots), rng))
    halves = _descend(np.hstack([_scaled(block) for block in blocks]), subsets // 2, rng)
    membership = np.hstack([halves, ~halves])
    return membership[:, rng.permutation(subsets)]


def _reduced(values: Floats, rng: np.random.Generator) -> Floats:
    """At most 64 columns that hold most of the rows' products (a randomised singular value decomposition)."""
    width = values.shape[1]
    if width <= _REDUCED:
        return values
    basis = np.linalg.qr(values.T @ (values @ rng.standard_normal((width, 2 * _REDUCED), dtype=np.float32)))[0]
    projected = values @ basis
    return projected @ np.linalg.svd(projected.T @ projected)[0][:, :_REDUCED]


def _scaled(block: Floats) -> Floats:
    """A block with the sum of squares N, so that the three blocks weigh the same."""
    total = float(np.square(block, dtype=np.float64).sum())
    return block * np.float32(np.sqrt(len(block) / total)) if total > 0 else block


def _descend(rows: Floats, halves: int, rng: np.random.Generator) -> Bools:
    """Coordinate descent on |Fᵀx|² from random starts, all halves at once.

    A unit changes sides where that lowers the imbalance: where x_i F_i·V > |F_i|², V = Fᵀx. Within a block of units the
    block's Gram matrix keeps the products F_i·V up to date, so the flips are those of one unit after another.

    Args:
        rows: F, (N, D).
        halves: H.
        rng: the family's stream.

    Returns:
        bool (N, H).
    """
    sides = rng.integers(0, 2, size=(len(rows), halves), dtype=np.int8).astype(np.float32) * 2 - 1
    squares = np.einsum("ij,ij->i", rows, rows)
    for _ in range(_SWEEPS):
        order = rng.permutation(len(rows))
        total = rows.T @ sides  # computed anew each sweep, so that rounding does not pile up
        flips = 0
        for start in range(0, len(rows), _BLOCK):
            units = order[start : start + _BLOCK]
            block = rows[units]
            gram, pulls, x = block @ block.T, block @ total, sides[units]
            before = x.copy()
            for i in range(len(units)):
                flip = x[i] * pulls[i] > squares[units[i]]
                if flip.any():
                    change = np.where(flip, -2 * x[i], 0)
                    x[i] += change
                    pulls += gram[:, i, None] * change
                    flips += int(flip.sum())
            change = x - before
            total += block.T @ change
            sides[units] = x
        if not flips:
            break
    return sides > 0
