"""How the entries of `results.json` are written in tables and sentences.

>>> interval([-0.6, 2.4], share=True)
'−0.6 to 2.4'
"""

from collections.abc import Mapping, Sequence
from typing import Any

from paczero.data.metrics import METRICS
from paczero.release.guarantee import rounded_up

Row = Mapping[str, Any]

NOTHING = "–"

# Columns of results.csv that repeat what holds for a whole cell.
_CELL_COLUMNS = (
    *("mechanism", "family", "subsets", "budget", "epsilon", "delta", "posterior_success", "nats", "verdict", "hides"),
    *("steps", "directions", "learning_rate", "clip", "units"),
)

COLUMNS = ("cell", "seed", "metric", "test", "dev", "untuned", "untuned_median", *_CELL_COLUMNS, "directory")


def figure(value: float | None, share: bool) -> str:
    """A metric: 0.7785 -> `77.9`, in percent; nats as `1.2345`."""
    if value is None:
        return NOTHING
    return f"{100 * value:.1f}" if share else f"{value:.4f}"


def spread(row: Row, share: bool) -> str:
    """The `mean` and `sd` of a row: `77.9 ± 0.4`; the mean alone for one seed."""
    mean, sd = row["mean"], row["sd"]
    return figure(mean, share) if sd is None else f"{figure(mean, share)} ± {figure(sd, share)}"


def difference(value: float | None, share: bool) -> str:
    """Points, or nats, with their sign: `−1.0`."""
    if value is None:
        return NOTHING
    text = f"{round(value, 1) + 0.0:+.1f}" if share else f"{round(value, 4) + 0.0:+.4f}"  # no −0.0
    return text.replace("-", "−")


def interval(ends: Sequence[float], share: bool) -> str:
    """`−0.6 to 2.4`."""
    return " to ".join(f"{end:.{1 if share else 4}f}".replace("-", "−") for end in ends)


def promise(row: Row, *, short: bool = False) -> str:
    """Nats; or ε and, unless `short`, δ and the nats of equal posterior success."""
    if row["verdict"] == "void":
        return "void (test seed)"
    if row["verdict"] == "nothing":
        return "no promise"
    if row["epsilon"] is None:
        return f"{row['nats']:g} nats"
    more = "" if short else f", δ = {row['delta']:.2g} (by p: {row['nats']:.3g} nats)"
    return f"ε = {row['epsilon']:.4g}{more}"


def success(row: Row) -> str:
    """p, never less than it is."""
    return rounded_up(row["posterior_success"]) if row["verdict"] == "kept" else "1"


def against(row: Row, document: Row) -> str:
    """The difference from the baseline, with its interval."""
    if row["cell"] == document["baseline"]:
        return "baseline"
    share = METRICS[document["metric"]].share
    text, ends = difference(row["difference_points"], share), row["difference_ci95"]
    return f"{text} [{interval(ends, share)}]" if ends else text


def lines(document: Row) -> list[list[Any]]:
    """The rows of `results.csv` below `COLUMNS`: one for each run."""
    untuned = [
        dict(zip(known["seeds"], known["values"], strict=True)) if known else {}
        for known in (document["untuned"], document["untuned_median"])
    ]
    return [
        [
            *(cell["cell"], seed, document["metric"], test, dev),
            *(known.get(seed) for known in untuned),
            *(cell[name] for name in _CELL_COLUMNS),
            directory,
        ]
        for cell in document["cells"]
        for seed, test, dev, directory in zip(
            cell["seeds"], cell["values"], cell["dev_values"], cell["directories"], strict=True
        )
    ]
