"""Right answers as files have them: a text, a list, SQuAD's structure; everything else is named."""

from typing import Any

import pytest

from paczero.config import TaskConfig
from paczero.data.columns import read_answers
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
def test_what_is_none(cell: Any, said: str) -> None:
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
