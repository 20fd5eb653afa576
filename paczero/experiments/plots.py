"""The plots of compared runs, as PNG bytes, from `results.json` alone.

    utility(document)[:4]
    # b'\\x89PNG'

Each point is a run (a seed); a bar is the mean over the seeds of a cell. Style and colours are those of the report.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paczero.data.metrics import METRICS
from paczero.experiments import wording
from paczero.mechanism.registry import SPECS
from paczero.release.plots import BLUE, GREEN, GREY, INK, VERMILION, in_percent, label_right, png

Row = Mapping[str, Any]

_ORANGE, _SKY, _PURPLE, _BROWN = "#B8860B", "#3A9BD1", "#A8487E", "#7A5230"

# In the order of the registry: two of the paper, MeZO, three differentially private ones, four ablations.
_COLOURS = (BLUE, VERMILION, INK, GREEN, _PURPLE, _BROWN, GREY, GREY, GREY, _SKY)
COLOURS = dict(zip(SPECS, _COLOURS, strict=True))

_CYCLE = (BLUE, VERMILION, GREEN, _PURPLE, _ORANGE, _SKY, INK, _BROWN)

_STROKES = ("-", (0, (5, 2)), (0, (1, 1.5)))

_DASHES = {"untuned": (0, (5, 3)), "untuned_median": (0, (1, 2))}

_NEAR = 0.005  # the largest difference of two p in one column

NAMES = frozenset({"utility.png", "cells.png", "unanimity.png"})

_UNTUNED = {"untuned": "untuned", "untuned_median": "untuned, median"}


def draw(document: Row) -> dict[str, bytes]:
    """File name -> PNG of each plot that has data."""
    pictures: dict[str, bytes] = {}
    if any(cell["mean"] is not None for cell in document["cells"]):
        pictures |= {"utility.png": utility(document), "cells.png": cells(document)}
    if any(cell["unanimity_over_steps"] for cell in document["cells"]):
        pictures["unanimity.png"] = unanimity(document)
    return pictures


def utility(document: Row) -> bytes:
    """The test metric against the promise, for the cell of each mechanism that the selection sets chose."""
    shown = [cell for cell in document["cells"] if cell["best_of_kind"] and cell["mean"] is not None]
    columns = _columns(shown)
    widths = [max(1.0, 0.62 * len(column)) for column in columns]  # inches

    def drawn(figure: Figure) -> None:
        axes = figure.subplots()
        left, ticks, names = 0.0, [], []
        for index, (column, width) in enumerate(zip(columns, widths, strict=True)):
            if index % 2:
                axes.axvspan(left, left + width, color="#F3F3F3", zorder=0, linewidth=0)
            for slot, cell in enumerate(column):
                position = left + width * (slot + 0.5) / len(column)
                _points(axes, cell, position, upright=True)
                ticks.append(position)
                names.append(_short(cell))
            axes.annotate(
                _heading(column),
                (left + width / 2, 1.02),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                fontsize=10,
                color=INK,
            )
            left += width
        axes.set_xticks(ticks, names, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_xlim(0, left)
        private = any(cell["epsilon"] for cell in shown)
        note = "\ndp…: differentially private over the pool, placed where p is the same" if private else ""
        axes.set_xlabel(
            f"columns: mutual information about the secret half, and p of a right guess; not to scale{note}",
            fontsize=10,
        )
        axes.grid(False, axis="x")
        _vertical(axes, document, shown)

    return png(drawn, max(7.5, sum(widths) + 3.0), 4.8)


def _columns(shown: Sequence[Row]) -> list[list[Row]]:
    """Cells grouped by p, ascending; those without a promise come last.

    A differentially private cell whose p is close to that of a budget joins the budget's column.
    """
    budgets = [cell["posterior_success"] for cell in shown if cell["nats"] is not None and not cell["epsilon"]]

    def column(cell: Row) -> tuple[bool, float]:
        p = cell["posterior_success"]
        near = min(budgets, key=lambda other: abs(other - p), default=p)
        return cell["nats"] is None, round(near if abs(near - p) < _NEAR else p, 4)

    ordered = sorted(shown, key=column)  # stable: within a column as in the tables
    return [list(cells) for _, cells in itertools.groupby(ordered, key=column)]


def _heading(column: Sequence[Row]) -> str:
    """The promise of a column: nats and p."""
    if column[0]["nats"] is None:
        return "no\npromise"
    informed = [cell for cell in column if not cell["epsilon"]]
    text = f"{informed[0]['nats']:.3g} nats" if informed else "—"
    return f"{text}\np ≤ {wording.success(max(column, key=lambda cell: cell['posterior_success']))}"


def _short(cell: Row) -> str:
    if cell["epsilon"] is not None:
        return f"{cell['mechanism']}, ε = {cell['epsilon']:.3g}"
    return f"{cell['mechanism']}, {cell['family']}" if cell["family"] else cell["mechanism"]


def cells(document: Row) -> bytes:
    """The test metric of each cell, in a row, with a point for each seed."""
    shown = [cell for cell in document["cells"] if cell["mean"] is not None]
    metric = METRICS[document["metric"]]

    def drawn(figure: Figure) -> None:
        axes = figure.subplots()
        for row, cell in enumerate(shown):
            _points(axes, cell, row, upright=False)
        axes.set_yticks(range(len(shown)), [cell["cell"] for cell in shown])
        axes.set(ylim=(len(shown) - 0.4, -0.6), xlabel=metric.title if metric.share else f"{metric.title} (nats)")
        axes.grid(False, axis="y")
        values = [value for cell in shown for value in cell["values"]]
        near, far = min(values), max(values)
        reach = max(far - near, 0.15 * far)
        for name, value in _lines(document):
            style: dict[str, Any] = {"color": GREY, "linewidth": 1.4, "linestyle": _DASHES[name]}
            if near - reach <= value <= far + reach:
                axes.axvline(value, zorder=1, label=f"{_UNTUNED[name]} {metric.shown(value)}", **style)
            else:  # a distant line would compress the points
                axes.plot([], [], label=f"{_UNTUNED[name]} {metric.shown(value)} (outside the figure)", **style)
        if metric.share:
            axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        if _lines(document):
            figure.legend(loc="outside lower right", ncols=2, frameon=False, fontsize=10)
        title = f"{metric.title[0].upper()}{metric.title[1:]}"
        axes.set_title(f"{title} on the test set: seeds (points) and their mean (bar)")

    longest = max(len(cell["cell"]) for cell in shown)
    return png(drawn, 6.4 + 0.075 * longest, 1.6 + 0.27 * len(shown))


def unanimity(document: Row) -> bytes:
    """Share of releases on which all candidates agreed, over the steps; mean over the seeds of each cell."""
    known = [cell for cell in document["cells"] if cell["unanimity_over_steps"]]
    shown = list(known)
    if len(known) > 10:  # of each mechanism, family and M at each promise, the best on the selection sets
        best: dict[tuple[Any, ...], Row] = {}
        for cell in sorted(known, key=lambda cell: -(cell["dev_mean"] or 0.0)):
            best.setdefault((cell["mechanism"], cell["family"], cell["subsets"], cell["nats"]), cell)
        shown = [cell for cell in known if cell in best.values()]
    shown.sort(key=lambda cell: -cell["unanimity_over_steps"]["share"][-1])  # the legend in the order of the lines
    height = max(4.2, 1.2 + 0.25 * len(shown))

    def drawn(figure: Figure) -> None:
        axes = figure.subplots()
        for number, cell in enumerate(shown):
            series = cell["unanimity_over_steps"]
            axes.plot(
                series["steps"],
                series["share"],
                color=_CYCLE[number % len(_CYCLE)],
                linestyle=_STROKES[number // len(_CYCLE) % len(_STROKES)],
                linewidth=1.7,
                label=f"{cell['cell']}: {100 * cell['unanimity']:.0f} %",
            )
        axes.set(ylim=(0, 1.03), xlabel="step", ylabel="all candidates agree\n(share of releases, moving mean)")
        axes.set_xlim(0, max(cell["unanimity_over_steps"]["steps"][-1] for cell in shown))
        in_percent(axes)
        axes.set_title("How often all candidate halves agree (mean of seeds)")
        chosen = "" if len(shown) == len(known) else f"\n({len(shown)} of {len(known)} cells, by selection set)"
        figure.legend(loc="outside right upper", frameon=False, title=f"over the whole run{chosen}", fontsize=10)

    longest = max(24, *(len(cell["cell"]) + 6 for cell in shown))
    return png(drawn, 7.0 + 0.085 * longest, height)


def _points(axes: Axes, cell: Row, position: float, *, upright: bool) -> None:
    """A point for each seed and a bar for the mean; `upright`: the metric is on the vertical axis."""
    colour = COLOURS[cell["mechanism"]]
    count = len(cell["values"])
    reach = 0.13 if upright else 0.2
    offsets = [position + (reach * (2 * index / (count - 1) - 1) if count > 1 else 0.0) for index in range(count)]
    half = 0.24 if upright else 0.33
    bar = [position - half, position + half]
    pairs = [(bar, [cell["mean"]] * 2), (offsets, cell["values"])]
    styles: list[dict[str, Any]] = [
        {"color": colour, "linewidth": 2.6, "solid_capstyle": "butt"},
        {"color": colour, "linestyle": "", "marker": "o", "markersize": 5, "alpha": 0.65, "markeredgewidth": 0},
    ]
    for (across, along), style in zip(pairs, styles, strict=True):
        axes.plot(*((across, along) if upright else (along, across)), zorder=3, **style)


def _vertical(axes: Axes, document: Row, shown: Sequence[Row]) -> None:
    """Sets up the metric's vertical axis, with the labelled lines of the untuned model."""
    metric = METRICS[document["metric"]]
    values = [value for cell in shown for value in cell["values"]] + [value for _, value in _lines(document)]
    margin = 0.06 * (max(values) - min(values)) or 0.02
    axes.set_ylim(min(values) - margin, max(values) + margin)
    axes.set_ylabel(f"{metric.title} on the test set" + ("" if metric.share else " (nats)"))
    if metric.share:
        in_percent(axes)
    labels = []
    for name, value in _lines(document):
        axes.axhline(value, color=GREY, linewidth=1.4, linestyle=_DASHES[name], zorder=1)
        labels.append((value, f"{_UNTUNED[name]} {metric.shown(value)}", GREY))
    if labels:
        label_right(axes, labels)


def _lines(document: Row) -> list[tuple[str, float]]:
    """The untuned metrics, as means over the seeds."""
    return [(name, document[name]["mean"]) for name in _UNTUNED if document[name]]
