"""A run's test set: read once, judged before the first step and after the last.

>>> test = read_test(trainer, rows)                      # doctest: +SKIP
>>> found_in(trainer, test, "test set").scores.shape     # doctest: +SKIP
(872, 2)
"""

from typing import TYPE_CHECKING, Any

from paczero.cli.console import warn

if TYPE_CHECKING:
    from paczero.data.dataset import Dataset
    from paczero.data.encoding import EncodedDataset
    from paczero.data.tasks.base import Predictions
    from paczero.training.trainer import PACZeroTrainer


def untuned(trainer: "PACZeroTrainer", test: "EncodedDataset | None") -> dict[str, Any]:
    """Test figures of the weights at their start; a binary decision also at the median of the scores."""
    if test is None:
        return {}
    from paczero.data.metrics import accuracy, median_threshold

    found = found_in(trainer, test, "untuned model on the test set")
    figures = test.task.figures(test.dataset, test.encoded, found, 0.0)
    result: dict[str, Any] = {"accuracy_before": figures.get("accuracy"), "test_before": figures}
    if test.task.config.kind == "classification" and found.scores.shape[1] == 2:
        dev = trainer.dev
        known = found if dev is None else found_in(trainer, dev, "untuned model on the dev set")
        result["accuracy_before_median"] = accuracy(found.scores, test.encoded.targets, median_threshold(known.scores))
        result["median_of"] = "test" if dev is None else "dev"
    return result


def read_test(trainer: "PACZeroTrainer", source: "Dataset") -> "EncodedDataset":
    """The test set, encoded; says how many of its records were cut."""

    records = trainer.prepare(source)
    for note in records.cut_notes if trainer.group.is_main else ():
        warn(f"test set: {note}")
    return records


def found_in(trainer: "PACZeroTrainer", records: "EncodedDataset", what: str) -> "Predictions":
    """What the weights as they stand make of records; hidden states are kept for the next time where memory allows."""
    from paczero.models.layers import plain
    from paczero.training.evaluation import make_evaluator

    trainer.progress(what, 0, len(records.dataset))
    model = plain(trainer.model)
    tokens = int(records.encoded.lengths.sum())
    hidden = tokens * model.config.get_text_config().hidden_size * next(model.parameters()).element_size()
    if hidden <= trainer.args.cache_bytes:
        return trainer.evaluator(records, what).find()
    return make_evaluator(trainer.model, records, trainer.args, trainer.processing_class, group=trainer.group).find()
