"""Answers as tokens, with the stop text behind them; what is cut, and how that is said."""

from dataclasses import replace

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast as Tokenizer

from paczero.config import TaskConfig
from paczero.data.dataset import Dataset, make_dataset
from paczero.data.encoding import EncodedDataset
from paczero.data.tasks.base import Predictions
from paczero.data.tasks.question_answering import Answer, encode, generated, has_stopped
from paczero.errors import PACZeroError

TASK = TaskConfig(
    kind="answer",
    template="{context}\nQuestion: {question}\nAnswer: {label}",
    label_column="answers",
    max_new_tokens=8,
)
FILM = {"context": "A fine film", "question": "what?", "answers": ["film", "a fine film"]}
LONG = {"context": "The story was good " * 12 + "but the end was bad", "question": "what?", "answers": ["end"]}


def pool(*rows: dict[str, object]) -> Dataset:
    return make_dataset(list(rows), TASK, training=False)


def test_the_first_answer_and_the_stop_text_follow(byte_level: Tokenizer) -> None:
    encoded = encode(pool(FILM), TASK, byte_level, context=99)
    assert byte_level.decode(encoded.prompts[0]) == "A fine film\nQuestion: what?\nAnswer:"
    assert encoded.answers is not None and byte_level.decode(encoded.answers[0]) == " film\n"
    whole = byte_level("A fine film\nQuestion: what?\nAnswer: film\n")["input_ids"]
    assert encoded.prompts[0] + encoded.answers[0] == whole
    assert encoded.lengths.tolist() == [len(whole)] and not encoded.single_token


def test_what_is_generated_ends_at_the_stop_text(byte_level: Tokenizer) -> None:
    ids = byte_level(" fine film\nThe plot")["input_ids"]
    assert generated(byte_level, ids, "\n") == "fine film"
    assert generated(byte_level, [*ids[:2], byte_level.eos_token_id], "\n") == byte_level.decode(ids[:2]).strip()
    assert has_stopped(byte_level, ids, "\n") and not has_stopped(byte_level, ids[:2], "\n")
    assert generated(byte_level, ids, "The") == "fine film" and generated(byte_level, [], "\n") == ""


def test_long_records_are_refused_unless_cutting_is_allowed(byte_level: Tokenizer) -> None:
    records = pool(FILM, LONG)
    longest = len(encode(records, TASK, byte_level, context=999).prompts[1]) + TASK.max_new_tokens
    with pytest.raises(PACZeroError, match=rf"1 of 2 records are longer .* with their answers \(longest {longest}\)"):
        encode(records, TASK, byte_level, context=longest - 1)
    assert encode(records, TASK, byte_level, context=longest).truncated == 0


def test_the_context_is_cut_and_how_many_lost_their_answer_is_known(byte_level: Tokenizer) -> None:
    task = replace(TASK, too_long="truncate", max_length=48)
    kept = LONG | {"answers": ["story"]}  # stands at the beginning, which stays
    never = LONG | {"answers": ["weather"]}  # stood nowhere, so that cutting has not lost it
    records = pool(FILM, LONG, kept, never)
    encoded = encode(records, task, byte_level, context=99)
    assert (encoded.truncated, encoded.lost) == (3, 1)
    for prompt in encoded.prompts[1:]:
        text = byte_level.decode(prompt)
        assert text.startswith("The story was good") and text.endswith("\nQuestion: what?\nAnswer:")
        assert len(prompt) + task.max_new_tokens <= 48, "room for what is generated stays"
    notes = EncodedDataset(records, encoded, Answer(task)).cut_notes
    assert notes == [
        "3 of 4 records were cut at the end of their longest column to fit 48 tokens (task.max_length).",
        "1 of these no longer hold their answer.",
    ]
    whole = encode(records, TASK, byte_level, context=999)
    assert EncodedDataset(records, whole, Answer(TASK)).cut_notes == []


def test_figures_are_the_means_of_the_table(byte_level: Tokenizer) -> None:
    records = pool(FILM, LONG)
    encoded, task = encode(records, TASK, byte_level, context=999), Answer(TASK)
    found = Predictions(np.array([[-1.0], [-3.0]]), ["the film", "good end"])
    table = task.table(records, encoded, found, 0.0)
    assert table["prediction"] == ["the film", "good end"] and table["target"] == ["film", "end"]
    assert table["f1"] == [1.0, pytest.approx(2 / 3)] and table["exact_match"] == [1.0, 0.0]
    figures = task.figures(records, encoded, found, 0.0)
    assert figures == {"f1": pytest.approx(5 / 6), "exact_match": 0.5, "loss": 2.0}
