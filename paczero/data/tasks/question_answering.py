"""Answers of their own, as in SQuAD: a prompt with a question is followed by a text, which is generated and compared.

    encoded = encode(pool, task, tokenizer, context=8192)
    tokenizer.decode(encoded.answers[0])
    # ' October 1973\\n'

Training uses the first answer with the stop text behind it, so that the model learns to stop. A generated answer ends
before the stop text and is compared with all answers by F1 and exact match.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paczero.config import TaskConfig
from paczero.data.dataset import Dataset
from paczero.data.metrics import F1, exact_match, f1
from paczero.data.tasks.base import Encoded, Predictions
from paczero.data.tasks.tokenization import behind, make_prompts, tokens
from paczero.data.template import Template
from paczero.errors import PACZeroError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer


@dataclass(frozen=True)
class Answer:
    """See `paczero.data.tasks.base.Task`."""

    config: TaskConfig
    metric = F1
    generates = True

    def encode(self, pool: Dataset, tokenizer: "Tokenizer", *, context: int) -> Encoded:
        return encode(pool, self.config, tokenizer, context=context)

    def losses(self, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return -scores[:, 0]

    def figures(self, pool: Dataset, encoded: Encoded, found: Predictions, threshold: float) -> dict[str, float]:
        table = self.table(pool, encoded, found, threshold)
        return {name: float(np.mean(table[name])) for name in ("f1", "exact_match", "loss")}

    def table(self, pool: Dataset, encoded: Encoded, found: Predictions, threshold: float) -> dict[str, list[Any]]:
        texts = found.texts or [""] * len(pool)
        judged = list(zip(texts, pool.answers, strict=True))
        return {
            "target": [answers[0] for answers in pool.answers],
            "prediction": texts,
            "f1": [f1(text, answers) for text, answers in judged],
            "exact_match": [exact_match(text, answers) for text, answers in judged],
            "loss": self.losses(found.scores, encoded.targets).tolist(),
        }


def encode(pool: Dataset, task: TaskConfig, tokenizer: "Tokenizer", *, context: int) -> Encoded:
    """Makes prompts and answers of a pool; behind each prompt there is room for the answer and for a generated one.

    Raises:
        PACZeroError: records that are too long, or a template that leaves no room for text.
    """
    template = Template.parse(task.template)
    template.check(pool.columns)
    texts = [template.render(row) for row in pool.rows]
    endings = [template.gap + answers[0] + task.stop for answers in pool.answers]
    answers = _behind(tokenizer, texts, endings)
    reserved = [max(len(answer), task.max_new_tokens) for answer in answers]
    made = make_prompts(pool, task, tokenizer, reserved, context=context, what="answers")
    lost = sum(
        _holds(texts[record], pool.answers[record]) and not _holds(made.texts[record], pool.answers[record])
        for record in made.cut
    )
    targets = np.zeros(len(pool), dtype=np.int64)
    return Encoded(made.tokens, [], targets, truncated=len(made.cut), answers=answers, lost=lost)


def generated(tokenizer: "Tokenizer", ids: Sequence[int], stop: str) -> str:
    """The answer in generated tokens: what stands before the stop text, without white space around it."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True)).split(stop)[0].strip()


def has_stopped(tokenizer: "Tokenizer", ids: Sequence[int], stop: str) -> bool:
    """Whether the stop text is there."""
    return stop in str(tokenizer.decode(list(ids)))


def _behind(tokenizer: "Tokenizer", texts: Sequence[str], endings: Sequence[str]) -> list[list[int]]:
    """Tokens of each ending behind its prompt; where the tokenizer merges across the border, of the ending alone."""
    bodies, alone = tokens(tokenizer, texts), tokens(tokenizer, endings)
    whole = tokens(tokenizer, [text + ending for text, ending in zip(texts, endings, strict=True)])
    rests = [behind(body, full) for body, full in zip(bodies, whole, strict=True)]
    found = [ending if rest is None else rest for rest, ending in zip(rests, alone, strict=True)]
    for record, answer in enumerate(found):
        if not answer:
            raise PACZeroError(
                f"task.label_column: the answer of record {record + 1} tokenises to nothing; expected a text"
            )
    return found


def _holds(text: str, answers: Sequence[str]) -> bool:
    return any(answer in text for answer in answers)
