"""How the entries of `results.json` are said, in tables for people and for programs.

>>> interval([-0.6, 2.4], share=True)
'−0.6 to 2.4'
"""

from collections.abc import Mapping
from typing import Any

from paczero.data.metrics import METRICS
from paczero.release.guarantee import rounded_up

Row = Mapping[str, Any]

NOTHING = "–"

# The columns of results.csv: a line a run, with what holds for its cell repeated.
_OF_A_CELL = (
    *("mechanism", "family", "subsets", "budget", "epsilon", "delta", "posterior_success", "nats", "verdict", "hides"),
    *("steps", "directions", "learning_rate", "clip", "units"),
)

COLUMNS = ("cell", "seed", "metric", "test", "dev", "untuned", "untuned_median", *_OF_A_CELL, "directory")


def figure(value: float | None, share: bool) -> str:
    """A figure of the metric: 0.7785 -> `77.9`; nats as `1.2345`."""
    if value is None:
        return NOTHING
    return f"{100 * value:.1f}" if share else f"{value:.4f}"


def spread(mean: float | None, sd: float | None, share: bool) -> str:
    """`77.9 ± 0.4`; the mean alone where there is one seed."""
    return figure(mean, share) + ("" if sd is None else f" ± {figure(sd, share)}")


def difference(value: float | None, share: bool) -> str:
    """Points, or nats, with their sign: `−1.0`."""
    if value is None:
        return NOTHING
    text = f"{round(value, 1) + 0.0:+.1f}" if share else f"{round(value, 4) + 0.0:+.4f}"  # no −0.0
    return text.replace("-", "−")


def interval(ends: list[float] | None, share: bool) -> str:
    """`−0.6 to 2.4`; nothing where there is none."""
    if ends is None:
        return ""
    digits = 1 if share else 4
    return " to ".join(f"{end:.{digits}f}".replace("-", "−") for end in ends)


def promise(row: Row) -> str:
    """Nats, or ε and δ with the nats of equal posterior success."""
    if row["verdict"] == "void":
        return "void (test seed)"
    if row["verdict"] == "nothing":
        return "no promise"
    if row["epsilon"] is not None:
        return f"ε = {row['epsilon']:.4g}, δ = {row['delta']:.2g} (by p: {row['nats']:.3g} nats)"
    return f"{row['nats']:g} nats"


def short_promise(row: Row) -> str:
    """The same without δ and without comparison."""
    private = row["epsilon"] is not None and row["verdict"] == "kept"
    return f"ε = {row['epsilon']:.4g}" if private else promise(row)


def success(row: Row) -> str:
    """p, never less than it is."""
    return rounded_up(row["posterior_success"]) if row["verdict"] == "kept" else "1"


def per_seed(row: Row, share: bool) -> str:
    """The figures of all seeds, in their order."""
    return ", ".join(figure(value, share) for value in row["values"])


def against(row: Row, document: Row) -> str:
    """The difference to the baseline, with its interval; nothing for the baseline itself."""
    if row["cell"] == document["baseline"]:
        return "baseline"
    share = METRICS[document["metric"]].share
    ends = interval(row["difference_ci95"], share)
    return difference(row["difference_points"], share) + (f" [{ends}]" if ends else "")


def lines(document: Row) -> tuple[list[str], list[list[Any]]]:
    """The columns and rows of `results.csv`: a row a run."""
    rows = []
    known = [_by_seed(document[name]) for name in ("untuned", "untuned_median")]
    for cell in document["cells"]:
        of_seeds = zip(cell["seeds"], cell["values"], cell["dev_values"], cell["directories"], strict=True)
        for seed, test, dev, place in of_seeds:
            base = [one.get(seed) for one in known]
            rows.append(
                [cell["cell"], seed, document["metric"], test, dev, *base, *(cell[name] for name in _OF_A_CELL), place]
            )
    return list(COLUMNS), rows


def _by_seed(of: Row | None) -> dict[int, float]:
    return dict(zip(of["seeds"], of["values"], strict=True)) if of else {}
