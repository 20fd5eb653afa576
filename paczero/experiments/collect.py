"""Finds the runs of a sweep and reads of each what is compared; what cannot be compared is kept with its reason.

    runs, left_out = collect([Path("runs/sst2")])
    runs[0].cell, runs[0].seed, runs[0].test
    # ('none', 0, 0.794)

A run is what `paczero train` makes; in a sweep's directory it lies in CELL/seed-SEED. Reads only.
"""

import csv
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paczero.data.metrics import METRICS
from paczero.errors import IntegrityError, PACZeroError
from paczero.report.run_record import RunRecord
from paczero.run_directory import RunDirectory

SUMMARY, DECISIONS = "summary.json", "decisions.csv"

_SEED = re.compile(r"seed-\d+")


@dataclass(frozen=True, eq=False)
class Run:
    """One finished run.

    Attributes:
        cell: what it is one seed of.
        seed: of the run.
        place: its directory, as it was reached.
        header: its transcript's.
        config: its settings.
        metric: by what it is judged, a key of `records.metrics.METRICS`.
        test: the metric of the served weights on the test set; None where there was no test set.
        dev: the same on the dev set.
        untuned, untuned_median: the metric of the base model on the test set, also with its decision at the median.
        test_records, test_sha256: size and hash of the test set.
        unanimous: share of each step's releases on which all candidates agreed; empty where none are asked.
        seconds: that training took.
        judged: (R,) what each test record adds to the metric, which is their mean; None where no file says it.
        pool_sha256, dev_sha256: hashes of the pool and of the selection set; None where the private part is gone.
    """

    cell: str
    seed: int
    place: str
    header: Mapping[str, Any]
    config: Mapping[str, Any]
    metric: str
    test: float | None
    dev: float | None
    untuned: float | None
    untuned_median: float | None
    test_records: int | None
    test_sha256: str | None
    unanimous: tuple[float, ...]
    seconds: float | None
    judged: NDArray[np.float64] | None
    pool_sha256: str | None = None
    dev_sha256: str | None = None


@dataclass(frozen=True)
class LeftOut:
    """A run that is not compared, and why."""

    place: str
    reason: str


def collect(directories: Sequence[Path]) -> tuple[list[Run], list[LeftOut]]:
    """All finished runs in these directories, in order of their places, and those left out.

    Raises:
        PACZeroError: a directory that does not exist or holds no run.
    """
    runs: list[Run] = []
    left_out: list[LeftOut] = []
    places: dict[str, Path] = {}
    for root in dict.fromkeys(directories):
        if not root.is_dir():
            raise PACZeroError(f"{str(root)!r} is no directory; expected one that `paczero sweep` or `train` made")
        before = len(runs) + len(left_out)
        for place in _runs_in(root):
            cell, name = _cell_of(place, root)
            if places.setdefault(name, cell) != cell:  # two sweeps may have cells of one name
                name = f"{_above(cell, root).name}/{name}"
            item = _read(place, name) if place.is_dir() else _not_begun(place)
            runs += [item] if isinstance(item, Run) else []
            left_out += [item] if isinstance(item, LeftOut) else []
        if len(runs) + len(left_out) == before:
            raise PACZeroError(
                f"{str(root)!r} holds no run; expected CELL/seed-SEED as `paczero sweep` makes them, or a run itself"
            )
    return runs, left_out


def _runs_in(root: Path) -> Iterator[Path]:
    """Every run below a directory, and where one was to begin and did not."""
    for place, inner, files in os.walk(root):
        here = Path(place)
        if "config.yaml" in files and {"private", "release"} & set(inner):
            inner.clear()
            yield here
            continue
        yield from (here / name[:-5] for name in sorted(files) if _planned(name) and name[:-5] not in inner)
        inner[:] = sorted(name for name in inner if not name.startswith("."))


def _planned(name: str) -> bool:
    """Whether a file holds the settings with which a sweep began a run."""
    return name.endswith(".yaml") and _SEED.fullmatch(name[:-5]) is not None


def _cell_of(place: Path, root: Path) -> tuple[Path, str]:
    """Where a run's cell lies, and its name: the way to it below the directory that was given."""
    whole = place.resolve()
    cell = whole.parent if _SEED.fullmatch(whole.name) else whole
    above = _above(cell, root)
    return cell, cell.relative_to(above).as_posix()


def _above(cell: Path, root: Path) -> Path:
    """The directory that was given; what the cell lies in where that is the cell, or a run of it."""
    top = root.resolve()
    return top if top in cell.parents else cell.parent


def _not_begun(place: Path) -> LeftOut:
    log = place.with_name(f"{place.name}.log")
    return LeftOut(str(place), f"it never began{f'; {log} may say why' if log.is_file() else ''}")


def _read(place: Path, cell: str) -> Run | LeftOut:
    run = RunDirectory(place)
    try:
        facts = RunRecord.load(run)
        if reason := _unusable(run, facts):
            return LeftOut(str(place), reason)
        return _run(run, facts, cell)
    except (PACZeroError, OSError, KeyError, ValueError) as error:
        return LeftOut(
            str(place), str(error) if isinstance(error, PACZeroError | OSError) else f"unreadable: {error!r}"
        )


def _unusable(run: RunDirectory, facts: RunRecord) -> str | None:
    if not run.finished:
        planned = f" of {facts.header['steps']:,}" if facts.header else ""
        return f"not finished: {len(facts.y):,}{planned} steps; go on by `paczero train --resume {run.root}`"
    if facts.header is None or facts.sealed is None:
        return facts.problem or "its release has no transcript"
    if not facts.summary:
        return f"it has no {SUMMARY}; `paczero train --resume {run.root}` makes it"
    return None


def _run(run: RunDirectory, facts: RunRecord, cell: str) -> Run:
    assert facts.header is not None
    summary, where = facts.summary, run.root / SUMMARY
    metric = summary.get("metric", "accuracy")
    if metric not in METRICS:
        raise IntegrityError(f"{where}: metric {metric!r}; expected one of {', '.join(METRICS)}")
    plain = metric == "accuracy"  # runs of an earlier version say their accuracies only
    test = _figure(summary, "test_after", metric, "accuracy_after" if plain else None)
    dev = _number(summary.get("dev_after"))
    records = _records(run.journal)
    return Run(
        cell=cell,
        seed=facts.header["seed"],
        place=str(run.root),
        header=facts.header,
        config=facts.config,
        metric=metric,
        test=test,
        dev=_number(summary.get("dev_accuracy_after")) if dev is None and plain else dev,
        untuned=_figure(summary, "test_before", metric, "accuracy_before" if plain else None),
        untuned_median=_number(summary.get("accuracy_before_median")),
        test_records=summary.get("test_records"),
        test_sha256=summary.get("test_sha256"),
        unanimous=tuple(facts.unanimous[step] for step in sorted(facts.unanimous)),
        seconds=_number(summary.get("seconds")),
        judged=None if test is None else _judged(run.root / DECISIONS, metric, test),
        pool_sha256=records.get("pool"),
        dev_sha256=records.get("dev"),
    )


def _records(journal: Path) -> Mapping[str, Any]:
    """What the journal's first line says of the records; nothing where the private part is gone."""
    if not journal.is_file():
        return {}
    with open(journal, "rb") as stream:
        header = json.loads(stream.readline())["header"]
    return header if isinstance(header, dict) else {}


def _figure(summary: Mapping[str, Any], group: str, metric: str, older: str | None) -> float | None:
    figures = summary.get(group)
    value = _number(figures.get(metric)) if isinstance(figures, Mapping) else None
    return _number(summary.get(older)) if value is None and older else value


def _number(value: Any) -> float | None:
    fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if fine else None


def _judged(path: Path, metric: str, expected: float) -> NDArray[np.float64] | None:
    """(R,) what each test record adds to the metric; None where there is no such file.

    Raises:
        IntegrityError: the file is of another form, or its mean is not the summary's figure.
    """
    if not path.is_file():
        return None
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        if metric == "accuracy":
            values = np.array([row["target"] == row["decision"] for row in rows], dtype=np.float64)
        else:
            values = np.array([float(row[metric]) for row in rows])
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise IntegrityError(f"{path}: is no table of decisions ({error!r})") from error
    if not values.size or not math.isclose(float(values.mean()), expected, rel_tol=1e-6, abs_tol=1e-9):
        raise IntegrityError(f"{path}: its mean is not the {metric} in {SUMMARY}; one of the two was changed")
    return values
