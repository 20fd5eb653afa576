"""What a model says of records without labels, and tables of it that do no harm where they are opened."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paczero.cli.released import scores_of
from paczero.cli.target import Target
from paczero.config import TaskConfig
from paczero.errors import PACZeroError
from paczero.utils.csv import csv_text

if TYPE_CHECKING:
    import numpy as np
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from paczero.data.dataset import Dataset
    from paczero.data.encoding import EncodedDataset
    from paczero.data.loading import Rows

KINDS = (".csv", ".tsv", ".jsonl", ".parquet")


def unlabelled(rows: "Rows", task: TaskConfig) -> "Dataset":
    """The records as a pool, whatever they have for labels; theirs are never looked at.

    Raises:
        PACZeroError: a column of the template is missing or holds no text, or a record has no text at all.
    """
    from paczero.data.dataset import make_dataset
    from paczero.data.loading import Rows
    from paczero.data.template import Template

    if task.kind == "chat":
        raise PACZeroError(
            "task.kind: 'chat' was given; predict decides on records (classification) or answers them (answer); let "
            "transformers' generate talk"
        )
    columns = Template.parse(task.template).columns
    nested = [column for column in columns if column in rows.nested]
    if nested:
        raise PACZeroError(f"{rows.origin}: column {nested[0]!r} holds lists or structures; expected text or numbers")
    Template.parse(task.template).check(rows.columns)
    placeholder = next(iter(task.labels))  # a record must have a label, or an answer; nobody looks at it
    texts = [{column: row.get(column, "") for column in columns} | {task.label_column: placeholder} for row in rows]
    return make_dataset(Rows(texts, rows.origin), task, training=False)


def added_columns(pool: "Dataset") -> list[str]:
    """The names of the columns that `predicted` adds to these records."""
    return ["prediction"] if pool.answers else ["prediction", *(f"probability {name}" for name in pool.label_names)]


def predicted(
    target: Target,
    model: "nn.Module",
    tokenizer: "PreTrainedTokenizerBase",
    pool: "Dataset",
    *,
    progress: Callable[[int, int], None],
) -> tuple[list[dict[str, Any]], int]:
    """The columns that are added to each record: the decided label and each label's probability with six digits, or
    the text that is generated for it.

    Returns:
        One mapping a record, with `added_columns` as keys, and how many records were cut to fit.
    """
    from paczero.data.encoding import context_length, prepare
    from paczero.data.metrics import decisions
    from paczero.models.layers import plain

    records = prepare(pool, target.args.task, tokenizer, context=context_length(plain(model)))
    if records.task.generates:
        texts = answered(target, model, tokenizer, records, progress=progress)
        return [{"prediction": text} for text in texts], records.encoded.truncated
    scores = scores_of(model, records, target.args, progress=progress)
    names, columns = pool.label_names, added_columns(pool)
    answers = [
        dict(zip(columns, [names[choice], *(round(float(chance), 6) for chance in chances)], strict=True))
        for choice, chances in zip(decisions(scores, target.threshold), probabilities(scores), strict=True)
    ]
    return answers, records.encoded.truncated


def answered(
    target: Target,
    model: "nn.Module",
    tokenizer: "PreTrainedTokenizerBase",
    records: "EncodedDataset",
    *,
    progress: Callable[[int, int], None],
) -> list[str]:
    """What is generated for each record, up to the stop text."""
    from paczero.data.tasks.question_answering import generated
    from paczero.training.evaluation import make_generator

    tokens = make_generator(model, records, target.args, tokenizer, progress=progress).generate()
    return [generated(tokenizer, ids, target.args.task.stop) for ids in tokens]


def told(pool: "Dataset", answers: Sequence[Mapping[str, Any]]) -> str:
    """What was predicted, in a few words: how often each label, the six most frequent of them; or how many answers."""
    texts = [said["prediction"] for said in answers]
    if not pool.answers:
        return ", ".join(f"{count:,} {name}" for name, count in Counter(texts).most_common(6))
    empty = texts.count("")
    return f"{len(texts) - empty:,} answered" + (f", {empty:,} with an empty answer" if empty else "")


def probabilities(scores: "np.ndarray") -> "np.ndarray":
    """The labels' shares (R, C), by the softmax that the loss uses."""
    import numpy as np

    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def render(kind: str, columns: Sequence[str], records: Sequence[Mapping[str, Any]]) -> bytes:
    """A table's bytes.

    Args:
        kind: one of `KINDS`. In csv and tsv a text that a spreadsheet would run gets an apostrophe before it, and
            lists and structures become JSON; in jsonl and parquet every value stays as it is.
        columns: in order.
        records: column -> value; a column that a record lacks is empty.

    Raises:
        PACZeroError: parquet cannot hold a column, whose values have no common type.
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
        raise PACZeroError(
            f"--output: parquet cannot hold these columns ({reason}); choose a .jsonl or .csv"
        ) from error
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    return bytes(sink.getvalue())


def originals(source: str, rows: "Rows") -> list[dict[str, Any]]:
    """The records with all their columns; those of a JSON or parquet file with the types that they have there."""
    path = Path(source)
    kind = path.suffix.lower()
    if not path.is_file():
        return [dict(row) for row in rows]
    if kind in (".parquet", ".pq"):
        import pyarrow.parquet

        found: list[dict[str, Any]] = pyarrow.parquet.ParquetFile(path).read().to_pylist()
        return found
    if kind not in (".jsonl", ".ndjson", ".json"):
        return [dict(row) for row in rows]
    text = path.read_text(encoding="utf-8-sig")
    if kind == ".json" and text.lstrip().startswith("["):
        return list(json.loads(text))
    lines = text.split("\n") if len(rows) > 1 or kind != ".json" else [text]
    return [json.loads(line) for line in lines if line.strip()]
