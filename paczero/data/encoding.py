"""Reads records, checks them and encodes them as a model takes them; says what should be known about them."""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from paczero.config import TaskConfig
from paczero.data.completions import Completions
from paczero.data.dataset import Dataset, make_dataset
from paczero.data.loading import load_rows
from paczero.data.tasks.base import Encoded, Task
from paczero.data.tasks.registry import task_of


@dataclass(frozen=True)
class EncodedDataset:
    """One set of records, read and encoded.

    Attributes:
        dataset: rows, labels and units.
        encoded: their tokens.
        task: what they are asked and judged by.
    """

    dataset: Dataset
    encoded: Encoded
    task: Task

    @property
    def continuations(self) -> Completions:
        """What may follow their prompts."""
        return self.encoded.continuations


def read_records(
    source: Any, task: TaskConfig, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, *, training: bool = False
) -> EncodedDataset:
    """Reads, checks and encodes records; raises PACZeroError for whatever cannot be used."""
    return encode_records(read_dataset(source, task, training=training), task, tokenizer, model)


def read_dataset(source: Any, task: TaskConfig, *, training: bool = False) -> Dataset:
    """Reads and checks records: all that can be said of them before a model is loaded."""
    return make_dataset(load_rows(source), task, training=training)


def encode_records(
    pool: Dataset, task: TaskConfig, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> EncodedDataset:
    """Prompts of a pool and what may follow them, as the model takes them."""
    kind = task_of(task)
    return EncodedDataset(pool, kind.encode(pool, tokenizer, context=context_length(model)), kind)


def notes_on(pool: EncodedDataset, dev: EncodedDataset | None) -> list[str]:
    """What should be known about the records before hours are spent, a sentence each."""
    notes = [*pool.dataset.notes, *cut_notes(pool)]
    if dev is not None:
        notes += [f"Dev set: {note}" for note in (*dev.dataset.notes, *cut_notes(dev))]
        known = {tuple(prompt) for prompt in pool.encoded.prompts}
        shared = sum(tuple(prompt) in known for prompt in dev.encoded.prompts)
        if shared:
            notes.append(f"{shared} dev records are in the pool too; the dev set must be disjoint to mean anything.")
    return notes


def cut_notes(records: EncodedDataset) -> list[str]:
    """Sentences on how many records were cut, and how."""
    encoded, task = records.encoded, records.task.config
    if not encoded.truncated:
        return []
    what = "completion" if task.kind == "chat" else "longest column"
    fit = "the model's context" if task.max_length is None else f"{task.max_length:,} tokens (task.max_length)"
    notes = [f"{encoded.truncated:,} of {len(encoded):,} records were cut at the end of their {what} to fit {fit}."]
    if task.kind == "answer":
        notes.append(f"{encoded.lost:,} of these no longer hold their answer.")
    return notes


def context_length(model: PreTrainedModel) -> int:
    """How many tokens the model takes."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31 - 1)
