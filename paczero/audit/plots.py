"""The plots of an audit, as PNG bytes, from its document (`audit.json`) alone.

    draw(document)["bounds.png"][:4]
    # b'\\x89PNG'

Style and colours are those of the report.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paczero.release.plots import BLUE, GREEN, GREY, INK, VERMILION, in_percent, png

Row = Mapping[str, Any]

TITLES = {
    "bounds.png": "How often attacks on the secret half were right, beside what the promise allows",
    "spent.png": "Total information of the releases, beside the budget",
    "families.png": "What an attacker gains from knowing the half of some units",
    "canaries.png": "Whether a record was in the pool at all: the success of attacks",
}

_FAMILIES = {"random": VERMILION, "paired": GREEN, "balanced": BLUE}


def draw(document: Row) -> dict[str, bytes]:
    """File name -> PNG of every plot with data."""
    pictures: dict[str, bytes] = {}
    attacks = (document.get("reruns") or {}).get("attacks") or []
    if attacks:
        pictures["bounds.png"] = bounds(attacks)
    if spent_steps(document):
        pictures["spent.png"] = spent(document)
    if document.get("families"):
        pictures["families.png"] = families(document["families"])
    if document.get("canaries"):
        pictures["canaries.png"] = canaries(document["canaries"]["rows"])
    return pictures


def bounds(attacks: Sequence[Row]) -> bytes:
    """Each attack's share of right guesses with its interval, and the bound as a bar across it."""

    def drawn(figure: Figure) -> None:
        axes = figure.subplots()
        for index, attack in enumerate(attacks):
            interval, colour = attack["interval"], VERMILION if attack["exceeded"] else BLUE
            axes.plot([interval["low"], interval["high"]], [index, index], color=colour, linewidth=2)
            axes.plot([interval["estimate"]], [index], marker="o", markersize=8, color=colour)
            axes.plot([attack["prior"]] * 2, [index - 0.32, index + 0.32], color=GREY, linewidth=1.2, linestyle=":")
            axes.plot([attack["bound"]] * 2, [index - 0.32, index + 0.32], color=INK, linewidth=3)
        _names(axes, [attack["title"] for attack in attacks])
        axes.set(xlim=(-0.02, 1.02), xlabel="right guesses")
        axes.set_title("● reached, with its interval    ┃ allowed    ┊ blind guess")
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")

    return png(drawn, 9, 1.5 + 0.42 * len(attacks))


def spent_steps(document: Row) -> list[Row]:
    """The points of the curve, for a run with a budget."""
    exact = document.get("exact") or {}
    return exact.get("curve") or [] if (exact.get("budget") or 0.0) > 0 else []


def spent(document: Row) -> bytes:
    """Totals of charge and information over the steps, below the budget."""
    curve, budget = spent_steps(document), document["exact"]["budget"]

    def drawn(figure: Figure) -> None:
        axes = figure.subplots()
        steps = [point["step"] + 1 for point in curve]
        axes.axhline(budget, color=INK, linewidth=2)
        axes.text(steps[0], budget, f" budget B = {budget:g} nats", va="bottom", color=INK)
        axes.plot(steps, [point["spent"] for point in curve], color=VERMILION, linewidth=4, alpha=0.5, label="charged")
        axes.plot(steps, [point["information"] for point in curve], color=BLUE, linewidth=1.5, label="let through")
        axes.set(ylim=(0, 1.15 * budget), xlabel="step", ylabel="nats, added up")
        axes.legend(loc="lower right", frameon=False)

    return png(drawn, 8, 3.6)


def families(rows: Sequence[Row]) -> bytes:
    """Probability of a right guess about a unit against the number of known units, one line for each family."""

    def drawn(figure: Figure) -> None:
        axes = figure.subplots()
        for row in rows:
            colour = _FAMILIES.get(row["family"], GREY)
            known = [point["known"] for point in row["points"]]
            positions = range(len(known))
            for key, style in (("average", "-"), ("worst", (0, (4, 2)))):
                values, label = [point[key] for point in row["points"]], f"{row['family']}, {key} unit"
                axes.plot(positions, values, color=colour, linestyle=style, marker="o", label=label)
            axes.set_xticks(list(positions), [f"{count:,}" for count in known])
        axes.set(ylim=(0.45, 1.02), xlabel="units whose half is known already", ylabel="right guesses about another")
        in_percent(axes)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)

    return png(drawn, 9, 4)


def canaries(rows: Sequence[Row]) -> bytes:
    """AUC of each attack on membership in the pool, with its interval; 50 % is a blind guess."""

    def drawn(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvline(0.5, color=GREY, linewidth=1.2, linestyle=":")
        for index, row in enumerate(rows):
            colour = GREEN if row["stated_epsilon"] is not None else VERMILION
            if row["auc_low"] is not None:
                axes.plot([row["auc_low"], row["auc_high"]], [index, index], color=colour, linewidth=2)
            axes.plot([row["auc"]], [index], marker="o", markersize=8, color=colour)
        _names(axes, [f"{row['label']}: {row['attack']}" for row in rows])
        low = min((row["auc_low"] if row["auc_low"] is not None else row["auc"]) for row in rows)
        axes.set(xlim=(min(0.45, math.floor(20 * low) / 20), 1.01), xlabel="AUC (0.5: a blind guess; 1: always right)")

    return png(drawn, 9, 1.4 + 0.36 * len(rows))


def _names(axes: Axes, names: Sequence[str]) -> None:
    """One row each, the first on top."""
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
