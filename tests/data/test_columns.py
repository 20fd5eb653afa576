"""Answers and conversations as files have them; everything else is refused by its record."""

import json
from pathlib import Path
from typing import Any

import pytest

from paczero.config import TaskConfig
from paczero.data.columns import read_answers, read_conversations
from paczero.data.dataset import make_dataset
from paczero.data.loading import load_rows
from paczero.errors import PACZeroError

TASK = TaskConfig(kind="answer", template="{question} {label}", label_column="answers")


@pytest.mark.parametrize(
    ("cell", "answers"),
    [
        ("1973", ("1973",)),
        (1973, ("1973",)),
        (["1973", " in 1973 ", ""], ("1973", "in 1973")),
        ({"text": ["1973"], "answer_start": [4]}, ("1973",)),
        ({"text": "1973"}, ("1973",)),
    ],
)
def test_every_form(cell: Any, answers: tuple[str, ...]) -> None:
    rows = load_rows([{"question": "when?", "answers": cell}, {"question": "who?", "answers": ["OAPEC"]}])
    assert read_answers(rows, "answers") == [answers, ("OAPEC",)]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("", "record 2 of .* has no answer in column 'answers'"),
        ([], "record 2 of .* has no answer"),
        (["", " "], "record 2 of .* has no answer"),
        ({"text": []}, "record 2 of .* has no answer"),
        ([1973], "record 2 of .* has answers in column 'answers' that are no texts"),
        ({"answer_start": [4]}, "that are no texts"),
        ({"text": [{"a": 1}]}, "that are no texts"),
    ],
)
def test_what_is_no_answer(cell: Any, said: str) -> None:
    rows = load_rows([{"question": "when?", "answers": ["1973"]}, {"question": "who?", "answers": cell}])
    with pytest.raises(PACZeroError, match=said):
        read_answers(rows, "answers")


def test_a_pool_s_hash_depends_on_the_answers() -> None:
    def pool(*answers: str) -> str:
        return make_dataset([{"question": "when?", "answers": list(answers)}], TASK, training=False).hash()

    assert pool("1973") == pool("1973")
    assert len({pool("1973"), pool("1974"), pool("1973", "1974"), pool("1974", "1973")}) == 4


def test_a_question_may_not_be_a_list() -> None:
    with pytest.raises(PACZeroError, match="column 'question' holds lists or structures; expected text"):
        make_dataset([{"question": ["when?"], "answers": ["1973"]}], TASK, training=False)


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
def test_what_is_no_conversation(talk: Any) -> None:
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
