"""Conversations as tokens: the loss is that of the assistant's last turn, up to its end."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from transformers import PreTrainedTokenizerFast as Tokenizer

from paczero.config import TaskConfig
from paczero.data.dataset import Dataset, make_dataset
from paczero.data.encoding import EncodedDataset
from paczero.data.tasks.chat import Chat, encode
from paczero.errors import PACZeroError

from ...other_tasks import CHAT_TEMPLATE, conversations

TASK = TaskConfig(kind="chat", messages_column="messages")


@pytest.fixture
def chatting(byte_level: Tokenizer) -> Callable[[str], Tokenizer]:
    def make(template: str = CHAT_TEMPLATE) -> Tokenizer:
        byte_level.chat_template = template
        return byte_level

    yield make
    byte_level.chat_template = None


def pool(count: int = 4) -> Dataset:
    return make_dataset(conversations(count, 1), TASK, training=False)


def test_prompt_and_completion_are_the_template_s_text(chatting: Callable[..., Tokenizer]) -> None:
    tokenizer = chatting()
    encoded = encode(pool(), TASK, tokenizer, context=999)
    assert encoded.answers is not None and encoded.truncated == 0
    for talk, prompt, answer in zip(conversations(4, 1), encoded.prompts, encoded.answers, strict=True):
        turns = talk["messages"]
        assert tokenizer.decode(answer) == f"{turns[-1]['content']}<|end|>"
        assert answer[-1] == tokenizer.eos_token_id and tokenizer.eos_token_id not in answer[:-1]
        before = "".join(f"{turn['role']}: {turn['content']}<|end|>" for turn in turns[:-1])
        assert tokenizer.decode(prompt) == f"{before}assistant: "


def test_what_a_template_puts_behind_the_turn_is_not_trained_on(chatting: Callable[..., Tokenizer]) -> None:
    plain = encode(pool(), TASK, chatting(), context=999)
    tokenizer = chatting(CHAT_TEMPLATE.replace("<|end|>{% endfor %}", "<|end|>\n{% endfor %}"))
    assert encode(pool(), TASK, tokenizer, context=999).answers == plain.answers


def test_a_long_completion_is_cut_at_its_end_and_said(chatting: Callable[..., Tokenizer]) -> None:
    tokenizer, records = chatting(), pool()
    whole = encode(records, TASK, tokenizer, context=999)
    limit = int(whole.lengths.max()) - 2
    long = int((whole.lengths > limit).sum())
    with pytest.raises(PACZeroError, match=rf"{long} of 4 records are longer .* completions .*cuts the completion"):
        encode(records, TASK, tokenizer, context=limit)
    task = replace(TASK, too_long="truncate")
    cut = encode(records, task, tokenizer, context=limit)
    assert cut.truncated == long and cut.lengths.max() == limit and cut.prompts == whole.prompts
    assert cut.answers is not None and whole.answers is not None
    assert all(full[: len(part)] == part for part, full in zip(cut.answers, whole.answers, strict=True))
    notes = EncodedDataset(records, cut, Chat(task)).cut_notes
    assert notes == [f"{long} of 4 records were cut at the end of their completion to fit the model's context."]
    with pytest.raises(PACZeroError, match=r"the prompt of record \d alone has \d+ tokens of 8"):
        encode(records, task, tokenizer, context=8)


def test_templates_that_cannot_be_used(chatting: Callable[..., Tokenizer]) -> None:
    with pytest.raises(PACZeroError, match="does not put the last message of record 1 behind its prompt"):
        encode(pool(), TASK, chatting(CHAT_TEMPLATE.replace("assistant: ", "reply: ")), context=999)
    tokenizer = chatting()
    tokenizer.chat_template = None
    with pytest.raises(PACZeroError, match="has no chat template"):
        encode(pool(), TASK, tokenizer, context=999)
