"""What one cell gains over another, paired by seed and by test record.

>>> difference(zpl, none)                       # doctest: +SKIP
Difference(seeds=(0, 1, 2), mean=-0.0099, interval=(-0.028, 0.009), shared=True)
"""

import statistics
from dataclasses import dataclass

from paczero.errors import IntegrityError
from paczero.results.bootstrap import Paired, interval
from paczero.results.cells import Cell, metric_of
from paczero.results.runs import Run


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
        if run.judged is None or base.judged is None:
            continue
        if run.judged.size != base.judged.size:
            raise IntegrityError(
                f"{run.place}, {base.place}: decisions on {run.judged.size} and {base.judged.size} records of one test "
                "set; expected the same records"
            )
        differences.append(Paired(str(run.test_sha256), sign * (run.judged - base.judged)))
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
