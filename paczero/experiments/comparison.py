"""The paired difference between two cells, and its interval by a bootstrap over seeds and test records.

>>> same = "one test set"
>>> interval([Paired(same, np.array([1.0, 0, 0, 0])), Paired(same, np.array([0.0, 0, 0, 0]))])
(0.0, 0.5)

Seeds and test records are drawn with replacement, each as many as there are. There are two designs:

- **crossed**: seeds that were scored on the same test set get the same drawn records, since the records are the same
  (the pigeonhole bootstrap: Owen 2007, The Annals of Applied Statistics 1(2), arXiv 0712.1111);
- **nested**: a seed with its own test set gets its own records, each time that it is drawn.

For a single seed only its records are drawn. Records are drawn as multinomial counts over their distinct patterns of
differences. This has the same distribution as drawing single records and far fewer parts. With few seeds the interval
is too narrow: the variance over S drawn seeds is (S − 1)/S of that of the seeds.
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
    """The difference between a cell and a baseline; positive where the cell is better.

    Attributes:
        seeds: for which both have the metric on one test set.
        mean: over these seeds, in the metric's own unit.
        interval: 95 %, bootstrapped over seeds and test records; None if a run has no decisions.
        shared: whether all these seeds were scored on one test set.
    """

    seeds: tuple[int, ...]
    mean: float
    interval: tuple[float, float] | None
    shared: bool


def difference(cell: Cell, baseline: Cell) -> Difference | None:
    """The paired difference; None if the two have no scored seed in common.

    Raises:
        IntegrityError: two runs on one test set have decisions on different numbers of records.
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
    """Whether both runs have the metric on one test set."""
    known = run.test is not None and base.test is not None and run.test_sha256 is not None
    return known and run.test_sha256 == base.test_sha256


DRAWS, SEED, LEVEL = 10_000, 20_260, 0.95


@dataclass(frozen=True, eq=False)
class Paired:
    """The differences of one seed.

    Attributes:
        test: identifies the test set; equal for seeds that share it.
        differences: (R,) one for each test record.
    """

    test: str
    differences: NDArray[np.float64]


def interval(seeds: Sequence[Paired], *, draws: int = DRAWS, seed: int = SEED) -> tuple[float, float]:
    """The 95 % percentile interval of the mean over seeds of their mean differences.

    Raises:
        PACZeroError: there is no seed, a seed has no records, or seeds on one test set differ in their number.
    """
    low, high = np.quantile(resampled(seeds, draws=draws, seed=seed), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def resampled(seeds: Sequence[Paired], *, draws: int, seed: int) -> NDArray[np.float64]:
    """The mean difference of each draw, (draws,)."""
    if not seeds or any(one.differences.size == 0 for one in seeds):
        raise PACZeroError("bootstrap: expected one seed or more, each with test records")
    rng = np.random.default_rng(seed)
    count = len(seeds)
    times = rng.multinomial(count, np.full(count, 1 / count), size=draws)  # (draws, S): how often a seed is drawn
    total = np.zeros(draws)
    for test in dict.fromkeys(one.test for one in seeds):
        group = [index for index, one in enumerate(seeds) if one.test == test]
        sizes = {seeds[index].differences.size for index in group}
        if len(sizes) > 1:
            raise PACZeroError(f"bootstrap: one test set with {' and '.join(map(str, sorted(sizes)))} records")
        size = sizes.pop()
        patterns, often = np.unique([seeds[index].differences for index in group], axis=1, return_counts=True)
        drawn = size if len(group) > 1 else times[:, group[0]] * size
        counts = rng.multinomial(drawn, often / size, size=draws)  # (draws, patterns)
        means = counts @ patterns.T / size  # (draws, group)
        total += (means * times[:, group]).sum(axis=1) if len(group) > 1 else means[:, 0]
    return total / count
