from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast as Tokenizer

from paczero.config import TaskConfig
from paczero.data.dataset import Dataset, make_dataset
from paczero.data.tasks.base import Encoded
from paczero.data.tasks.classification import encode
from paczero.errors import PACZeroError

TASK = TaskConfig()


def pool(*texts: str, task: TaskConfig = TASK) -> Dataset:
    return make_dataset([{"text": text, "label": str(i % 2)} for i, text in enumerate(texts)], task, training=False)


def test_byte_level(byte_level: Tokenizer) -> None:
    encoded = encode(pool("A fine film. ", "A dull film."), TASK, byte_level, context=64)
    assert [byte_level.decode(prompt) for prompt in encoded.prompts] == ["A fine film. It was", "A dull film. It was"]
    assert [byte_level.decode(ids) for ids in encoded.candidates] == [" terrible", " great"]
    assert encoded.single_token
    assert encoded.targets.tolist() == [0, 1]
    assert encoded.truncated == 0
    for prompt, text in zip(encoded.prompts, ("A fine film.", "A dull film."), strict=True):
        assert prompt + encoded.candidates[1] == byte_level(f"{text} It was great")["input_ids"]


def test_sentencepiece_like_with_start_and_end(metaspace: Tokenizer) -> None:
    encoded = encode(pool("A fine film.", "A dull film."), TASK, metaspace, context=64)
    whole = metaspace("A dull film. It was great")["input_ids"]
    assert encoded.prompts[1][0] == metaspace.bos_token_id
    assert metaspace.eos_token_id not in encoded.prompts[1]
    assert [*encoded.prompts[1], *encoded.candidates[1], metaspace.eos_token_id] == whole
    assert metaspace.decode(encoded.candidates[1]).strip() == "great"


def test_words_of_several_tokens_and_three_classes(byte_level: Tokenizer) -> None:
    labels = {"0": "not worth the wait", "1": "great", "2": "absolutely wonderful"}
    task = replace(TASK, labels=labels)
    encoded = encode(pool("A fine film.", task=task), task, byte_level, context=64)
    assert [byte_level.decode(ids) for ids in encoded.candidates] == [f" {word}" for word in labels.values()]
    assert not encoded.single_token
    assert encoded.lengths.tolist() == [len(encoded.prompts[0]) + max(map(len, encoded.candidates))]


def test_spaces_around_a_label_word_do_not_count(byte_level: Tokenizer) -> None:
    spaced = replace(TASK, labels={"0": " terrible", "1": " great "})
    plain = encode(pool("A fine film."), TASK, byte_level, context=64)
    assert encode(pool("A fine film."), spaced, byte_level, context=64).candidates == plain.candidates


@pytest.mark.parametrize("gap", ["", "\n", "  "])
def test_any_white_space_before_the_label(gap: str, byte_level: Tokenizer) -> None:
    task = replace(TASK, template="{text} Answer:" + gap + "{label}")
    encoded = encode(pool("A fine film.", task=task), task, byte_level, context=64)
    assert byte_level.decode(encoded.prompts[0]) == "A fine film. Answer:"
    assert byte_level.decode(encoded.candidates[1]) == gap + "great"


def test_a_tokenizer_that_merges_across_the_border(byte_level: Tokenizer) -> None:
    task = replace(TASK, template="{text}{label}", labels={"0": "at", "1": "od"})
    encoded = encode(pool("The gre", "The go", "x", task=task), task, byte_level, context=64)
    assert encoded.candidates == [byte_level(word)["input_ids"] for word in ("at", "od")]


def test_a_label_word_without_tokens(byte_level: Tokenizer) -> None:
    for word in ("", " "):
        with pytest.raises(PACZeroError, match=f"label word {word!r} of '0' tokenises to nothing"):
            encode(pool("a"), replace(TASK, labels={"0": word, "1": "great"}), byte_level, context=64)


def test_labels_with_the_same_tokens(byte_level: Tokenizer, metaspace: Tokenizer) -> None:
    with pytest.raises(PACZeroError, match=r"'great ' of '1' and 'great' of '0' have the same tokens"):
        encode(pool("a"), replace(TASK, labels={"0": "great", "1": "great "}), byte_level, context=64)
    with pytest.raises(PACZeroError, match="have the same tokens"):
        encode(pool("a"), replace(TASK, labels={"0": "世", "1": "界"}), metaspace, context=64)


def test_a_placeholder_that_the_pool_does_not_have(byte_level: Tokenizer) -> None:
    with pytest.raises(PACZeroError, match=r"\{body\} is no column of the data; its columns are 'text'"):
        encode(pool("a"), replace(TASK, template="{body} {label}"), byte_level, context=64)


def test_too_long(byte_level: Tokenizer) -> None:
    records = pool("A film", "A film " * 30, "A film " * 40)
    longest = max(encode(records, TASK, byte_level, context=10_000).lengths)
    with pytest.raises(PACZeroError, match=rf"2 of 3 records .*context of 20 tokens .*longest {longest}\).*truncate"):
        encode(records, TASK, byte_level, context=20)
    with pytest.raises(PACZeroError, match=r"task.max_length of 20 tokens .*raise task.max_length .the context is 99"):
        encode(records, replace(TASK, max_length=20), byte_level, context=99)
    encode(records, TASK, byte_level, context=longest)
    with pytest.raises(PACZeroError, match="1 of 3 records"):
        encode(records, TASK, byte_level, context=longest - 1)


def test_truncation_keeps_the_template(byte_level: Tokenizer) -> None:
    task = replace(TASK, too_long="truncate", max_length=16)
    records = pool("A film", "The acting was good " * 30)
    encoded = encode(records, task, byte_level, context=64)
    assert encoded.truncated == 1
    assert encoded.lengths.max() <= 16
    text = byte_level.decode(encoded.prompts[1])
    assert text.startswith("The acting was good The") and text.endswith(" It was")


def test_the_longest_column_is_cut_first(byte_level: Tokenizer) -> None:
    task = TaskConfig(template="{title}: {body} It was {label}", too_long="truncate")
    rows = [{"title": "The end", "body": "The story was good " * 20, "label": 1}]
    encoded = encode(make_dataset(rows, task, training=False), task, byte_level, context=24)
    text = byte_level.decode(encoded.prompts[0])
    assert text.startswith("The end: The story") and text.endswith(" It was")
    assert encoded.lengths[0] <= 24


def test_no_room_for_text(byte_level: Tokenizer) -> None:
    task = replace(TASK, too_long="truncate")
    with pytest.raises(PACZeroError, match="record 1 has no room for text"):
        encode(pool("A film " * 9), task, byte_level, context=3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.text(min_size=1).filter(str.strip), st.integers(12, 40))
def test_a_cut_text_is_a_beginning_and_fits(byte_level: Tokenizer, text: str, context: int) -> None:
    task = replace(TASK, too_long="truncate", template="{text}|{label}", labels={"0": "a", "1": "b"})
    encoded = encode(pool(text, task=task), task, byte_level, context=context)
    cut = byte_level.decode(encoded.prompts[0]).removesuffix("|")
    assert encoded.lengths[0] <= context
    assert text.strip().startswith(cut)
    assert encoded.truncated or cut == text.strip()


def test_encoded() -> None:
    encoded = Encoded(prompts=[[1], [1, 2]], candidates=[[3], [4, 5]], targets=np.array([0, 1]))
    assert (len(encoded), encoded.lengths.tolist(), encoded.single_token) == (2, [3, 4], False)
