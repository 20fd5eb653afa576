"""Prompts as tokens, what follows them, and how those that are too long are cut; for the tasks with a template.

Prompts carry the tokens that the tokenizer puts at the start of a text (BOS) and none that it puts at the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paczero.config import TaskConfig
from paczero.data.dataset import Dataset
from paczero.data.template import Template
from paczero.errors import PACZeroError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer


@dataclass(frozen=True)
class Prompts:
    """The prompts of a set of records.

    Attributes:
        tokens: with the special tokens before them.
        texts: what they say, as far as it was not cut.
        cut: the records that were cut, ascending.
    """

    tokens: list[list[int]]
    texts: list[str]
    cut: tuple[int, ...]


def tokens(tokenizer: "Tokenizer", texts: Sequence[str]) -> list[list[int]]:
    """Token sequences without special tokens."""
    coded = tokenizer(
        list(texts), add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )
    return [list(ids) for ids in coded["input_ids"]]


def start_tokens(tokenizer: "Tokenizer") -> list[int]:
    """The special tokens before a text; those behind it are left out, for a prompt goes on."""
    bare = tokens(tokenizer, ["a"])[0]
    full = list(tokenizer("a")["input_ids"])
    for index in range(len(full) - len(bare) + 1):
        if full[index : index + len(bare)] == bare:
            return full[:index]
    raise PACZeroError(
        f"tokenizer: {type(tokenizer).__name__} makes other tokens of a text where it adds special tokens to it; "
        "expected the text's tokens between them; use the tokenizer of a causal language model"
    )


def behind(body: list[int], whole: list[int]) -> list[int] | None:
    """What a text has behind its beginning; None where the tokenizer merges across the border between them."""
    return whole[len(body) :] if whole[: len(body)] == body else None


def make_prompts(
    pool: Dataset, task: TaskConfig, tokenizer: "Tokenizer", reserved: Sequence[int], *, context: int, what: str
) -> Prompts:
    """The prompts of a pool, cut where `task.too_long` allows it.

    Args:
        pool: the records.
        task: template, and what to do with records that are too long.
        tokenizer: of transformers, fast or not.
        reserved: how many tokens each record needs behind its prompt (R,).
        context: tokens that the model reads at most; `task.max_length` may say fewer.
        what: what these tokens are, for messages.

    Raises:
        PACZeroError: records that are too long (how many, the longest, what to do), or no room for any text.
    """
    template = Template.parse(task.template)
    texts = [template.render(row) for row in pool.rows]
    start, bodies = start_tokens(tokenizer), tokens(tokenizer, texts)
    limit = min(context, task.max_length or context)
    rooms = [limit - len(start) - count for count in reserved]
    long = [record for record, body in enumerate(bodies) if len(body) > rooms[record]]
    if long and task.too_long == "error":
        longest = max(len(bodies[record]) - rooms[record] + limit for record in long)
        raise too_long(len(long), len(bodies), longest, task, context, what)
    for record in long:
        texts[record], bodies[record] = _cut(pool.rows[record], template, tokenizer, rooms[record], record, what)
    return Prompts([start + body for body in bodies], texts, tuple(long))


def too_long(count: int, records: int, longest: int, task: TaskConfig, context: int, what: str) -> PACZeroError:
    """The refusal of records that do not fit."""
    limited = task.max_length is not None and task.max_length < context
    limit = f"task.max_length of {task.max_length}" if limited else f"the model's context of {context}"
    advice = f"raise task.max_length (the context is {context})" if limited else "shorten them"
    cuts = "the completion" if task.kind == "chat" else "their columns"
    return PACZeroError(
        f"task.too_long: {count} of {records} records are longer than {limit} tokens with their {what} (longest "
        f"{longest}); set task.too_long to truncate, which cuts {cuts} at the end, or {advice}"
    )


def _cut(
    row: dict[str, str], template: Template, tokenizer: "Tokenizer", room: int, record: int, what: str
) -> tuple[str, list[int]]:
    """A prompt whose columns were cut at their end, the longest first, until it has at most `room` tokens."""
    columns = template.columns
    texts = [row.get(column, "").strip() for column in columns]
    pieces = tokens(tokenizer, texts)
    kept = list(map(len, pieces))
    text = template.render(row)
    body = tokens(tokenizer, [text])[0]
    while len(body) > room:
        kept = _shorten(kept, len(body) - room)
        if not any(kept):
            raise PACZeroError(
                f"task.template: record {record + 1} has no room for text: of {room} tokens beside the {what}, "
                "template and special tokens take all; shorten the template or raise task.max_length"
            )
        text = template.render(
            {
                column: text if keep == len(ids) else _beginning(tokenizer, text, ids, keep)
                for column, text, ids, keep in zip(columns, texts, pieces, kept, strict=True)
            }
        )
        body = tokens(tokenizer, [text])[0]
    return text, body


def _shorten(lengths: list[int], excess: int) -> list[int]:
    """Takes `excess` tokens away, each from the text that is longest then (the first of equals)."""
    lengths = list(lengths)
    for _ in range(min(excess, sum(lengths))):
        lengths[lengths.index(max(lengths))] -= 1
    return lengths


def _beginning(tokenizer: "Tokenizer", text: str, ids: list[int], keep: int) -> str:
    """The part of a text that its first `keep` tokens cover."""
    if keep == 0:
        return ""
    if tokenizer.is_fast:
        spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        start, end = spans[keep - 1]
        # a character of several byte tokens is covered by each of them; it goes where not all of them stay
        whole = keep == len(spans) or spans[keep][0] >= end
        return text[: end if whole else start].rstrip()
    return str(tokenizer.decode(ids[:keep])).rstrip()
