"""Evaluates a set of records with the weights as they are now: scores, generated texts, and the metrics of their task.

evaluator = Evaluator(records, scorer, make_generator(model, records, args, tokenizer))
evaluator.figures()
# {'f1': 0.41, 'exact_match': 0.3, 'loss': 1.92}
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from torch import nn
from transformers import PreTrainedTokenizerBase

from paczero.config import PACZeroConfig
from paczero.data.encoding import EncodedDataset
from paczero.data.metrics import f1, median_threshold
from paczero.data.tasks.base import Predictions
from paczero.data.tasks.question_answering import generated, has_stopped
from paczero.distributed.base import SINGLE_PROCESS, ProcessGroup
from paczero.engine.generation import Generator, StopCondition
from paczero.engine.scorer import Scorer
from paczero.models.layers import plain
from paczero.training.factory import make_scorer
from paczero.training.loop import DevResult

Progress = Callable[[str, int, int], None]  # (what is done, records done, records in all)


class Evaluator:
    """Evaluates one set of records.

    Args:
        records: the records to evaluate.
        scorer: scores these records.
        generator: generates texts for these records; None where their task generates none.
        tokenizer: decodes generated tokens.
        progress: called while records are scored.
    """

    def __init__(
        self,
        records: EncodedDataset,
        scorer: Scorer,
        generator: Generator | None,
        tokenizer: PreTrainedTokenizerBase,
        progress: Progress | None = None,
    ):
        self.records, self.scorer, self.generator, self.tokenizer = records, scorer, generator, tokenizer
        self._progress = None if progress is None else partial(progress, "records scored")

    def scores(self) -> np.ndarray:
        """Mean token log-probability of each candidate or of the record's answer: float64 (R, C)."""
        return self.scorer.scores(progress=self._progress)

    def texts(self) -> list[str] | None:
        """The text generated for each record, up to the stop text; None for a task that generates none."""
        if self.generator is None:
            return None
        stop = self.records.task.config.stop
        return [generated(self.tokenizer, ids, stop) for ids in self.generator.generate()]

    def find(self) -> Predictions:
        """Scores, and generated texts, of all records with the weights as they are now."""
        return Predictions(self.scores(), self.texts())

    def figures(self, found: Predictions | None = None, threshold: float = 0.0) -> dict[str, float]:
        """Means over the records: metric name -> value. Computes the predictions where `found` is None."""
        records = self.records
        return records.task.figures(records.dataset, records.encoded, found or self.find(), threshold)

    def dev_result(self, done: int, *, median: bool = False) -> DevResult:
        """The metrics after `done` steps. `median` moves a binary decision to the median of the scores.

        All ranks compute the predictions; all take the metrics of rank 0.
        """
        found = self.find()

        def judge() -> DevResult:
            threshold = median_threshold(found.scores) if median else 0.0
            return DevResult(done, threshold=threshold, **self.figures(found, threshold))

        return self.scorer.group.broadcast_from_main(judge)

    def table(self, found: Predictions, threshold: float = 0.0) -> dict[str, list[Any]]:
        """The metrics of each record: column name -> R values."""
        return self.records.task.table(self.records.dataset, self.records.encoded, found, threshold)


def evaluate_once(evaluator: Evaluator, known: Mapping[int, DevResult], done: int, *, median: bool) -> DevResult:
    """Evaluates after `done` steps, or takes the result of an earlier start of this run, which rank 0 has.

    Args:
        known: steps done -> result, of earlier starts.
        median: whether a binary decision moves to the median of the scores.
    """
    group = evaluator.scorer.group
    return group.broadcast_from_main(lambda: known.get(done)) or evaluator.dev_result(done, median=median)


def make_evaluator(
    model: nn.Module,
    records: EncodedDataset,
    args: PACZeroConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    group: ProcessGroup = SINGLE_PROCESS,
    progress: Progress | None = None,
) -> Evaluator:
    """An evaluator whose scorer keeps no hidden states for another call."""
    scorer = make_scorer(model, records, args, first_layer=0, cache=None, group=group)
    generates = records.task.generates
    answered = None if progress is None else partial(progress, "records answered")
    generator = make_generator(model, records, args, tokenizer, group=group, progress=answered) if generates else None
    return Evaluator(records, scorer, generator, tokenizer, progress)


def make_generator(
    model: nn.Module,
    records: EncodedDataset,
    args: PACZeroConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    group: ProcessGroup = SINGLE_PROCESS,
    progress: Callable[[int, int], None] | None = None,
    isolated: bool = False,
) -> Generator:
    """Greedy generation behind these records' prompts; its scores are the F1 of each record's answer."""
    task, answers = records.task.config, records.dataset.answers

    def judge(record: int, ids: list[int]) -> float:
        return f1(generated(tokenizer, ids, task.stop), answers[record])

    return Generator(
        model,
        records.encoded.prompts,
        StopCondition(
            task.max_new_tokens, end_tokens(model, tokenizer), partial(has_stopped, tokenizer, stop=task.stop)
        ),
        metric=judge,
        batch_tokens=args.batch_tokens,
        group=group,
        engine=args.engine,
        progress=progress,
        isolated=isolated,
    )


def end_tokens(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end a text, as the model's own generation settings and the tokenizer have them."""
    settings = getattr(plain(model), "generation_config", None)
    named = [getattr(settings, "eos_token_id", None), tokenizer.eos_token_id]
    return frozenset(int(token) for value in named if value is not None for token in np.atleast_1d(value))
