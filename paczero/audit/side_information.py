"""The gain of an attacker who knows the halves of some units, from the candidates alone, before any release.

>>> import numpy as np
>>> one, other = np.array([True, True, False, False]), np.array([True, False, True, False])
>>> pairs = np.stack([one, ~one, other, ~other])          # four units in two pairs, four candidates
>>> result = side_knowledge(pairs, known=(0, 1, 2))
>>> [(point.known, round(point.average, 3), point.worst) for point in result.points]
[(0, 0.5, 0.5), (1, 0.667, 1.0), (2, 0.833, 1.0)]
>>> result.correlation.determined
4

S* is uniform over the M candidates. Known halves leave the candidates that agree with them, all equally likely. The
best guess about another unit is its half in most of these. All probabilities are exact averages over S*. The known
units are drawn at random with a public seed (all sets if there are few), or chosen to leave the fewest candidates. A
bound such as `posterior_success` assumes a prior of 1/2, that is, no known unit; otherwise these figures are the prior.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from paczero.audit.arrays import Bools, Floats, count, flags
from paczero.errors import PACZeroError
from paczero.mechanism.subsets import draw_subsets

Labels = npt.NDArray[np.int64]

Indices = npt.NDArray[np.int64]

_TARGETS = 2048  # the most units that are guessed; a random part of a larger pool

_MOST_KNOWN = 64  # the most known units tried to identify S*

_ENTRIES = 2**22  # in a block of products or counts

_PURPOSE = 0x4B4E4F57  # separates these draws from other uses of the seed


@dataclass(frozen=True)
class KnownUnits:
    """The gain from knowing the halves of k units.

    Attributes:
        known: k.
        candidates_left: number of candidates that agree with the known halves, on average over S*.
        entropy: remaining entropy of S* in nats, on average; ln M at the start.
        average: success of the best guess about another unit, on average over S* and units.
        worst: the same for the most exposed unit, and the worst of the tried sets and their subsets.
    """

    known: int
    candidates_left: float
    entropy: float
    average: float
    worst: float


@dataclass(frozen=True)
class Correlation:
    """How much one unit's half reveals about another's: the largest |correlation| of each unit with another one.

    Attributes:
        mean, median, largest: over units.
        determined: number of units whose half follows from another unit's (|correlation| 1).
        units: number of units examined; all of a pool of up to 2,048.
    """

    mean: float
    median: float
    largest: float
    determined: int
    units: int


@dataclass(frozen=True)
class FamilyResult:
    """Side knowledge in one family of candidates.

    Attributes:
        family: its name.
        own: whether these are the run's own candidates.
        units: N.
        subsets: M.
        points: for known units drawn at random; for all sets of k units if k = 1 or there are no more than `draws`
            sets.
        chosen: for known units chosen one after another, each from 2,048, to leave the fewest candidates.
        partner: success of the best guess about a unit by an attacker who knows the half of one other unit, the one
            with the largest correlation; on average over units.
        correlation: see `Correlation`.
        to_identify: mean number of random known units that determine S*, and with it every unit's half; None if some
            candidates are alike, or 64 units do not suffice.
        draws: number of random sets of each size.
        seed: public, of these draws.
    """

    family: str
    own: bool
    units: int
    subsets: int
    points: tuple[KnownUnits, ...]
    chosen: tuple[KnownUnits, ...]
    partner: float
    correlation: Correlation
    to_identify: float | None
    draws: int
    seed: int


def side_knowledge(
    membership: npt.ArrayLike,
    *,
    family: str = "own",
    own: bool = False,
    known: Sequence[int] = (0, 1, 2, 4, 8, 16),
    draws: int = 64,
    seed: int = 0,
) -> FamilyResult:
    """The gain from knowing the halves of k units, for each k of `known`.

    Args:
        membership: (N, M) bool, which unit is in which candidate, each in exactly half of them.
        family: the name to report.
        own: whether these are a run's own candidates, to report.
        known: numbers of units, 0 or more; those above N − 1 are left out.
        draws: random sets of each size, 1 or more.
        seed: public, >= 0.

    Raises:
        PACZeroError: an argument out of range, fewer than two units, or a unit that is not in half of the candidates.
    """
    members = _halves(membership)
    units, subsets = members.shape
    wanted = sorted({k for k in (count("known", given) for given in known) if k < units})
    draws, seed = count("draws", draws, 1), count("seed", seed)
    rng = np.random.default_rng(np.random.SeedSequence([seed, _PURPOSE]))
    targets = np.sort(rng.permutation(units)[:_TARGETS])
    pairwise = correlations(members, targets)
    pairs = (1 + pairwise.largest) / 2
    orders = [rng.permutation(units)[: max([_MOST_KNOWN, *wanted])] for _ in range(draws)]
    points = [
        _single_point(subsets, pairs, pairwise.average)
        if k == 1
        else _mean_point(members, targets, _sets(units, k, orders))
        for k in wanted
    ]
    greedy = _chosen(members, targets, max(wanted, default=0))
    chosen = [_point(members, targets, greedy[:k]) for k in wanted if k <= len(greedy)]
    return FamilyResult(
        family=family,
        own=own,
        units=units,
        subsets=subsets,
        points=_never_less(points),
        chosen=_never_less(chosen),
        partner=float(pairs.mean()),
        correlation=pairwise.summary(),
        to_identify=_to_identify(members, orders),
        draws=draws,
        seed=seed,
    )


@dataclass(frozen=True, eq=False)
class Correlations:
    """|Correlation| of units with all others.

    Attributes:
        largest: (n,) of each unit, the largest with another.
        average: the mean over all pairs.
    """

    largest: Floats
    average: float

    def summary(self) -> Correlation:
        """Mean, median and largest value, and the number of determined units."""
        determined = int(np.count_nonzero(self.largest == 1))
        middle, top = float(np.median(self.largest)), float(self.largest.max())
        return Correlation(float(self.largest.mean()), middle, top, determined, len(self.largest))


def correlations(membership: npt.ArrayLike, targets: Indices | None = None) -> Correlations:
    """|Correlation| between the halves of some units and of every other, over S* uniform.

    Args:
        membership: (N, M) bool, each unit in exactly half of the candidates; N >= 2.
        targets: (n,) units; all where left out.

    Raises:
        PACZeroError: fewer than two units, or a unit that is not in half of the candidates.
    """
    members = _halves(membership)
    rows = np.arange(len(members)) if targets is None else np.asarray(targets)
    sides = np.where(members, 1, -1).astype(np.float32)  # products are whole numbers up to M: exact
    largest, total = np.empty(len(rows)), 0.0
    size = max(1, _ENTRIES // len(members))
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        products = np.abs(sides[part] @ sides.T)
        products[np.arange(len(part)), part] = 0
        largest[start : start + size] = products.max(axis=1)
        total += float(products.sum(dtype=np.float64))
    subsets = members.shape[1]
    return Correlations(largest / subsets, total / (len(rows) * (len(members) - 1) * subsets))


def beside_random(membership: npt.ArrayLike, family: str, *, seed: int = 0) -> tuple[FamilyResult, ...]:
    """Side knowledge in a run's own candidates and, for comparison, in as many drawn row by row, as in the paper.

    Args:
        membership: (N, M) bool, the run's.
        family: its name.
        seed: public, of the other candidates and of which units are known.
    """
    members = _halves(membership)
    own = side_knowledge(members, family=family, own=True, seed=seed)
    if family == "random":
        return (own,)
    drawn = draw_subsets(*members.shape, seed=seed, family="random")
    return own, side_knowledge(drawn, family="random", seed=seed)


def _halves(membership: npt.ArrayLike) -> Bools:
    shape = np.shape(membership)
    if len(shape) != 2 or shape[0] < 2 or shape[1] < 2:
        raise PACZeroError(f"membership: shape {shape} was given; expected (N, M) of two units and candidates or more")
    members = flags("membership", membership, shape)
    if (2 * members.sum(axis=1) != shape[1]).any():
        raise PACZeroError("membership: a unit was given that is not in half of the candidates; expected M/2 of M")
    return members


def _refined(members: Bools, known: Sequence[int]) -> Iterator[Labels]:
    """(M,) which candidates still look alike (the same label), after no unit, the first, the first two, …"""
    labels = np.zeros(members.shape[1], dtype=np.int64)
    yield labels
    for unit in known:
        labels = np.unique(2 * labels + members[unit], return_inverse=True)[1].reshape(-1)
        yield labels


def _splits(members: Bools, labels: Labels) -> Iterator[tuple[slice, npt.NDArray[np.int32], npt.NDArray[np.int32]]]:
    """Blocks of units, with the number of candidates of each label (n, C) that contain each unit, and that do not."""
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels).astype(np.int32)
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    size = max(1, _ENTRIES // len(labels))
    for start in range(0, len(members), size):
        block = slice(start, min(start + size, len(members)))
        inside = np.add.reduceat(members[block][:, order], starts, axis=1, dtype=np.int32)
        yield block, inside, sizes - inside


def _success(members: Bools, labels: Labels) -> Floats:
    """(n,) success of the best guess about each unit, over S*."""
    found = np.empty(len(members))
    for block, inside, outside in _splits(members, labels):
        found[block] = np.maximum(inside, outside).sum(axis=1) / len(labels)
    return found


def _point(members: Bools, targets: Indices, known: Sequence[int]) -> KnownUnits:
    """The gain from one set of known units."""
    *_, labels = _refined(members, known)
    sizes = np.bincount(labels)
    others = np.setdiff1d(targets, known)
    success = _success(members[others if others.size else np.setdiff1d(np.arange(len(members)), known)], labels)
    share = sizes / len(labels)
    return KnownUnits(
        known=len(known),
        candidates_left=float((share * sizes).sum()),
        entropy=float((share * np.log(sizes)).sum()),
        average=float(success.mean()),
        worst=float(success.max()),
    )


def _sets(units: int, k: int, orders: Sequence[Indices]) -> list[list[int]]:
    """Sets of k known units: all sets if there are no more than draws, else the starts of the drawn orders."""
    if math.comb(units, k) <= len(orders):
        return [list(known) for known in itertools.combinations(range(units), k)]
    return [order[:k].tolist() for order in orders]


def _mean_point(members: Bools, targets: Indices, sets: Sequence[Sequence[int]]) -> KnownUnits:
    """The mean over sets of known units, and the worst of the worst units."""
    tried = [_point(members, targets, known) for known in sets]
    left, entropy, average = np.mean([(p.candidates_left, p.entropy, p.average) for p in tried], axis=0).tolist()
    return KnownUnits(tried[0].known, left, entropy, average, worst=max(point.worst for point in tried))


def _single_point(subsets: int, pairs: Floats, average: float) -> KnownUnits:
    """One known unit, averaged over all: a guess by it is right with probability (1 + |correlation|)/2."""
    return KnownUnits(1, subsets / 2, math.log(subsets / 2), (1 + average) / 2, float(pairs.max()))


def _never_less(points: Sequence[KnownUnits]) -> tuple[KnownUnits, ...]:
    """A larger known set reveals no less: `worst` never decreases."""
    largest = itertools.accumulate((point.worst for point in points), max)
    return tuple(replace(point, worst=worst) for point, worst in zip(points, largest, strict=True))


def _chosen(members: Bools, targets: Indices, most: int) -> list[int]:
    """Up to `most` of the targets, taken one after another to leave the fewest candidates."""
    labels, order, pool = np.zeros(members.shape[1], dtype=np.int64), list[int](), members[targets]
    for _ in range(min(most, len(targets) - 1)):
        left = np.empty(len(pool))
        for block, inside, outside in _splits(pool, labels):
            # M times the mean number of candidates left
            left[block] = (inside.astype(np.float64) ** 2 + outside.astype(np.float64) ** 2).sum(axis=1)
        left[order] = np.inf
        order.append(int(left.argmin()))
        labels = np.unique(2 * labels + pool[order[-1]], return_inverse=True)[1].reshape(-1)
    return targets[order].tolist() if order else []


def _to_identify(members: Bools, orders: Sequence[Indices]) -> float | None:
    """The mean number of units until the candidate is alone, over S* and orders."""
    total = 0.0
    for order in orders:
        for labels in _refined(members, order.tolist()):
            alone = float(np.mean(np.bincount(labels)[labels] == 1))
            total += 1 - alone
            if alone == 1:
                break
        else:
            return None
    return total / len(orders)
