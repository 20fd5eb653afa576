"""From a source of records to what a model takes: read, checked and encoded once.

dataset = prepare("pool.csv", TaskConfig(), tokenizer, context=2048, training=True)
dataset.dataset.units, len(dataset.encoded.prompts)
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paczero.config import TaskConfig
from paczero.data.completions import Completions
from paczero.data.dataset import Dataset, make_dataset
from paczero.data.loading import load_rows
from paczero.data.tasks.base import Encoded, Task
from paczero.data.tasks.registry import task_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class EncodedDataset:
    """Records with their tokens.

    Attributes:
        dataset: rows, labels and units.
        encoded: their tokens.
        task: makes prompts, losses and metrics of them.
    """

    dataset: Dataset
    encoded: Encoded
    task: Task

    @property
    def continuations(self) -> Completions:
        """What may follow the prompts."""
        return self.encoded.continuations

    @property
    def notes(self) -> list[str]:
        """What a user should know about the records that is no error, a sentence each."""
        return [*self.dataset.notes, *self.cut_notes]

    @property
    def cut_notes(self) -> list[str]:
        """How many records were cut to fit, and how, a sentence each."""
        encoded, task = self.encoded, self.task.config
        if not encoded.truncated:
            return []
        what = "completion" if task.kind == "chat" else "longest column"
        fit = "the model's context" if task.max_length is None else f"{task.max_length:,} tokens (task.max_length)"
        notes = [f"{encoded.truncated:,} of {len(encoded):,} records were cut at the end of their {what} to fit {fit}."]
        if task.kind == "answer":
            notes.append(f"{encoded.lost:,} of these no longer hold their answer.")
        return notes


def read_dataset(source: Any, task: TaskConfig, *, training: bool = False) -> Dataset:
    """Reads and checks records: all that can be checked before a model is loaded.

    Args:
        source: a csv, tsv, jsonl or parquet file, a hub name, a `datasets.Dataset`, a sequence of mappings, or a
            `Dataset`, which was checked already and is returned as it is.
        training: whether this is the pool of a run, which needs 32 units or more.

    Raises:
        PACZeroError: one line that names the first thing wrong.
    """
    return source if isinstance(source, Dataset) else make_dataset(load_rows(source), task, training=training)


def prepare(
    source: Any, task: TaskConfig, tokenizer: "PreTrainedTokenizerBase", *, context: int, training: bool = False
) -> EncodedDataset:
    """Reads, checks and encodes records.

    Args:
        source, training: as in `read_dataset`.
        context: tokens that the model takes at most; see `context_length`.

    Raises:
        PACZeroError: one line that names the first thing wrong.
    """
    dataset = read_dataset(source, task, training=training)
    kind = task_of(task)
    return EncodedDataset(dataset, kind.encode(dataset, tokenizer, context=context), kind)


def context_length(model: "PreTrainedModel") -> int:
    """How many tokens the model takes."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31 - 1)
