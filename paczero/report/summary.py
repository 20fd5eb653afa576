"""The results of a run for its owner: `RUN/summary.json`, `RUN/decisions.csv`, and the lines that end a training.

They hold metrics on sets that are not protected and numbers that depend on the pool, so they are not to be published.
`decisions.csv` has one line a test record; differences between runs are computed from it. Its columns depend on the
kind of task, such as `number,target,decision,score 0,score 1` or `number,target,prediction,f1,exact_match`.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from paczero.data.metrics import ACCURACY, METRICS, Metric
from paczero.errors import IntegrityError
from paczero.run_directory import RunDirectory
from paczero.utils.csv import csv_text
from paczero.utils.formatting import duration, percent
from paczero.utils.io import write_whole

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True)
class Summary:
    """The metrics of one finished run; accuracies from 0 to 1, None where they were not measured.

    Attributes:
        accuracy_before: of the untuned model on the test set, with its decision not moved.
        accuracy_before_median: of the untuned model with its decision moved to the median (two labels only).
        median_of: set of the median: `dev`, or `test` without a dev set.
        accuracy_after: of the served weights on the test set, at the served threshold.
        test_records: size of the test set.
        test_sha256: hash of its texts, labels and order; equal for runs with the same test set.
        majority: the accuracy of always naming its most frequent label.
        dev_accuracy_before: on the dev set before the first step, decided as in the run.
        dev_accuracy_after: of the served weights on the dev set.
        unanimity: share of releases on which all candidates agreed; None without candidates.
        spent: nats charged.
        steps: steps that ran.
        chosen_step: whose weights are served.
        threshold: where the served decision lies, as a difference of scores.
        seconds: duration of training, over all starts of the run.
        metric: the metric of the task: `accuracy`, `f1` or `loss`.
        test_before: all metrics of the untuned model on the test set, by name.
        test_after: the same of the served weights.
        dev_before: the metric on the dev set before the first step.
        dev_after: the same of the served weights.
        shared: how many records of dev and test set share a unit or a text with the pool, a sentence each.
    """

    accuracy_before: float | None
    accuracy_before_median: float | None
    median_of: str | None
    accuracy_after: float | None
    test_records: int | None
    majority: float | None
    dev_accuracy_before: float | None
    dev_accuracy_after: float | None
    unanimity: float | None
    spent: float
    steps: int
    chosen_step: int
    threshold: float
    seconds: float
    test_sha256: str | None = None
    metric: str = "accuracy"
    test_before: dict[str, float] | None = None
    test_after: dict[str, float] | None = None
    dev_before: float | None = None
    dev_after: float | None = None
    shared: Sequence[str] = ()


def summary_path(run: RunDirectory) -> Path:
    """Where a run's summary lies."""
    return run.root / SUMMARY_FILE


def write_summary(run: RunDirectory, summary: Summary, **more: Any) -> None:
    """Writes `summary.json`; `more` adds further numbers, such as `accuracy_none`."""
    write_whole(summary_path(run), json.dumps({**asdict(summary), **more}, indent=2) + "\n", mode=0o600)


def read_summary(run: RunDirectory) -> Summary:
    """Reads `summary.json` without added numbers.

    Raises:
        IntegrityError: it is no summary.
    """
    try:
        content = json.loads(summary_path(run).read_text(encoding="utf-8"))
        return Summary(**{field.name: content[field.name] for field in fields(Summary) if field.name in content})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{summary_path(run)}: is no summary of a run; delete it to have it made again") from error


def closing(summary: Summary, run: RunDirectory) -> str:
    """The lines that end a training: metrics, paths, and the commands to type next."""
    root = shlex.quote(str(run.root))
    rows = [
        ("test", _test(summary)),
        ("dev", _change(summary.dev_before, summary.dev_after, METRICS[summary.metric])),
        ("shared", "; ".join(summary.shared)),
        ("unanimous", _unanimity(summary)),
        ("release", f"{run.release} (may be published; nothing else of the run may)"),
        ("report", f"{run.report / 'index.html'}"),
        ("check it", f"paczero replay {root} --verify"),
        ("use it", f"paczero eval {root} --data YOUR.csv"),
    ]
    steps = f"{summary.steps:,} steps in {duration(summary.seconds)}; the weights of step {summary.chosen_step:,} serve"
    return "\n".join([f"Finished: {steps}", *(f"  {name:<10} {text}" for name, text in rows if text)])


def _change(before: float | None, after: float | None, metric: Metric = ACCURACY) -> str:
    if after is None:
        return ""
    text = f"{metric.title} {metric.shown(after)}"
    return f"{text}, untuned {metric.shown(before)}" if before is not None else text


def _test(summary: Summary) -> str:
    if summary.metric != "accuracy":
        before, after = summary.test_before or {}, summary.test_after or {}
        parts = [_change(before.get(name), after.get(name), METRICS[name]) for name in after]
        return "; ".join([*parts, f"{summary.test_records:,} records"]) if parts else ""
    text = _change(summary.accuracy_before, summary.accuracy_after)
    if summary.accuracy_before_median is not None:
        text += f" ({percent(summary.accuracy_before_median)} at the median of the {summary.median_of} scores)"
    if text:
        text += f"; {summary.test_records:,} records, its most frequent label makes {percent(summary.majority)}"
    return text


def _unanimity(summary: Summary) -> str:
    if summary.unanimity is None:
        return ""
    return f"{percent(summary.unanimity, 0)} of the releases (for you only; the release does not say it)"


DECISIONS_FILE = "decisions.csv"


def write_decisions(run: RunDirectory, columns: Mapping[str, Sequence[Any]]) -> None:
    """Writes one line a record; a column `number`, from 1, comes first.

    Args:
        columns: name -> one value a record, all of one length.
    """
    rows = ([number, *values] for number, values in enumerate(zip(*columns.values(), strict=True), 1))
    write_whole(run.root / DECISIONS_FILE, csv_text(["number", *columns], rows))
