"""Conversations as files have them: `messages`, or a prompt and a completion that are texts or messages."""

import json
from pathlib import Path
from typing import Any

import pytest

from paczero.config import TaskConfig
from paczero.data.columns import read_conversations
from paczero.data.dataset import make_dataset
from paczero.data.loading import load_rows
from paczero.errors import PACZeroError

CHAT, MESSAGES = TaskConfig(kind="chat"), TaskConfig(kind="chat", messages_column="messages")
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Why is the sky blue?"},
    {"role": "assistant", "content": "It scatters blue light."},
]


def test_messages_and_their_parts_are_the_same() -> None:
    whole = read_conversations(load_rows([{"messages": TALK}]), MESSAGES)
    parts = read_conversations(load_rows([{"prompt": TALK[:2], "completion": TALK[2:]}]), CHAT)
    assert whole == parts == [TALK]


def test_texts_are_one_turn_each() -> None:
    rows = load_rows([{"q": TALK[1]["content"], "a": TALK[2]["content"]}])
    task = TaskConfig(kind="chat", prompt_column="q", completion_column="a")
    assert read_conversations(rows, task) == [TALK[1:]]


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_from_a_file(kind: str, tmp_path: Path) -> None:
    rows, path = [{"messages": TALK}, {"messages": TALK[1:]}], tmp_path / f"talks.{kind}"
    if kind == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("\n".join(map(json.dumps, rows)) if kind == "jsonl" else json.dumps(rows))
    pool = make_dataset(load_rows(path), MESSAGES, training=False)
    assert [json.loads(row["messages"]) for row in pool.rows] == [TALK, TALK[1:]]
    assert (pool.columns, pool.label_names, pool.answers) == (("messages",), (), ())


def test_what_else_a_message_holds_is_left_out() -> None:
    named = [message | {"name": "me", "tool_calls": []} for message in TALK]
    assert read_conversations(load_rows([{"messages": named}]), MESSAGES) == [TALK]


@pytest.mark.parametrize(
    "talk",
    [
        "Why is the sky blue?",
        TALK[:2],  # the user speaks last
        TALK[2:],  # nothing stands before
        [*TALK[:2], {"role": "assistant"}],
        [*TALK[:2], {"role": "assistant", "content": None}],
        [*TALK[:2], "It scatters blue light."],
        {"role": "assistant", "content": "x"},
        [],
    ],
)
def test_what_is_none(talk: Any) -> None:
    with pytest.raises(PACZeroError, match=r"record 2 of .* is no conversation that ends with the assistant"):
        read_conversations(load_rows([{"messages": TALK}, {"messages": talk}]), MESSAGES)


@pytest.mark.parametrize(
    ("row", "task", "said"),
    [
        ({"prompt": "a", "reply": "b"}, CHAT, "task.completion_column: .* has no column 'completion'"),
        ({"prompt": "a", "completion": "b"}, MESSAGES, "task.messages_column: .* has no column 'messages'"),
        ({"prompt": "", "completion": "b"}, CHAT, "record 1 of .* is no conversation"),
    ],
)
def test_columns_that_lack(row: dict[str, str], task: TaskConfig, said: str) -> None:
    with pytest.raises(PACZeroError, match=said):
        make_dataset([row], task, training=False)
