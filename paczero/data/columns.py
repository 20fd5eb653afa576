"""What stands in the columns of records: conversations of instruction data, and the right answers to a question.

A conversation is a list of messages, or a prompt and a completion. The answers of a record are a text, a list of texts,
or a mapping with such a list under "text", as SQuAD has it.

>>> rows = load_rows([{"prompt": "Why is the sky blue?", "completion": "It scatters blue light."}])
>>> [message["role"] for message in read_conversations(rows, TaskConfig(kind="chat"))[0]]
['user', 'assistant']
>>> read_answers(load_rows([{"answers": {"text": ["1973", "in 1973"], "answer_start": [4, 1]}}]), "answers")
[('1973', 'in 1973')]
"""

from typing import Any

from paczero.config import TaskConfig
from paczero.data.loading import Rows, load_rows  # noqa: F401 (the example)
from paczero.errors import PACZeroError

Messages = list[dict[str, str]]


def read_conversations(data: Rows, task: TaskConfig) -> list[Messages]:
    """The messages of every record, {"role", "content"} each, the last of them the assistant's.

    Raises:
        PACZeroError: a record is something else.
    """
    found = []
    for number in range(len(data)):
        messages = _conversation(data, number, task)
        if messages is None or len(messages) < 2 or messages[-1]["role"] != "assistant":
            raise PACZeroError(
                f"task.kind: record {number + 1} of {data.origin} is no conversation that ends with the assistant; "
                'expected two or more messages {"role": …, "content": a text}, or a prompt and a completion'
            )
        found.append(messages)
    return found


def cell(data: Rows, number: int, column: str) -> Any:
    """What a record (from 0) has in a column: a list or a structure, else text; "" where it has nothing."""
    return data.nested.get(column, {}).get(number, data[number].get(column, ""))


def _conversation(data: Rows, number: int, task: TaskConfig) -> Messages | None:
    if task.messages_column is not None:
        return _messages(cell(data, number, task.messages_column))
    before = _messages(cell(data, number, task.prompt_column), "user")
    after = _messages(cell(data, number, task.completion_column), "assistant")
    return None if before is None or after is None else before + after


def _messages(value: Any, role: str | None = None) -> Messages | None:
    """A list of messages, or with `role` a text as the only one; None for anything else."""
    if role is not None and isinstance(value, str):
        return [{"role": role, "content": value}] if value.strip() else None
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return None
    listed = list(value)  # an array too, as pandas reads the lists of a parquet file
    if not all(isinstance(message, dict) for message in listed):
        return None
    messages = [{name: message.get(name) for name in ("role", "content")} for message in listed]
    whole = all(isinstance(text, str) for message in messages for text in message.values())
    return messages if whole else None


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
