"""Classification by label words: "A fine film. It was" is followed by " great" or by " terrible".

>>> encoded = encode(pool, task, tokenizer, context=8192)      # doctest: +SKIP
>>> encoded.prompts[0], encoded.candidates      # doctest: +SKIP
([49, 4979, 4771, 30, 657, 436], [[13321], [1109]])

The white space before `{label}` belongs to the label word, as byte-level tokenizers have it. Prompts carry the tokens
that the tokenizer puts at the start of a text (BOS) and none that it puts at the end.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from paczero.config import TaskConfig
from paczero.errors import PACZeroError
from paczero.records.pool import Pool
from paczero.records.tasks import Encoded
from paczero.records.template import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

_PROBED = 16  # prompts on which the label words' tokens are compared


def encode(pool: Pool, task: TaskConfig, tokenizer: "Tokenizer", *, context: int) -> Encoded:
    """Makes prompts and candidates of a pool.

    Args:
        pool: the records.
        task: template, label words, and what to do with records that are too long.
        tokenizer: of transformers, fast or not.
        context: tokens that the model reads at most; `task.max_length` may say fewer.

    Returns:
        Prompts, candidates, targets; how many records were truncated.

    Raises:
        PACZeroError: a label word without tokens, two labels with the same tokens, records that are too long (how
            many, the longest, what to do), a template that leaves no room for text.
    """
    template = Template.parse(task.template)
    template.check(pool.columns)
    texts = [template.render(row) for row in pool.rows]
    start = _start_tokens(tokenizer)
    bodies = _tokens(tokenizer, texts)
    candidates = _candidates(task, template, tokenizer, texts[:_PROBED], bodies[:_PROBED])
    room = min(context, task.max_length or context) - len(start) - max(map(len, candidates))
    long = [record for record, body in enumerate(bodies) if len(body) > room]
    if long and task.too_long == "error":
        longest = max(len(bodies[record]) for record in long) - room + min(context, task.max_length or context)
        raise _too_long(len(long), len(bodies), longest, task, context)
    for record in long:
        bodies[record] = _cut(pool.rows[record], template, tokenizer, room, record)
    return Encoded([start + body for body in bodies], candidates, pool.labels, truncated=len(long))


def _tokens(tokenizer: "Tokenizer", texts: Sequence[str]) -> list[list[int]]:
    """Token sequences without special tokens."""
    coded = tokenizer(
        list(texts), add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )
    return [list(ids) for ids in coded["input_ids"]]


def _start_tokens(tokenizer: "Tokenizer") -> list[int]:
    """The special tokens before a text; those behind it are left out, for a prompt goes on."""
    bare = _tokens(tokenizer, ["a"])[0]
    full = list(tokenizer("a")["input_ids"])
    for place in range(len(full) - len(bare) + 1):
        if full[place : place + len(bare)] == bare:
            return full[:place]
    raise PACZeroError(
        f"tokenizer: {type(tokenizer).__name__} makes other tokens of a text where it adds special tokens to it; "
        "expected the text's tokens between them; use the tokenizer of a causal language model"
    )


def _candidates(
    task: TaskConfig, template: Template, tokenizer: "Tokenizer", texts: list[str], bodies: list[list[int]]
) -> list[list[int]]:
    """Tokens of each label word as they follow a prompt."""
    candidates: list[list[int]] = []
    for value, word in task.labels.items():
        ending = template.gap + str(word).strip()
        tokens = _following(tokenizer, texts, bodies, ending) if str(word).strip() else []
        if not tokens:
            raise PACZeroError(
                f"task.labels: the label word {word!r} of {value!r} tokenises to nothing; expected a word or words"
            )
        if tokens in candidates:
            other = list(task.labels.items())[candidates.index(tokens)]
            raise PACZeroError(
                f"task.labels: {word!r} of {value!r} and {other[1]!r} of {other[0]!r} have the same tokens {tokens}; "
                "expected words that the tokenizer tells apart; choose others"
            )
        candidates.append(tokens)
    return candidates


def _following(tokenizer: "Tokenizer", texts: list[str], bodies: list[list[int]], ending: str) -> list[int]:
    """The tokens of `ending` behind a prompt.

    Where prompt and ending together begin with the prompt's own tokens, what is left is the answer. A tokenizer that
    merges across the border (or does so for some prompts) gets the ending by itself.
    """
    whole = _tokens(tokenizer, [text + ending for text in texts])
    rests = [full[len(body) :] if full[: len(body)] == body else [] for full, body in zip(whole, bodies, strict=True)]
    if rests and rests[0] and all(rest == rests[0] for rest in rests):
        return rests[0]
    return _tokens(tokenizer, [ending])[0]


def _too_long(count: int, records: int, longest: int, task: TaskConfig, context: int) -> PACZeroError:
    limited = task.max_length is not None and task.max_length < context
    limit = f"task.max_length of {task.max_length}" if limited else f"the model's context of {context}"
    advice = f"raise task.max_length (the context is {context})" if limited else "shorten them"
    return PACZeroError(
        f"task.too_long: {count} of {records} records are longer than {limit} tokens with their label words (longest "
        f"{longest}); set task.too_long to truncate, which cuts their columns at the end, or {advice}"
    )


def _cut(row: dict[str, str], template: Template, tokenizer: "Tokenizer", room: int, record: int) -> list[int]:
    """Tokens of a prompt whose columns were cut at their end, the longest first, until it has at most `room`."""
    columns = template.columns
    texts = [row.get(column, "").strip() for column in columns]
    pieces = _tokens(tokenizer, texts)
    kept = list(map(len, pieces))
    body = _tokens(tokenizer, [template.render(row)])[0]
    while len(body) > room:
        kept = _shorten(kept, len(body) - room)
        if not any(kept):
            raise PACZeroError(
                f"task.template: record {record + 1} has no room for text: of {room} tokens beside the label words, "
                "template and special tokens take all; shorten the template or raise task.max_length"
            )
        shorter = {
            column: text if keep == len(ids) else _beginning(tokenizer, text, ids, keep)
            for column, text, ids, keep in zip(columns, texts, pieces, kept, strict=True)
        }
        body = _tokens(tokenizer, [template.render(shorter)])[0]
    return body


def _shorten(lengths: list[int], excess: int) -> list[int]:
    """Takes `excess` tokens away, each from what is longest then (the first of equals)."""
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
