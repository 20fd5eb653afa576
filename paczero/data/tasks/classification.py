"""Classification by label words: "A fine film. It was" is followed by " great" or by " terrible".

    encoded = encode(pool, task, tokenizer, context=8192)
    encoded.prompts[0], encoded.candidates
    # ([49, 4979, 4771, 30, 657, 436], [[13321], [1109]])

The white space before `{label}` belongs to the label word, as byte-level tokenizers have it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paczero.config import TaskConfig
from paczero.data.dataset import Dataset
from paczero.data.metrics import ACCURACY, accuracy, decisions, losses
from paczero.data.tasks.base import Encoded, Predictions
from paczero.data.tasks.tokenization import behind, make_prompts, tokens
from paczero.data.template import Template
from paczero.errors import PACZeroError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer


_PROBED = 16  # prompts on which the label words' tokens are compared


@dataclass(frozen=True)
class Classification:
    """See `paczero.data.tasks.base.Task`."""

    config: TaskConfig
    metric = ACCURACY
    generates = False

    def encode(self, pool: Dataset, tokenizer: "Tokenizer", *, context: int) -> Encoded:
        return encode(pool, self.config, tokenizer, context=context)

    def losses(self, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return losses(scores, targets)

    def figures(self, pool: Dataset, encoded: Encoded, found: Predictions, threshold: float) -> dict[str, float]:
        return {
            "accuracy": accuracy(found.scores, encoded.targets, threshold),
            "loss": float(losses(found.scores, encoded.targets).mean()),
        }

    def table(self, pool: Dataset, encoded: Encoded, found: Predictions, threshold: float) -> dict[str, list[Any]]:
        names = pool.label_names
        return {
            "target": [names[target] for target in encoded.targets],
            "decision": [names[choice] for choice in decisions(found.scores, threshold)],
            **{f"score {name}": found.scores[:, index].round(6).tolist() for index, name in enumerate(names)},
        }


def encode(pool: Dataset, task: TaskConfig, tokenizer: "Tokenizer", *, context: int) -> Encoded:
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
    probed = [template.render(row) for row in pool.rows[:_PROBED]]
    candidates = _candidates(task, template, tokenizer, probed, tokens(tokenizer, probed))
    reserved = [max(map(len, candidates))] * len(pool)
    made = make_prompts(pool, task, tokenizer, reserved, context=context, what="label words")
    return Encoded(made.tokens, candidates, pool.labels, truncated=len(made.cut))


def _candidates(
    task: TaskConfig, template: Template, tokenizer: "Tokenizer", texts: list[str], bodies: list[list[int]]
) -> list[list[int]]:
    """Tokens of each label word as they follow a prompt."""
    candidates: list[list[int]] = []
    for value, word in task.labels.items():
        ending = template.gap + str(word).strip()
        word_tokens = _following(tokenizer, texts, bodies, ending) if str(word).strip() else []
        if not word_tokens:
            raise PACZeroError(
                f"task.labels: the label word {word!r} of {value!r} tokenises to nothing; expected a word or words"
            )
        if word_tokens in candidates:
            other = list(task.labels.items())[candidates.index(word_tokens)]
            raise PACZeroError(
                f"task.labels: {word!r} of {value!r} and {other[1]!r} of {other[0]!r} have the same tokens "
                f"{word_tokens}; expected words that the tokenizer tells apart; choose others"
            )
        candidates.append(word_tokens)
    return candidates


def _following(tokenizer: "Tokenizer", texts: list[str], bodies: list[list[int]], ending: str) -> list[int]:
    """The tokens of `ending` behind a prompt.

    Where prompt and ending together begin with the prompt's own tokens, what is left is the answer. A tokenizer that
    merges across the border (or does so for some prompts) gets the ending by itself.
    """
    whole = tokens(tokenizer, [text + ending for text in texts])
    rests = [behind(body, full) for body, full in zip(bodies, whole, strict=True)]
    if rests and rests[0] and all(rest == rests[0] for rest in rests):
        return rests[0]
    return tokens(tokenizer, [ending])[0]
