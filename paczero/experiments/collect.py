"""Finds the runs of a sweep and reads what is compared; a run that cannot be compared is kept with its reason.

    runs, left_out = collect([Path("runs/sst2")])
    runs[0].cell, runs[0].seed, runs[0].test
    # ('none', 0, 0.794)

A run is a directory that `paczero train` made. In a sweep's directory it is CELL/seed-SEED. Nothing is written.
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
from paczero.report.summary import DECISIONS_FILE, SUMMARY_FILE, summary_path
from paczero.run_directory import RunDirectory

_SEED, _SETTINGS = re.compile(r"seed-\d+"), re.compile(r"seed-\d+\.yaml")  # a run of a sweep, and its file of settings


@dataclass(frozen=True, eq=False)
class Run:
    """One finished run.

    Attributes:
        cell: name of the cell.
        seed: the run's seed.
        directory: as it was found.
        header: the transcript's header.
        config: the settings.
        metric: the metric of the task, a key of `data.metrics.METRICS`.
        test: the metric of the served weights on the test set; None without a test set.
        dev: the same on the dev set.
        untuned, untuned_median: the metric of the base model on the test set, also with its decision at the median.
        test_records, test_sha256: size and hash of the test set.
        unanimous: share of each step's releases on which all candidates agreed; empty without candidates.
        seconds: duration of the training.
        scores: (R,) the metric of each test record; `test` is their mean. None without `decisions.csv`.
        pool_sha256, dev_sha256: hashes of the pool and of the selection set; None without the private folder.
    """

    cell: str
    seed: int
    directory: str
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
    scores: NDArray[np.float64] | None
    pool_sha256: str | None = None
    dev_sha256: str | None = None


@dataclass(frozen=True)
class LeftOut:
    """A run that is not compared, and why."""

    directory: str
    reason: str


def collect(directories: Sequence[Path]) -> tuple[list[Run], list[LeftOut]]:
    """All finished runs in these directories, in the order of their paths, and those left out.

    Raises:
        PACZeroError: a directory does not exist or holds no run, or none of the runs can be compared.
    """
    runs: list[Run] = []
    left_out: list[LeftOut] = []
    cells: dict[str, Path] = {}
    for root in dict.fromkeys(directories):
        if not root.is_dir():
            raise PACZeroError(f"{str(root)!r} is no directory; expected one that `paczero sweep` or `train` made")
        before = len(runs) + len(left_out)
        for path in _runs_in(root):
            cell, name = _cell_of(path, root)
            if cells.setdefault(name, cell) != cell:  # two sweeps may have cells of one name
                name = f"{_above(cell, root).name}/{name}"
            item = _read(path, name) if path.is_dir() else _not_begun(path)
            if isinstance(item, Run):
                runs.append(item)
            else:
                left_out.append(item)
        if len(runs) + len(left_out) == before:
            raise PACZeroError(
                f"{str(root)!r} holds no run; expected CELL/seed-SEED as `paczero sweep` makes them, or a run itself"
            )
    if not runs:
        raise PACZeroError(
            f"{str(directories[0])!r}: none of its runs ({len(left_out)}) can be compared; the first: "
            f"{left_out[0].reason}"
        )
    return runs, left_out


def _runs_in(root: Path) -> Iterator[Path]:
    """Every run below a directory, and every path at which a sweep planned one that never began."""
    for directory, inner, files in os.walk(root):
        path = Path(directory)
        if "config.yaml" in files and {"private", "release"} & set(inner):
            inner.clear()
            yield path
            continue
        planned = sorted(name.removesuffix(".yaml") for name in files if _SETTINGS.fullmatch(name))
        yield from (path / name for name in planned if name not in inner)
        inner[:] = sorted(name for name in inner if not name.startswith("."))


def _cell_of(run: Path, root: Path) -> tuple[Path, str]:
    """A cell's directory, and its name: the path below the root."""
    path = run.resolve()
    cell = path.parent if _SEED.fullmatch(path.name) else path
    return cell, cell.relative_to(_above(cell, root)).as_posix()


def _above(cell: Path, root: Path) -> Path:
    """The root; the cell's parent where the root is the cell itself, or a run in it."""
    top = root.resolve()
    return top if top in cell.parents else cell.parent


def _not_begun(path: Path) -> LeftOut:
    log = path.with_name(f"{path.name}.log")
    return LeftOut(str(path), f"it never began{f'; {log} may say why' if log.is_file() else ''}")


def _read(path: Path, cell: str) -> Run | LeftOut:
    run = RunDirectory(path)
    try:
        record = RunRecord.load(run)
        if not run.finished:
            planned = f" of {record.header['steps']:,}" if record.header else ""
            reason = f"not finished: {len(record.y):,}{planned} steps; go on by `paczero train --resume {path}`"
        elif record.header is None or record.sealed is None:
            reason = record.problem or "its release has no transcript"
        elif not record.summary:
            reason = f"it has no {SUMMARY_FILE}; `paczero train --resume {path}` makes it"
        else:
            return _run(run, record, record.header, cell)
    except (PACZeroError, OSError) as error:
        reason = str(error)
    except (KeyError, ValueError, TypeError) as error:
        reason = f"unreadable: {error!r}"
    return LeftOut(str(path), reason)


def _run(run: RunDirectory, record: RunRecord, header: Mapping[str, Any], cell: str) -> Run:
    summary, metric = record.summary, record.summary["metric"]
    if metric not in METRICS:
        raise IntegrityError(f"{summary_path(run)}: metric {metric!r}; expected one of {', '.join(METRICS)}")
    test = _finite((summary["test_after"] or {}).get(metric))
    hashes = _hashes(run.journal)
    return Run(
        cell=cell,
        seed=header["seed"],
        directory=str(run.root),
        header=header,
        config=record.config,
        metric=metric,
        test=test,
        dev=_finite(summary["dev_after"]),
        untuned=_finite((summary["test_before"] or {}).get(metric)),
        untuned_median=_finite(summary["accuracy_before_median"]),
        test_records=summary["test_records"],
        test_sha256=summary["test_sha256"],
        unanimous=tuple(record.unanimous[step] for step in sorted(record.unanimous)),
        seconds=summary["seconds"],
        scores=None if test is None else _scores(run.root / DECISIONS_FILE, metric, test),
        pool_sha256=hashes.get("pool"),
        dev_sha256=hashes.get("dev"),
    )


def _finite(value: float | None) -> float | None:
    """None also for NaN or infinity, which the metric of a diverged run can be."""
    return value if value is not None and math.isfinite(value) else None


def _hashes(journal: Path) -> Mapping[str, Any]:
    """The hashes of the records from the journal's first line; empty without the private folder."""
    if not journal.is_file():
        return {}
    with open(journal, "rb") as stream:
        header: dict[str, Any] = json.loads(stream.readline())["header"]
    return header


def _scores(path: Path, metric: str, expected: float) -> NDArray[np.float64] | None:
    """(R,) the metric of each test record; None where there is no such file.

    Raises:
        IntegrityError: the file has another form, or its mean is not the summary's figure.
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
        raise IntegrityError(f"{path}: its mean is not the {metric} in {SUMMARY_FILE}; one of the two was changed")
    return values
