"""The pool: records with their labels, and the unit (person) that each belongs to.

>>> pool = make_dataset(load_rows([{"text": "A fine film.", "label": 1}]), TaskConfig(), training=False)
>>> pool.labels.tolist(), pool.units, pool.label_names
([1], 1, ('0', '1'))

All checks of the data are here and run before a model is loaded. The promise is about units: all records of a unit are
in the same candidate subsets (arXiv 2605.06505 takes each record as a unit).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paczero.config import MINIMUM_UNITS, TaskConfig
from paczero.data.columns import read_answers, read_conversations
from paczero.data.loading import Rows, load_rows
from paczero.data.template import Template, listed
from paczero.errors import PACZeroError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Records that are ready to be made into prompts.

    Attributes:
        rows: R records, column -> text, with all columns of the source; of a conversation, its messages as JSON.
        labels: index of each record's label among the configured ones (R,) int64; 0 where there are no labels.
        unit_of_record: unit of each record, counted by first appearance (R,) int64.
        units: N, the number of units.
        unit_names: their names (N,): the values of the unit column, or the records' numbers from 1.
        columns: the columns that a record is made of: those of the template, or of a conversation.
        label_names: the configured label values (C,), in the order of `labels`; none where there are no labels.
        notes: remarks for the user that are no errors, a sentence each.
        answers: the right answers to each record (R,), the first to be trained on; none for other kinds of task.
    """

    rows: list[dict[str, str]]
    labels: NDArray[np.int64]
    unit_of_record: NDArray[np.int64]
    units: int
    unit_names: tuple[str, ...]
    columns: tuple[str, ...]
    label_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    answers: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def hash(self) -> str:
        """SHA-256 (hex) of what a run depends on: the texts in the prompt, the labels, the units, and their order."""
        digest = hashlib.sha256()
        digest.update(json.dumps([self.columns, self.label_names]).encode())
        for row, label, unit in zip(self.rows, self.labels.tolist(), self.unit_of_record.tolist(), strict=True):
            texts = [row.get(column, "").strip() for column in self.columns]
            digest.update(b"\n" + json.dumps([texts, label, unit]).encode())
        if self.answers:
            digest.update(b"\n" + json.dumps(self.answers).encode())
        return digest.hexdigest()


def make_dataset(rows: Sequence[Mapping[str, Any]], task: TaskConfig, *, training: bool) -> Dataset:
    """Checks the records against the task, the cheapest questions first.

    Args:
        rows: what `load_rows` gives (other mappings go through it).
        task: template, label column, labels, unit column.
        training: whether this is the pool of a training run, which needs 32 units or more.

    Raises:
        PACZeroError: one line that names the first thing wrong: a missing column, an empty text, an unknown label, a
            record without an answer or a unit, too few units. Records are counted from 1, the header apart.
    """
    data = load_rows(rows)
    columns = _columns(data, task)
    unit_names, unit_of_record = _units(data, task.unit_column)
    if training and len(unit_names) < MINIMUM_UNITS:
        column = task.unit_column
        meaning = "each record is one" if column is None else f"the different values of column {column!r}"
        raise PACZeroError(
            f"{data.origin}: it has {len(unit_names)} units ({meaning}); training needs "
            f"{MINIMUM_UNITS} or more, for halves that mean something"
        )
    labelled = task.kind == "classification"
    labels = _labels(data, task) if labelled else np.zeros(len(data), dtype=np.int64)
    answers = tuple(read_answers(data, task.label_column)) if task.kind == "answer" else ()
    notes = [] if task.kind == "chat" else _check_texts(data, columns)
    texts = list(data)
    if task.kind == "chat":
        columns = ("messages",)
        texts = [{"messages": json.dumps(talk, ensure_ascii=False)} for talk in read_conversations(data, task)]
    if labelled:
        absent = [str(value) for index, value in enumerate(task.labels) if index not in labels]
        notes += [f"no record has the label {listed(absent)}"] if absent else []
    if training:
        notes += _shared_texts(texts, columns, unit_of_record)
        if task.unit_column is None and "unit_id" in data.columns:
            notes.append(
                "column 'unit_id' is not used: each record is a unit of its own (set task.unit_column to change it)"
            )
    return Dataset(
        rows=texts,
        labels=labels,
        unit_of_record=unit_of_record,
        units=len(unit_names),
        unit_names=unit_names,
        columns=columns,
        label_names=tuple(map(canonical_value, task.labels)) if labelled else (),
        notes=tuple(notes),
        answers=answers,
    )


def _columns(data: Rows, task: TaskConfig) -> tuple[str, ...]:
    """The columns of a record's prompt; refuses a column of the task that is missing or holds lists, not texts."""
    if task.kind == "chat":
        one = task.messages_column
        named = {"task.messages_column": one} if one else _named(task, "prompt_column", "completion_column")
        columns = tuple(named.values())
    else:
        template = Template.parse(task.template)
        columns, named = template.columns, _named(task, "label_column")
        template.check(data.columns)
    if task.unit_column is not None:
        named["task.unit_column"] = task.unit_column
    may_be_nested = {"classification": (), "answer": (task.label_column,), "chat": columns}[task.kind]
    for name in (*columns, *named.values()):
        if name in data.nested and name not in may_be_nested:
            raise PACZeroError(f"{data.origin}: column {name!r} holds lists or structures; expected text or numbers")
    for setting, column in named.items():
        if column not in data.columns:
            raise PACZeroError(
                f"{setting}: {data.origin} has no column {column!r}; its columns are {listed(data.columns)}"
            )
    return columns


def _named(task: TaskConfig, *names: str) -> dict[str, str]:
    return {f"task.{name}": getattr(task, name) for name in names}


def _check_texts(data: Rows, columns: tuple[str, ...]) -> list[str]:
    """Refuses a record without any text; one with an empty column beside a filled one is only noted."""
    partly = 0
    for number, row in enumerate(data, 1):
        filled = [bool(row.get(column, "").strip()) for column in columns]
        if not any(filled):
            raise PACZeroError(
                f"{data.origin}: record {number} has no text in {listed(columns)}; fill it in or drop the record"
            )
        partly += not all(filled)
    return [f"{partly} of {len(data)} records have an empty column beside a filled one"] if partly else []


def canonical_value(value: object) -> str:
    """A label or the name of a unit in the form that is compared: no white space around, 1.0 as 1."""
    text = str(value).strip()
    whole = text.removesuffix(".0")
    return whole if whole.removeprefix("-").isdigit() else text


def _labels(data: Rows, task: TaskConfig) -> NDArray[np.int64]:
    column = task.label_column
    index = {canonical_value(value): number for number, value in enumerate(task.labels)}
    if len(index) < len(task.labels):
        raise PACZeroError(f"task.labels: {listed(list(map(str, task.labels)))} mean the same value twice; keep one")
    known = index | _other_spellings(data.class_names.get(column, ()), index)
    labels = np.empty(len(data), dtype=np.int64)
    for number, row in enumerate(data, 1):
        label = known.get(canonical_value(row.get(column, "")))
        if label is None:
            raise _unknown_label(data, number, column, list(index))
        labels[number - 1] = label
    return labels


def _other_spellings(class_names: Sequence[str], index: dict[str, int]) -> dict[str, int]:
    """Other spellings of the configured labels: True for true, and the name of a class that is configured by number."""
    other: dict[str, int] = {}
    for key, label in index.items():
        if key.lower() in ("true", "false"):
            other |= dict.fromkeys((key.lower(), key.title(), key.upper()), label)
    names = {canonical_value(name): str(number) for number, name in enumerate(class_names)}
    if not names or not set(index) <= set(names.values()):
        return {spelling: label for spelling, label in other.items() if spelling not in index}
    if set(index) <= set(names) and any(index.get(name) != index.get(number) for name, number in names.items()):
        raise PACZeroError(
            f"task.labels: the classes are called {listed(list(names))}, so {listed(list(index))} may mean their names "
            "or their numbers; rename the classes"
        )
    return {name: index[number] for name, number in names.items() if number in index}


def _unknown_label(data: Rows, number: int, column: str, configured: list[str]) -> PACZeroError:
    value = data[number - 1].get(column, "")
    found = Counter(row.get(column, "").strip() for row in data)
    common = ", ".join(f"{label!r} ({count})" for label, count in found.most_common(6))
    more = f" and {len(found) - 6} other values" if len(found) > 6 else ""
    problem = f"has the label {value!r}" if value.strip() else "has no label"
    return PACZeroError(
        f"task.labels: record {number} of {data.origin} {problem} in column {column!r}; configured are "
        f"{listed(configured)}; the column holds {common}{more}; add the label, name another column, or drop the record"
    )


def _units(data: Rows, column: str | None) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    if column is None:
        return tuple(str(number) for number in range(1, len(data) + 1)), np.arange(len(data), dtype=np.int64)
    indices: dict[str, int] = {}
    unit_of_record = np.empty(len(data), dtype=np.int64)
    for number, row in enumerate(data, 1):
        name = canonical_value(row.get(column, ""))
        if not name:
            raise PACZeroError(
                f"task.unit_column: record {number} of {data.origin} has nothing in column {column!r}; "
                "expected the name of its unit; fill it in or drop the record"
            )
        unit_of_record[number - 1] = indices.setdefault(name, len(indices))
    return tuple(indices), unit_of_record


def _shared_texts(
    rows: Sequence[Mapping[str, str]], columns: tuple[str, ...], unit_of_record: NDArray[np.int64]
) -> list[str]:
    """A sentence on texts of a pool that several units share."""
    holders: dict[tuple[str, ...], set[int]] = {}
    for row, unit in zip(rows, unit_of_record.tolist(), strict=True):
        holders.setdefault(tuple(row.get(column, "").strip() for column in columns), set()).add(unit)
    shared = sum(len(units) > 1 for units in holders.values())
    if not shared:
        return []
    return [f"{shared} texts belong to several units each, which are protected one by one and not together"]
