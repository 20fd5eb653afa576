"""One cell as it stands in `results.json`, and the units in which differences are said there.

>>> cell_row(cell, difference(cell, baseline), True, ACCURACY)["difference_points"]     # doctest: +SKIP
-0.94
"""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from paczero.records.metrics import Metric
from paczero.report import statement
from paczero.report.figures import moving_share
from paczero.report.words import DESCRIBED, HIDES
from paczero.results.cells import Cell
from paczero.results.compare import Difference

_POINTS = 200  # of a series over the steps, at most


def cell_row(cell: Cell, against: Difference | None, best_of_kind: bool, metric: Metric) -> dict[str, Any]:
    header, mechanism = cell.header, cell.header["mechanism"]
    tests = [run.test for run in cell.runs]
    unanimities = [statistics.fmean(run.unanimous) for run in cell.runs if run.unanimous]
    seconds = [run.seconds for run in cell.runs if run.seconds is not None]
    return {
        "cell": cell.name,
        "mechanism": cell.mechanism,
        "described": DESCRIBED[cell.mechanism].partition(": ")[2].format(channel=mechanism.get("channel", "")),
        "hides": HIDES[cell.kind.protects],
        "verdict": statement.verdict(header),
        "family": cell.family,
        "subsets": header["subsets"] if cell.kind.candidates else None,
        "budget": None if cell.kind.private else header["budget"],
        "epsilon": mechanism.get("epsilon"),
        "delta": mechanism.get("delta"),
        "posterior_success": cell.success,
        "nats": cell.nats,
        "nats_by_equal_posterior_success": cell.kind.private and cell.nats is not None,
        "steps": header["steps"],
        "directions": header["directions"],
        "learning_rate": cell.rate,
        "clip": mechanism.get("clip"),
        "units": header["units"],
        "best_of_kind": best_of_kind,
        "seeds": cell.seeds,
        "values": tests,
        **spread(tests),
        "dev_values": [run.dev for run in cell.runs],
        "dev_mean": cell.dev,
        "difference_points": points(against, metric),
        "difference_ci95": interval_points(against, metric),
        "difference_seeds": list(against.seeds) if against else [],
        "unanimity": statistics.fmean(unanimities) if unanimities else None,
        "unanimity_over_steps": _series(cell),
        "seconds": statistics.fmean(seconds) if seconds else None,
        "directories": [run.place for run in cell.runs],
    }


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean, sample standard deviation and range; null where a seed has no figure, or is alone."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return dict.fromkeys(("mean", "sd", "min", "max"))
    sd = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.fmean(known), "sd": sd, "min": min(known), "max": max(known)}


def _series(cell: Cell) -> dict[str, Any] | None:
    """Share of unanimous releases over the steps, mean over seeds and of a window of steps; thinned."""
    length = min(len(run.unanimous) for run in cell.runs)
    if not length:
        return None
    window = max(5, length // 20)
    mean = np.mean([run.unanimous[:length] for run in cell.runs], axis=0)
    smooth = moving_share(mean, window)
    first = window - 1 if length >= 2 * window else 0  # the first means are of few steps, and jump
    places = np.unique(np.linspace(first, length - 1, min(_POINTS, length - first)).round().astype(int))
    return {"window": window, "steps": places.tolist(), "share": [round(smooth[place], 5) for place in places]}


def scale(metric: Metric) -> float:
    """Of a difference in the metric's own unit, to the document's `unit`."""
    return 100.0 if metric.share else 1.0


def points(of: Difference | None, metric: Metric, sign: int = 1) -> float | None:
    """A difference in the document's unit; `sign` −1 makes a gap of it."""
    return None if of is None else sign * scale(metric) * of.mean + 0.0  # no −0


def interval_points(of: Difference | None, metric: Metric, sign: int = 1) -> list[float] | None:
    """Its interval, ascending."""
    if of is None or of.interval is None:
        return None
    return sorted(sign * scale(metric) * end + 0.0 for end in of.interval)
