"""What one cell gains over another, paired by seed and by test record.

    difference(zpl, none)
    # Difference(seeds=(0, 1, 2), mean=-0.0099, interval=(-0.028, 0.009), shared=True)

How far a difference could be off: a bootstrap over seeds and over test records at once.

>>> same = "one test set"
>>> interval([Paired(same, np.array([1.0, 0, 0, 0])), Paired(same, np.array([0.0, 0, 0, 0]))])
(0.0, 0.5)

Two things are drawn with replacement, each as many as there are: the seeds, and the test records. What is drawn of the
records depends on the design:

- **crossed**: seeds that were scored on the same test set get the same drawn records, as the records are the same ones
  (the pigeonhole bootstrap: Owen 2007, The Annals of Applied Statistics 1(2), arXiv 0712.1111);
- **nested**: a seed with a test set of its own gets records of its own, each time that it is drawn.

One seed alone gets its records drawn only. Both kinds are drawn by multinomial counts over the records' distinct
patterns of differences, which is the same law as drawing records and has far fewer parts. With few seeds the interval
is rather too narrow: the spread of S drawn seeds is (S − 1)/S of the seeds' own.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paczero.errors import IntegrityError, PACZeroError
from paczero.experiments.cells import Cell, metric_of
from paczero.experiments.collect import Run


@dataclass(frozen=True)
class Difference:
    """Of a cell and a baseline; positive where the cell is better.

    Attributes:
        seeds: that both have a test figure of.
        mean: over these seeds, in the metric's own unit.
        interval: 95 %, bootstrapped over seeds and test records; None where a run does not say its decisions.
        shared: whether all these seeds were scored on one test set.
    """

    seeds: tuple[int, ...]
    mean: float
    interval: tuple[float, float] | None
    shared: bool


def difference(cell: Cell, baseline: Cell) -> Difference | None:
    """The paired difference; None where the two have no scored seed in common.

    Raises:
        IntegrityError: decisions of two runs on one test set are of different numbers of records.
    """
    other = {run.seed: run for run in baseline.runs}
    pairs = [(run, other[run.seed]) for run in cell.runs if run.seed in other and _scored_alike(run, other[run.seed])]
    if not pairs:
        return None
    better = metric_of([cell]).better
    means = [better(run.test or 0.0) - better(base.test or 0.0) for run, base in pairs]
    sign = better(1.0)
    differences = []
    for run, base in pairs:
        if run.scores is None or base.scores is None:
            continue
        if run.scores.size != base.scores.size:
            raise IntegrityError(
                f"{run.directory}, {base.directory}: decisions on {run.scores.size} and {base.scores.size} records of "
                "one test set; expected the same records"
            )
        differences.append(Paired(str(run.test_sha256), sign * (run.scores - base.scores)))
    whole = len(differences) == len(pairs)
    return Difference(
        seeds=tuple(run.seed for run, _ in pairs),
        mean=statistics.fmean(means),
        interval=interval(differences) if whole else None,
        shared=len({run.test_sha256 for run, _ in pairs}) == 1,
    )


def _scored_alike(run: Run, base: Run) -> bool:
    """Whether both have a figure of one test set."""
    known = run.test is not None and base.test is not None and run.test_sha256 is not None
    return known and run.test_sha256 == base.test_sha256


DRAWS, SEED, LEVEL = 10_000, 20_260, 0.95


@dataclass(frozen=True, eq=False)
class Paired:
    """One seed's differences.

    Attributes:
        test: which test set they are on; equal for seeds that share it.
        differences: (R,) one a test record.
    """

    test: str
    differences: NDArray[np.float64]


def interval(seeds: Sequence[Paired], *, draws: int = DRAWS, seed: int = SEED) -> tuple[float, float]:
    """The 95 % percentile interval of the mean over seeds of their mean differences.

    Raises:
        PACZeroError: no seed, or one without records; seeds that share a test set have other numbers of records.
    """
    low, high = np.quantile(resampled(seeds, draws=draws, seed=seed), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def resampled(seeds: Sequence[Paired], *, draws: int, seed: int) -> NDArray[np.float64]:
    """(draws,) the mean difference of each draw."""
    if not seeds or any(one.differences.size == 0 for one in seeds):
        raise PACZeroError("bootstrap: expected one seed or more, each with test records")
    random = np.random.default_rng(seed)
    count = len(seeds)
    times = random.multinomial(count, np.full(count, 1 / count), size=draws)  # (draws, S) how often each was drawn
    total = np.zeros(draws)
    for test in dict.fromkeys(one.test for one in seeds):
        group = [index for index, one in enumerate(seeds) if one.test == test]
        sizes = {seeds[index].differences.size for index in group}
        if len(sizes) > 1:
            raise PACZeroError(f"bootstrap: one test set with {' and '.join(map(str, sorted(sizes)))} records")
        size = sizes.pop()
        patterns, often = np.unique([seeds[index].differences for index in group], axis=1, return_counts=True)
        drawn = size if len(group) > 1 else times[:, group[0]] * size
        counts = random.multinomial(drawn, often / size, size=draws)  # (draws, patterns)
        means = counts @ patterns.T / size  # (draws, group)
        total += (means * times[:, group]).sum(axis=1) if len(group) > 1 else means[:, 0]
    return total / count
