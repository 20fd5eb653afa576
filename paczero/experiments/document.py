"""`results.json`: everything that is known of the compared runs, from which tables, text and figures are made.

    document = build(runs, left_out, commands=["paczero sweep my.yaml"])
    document["gap_points"], document["gap_ci95"]
    # (0.94, [-0.6, 2.4])

Figures of the metric are as in the summaries (shares from 0 to 1, or nats); differences, and all keys with `points` in
their name, are in `unit`: percentage points, or nats where the metric is a loss. A positive difference is better, a
positive gap is what it costs to ask all halves to agree. What is not known is null.

One cell as it stands in `results.json`, and the units in which differences are said there.

    cell_row(cell, difference(cell, baseline), True, ACCURACY)["difference_points"]
    # -0.94

Which source made a document.

    source(Path(paczero.__file__).parent, paczero.__version__)
    # '3f2c…9a+changes'
"""

import json
import statistics
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paczero.data.metrics import Metric
from paczero.errors import PACZeroError
from paczero.experiments import paper
from paczero.experiments.cells import Aside, Cell, best, choose, group, metric_of
from paczero.experiments.collect import LeftOut, Run
from paczero.experiments.comparison import DRAWS, Difference, difference
from paczero.mechanism.registry import DEFAULT, REFERENCE
from paczero.release import guarantee
from paczero.release.plots import moving_share
from paczero.release.wording import mechanism_line
from paczero.release.wording.labels import HIDES

FORMAT = "paczero-results/1"

# What should be the same for all cells under one seed, and what it means where it is not.
_SAME = {
    "untuned": "Not all cells begin at the same untuned figure: the model, the prompt or its arithmetic differs",
    "untuned_median": "Not all cells begin at the same figure at the median: model, prompt or selection set differ",
    "pool_sha256": "Not all cells are trained on the same pool, so that differences between them are of pools as well",
    "dev_sha256": "Not all cells have the same selection set, so that choosing by its figure is not quite fair",
}


def build(
    runs: Sequence[Run],
    left_out: Sequence[LeftOut] = (),
    *,
    commit: str = "unknown",
    commands: Sequence[str] = (),
    baseline: str | None = None,
    private: str | None = None,
    by_selection: str | None = None,
) -> dict[str, Any]:
    """The document of these runs.

    Args:
        runs: at least one.
        left_out: runs that are not compared; listed with their reasons.
        commit: of the source that makes the document.
        commands: by which all of this was made.
        baseline, private: the cells that the gap is taken between; chosen on the selection sets where left out.
        by_selection: a setting of which each cell keeps the value that its selection sets prefer; the others are listed
            with their figures on these sets alone.

    Raises:
        PACZeroError: cells that cannot be compared, or one that was named and is not there.
        IntegrityError: decisions that do not belong together.
    """
    cells = group(runs)
    metric = metric_of(cells)
    aside: list[Aside] = []
    if by_selection is not None:
        cells, aside = choose(cells, by_selection, metric)
    chosen = _compared(cells, baseline, private, metric)
    base = chosen["baseline"][0]
    differences = {cell.name: difference(cell, base) if base and cell is not base else None for cell in cells}
    gaps = {name: differences[cell.name] if cell else None for name, (cell, _) in chosen.items()}
    untuned, median = _of_seeds(cells, "untuned"), _of_seeds(cells, "untuned_median")
    best_of_kind = _best_of_kind(cells, metric)
    return {
        "format": FORMAT,
        "commit": commit,
        "commands": list(commands),
        "metric": metric.name,
        "unit": "points" if metric.share else "nats",
        "models": sorted({cell.header["base"]["id"] for cell in cells}),
        "gap_points": points(gaps["private"], metric, -1),
        "gap_ci95": interval_points(gaps["private"], metric, -1),
        "gap_points_random": points(gaps["random"], metric, -1),
        "gap_ci95_random": interval_points(gaps["random"], metric, -1),
        "none_gain_points": _gain(base, untuned, median, metric),
        **{name: None if cell is None else cell.name for name, (cell, _) in chosen.items()},
        "chosen": {name: why for name, (_, why) in chosen.items()},
        "chosen_setting": by_selection,
        "set_aside": [
            {"cell": a.cell.name, "value": a.value, "instead": a.instead, "seeds": a.cell.seeds, "dev_mean": a.cell.dev}
            for a in aside
        ],
        "bootstrap": {"draws": DRAWS, "level": 0.95, "design": _design(differences.values())},
        "test": _tests(cells),
        "untuned": untuned,
        "untuned_median": median,
        "cells": [cell_row(cell, differences[cell.name], cell.name in best_of_kind, metric) for cell in cells],
        "paper": _paper(cells),
        "left_out": [{"directory": item.directory, "reason": item.reason} for item in left_out],
        "notes": _notes(cells),
    }


def render(document: Mapping[str, Any]) -> str:
    """The text of `results.json`."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read(path: Path) -> dict[str, Any]:
    """A document from its file.

    Raises:
        PACZeroError: there is none, or it is no such document.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PACZeroError(f"{str(path)!r} cannot be read ({error}); expected a results.json") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT or not document.get("cells"):
        raise PACZeroError(f"{str(path)!r} is no {FORMAT}; expected a results.json that `paczero results` wrote")
    return document


def _compared(
    cells: Sequence[Cell], baseline: str | None, private: str | None, metric: Metric
) -> dict[str, tuple[Cell | None, str]]:
    """The baseline and the cells that gaps are taken to, each with why it is this one.

    Raises:
        PACZeroError: a cell that was named is not there; the private one is the baseline, or promises nothing.
    """
    without = [cell for cell in cells if cell.mechanism == REFERENCE]
    kept = [cell for cell in cells if cell.mechanism == DEFAULT and cell.nats is not None]  # void ones promise nothing
    zpl = [cell for cell in _of_usual_size(kept) if cell.name != baseline]
    chosen = {
        "baseline": _chosen(cells, without, baseline, "--baseline", metric),
        "private": _chosen(cells, zpl, private, "--private", metric),
        "random": best([cell for cell in zpl if cell.family == "random"], metric),
    }
    base = chosen["baseline"][0]
    if private is not None and chosen["private"][0] in [base, *(cell for cell in cells if cell.nats is None)]:
        why = "is the baseline" if base and private == base.name else "promises nothing"
        raise PACZeroError(f"--private: {private!r} was given, which {why}; expected another cell, with a promise")
    return chosen


def _chosen(
    cells: Sequence[Cell], candidates: Sequence[Cell], named: str | None, option: str, metric: Metric
) -> tuple[Cell | None, str]:
    if named is None:
        return best(candidates, metric)
    for cell in cells:
        if cell.name == named:
            return cell, f"named by {option}"
    raise PACZeroError(f"{option}: {named!r} was given; expected one of {', '.join(cell.name for cell in cells)}")


def _of_usual_size(cells: Sequence[Cell]) -> list[Cell]:
    """Those with as many candidates as most have: M says what knowing many units would tell, and is not tuned."""
    counts = Counter(cell.header["subsets"] for cell in cells)
    usual = max(counts, key=lambda size: (counts[size], size), default=None)
    return [cell for cell in cells if cell.header["subsets"] == usual]


def _best_of_kind(cells: Sequence[Cell], metric: Metric) -> set[str]:
    """Of each mechanism and family at each promise the cell that is best on the selection sets; all where unknown."""
    kinds: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        kinds.setdefault((cell.mechanism, cell.family, cell.success, cell.nats), []).append(cell)
    names: set[str] = set()
    for alike in kinds.values():
        chosen, _ = best(alike, metric)
        names |= {cell.name for cell in ([chosen] if chosen else alike)}
    return names


def _of_seeds(cells: Sequence[Cell], name: str) -> dict[str, Any] | None:
    """A figure of the base model, by seed; of the first cell in which a seed has it."""
    found: dict[int, float] = {}
    for cell in cells:
        for run in cell.runs:
            if (value := getattr(run, name)) is not None:
                found.setdefault(run.seed, value)
    seeds = sorted(found)
    return {"seeds": seeds, "values": [found[s] for s in seeds], **spread([found[s] for s in seeds])} if seeds else None


def _gain(
    base: Cell | None, untuned: dict[str, Any] | None, median: dict[str, Any] | None, metric: Metric
) -> float | None:
    """What the baseline gains over the better of the two untuned figures, over its own seeds."""
    if base is None or any(run.test is None for run in base.runs):
        return None
    means = []
    for one in (untuned, median):
        known = dict(zip(one["seeds"], one["values"], strict=True)) if one else {}
        if all(seed in known for seed in base.seeds):
            means.append(statistics.fmean(metric.better(known[seed]) for seed in base.seeds))
    if not means:
        return None
    reached = statistics.fmean(metric.better(run.test) for run in base.runs if run.test is not None)
    return scale(metric) * (reached - max(means))


def _design(differences: Iterable[Difference | None]) -> str | None:
    """What was drawn: `records` alone of one seed, else seeds and records, `crossed` or `nested`; null: nothing."""
    known = [one for one in differences if one is not None and one.interval is not None]
    if not known:
        return None
    widest = max(known, key=lambda one: len(one.seeds))
    if len(widest.seeds) == 1:
        return "records"
    return "crossed" if widest.shared else "nested"


def _tests(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    known = {run.seed: run for cell in cells for run in cell.runs if run.test_sha256 is not None}
    return [
        {"seed": seed, "records": known[seed].test_records, "sha256": known[seed].test_sha256} for seed in sorted(known)
    ]


def _paper(cells: Sequence[Cell]) -> dict[str, Any] | None:
    """The paper's figures for this task, each beside the cell of ours that has its mechanism and budget."""
    tasks = {paper.task_of(cell.runs[0].config) for cell in cells}
    task = tasks.pop() if len(tasks) == 1 else None
    if task is None:
        return None
    rows = []
    for known in paper.FIGURES[task]:
        ours, _ = best([cell for cell in cells if _is_like(cell, known)], metric_of(cells))
        rows.append(
            {
                "mechanism": known.mechanism,
                "budget": known.budget,
                "paper": known.printed or None,
                "cell": ours.name if ours else None,
            }
        )
    fair = all(
        paper.comparable(task, cell.header["base"]["id"], "LoRA" if cell.header["peft"] else paper.FULL)
        for cell in cells
    )
    return {"task": task, "comparable": fair, "remark": paper.REMARKS[task], "rows": rows}


def _is_like(cell: Cell, known: paper.Known) -> bool:
    same = cell.mechanism == known.mechanism
    return same and (known.budget is None or cell.header["budget"] == known.budget)


def _notes(cells: Sequence[Cell]) -> list[str]:
    """What a reader must know of these runs beside the figures."""
    notes = []
    if any(guarantee.verdict(cell.header) == "void" for cell in cells):
        notes.append("Runs with a test seed promise nothing: anybody can compute their coins (`void`).")
    silent = [run.directory for cell in cells for run in cell.runs if run.test is not None and run.scores is None]
    if silent:
        more = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
        notes.append(f"No intervals with cells of these runs, which have no decisions.csv: {silent[0]}{more}.")
    for name, text in _SAME.items():
        seen: dict[int, set[Any]] = {}
        for cell in cells:
            for run in cell.runs:
                seen.setdefault(run.seed, set()).update({getattr(run, name)} - {None})
        differing = [str(seed) for seed, values in sorted(seen.items()) if len(values) > 1]
        if differing:
            notes.append(f"{text} (seed {', '.join(differing)}).")
    return notes


_POINTS = 200  # of a series over the steps, at most


def cell_row(cell: Cell, against: Difference | None, best_of_kind: bool, metric: Metric) -> dict[str, Any]:
    header, mechanism = cell.header, cell.header["mechanism"]
    tests = [run.test for run in cell.runs]
    unanimities = [statistics.fmean(run.unanimous) for run in cell.runs if run.unanimous]
    seconds = [run.seconds for run in cell.runs if run.seconds is not None]
    return {
        "cell": cell.name,
        "mechanism": cell.mechanism,
        "described": mechanism_line(header).partition(": ")[2],
        "hides": HIDES[cell.kind.hides],
        "verdict": guarantee.verdict(header),
        "family": cell.family,
        "subsets": header["subsets"] if cell.kind.candidates else None,
        "budget": None if cell.kind.is_dp else header["budget"],
        "epsilon": mechanism.get("epsilon"),
        "delta": mechanism.get("delta"),
        "posterior_success": cell.success,
        "nats": cell.nats,
        "nats_by_equal_posterior_success": cell.kind.is_dp and cell.nats is not None,
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
        "directories": [run.directory for run in cell.runs],
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


def source(package: Path, version: str) -> str:
    """The commit of the checkout that a package runs from, with `+changes` where its files differ from it.

    Args:
        package: the package's directory.
        version: its version.

    Returns:
        The commit in hex, or `paczero VERSION` where the package lies in no checkout of its own or git is missing.
    """
    try:
        if _git(package, "rev-parse", "--show-toplevel") == str(package.resolve().parent):
            changed = _git(package, "status", "--porcelain", "--untracked-files=no", "--", ".")
            return _git(package, "rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        pass  # no git, or no checkout
    return f"paczero {version}"  # also in an environment inside somebody else's checkout


def _git(place: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(place), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
