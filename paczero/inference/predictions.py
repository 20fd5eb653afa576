"""Decisions and answers for records without labels, and tables of them.

table = predict("runs/first/release", "new.csv")
table.records[0]["prediction"], table.records[0]["probability 1"]
Path("decided.parquet").write_bytes(render(".parquet", table.columns, table.records))
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paczero.config import TaskConfig
from paczero.data.dataset import Dataset, make_dataset
from paczero.data.loading import Rows, load_rows, read_file
from paczero.data.template import Template
from paczero.errors import PACZeroError
from paczero.inference.evaluation import added_columns, label_columns, target_evaluator, threshold_of
from paczero.inference.target import Target, find_target

if TYPE_CHECKING:
    from paczero.training.evaluation import Progress


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
        progress: called with (name of the stage, records done, records in total).

    Raises:
        PACZeroError: the target cannot be found or loaded, the data lack a column of the template, or a column would
            be replaced.
        IntegrityError: the release or its base model was changed.
    """
    target = target if isinstance(target, Target) else find_target(target, settings)
    rows = load_rows(data)
    dataset = unlabelled(rows, target.args.task)
    added = added_columns(dataset)
    if taken := [name for name in added if name in rows.columns]:
        raise PACZeroError(f"{rows.origin}: has a column {taken[0]!r}, which would be replaced; rename it")
    threshold = threshold_of(target, base=base)
    evaluator = target_evaluator(target, dataset, base=base, progress=progress)
    texts = evaluator.texts()
    predicted = label_columns(dataset, evaluator.scores(), threshold) if texts is None else {"prediction": texts}
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


def _originals(source: Any, rows: Rows) -> list[dict[str, Any]]:
    """The records with all their columns; those of a JSON or parquet file with the types that they have there."""
    is_file = isinstance(source, str | Path) and Path(source).expanduser().is_file()
    return [dict(row) for row in (read_file(Path(source).expanduser())[0] if is_file else rows)]
