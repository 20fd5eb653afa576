"""The figures of a report and of a release, as PNG bytes. Equal input gives equal bytes: no date, no version inside.

`posterior`, `released` and `development` are public and go into a release. `unanimity` and `boundary` are for the
owner: which steps were unanimous and what was spent depend on the pool's records. Colours are Okabe and Ito's, which
people with any colour vision tell apart; no text is smaller than 10 pt.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from paczero.data.metrics import METRICS
from paczero.mechanism.bounds import posterior_success
from paczero.mechanism.registry import MechanismSpec, spec_of
from paczero.release import guarantee
from paczero.release.statement import Development
from paczero.release.wording import mechanism_line
from paczero.release.wording.labels import GATES, released_values

BLUE, VERMILION, GREEN, GREY, INK = "#0072B2", "#D55E00", "#007F5F", "#6B6B6B", "#1A1A1A"

_DPI = 144

_HALO = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}

_DASHED: dict[str, Any] = {"linewidth": 1.2, "linestyle": (0, (4, 3))}

_AT_EDGE = {"xycoords": ("axes fraction", "data")}  # x from 0 to 1 across the axes, y as the data

# Fixed here: a user's matplotlibrc must not change a released byte or ask for a missing TeX.
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.usetex": False,
    "text.parse_math": False,  # a name with $ in it is a name
    "axes.unicode_minus": True,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.bbox": None,
    "path.simplify": True,
}


def png(draw: Callable[[Figure], None], width: float, height: float) -> bytes:
    """Draws on a figure of `width` x `height` inches; no global figure, no metadata that changes."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr, call-arg]
        draw(figure)
        stream = io.BytesIO()
        FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})  # `savefig` lays out twice
    return stream.getvalue()


def moving_share(flags: Sequence[float], window: int) -> list[float]:
    """Mean of each value and the up to `window` − 1 values before it."""
    total = np.concatenate([[0.0], np.cumsum(np.asarray(flags, dtype=float))])
    ends = np.arange(1, len(flags) + 1)
    starts = np.maximum(0, ends - window)
    return [float(value) for value in (total[ends] - total[starts]) / (ends - starts)]


def _note(axes: Axes, text: str, at: tuple[float, float], shift: tuple[float, float], **style: Any) -> None:
    """Writes a text `shift` points away from a point."""
    axes.annotate(text, at, xytext=shift, textcoords="offset points", **{"color": INK, **style})


def in_percent(axes: Axes) -> None:
    """Writes the shares on the vertical axis in percent."""
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


def unanimity(steps: Sequence[int], share: Sequence[float], spent: Sequence[float], header: Mapping[str, Any]) -> bytes:
    """Share of unanimous releases over the steps and, for `mi`, the budget spent. For the owner only.

    Args:
        steps: step numbers from 0.
        share: share of the step's K releases on which all candidates agreed, one a step.
        spent: nats spent up to and including each step.
        header: the transcript's.
    """
    window = max(5, header["steps"] // 20)
    pays = spec_of(header["mechanism"]["name"]).has_budget

    def draw(figure: Figure) -> None:
        panels = figure.subplots(2 if pays else 1, 1, sharex=True, squeeze=False)[:, 0]
        top: Axes = panels[0]
        mean = sum(share) / len(share)
        full = window - 1 if len(share) >= 2 * window else 0  # the first means are of few steps, and jump
        top.plot(steps[full:], moving_share(share, window)[full:], color=BLUE, linewidth=2)
        top.axhline(mean, color=GREY, **_DASHED)
        _note(top, f"whole run: {100 * mean:.0f} %", (1, mean), (-2, 4), **_AT_EDGE, ha="right", bbox=_HALO)
        top.set(ylim=(0, 1.04), ylabel="all candidates agree\n(share of releases)")
        top.set_title(f"How often all {header['subsets']} candidate halves agree (mean of {window} steps)")
        in_percent(top)
        panels[-1].set(xlabel="step", xlim=(0, max(1, header["steps"])))
        if pays:
            _draw_spent(panels[1], steps, spent, header)
        else:
            spends = "no promise" if header["budget"] is None else "spent: 0 nats"
            text = f"{spends} ({mechanism_line(header).partition(': ')[2]})"
            top.text(0.01, 0.04, text, transform=top.transAxes, bbox=_HALO)

    return png(draw, 8, 5.6 if pays else 3.6)


def _draw_spent(axes: Axes, steps: Sequence[int], spent: Sequence[float], header: Mapping[str, Any]) -> None:
    budget = header["budget"]
    axes.plot(steps, spent, color=VERMILION, linewidth=2)
    axes.axhline(budget, color=INK, **_DASHED)
    _note(axes, f"budget B = {budget:g} nats", (0, budget), (4, 4), **_AT_EDGE)
    axes.set(ylim=(0, max(budget, *spent) * 1.2 or 1.0), ylabel="spent (nats)")
    axes.set_title(f"What of the budget is spent: {spent[-1]:.3g} of {budget:g} nats")


def development(dev: Development, header: Mapping[str, Any], chosen_step: int | None = None) -> bytes:
    """The task's metric on the development set over the steps, with the untuned model's. Public."""
    metric = METRICS[dev.metric]
    untuned = [("untuned", dev.untuned, VERMILION), ("untuned, median", dev.untuned_median, GREEN)]
    lines = [(name, value, colour) for name, value, colour in untuned if value is not None]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot(dev.steps, dev.values, color=BLUE, linewidth=2, marker="o", markersize=5, clip_on=False)
        last = "served" if chosen_step == dev.steps[-1] else "last"
        labels = [(dev.values[-1], f"{last} {metric.shown(dev.values[-1])}", BLUE)]
        for name, value, colour in lines:
            axes.axhline(value, color=colour, linewidth=1.6, linestyle=(0, (5, 3)))
            labels.append((value, f"{name} {metric.shown(value)}", colour))
        if chosen_step in dev.steps[:-1]:
            at = dev.values[dev.steps.index(chosen_step)]
            axes.plot([chosen_step], [at], marker="o", markersize=12, markerfacecolor="none", color=INK, clip_on=False)
            _note(
                axes, f"served {metric.shown(at)}", (chosen_step, at), (0, 12), color="black", ha="center", bbox=_HALO
            )
        shown = (*dev.values, *(value for value, *_ in labels))
        low, high = min(shown), max(shown)
        margin = max(0.02, 0.18 * (high - low))
        axes.set(ylim=(low - margin, high + margin), xlim=(0, max(1, header["steps"])))
        axes.set(xlabel="step (updates done)", ylabel=metric.title if metric.share else f"{metric.title} (nats)")
        size = f" ({dev.records:,} records, not protected)" if dev.records else " (not protected)"
        axes.set_title(f"{metric.title[0].upper()}{metric.title[1:]} on the development set{size}")
        if metric.share:
            in_percent(axes)
        label_right(axes, labels)

    return png(draw, 8, 4)


def label_right(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Labels to the right of the axes at their heights, moved apart where they would overlap.

    Args:
        labels: (value, text, colour) of each.
    """
    low, high = axes.get_ylim()
    gap = 0.075
    heights: list[float] = []
    ordered = sorted(labels)
    for value, _, _ in ordered:
        height = (value - low) / (high - low)
        heights.append(max(height, heights[-1] + gap) if heights else height)
    excess = max(0.0, heights[-1] - 0.98)
    for height, (_, text, colour) in zip(heights, ordered, strict=True):
        axes.text(1.015, height - excess, text, transform=axes.transAxes, va="center", color=colour)


def posterior(header: Mapping[str, Any]) -> bytes:
    """The bound on right guesses as a function of the budget, and this run's point. Public."""
    budget, p = guarantee.total_nats(header) or 0.0, guarantee.success(header)
    what = "this run and earlier ones" if header.get("prior_budgets") else "this run"
    limit = math.log(2)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        # Dense near 0, where the curve rises like a square root.
        nats = np.concatenate([limit * np.linspace(0, 1, 200) ** 2, [max(0.8, 1.1 * budget)]])
        success = [posterior_success(float(value)) for value in nats]
        axes.plot(nats, success, color=BLUE, linewidth=2.2)
        axes.axhline(0.5, color=GREY, **_DASHED)
        axes.axvline(limit, color=GREY, **_DASHED)
        axes.text(limit - 0.008, 0.53, "from ln 2 on:\nno promise", ha="right", color=GREY, bbox=_HALO)
        axes.text(0.38, 0.507, "blind guess", ha="center", color=GREY)
        axes.plot([budget], [p], marker="o", markersize=11, color=VERMILION, clip_on=False, zorder=5)
        text = {
            "kept": f"{what}, B = {budget:g} nats:\nright at most {100 * float(guarantee.rounded_up(p)):g} %",
            "nothing": f"{what}: no promise",
            "void": "this run: VOID (test coins)",
        }[guarantee.verdict(header)]
        across, ha = (-4, "right") if budget > 0.45 else (18, "left")
        up, va = (10, "bottom") if p < 0.55 else (-16, "top")
        _note(axes, text, (budget, p), (across, up), ha=ha, va=va, color=VERMILION, fontweight="bold", bbox=_HALO)
        axes.set(xlim=(-0.004, float(nats[-1])), ylim=(0.48, 1.02))
        axes.set(xlabel="mutual information about the secret half (nats)", ylabel="guesses that are right, at most")
        axes.set_title("How well a leak lets an attacker guess one unit's half")
        in_percent(axes)

    return png(draw, 8, 4)


def released(y: Sequence[Sequence[float]], header: Mapping[str, Any]) -> bytes:
    """All released values as a strip, one cell a value. Public.

    Args:
        y: (T, K) released values, +1/−1 or real.
        header: the transcript's.
    """
    values = np.asarray([value for row in y for value in row], dtype=float)
    columns = max(20, 10 * math.ceil(math.sqrt(values.size * 6) / 10))
    rows = math.ceil(values.size / columns)
    cells = np.full(rows * columns, np.nan)
    kind = spec_of(header["mechanism"]["name"])
    bits = not kind.real
    bound = 1.0 if bits else float(np.abs(values).max()) or 1.0
    cells[: values.size] = values / bound
    colours = ListedColormap([VERMILION, BLUE]) if bits and not kind.zero else _DIVERGING

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        form: dict[str, Any] = {"aspect": "auto", "interpolation": "nearest", "extent": (0, columns, rows * columns, 0)}
        axes.imshow(cells.reshape(rows, columns), cmap=colours, vmin=-1, vmax=1, **form)
        axes.grid(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="release within the row", ylabel="first release\nof the row")
        axes.set_yticks([columns * row for row in range(0, rows, max(1, math.ceil(rows / 8)))])
        plus, minus = int((values > 0).sum()), int((values < 0 if kind.zero else values <= 0).sum())
        axes.set_title(f"All that training took from the pool: {values.size:,} {released_values(header)}")
        high, low = ("+1", "−1") if bits else (f"up to +{bound:.3g}", f"down to −{bound:.3g}")
        for height, text, colour in ((0.72, f"{high}: {plus:,}", BLUE), (0.28, f"{low}: {minus:,}", VERMILION)):
            axes.text(1.015, height, "■ " + text, transform=axes.transAxes, va="center", color=colour)

    return png(draw, 8, 1.7 + 0.12 * min(rows, 20))


_DIVERGING = LinearSegmentedColormap.from_list("released", [VERMILION, "#F4F4F4", BLUE])


def public(
    header: Mapping[str, Any], y: Sequence[Sequence[float]], dev: Development | None, chosen_step: int | None
) -> dict[str, bytes]:
    """File name -> PNG of each figure of a release.

    Args:
        header: the transcript's.
        y: (T, K) released values.
        dev: metrics on the development set, if there is one.
        chosen_step: updates of the served weights, if known.
    """
    pictures = {"released.png": released(y, header)} if y else {}
    if spec_of(header["mechanism"]["name"]).hides == "half":
        pictures["posterior.png"] = posterior(header)
    if dev is not None and dev.steps:
        pictures["development.png"] = development(dev, header, chosen_step)
    return pictures


def boundary(header: Mapping[str, Any]) -> bytes:
    """What is released and what stays private. For the owner; readable without knowledge of PACZero."""
    total = header["steps"] * header["directions"]
    kind = spec_of(header["mechanism"]["name"])
    private = [
        ("the pool's texts", "your own files; hidden states of them: cache"),
        ("the secret half S*", f"secret.json: drawn once{'' if kind.reads_secret else ', never read in training'}"),
        ("each record's losses and derivative", "in memory, gone after the step"),
        *_kept(kind, header["subsets"]),
    ]
    public = [
        (f"{total:,} {released_values(header)}", "transcript.jsonl: all that the pool decided"),
        ("the recipe", f"base model, public seed, schedule, N, {'ε, δ, σ' if kind.is_dp else 'M, B'}"),
        ("the trained weights", "rebuilt from the two above, bit for bit"),
        ("the statement", "privacy.json: what is promised, what is not"),
        ("the model card and figures", "README.md, figures/"),
    ]
    gate = GATES[kind.name]

    def draw(figure: Figure) -> None:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, 100), ylim=(0, 50))
        axes.set_axis_off()
        _box(axes, 1.5, "Stays private: RUN/private/", "never publish", VERMILION, private)
        _box(axes, 59.5, "Released: RUN/release/", "may be published", BLUE, public)
        axes.text(50, 39, "each step,\neach direction", ha="center", va="center", color=GREY, linespacing=1.3)
        for height, weight, text in zip((32.5, 29.5, 19, 16), ("bold", "normal", "bold", "normal"), gate, strict=True):
            axes.text(50, height, text, ha="center", va="top", fontweight=weight, color=INK, linespacing=1.25)
        arrow = FancyArrowPatch((41.6, 22.5), (58.4, 22.5), arrowstyle="-|>", mutation_scale=26, linewidth=3, color=INK)
        axes.add_patch(arrow)

    return png(draw, 11.5, 5.4)


def _kept(kind: MechanismSpec, candidates: int) -> list[tuple[str, str]]:
    """What else stays private, by mechanism: the last two lines of the left box."""
    if kind.candidates:
        agreed = f"the signs of all {candidates} candidates, a step a line: journal"
        return [("who agreed", agreed), ("coins, noise, what was spent", "journal, diagnostics")]
    if kind.is_dp:
        return [("noise, and who was drawn", "never written"), ("mean losses, timings", "diagnostics")]
    return [("the mean loss on the pool", "diagnostics"), ("progress, timings", "diagnostics")]


def _box(axes: Axes, left: float, title: str, note: str, colour: str, lines: Sequence[tuple[str, str]]) -> None:
    edge: dict[str, Any] = {"facecolor": "white", "edgecolor": colour, "linewidth": 2.2}
    axes.add_patch(FancyBboxPatch((left + 0.6, 2), 37.8, 46, boxstyle="round,pad=0.6,rounding_size=1.2", **edge))
    axes.text(left + 2, 46.4, title, va="top", fontsize=14, fontweight="bold", color=colour)
    axes.text(left + 2, 43, note, va="top", fontsize=11, color=colour)
    for index, (what, where) in enumerate(lines):
        height = 37.2 - 7 * index
        axes.text(left + 2, height, what, va="top", fontsize=12, fontweight="bold", color=INK)
        axes.text(left + 2, height - 3, where, va="top", fontsize=10.5, color=INK)
