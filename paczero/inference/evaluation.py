"""Scores labelled records with a target's weights, and the weights of a trainer before and after training.

result = evaluate("runs/first/release", "test.csv")
result.metrics["accuracy"], result.table["prediction"]
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paczero.data.dataset import Dataset
from paczero.data.encoding import EncodedDataset, context_length, prepare, read_dataset
from paczero.data.loading import Rows, load_rows
from paczero.data.metrics import decisions, median_threshold
from paczero.data.splits import read_splits
from paczero.data.tasks.base import Predictions
from paczero.errors import PACZeroError
from paczero.inference.loading import load_target
from paczero.inference.target import Target, find_target
from paczero.models.layers import plain
from paczero.training.evaluation import Evaluator, Progress, make_evaluator
from paczero.training.trainer import PACZeroTrainer


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate`.

    Attributes:
        metrics: see `metrics_of`.
        table: name of a column -> R values: text, label, prediction and probabilities (classification), or target,
            prediction and metrics.
        notes: sentences on records that were cut to fit the model.
    """

    metrics: dict[str, Any]
    table: dict[str, list[Any]]
    notes: list[str]


def evaluate(
    target: Target | str | Path,
    data: Any = None,
    *,
    settings: Mapping[str, Any] | None = None,
    base: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Scores weights on labelled records.

    Args:
        target: a run, release, adapter or model: its directory, its hub id, or what `find_target` returns.
        data: a file, a hub name, a `datasets.Dataset`, or a sequence of mappings; the test set of the run or of
            `settings` if left out.
        settings: as in `find_target`.
        base: score the untuned base model.
        progress: called with (name of the stage, records done, records in total).

    Raises:
        PACZeroError: the target or the data cannot be used.
        IntegrityError: the release or its base model was changed.
    """
    target = target if isinstance(target, Target) else find_target(target, settings)
    dataset = read_dataset(_test_set(target) if data is None else data, target.args.task)
    threshold = threshold_of(target, base=base)
    evaluator = target_evaluator(target, dataset, base=base, progress=progress)
    found = evaluator.find()
    table = evaluator.table(found)
    if target.args.task.kind == "classification":
        texts = {column: [row[column] for row in dataset.rows] for column in dataset.columns}
        labels = [dataset.label_names[label] for label in dataset.labels]
        table = {**texts, "label": labels, **label_columns(dataset, found.scores, threshold)}
    return Evaluation(metrics_of(evaluator.records, found, threshold), table, evaluator.records.cut_notes)


def target_evaluator(
    target: Target, dataset: Dataset, *, base: bool = False, progress: Progress | None = None
) -> Evaluator:
    """Scores or answers these records with the target's weights, or with those of its base."""
    model, tokenizer = load_target(target, base=base)
    records = prepare(dataset, target.args.task, tokenizer, context=context_length(plain(model)))
    evaluator = make_evaluator(model, records, target.args, tokenizer, progress=progress)
    evaluator.scorer.check()
    return evaluator


def metrics_of(records: EncodedDataset, found: Predictions, threshold: float = 0.0) -> dict[str, Any]:
    """The task's metrics and `records`, their number R.

    Classification: `accuracy`, `loss` (nats), `majority` (share of the most frequent label), `threshold`, `labels` and
    `confusion` (counts by [label][decision]). Answers: `f1`, `exact_match`, `loss`. Conversations: `loss` and
    `perplexity`.
    """
    dataset, kind = records.dataset, records.task.config.kind
    metrics = records.task.figures(dataset, records.encoded, found, threshold)
    more: dict[str, Any] = {"records": len(dataset)}
    if kind == "chat":
        more["perplexity"] = math.exp(min(metrics["loss"], 700.0))
    if kind == "classification":
        confusion = np.zeros((len(dataset.label_names),) * 2, dtype=int)
        np.add.at(confusion, (dataset.labels, decisions(found.scores, threshold)), 1)
        more["majority"] = float(confusion.sum(axis=1).max() / len(dataset))
        more |= {"threshold": threshold, "labels": list(dataset.label_names), "confusion": confusion.tolist()}
    return metrics | more


def find_with_trainer(trainer: PACZeroTrainer, records: EncodedDataset, what: str) -> Predictions:
    """Predictions of a trainer's current weights; hidden states are kept for the next call if memory allows.

    Args:
        trainer: its weights are used as they are.
        records: encoded for its model.
        what: name of the records, for progress and for errors between ranks.
    """
    trainer.progress(what, 0, len(records.dataset))
    model = plain(trainer.model)
    values = int(records.encoded.lengths.sum()) * model.config.get_text_config().hidden_size
    if values * next(model.parameters()).element_size() <= trainer.args.cache_bytes:
        return trainer.evaluator(records, what).find()
    return make_evaluator(trainer.model, records, trainer.args, trainer.processing_class, group=trainer.group).find()


def untuned_metrics(trainer: PACZeroTrainer, test: EncodedDataset | None) -> dict[str, Any]:
    """Fields of a run's summary on the weights before training: at threshold 0, and at the median of the scores.

    The median is that of the dev set, or of the test set without a dev set; binary tasks only.
    """
    if test is None:
        return {}
    found = find_with_trainer(trainer, test, "untuned model on the test set")
    metrics = test.task.figures(test.dataset, test.encoded, found, 0.0)
    result: dict[str, Any] = {"accuracy_before": metrics.get("accuracy"), "test_before": metrics}
    if test.task.config.kind == "classification" and found.scores.shape[1] == 2:
        dev = trainer.dev
        scores = (found if dev is None else find_with_trainer(trainer, dev, "untuned model on the dev set")).scores
        result["accuracy_before_median"] = metrics_of(test, found, median_threshold(scores))["accuracy"]
        result["median_of"] = "test" if dev is None else "dev"
    return result


def _test_set(target: Target) -> Rows:
    """The test set that the settings name, drawn as in training."""
    if target.settings is not None:
        data, args = target.settings.data, target.settings.args
        drawn = None if data.test_records is None else read_splits(data, args).test
        if drawn is not None or data.test is not None:
            return drawn or load_rows(data.test)
    raise PACZeroError("data: nothing was given and no test set is known; expected labelled records")


def threshold_of(target: Target, *, base: bool = False) -> float:
    """The target's decision threshold; for its base, that of the run's first dev evaluation (0 if it is not moved).

    Raises:
        PACZeroError: the run moves its threshold, and its evaluation of the untuned model is missing.
    """
    if not base:
        return target.threshold
    if target.run is None or target.args.threshold == "none":
        return 0.0
    path = target.run.diagnostics
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:  # the last line of a killed process may be cut
            continue
        if row["kind"] == "dev" and row["t"] == 0:
            return float(row["threshold"])
    raise PACZeroError(
        f"base: the run moves its threshold, but {str(path)!r} has no evaluation of the untuned model; restore the file"
    )


def added_columns(dataset: Dataset) -> tuple[str, ...]:
    return ("prediction", *(f"probability {name}" for name in dataset.label_names))


def label_columns(dataset: Dataset, scores: np.ndarray, threshold: float) -> dict[str, list[Any]]:
    """The decided label and the probability of each label: name of a column -> R values.

    Args:
        dataset: the R records.
        scores: (R, C), one for each label word.
        threshold: decision threshold of a binary task, as a difference of scores.
    """
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = (weights / weights.sum(axis=1, keepdims=True)).round(6)
    labels = [dataset.label_names[choice] for choice in decisions(scores, threshold)]
    return dict(zip(added_columns(dataset), [labels, *probabilities.T.tolist()], strict=True))
