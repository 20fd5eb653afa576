"""`results.json`: all metrics of the compared runs. Tables, text and plots are made from it alone.

    document = build(runs, left_out, commands=["paczero sweep my.yaml"])
    document["gap_points"], document["gap_ci95"]
    # (0.94, [-0.6, 2.4])

Metrics are as in the summaries: shares from 0 to 1, or nats. Differences, and all keys with `points` in their name, are
in `unit`: percentage points, or nats where the metric is a loss. A positive difference is better. A positive gap is the
cost of asking all halves to agree. Unknown values are null.
"""

import json
import shlex
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
from paczero.experiments.comparison import DRAWS, LEVEL, Difference, difference
from paczero.mechanism.registry import DEFAULT, REFERENCE
from paczero.release import guarantee
from paczero.release.plots import moving_share
from paczero.release.wording import mechanism_line
from paczero.release.wording.labels import HIDES

FORMAT = "paczero-results/1"

# What should be the same for all cells of one seed, and the note for the reader where it is not.
_SAME = {
    "untuned": "Not all cells begin at the same untuned figure: the model, the prompt or its arithmetic differs",
    "untuned_median": "Not all cells begin at the same figure at the median: model, prompt or selection set differ",
    "pool_sha256": "Not all cells are trained on the same pool, so that differences between them are of pools as well",
    "dev_sha256": "Not all cells have the same selection set, so that choosing by its figure is not quite fair",
}

_POINTS = 200  # at most, of a series over the steps


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
    """Compares the runs.

    Args:
        runs: at least one.
        left_out: runs that are not compared; listed with their reasons.
        commit: of the source that makes the document.
        commands: that made the runs and the document.
        baseline, private: names of the cells between which the gap is taken; by default the selection sets choose them.
        by_selection: a setting. Each cell keeps the value that its selection sets prefer. The other values are listed
            with their metrics on these sets alone.

    Raises:
        PACZeroError: cells cannot be compared, or a named cell does not exist.
        IntegrityError: the decisions of two runs on one test set do not match.
    """
    cells = group(runs)
    metric = metric_of(cells)
    aside: list[Aside] = []
    if by_selection is not None:
        cells, aside = choose(cells, by_selection, metric)
    chosen = _compared(cells, baseline, private, metric)
    base = chosen["baseline"][0]
    differences = {cell.name: difference(cell, base) if base and cell is not base else None for cell in cells}
    gaps = {name: _points(differences[cell.name] if cell else None, metric, -1) for name, (cell, _) in chosen.items()}
    untuned = {name: _by_seed(cells, name) for name in ("untuned", "untuned_median")}
    best_of_kind = _best_of_kind(cells, metric)
    return {
        "format": FORMAT,
        "commit": commit,
        "commands": list(commands),
        "metric": metric.name,
        "unit": "points" if metric.share else "nats",
        "models": sorted({cell.header["base"]["id"] for cell in cells}),
        "gap_points": gaps["private"][0],
        "gap_ci95": gaps["private"][1],
        "gap_points_random": gaps["random"][0],
        "gap_ci95_random": gaps["random"][1],
        "none_gain_points": _gain(base, untuned.values(), metric),
        **{name: None if cell is None else cell.name for name, (cell, _) in chosen.items()},
        "chosen": {name: why for name, (_, why) in chosen.items()},
        "chosen_setting": by_selection,
        "set_aside": [
            {"cell": a.cell.name, "value": a.value, "instead": a.instead, "seeds": a.cell.seeds, "dev_mean": a.cell.dev}
            for a in aside
        ],
        "bootstrap": {"draws": DRAWS, "level": LEVEL, "design": _design(differences.values())},
        "test": _tests(cells),
        **{name: _over_seeds(known) for name, known in untuned.items()},
        "cells": [cell_row(cell, differences[cell.name], cell.name in best_of_kind, metric) for cell in cells],
        "paper": _paper(cells, metric),
        "left_out": [{"directory": item.directory, "reason": item.reason} for item in left_out],
        "notes": _notes(cells),
    }


def train_commands(runs: Sequence[Run]) -> list[str]:
    """The commands that repeat the runs from their own settings: the first, and how many more."""
    config = shlex.quote(f"{runs[0].directory}/config.yaml")
    more = [f"# … and so for each of the {len(runs)} runs"] if len(runs) > 1 else []
    return [f"paczero train --config {config} --output_dir NEW", *more]


def render(document: Mapping[str, Any]) -> str:
    """The text of `results.json`."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read(path: Path) -> dict[str, Any]:
    """Reads a document.

    Raises:
        PACZeroError: the file does not exist or is no such document.
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
    """The baseline and the cells of the two gaps, each with the reason for the choice.

    Raises:
        PACZeroError: a named cell does not exist, or the private one is the baseline or promises nothing.
    """
    reference = [cell for cell in cells if cell.mechanism == REFERENCE]
    kept = [cell for cell in cells if cell.mechanism == DEFAULT and cell.nats is not None]  # void ones promise nothing
    zpl = [cell for cell in _of_usual_size(kept) if cell.name != baseline]
    chosen = {
        "baseline": _chosen(cells, reference, baseline, "--baseline", metric),
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
    """The cells with the most frequent M. The gap is not taken to other M, since M is no setting to tune."""
    counts = Counter(cell.header["subsets"] for cell in cells)
    usual = max(counts, key=lambda size: (counts[size], size), default=None)
    return [cell for cell in cells if cell.header["subsets"] == usual]


def _best_of_kind(cells: Sequence[Cell], metric: Metric) -> set[str]:
    """Names of the best cell of each mechanism and family at each promise, by the selection sets; all if unknown."""
    kinds: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        kinds.setdefault((cell.mechanism, cell.family, cell.success, cell.nats), []).append(cell)
    names: set[str] = set()
    for alike in kinds.values():
        chosen, _ = best(alike, metric)
        names |= {cell.name for cell in ([chosen] if chosen else alike)}
    return names


def _by_seed(cells: Sequence[Cell], name: str) -> dict[int, float]:
    """A metric of the base model for each seed, from the first cell that has it."""
    found: dict[int, float] = {}
    for run in (run for cell in cells for run in cell.runs):
        if (value := getattr(run, name)) is not None:
            found.setdefault(run.seed, value)
    return dict(sorted(found.items()))


def _over_seeds(known: Mapping[int, float]) -> dict[str, Any] | None:
    values = list(known.values())
    return {"seeds": list(known), "values": values, **spread(values)} if known else None


def _gain(base: Cell | None, untuned: Iterable[Mapping[int, float]], metric: Metric) -> float | None:
    """The gain of the baseline over the better of the untuned metrics, over its own seeds."""
    reached = [metric.better(run.test) for run in base.runs if run.test is not None] if base else []
    if base is None or len(reached) < len(base.runs):
        return None
    means = [
        statistics.fmean(metric.better(known[seed]) for seed in base.seeds)
        for known in untuned
        if known.keys() >= set(base.seeds)
    ]
    return _scale(metric) * (statistics.fmean(reached) - max(means)) if means else None


def _design(differences: Iterable[Difference | None]) -> str | None:
    """The design of the bootstrap: `records` for one seed, else `crossed` or `nested`; None without intervals."""
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


def _paper(cells: Sequence[Cell], metric: Metric) -> dict[str, Any] | None:
    """The paper's metrics for this task, each with our cell of the same mechanism and budget."""
    tasks = {paper.task_of(cell.runs[0].config) for cell in cells}
    task = tasks.pop() if len(tasks) == 1 else None
    if task is None:
        return None
    rows = []
    for mechanism, budget, printed in paper.FIGURES[task]:
        alike = [cell for cell in cells if cell.mechanism == mechanism and budget in (None, cell.header["budget"])]
        ours, _ = best(alike, metric)
        rows.append({"mechanism": mechanism, "budget": budget, "paper": printed, "cell": ours.name if ours else None})
    comparable = all(paper.comparable(task, cell.header["base"]["id"], cell.header["peft"] is None) for cell in cells)
    return {"task": task, "comparable": comparable, "remark": paper.REMARKS[task], "rows": rows}


def _notes(cells: Sequence[Cell]) -> list[str]:
    """What a reader must know about these runs besides the metrics."""
    notes = []
    if any(guarantee.verdict(cell.header) == "void" for cell in cells):
        notes.append("Runs with a test seed promise nothing: anyone can compute their coins (`void`).")
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


def cell_row(cell: Cell, against: Difference | None, best_of_kind: bool, metric: Metric) -> dict[str, Any]:
    """A cell in `results.json`; `against` is its difference from the baseline."""
    header, mechanism = cell.header, cell.header["mechanism"]
    tests = [run.test for run in cell.runs]
    unanimities = [statistics.fmean(run.unanimous) for run in cell.runs if run.unanimous]
    seconds = [run.seconds for run in cell.runs if run.seconds is not None]
    points, interval = _points(against, metric)
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
        "difference_points": points,
        "difference_ci95": interval,
        "difference_seeds": list(against.seeds) if against else [],
        "unanimity": statistics.fmean(unanimities) if unanimities else None,
        "unanimity_over_steps": _series(cell),
        "seconds": statistics.fmean(seconds) if seconds else None,
        "directories": [run.directory for run in cell.runs],
    }


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean, sample standard deviation and range; null if a seed has no value, the deviation also for one seed."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return dict.fromkeys(("mean", "sd", "min", "max"))
    sd = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.fmean(known), "sd": sd, "min": min(known), "max": max(known)}


def _series(cell: Cell) -> dict[str, Any] | None:
    """The moving mean share of unanimous releases, averaged over seeds, at `_POINTS` steps at most."""
    length = min(len(run.unanimous) for run in cell.runs)
    if not length:
        return None
    window = max(5, length // 20)
    smooth = moving_share(np.mean([run.unanimous[:length] for run in cell.runs], axis=0), window)
    first = window - 1 if length >= 2 * window else 0  # the first means are of few steps, and jump
    steps = np.unique(np.linspace(first, length - 1, min(_POINTS, length - first)).round().astype(int)).tolist()
    return {"window": window, "steps": steps, "share": [round(smooth[step], 5) for step in steps]}


def _scale(metric: Metric) -> float:
    """From the metric's own unit to the document's `unit`."""
    return 100.0 if metric.share else 1.0


def _points(difference: Difference | None, metric: Metric, sign: int = 1) -> tuple[float | None, list[float] | None]:
    """A difference and its interval in the document's unit; `sign` −1 makes a gap of it."""
    if difference is None:
        return None, None
    scale, ends = sign * _scale(metric), difference.interval
    return scale * difference.mean + 0.0, ends and sorted(scale * end + 0.0 for end in ends)  # + 0.0: no −0.0


def source(package: Path, version: str) -> str:
    """The commit of the checkout that a package runs from, with `+changes` where its files differ.

    Args:
        package: the package's directory.
        version: its version.

    Returns:
        The commit in hex, or `paczero VERSION` if the package lies in no checkout of its own or git is missing.
    """
    try:
        if _git(package, "rev-parse", "--show-toplevel") == str(package.resolve().parent):
            changed = _git(package, "status", "--porcelain", "--untracked-files=no", "--", ".")
            return _git(package, "rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        pass  # no git, or no checkout
    return f"paczero {version}"  # also for an environment inside another checkout


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
