"""The right answers to a record: a text, a list of texts, or a mapping with such a list under "text" (as SQuAD has it).

>>> read_answers(load_rows([{"answers": {"text": ["1973", "in 1973"], "answer_start": [4, 1]}}]), "answers")
[('1973', 'in 1973')]
"""

from typing import Any

from paczero.errors import PACZeroError
from paczero.records.conversations import cell
from paczero.records.sources import Rows, load_rows

__all__ = ["load_rows", "read_answers"]


def read_answers(data: Rows, column: str) -> list[tuple[str, ...]]:
    """The answers of every record, one or more each.

    Raises:
        PACZeroError: a record has none, or something that is no text.
    """
    found = []
    for number in range(1, len(data) + 1):
        texts = _texts(cell(data, number - 1, column))
        if texts is None:
            raise PACZeroError(
                f"task.label_column: record {number} of {data.origin} has answers in column {column!r} that are no "
                'texts; expected a text, a list of texts, or {"text": a list of texts}'
            )
        answers = tuple(text for text in (text.strip() for text in texts) if text)
        if not answers:
            raise PACZeroError(
                f"task.label_column: record {number} of {data.origin} has no answer in column {column!r}; give one or "
                "drop the record"
            )
        found.append(answers)
    return found


def _texts(value: Any) -> list[str] | None:
    """The texts of a cell; None where it holds something else."""
    if isinstance(value, dict):
        value = value.get("text")
    if isinstance(value, str):
        return [value]
    texts: list[Any] = list(value) if hasattr(value, "__iter__") else [None]
    return texts if all(isinstance(text, str) for text in texts) else None
