"""Decisions and answers for records without labels, and tables of them.

table = predict("runs/first/release", "new.csv")
table.records[0]["prediction"], table.records[0]["probability 1"]
Path("decided.parquet").write_bytes(render(".parquet", table.columns, table.records))
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paczero.config import TaskConfig
from paczero.data.dataset import Dataset, make_dataset
from paczero.data.loading import Rows, load_rows, read_file
from paczero.data.metrics import decisions
from paczero.data.template import Template
from paczero.errors import PACZeroError
from paczero.inference.target import Target, find_target
from paczero.utils.csv import csv_text

if TYPE_CHECKING:
    from paczero.training.evaluation import Progress

KINDS = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class PredictedTable:
    """Records with what was predicted for them.

    Attributes:
        columns: those of the input, then `prediction`, then `probability LABEL` of each label (classification).
        records: column -> value, in the order of the input; probabilities with six digits, before the threshold.
        notes: sentences on records that were cut to fit the model.
    """

    columns: tuple[str, ...]
    records: list[dict[str, Any]]
    notes: list[str]


def predict(
    target: Target | str | Path,
    data: Any,
    *,
    settings: Mapping[str, Any] | None = None,
    base: bool = False,
    progress: "Progress | None" = None,
) -> PredictedTable:
    """Decides on each record (classification) or generates its answer; labels in the data are not read.

    Args:
        target: a run, release, adapter or model: its directory, its hub id, or what `find_target` returns.
        data: a file, a hub name, a `datasets.Dataset`, or a sequence of mappings.
        settings: as in `find_target`.
        base: decide with the untuned base model.
        progress: called with (what is done, records done, records in all).

    Raises:
        PACZeroError: the target cannot be found or loaded, the data lack a column of the template, or a column would
            be replaced.
        IntegrityError: the release or its base model was changed.
    """
    target = target if isinstance(target, Target) else find_target(target, settings)
    rows = load_rows(data)
    dataset = unlabelled(rows, target.args.task)
    added = _added_columns(dataset)
    if taken := [name for name in added if name in rows.columns]:
        raise PACZeroError(f"{rows.origin}: has a column {taken[0]!r}, which would be replaced; rename it")
    from paczero.inference.evaluation import target_evaluator, threshold_of

    threshold = threshold_of(target, base=base)
    evaluator = target_evaluator(target, dataset, base=base, progress=progress)
    if evaluator.generator is None:
        predicted = label_columns(dataset, evaluator.scores(), threshold)
    else:
        predicted = {"prediction": evaluator.texts()}
    values = zip(*predicted.values(), strict=True)
    records = [
        {**own, **dict(zip(added, new, strict=True))} for own, new in zip(_originals(data, rows), values, strict=True)
    ]
    return PredictedTable((*rows.columns, *added), records, evaluator.records.cut_notes)


def unlabelled(rows: Rows, task: TaskConfig) -> Dataset:
    """The records with a placeholder for labels or answers.

    Raises:
        PACZeroError: a column of the template is missing or holds no text, or a record has no text at all.
    """
    if task.kind == "chat":
        raise PACZeroError(
            "task.kind: 'chat' was given; predict decides on records (classification) or answers them (answer); "
            "generate replies with transformers"
        )
    template = Template.parse(task.template)
    if nested := [column for column in template.columns if column in rows.nested]:
        raise PACZeroError(f"{rows.origin}: column {nested[0]!r} holds lists or structures; expected text or numbers")
    template.check(rows.columns)
    placeholder = {task.label_column: next(iter(task.labels))}
    texts = [{column: row.get(column, "") for column in template.columns} | placeholder for row in rows]
    return make_dataset(Rows(texts, rows.origin), task, training=False)


def _added_columns(dataset: Dataset) -> tuple[str, ...]:
    return ("prediction", *(f"probability {name}" for name in dataset.label_names))


def label_columns(dataset: Dataset, scores: np.ndarray, threshold: float) -> dict[str, list[Any]]:
    """The decided label and the probability of each label: name of a column -> R values.

    Args:
        dataset: the R records.
        scores: of each label word (R, C).
        threshold: decision threshold of a binary task, as a difference of scores.
    """
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = (weights / weights.sum(axis=1, keepdims=True)).round(6)
    labels = [dataset.label_names[choice] for choice in decisions(scores, threshold)]
    return dict(zip(_added_columns(dataset), [labels, *probabilities.T.tolist()], strict=True))


def render(kind: str, columns: Sequence[str], records: Sequence[Mapping[str, Any]]) -> bytes:
    """A table as the bytes of a file.

    >>> render(".csv", ["text", "n"], [{"text": "=1+1", "n": 2}])
    b"text,n\\n'=1+1,2\\n"

    Args:
        kind: one of `KINDS`. In csv and tsv, a text that a spreadsheet would run gets an apostrophe before it, and
            lists and structures become JSON. In jsonl and parquet each value stays as it is.
        columns: in order.
        records: column -> value; a missing column is empty.

    Raises:
        PACZeroError: the values of a column have no common type, which parquet needs.
    """
    if kind in (".csv", ".tsv"):
        rows = ([record.get(name) for name in columns] for record in records)
        return csv_text(columns, rows, delimiter="," if kind == ".csv" else "\t").encode()
    if kind == ".jsonl":
        lines = ({name: record[name] for name in columns if name in record} for record in records)
        return "".join(json.dumps(line, ensure_ascii=False, default=str) + "\n" for line in lines).encode()
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        table = pyarrow.table({name: [record.get(name) for record in records] for name in columns})
    except pyarrow.ArrowException as error:
        reason = " ".join(str(error).split())[:200]
        raise PACZeroError(f"parquet cannot hold these columns ({reason}); choose .jsonl or .csv") from error
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    return bytes(sink.getvalue())


def _originals(source: Any, rows: Rows) -> list[dict[str, Any]]:
    """The records with all their columns; those of a JSON or parquet file with the types that they have there."""
    is_file = isinstance(source, str | Path) and Path(source).expanduser().is_file()
    return [dict(row) for row in (read_file(Path(source).expanduser())[0] if is_file else rows)]
