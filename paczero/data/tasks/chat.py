"""Instruction data: a conversation whose last message, the assistant's, is what should follow.

    encoded = encode(pool, task, tokenizer, context=8192)
    tokenizer.decode(encoded.answers[0])
    # 'The sky scatters blue light.<|im_end|>'

Records are `messages` (a list of {"role", "content"}) or a prompt and a completion; both go through the tokenizer's
chat template. The loss is the completion's alone, up to the end of its turn.
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paczero.config import TaskConfig
from paczero.data.columns import Messages
from paczero.data.dataset import Dataset
from paczero.data.metrics import LOSS
from paczero.data.tasks.base import Encoded, Predictions
from paczero.data.tasks.tokenization import behind, tokens, too_long
from paczero.errors import PACZeroError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer


@dataclass(frozen=True)
class Chat:
    """See `paczero.data.tasks.base.Task`."""

    config: TaskConfig
    metric = LOSS
    generates = False

    def encode(self, pool: Dataset, tokenizer: "Tokenizer", *, context: int) -> Encoded:
        return encode(pool, self.config, tokenizer, context=context)

    def losses(self, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return -scores[:, 0]

    def figures(self, pool: Dataset, encoded: Encoded, found: Predictions, threshold: float) -> dict[str, float]:
        return {"loss": float(self.losses(found.scores, encoded.targets).mean())}

    def table(self, pool: Dataset, encoded: Encoded, found: Predictions, threshold: float) -> dict[str, list[Any]]:
        return {"loss": self.losses(found.scores, encoded.targets).tolist()}


def encode(pool: Dataset, task: TaskConfig, tokenizer: "Tokenizer", *, context: int) -> Encoded:
    """Makes prompts and completions of a pool; a record that is too long loses the end of its completion.

    Raises:
        PACZeroError: a tokenizer without a chat template, a record that is no conversation, one that is too long.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise PACZeroError(
            f"task.kind: 'chat' was given, but {type(tokenizer).__name__} has no chat template; expected an "
            "instruction-tuned model; use task.kind answer with a template of your own"
        )
    coded = [_coded(json.loads(row["messages"]), tokenizer, number) for number, row in enumerate(pool.rows, 1)]
    prompts, answers = [prompt for prompt, _ in coded], [answer for _, answer in coded]
    limit = min(context, task.max_length or context)
    long = [record for record, (prompt, answer) in enumerate(coded) if len(prompt) + len(answer) > limit]
    if long and task.too_long == "error":
        longest = max(len(prompts[record]) + len(answers[record]) for record in long)
        raise too_long(len(long), len(coded), longest, task, context, "completions")
    for record in long:
        room = limit - len(prompts[record])
        if room < 1:
            raise PACZeroError(
                f"task.too_long: the prompt of record {record + 1} alone has {len(prompts[record])} tokens of {limit}, "
                "which leaves no room for a completion; shorten it, drop the record or raise task.max_length"
            )
        answers[record] = answers[record][:room]
    return Encoded(prompts, [], np.zeros(len(pool), dtype=np.int64), truncated=len(long), answers=answers)


def _coded(messages: Messages, tokenizer: "Tokenizer", number: int) -> tuple[list[int], list[int]]:
    """Tokens of all messages but the last, up to where the assistant begins, and of its turn up to its end."""
    prompt = str(tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True))
    whole = str(tokenizer.apply_chat_template(messages, tokenize=False))
    if not whole.startswith(prompt):
        raise PACZeroError(
            f"task.kind: the chat template of {type(tokenizer).__name__} does not put the last message of record "
            f"{number} behind its prompt for generation; expected one that does; use another tokenizer's template"
        )
    before, full = tokens(tokenizer, [prompt, whole])
    rest = behind(before, full)
    if rest is None:
        rest = tokens(tokenizer, [whole[len(prompt) :]])[0]
    if tokenizer.eos_token_id in rest:  # what a template puts behind the end of a turn is never generated
        rest = rest[: len(rest) - rest[::-1].index(tokenizer.eos_token_id)]
    if not before or not rest:
        raise PACZeroError(f"task.kind: record {number} tokenises to nothing before or behind the assistant's turn")
    return before, rest
