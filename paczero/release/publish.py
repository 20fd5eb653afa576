"""Writes a finished run's `release/`: weights, transcript, figures, model card and statement, in one rename.

Everything in it is a function of the transcript, the base model and the metrics on the development set. A resumed run
writes the same bytes as an uninterrupted one. Nothing in the run's private folder is read.
"""

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paczero.config import TaskConfig
from paczero.errors import IntegrityError
from paczero.mechanism.transcript import Transcript
from paczero.release import plots, statement, task_file
from paczero.release.model_card import CARD, card
from paczero.release.statement import Development
from paczero.run_directory import RunDirectory
from paczero.utils.io import make_durable, sync_directory, write_whole

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

FIGURES = "figures"


def publish_release(
    run: RunDirectory,
    model: "nn.Module",
    tokenizer: "PreTrainedTokenizerBase",
    header: Mapping[str, Any],
    **facts: Any,
) -> dict[str, Any]:
    """Publishes the model's current weights.

    Args:
        facts: keyword arguments of `complete`.

    Returns:
        The statement that was written to `privacy.json`.
    """
    shutil.rmtree(run.staging, ignore_errors=True)
    run.staging.mkdir()
    folder = run.staging / ("model" if header["peft"] is None else "adapter")
    save_weights(model, tokenizer, folder, base=header["base"]["id"])
    shutil.copyfile(run.staged_transcript, run.staging / "transcript.jsonl")
    document = complete(run.staging, header, **facts)
    make_durable(run.staging)
    os.rename(run.staging, run.release)
    sync_directory(run.root)
    return document


def complete(
    staging: Path,
    header: Mapping[str, Any],
    *,
    chosen_step: int,
    weights_sha256: str,
    threshold: float = 0.0,
    development: Development | None = None,
    task: TaskConfig | None = None,
    license: str | None = None,
) -> dict[str, Any]:
    """Adds figures, task and model card to a staged release, then the sealed statement over all its files.

    The same inputs give the same bytes.

    Args:
        staging: holds `transcript.jsonl` and `adapter/` or `model/`, and nothing else.
        header: the transcript's header.
        chosen_step: updates of the served weights.
        weights_sha256: their fingerprint.
        threshold: decision threshold of a binary task, as a difference of scores; 0.0 if it was not moved.
        development: metrics on the development set, if there is one.
        task: prompt and label words, for the card and `task.json`.
        license: its name, for the card.

    Returns:
        The statement, as written to `privacy.json`.

    Raises:
        IntegrityError: the transcript is another run's, or something else lies in the folder.
        PACZeroError: the step is out of range.
    """
    transcript = Transcript.read(staging / "transcript.jsonl")
    if statement.canonical(transcript.header) != statement.canonical(header):
        raise IntegrityError(f"{staging / 'transcript.jsonl'}: its header is another run's")
    if others := sorted({path.name for path in staging.iterdir()} - {"transcript.jsonl", "adapter", "model"}):
        raise IntegrityError(f"{staging / others[0]}: is no part of a release; move it away, then publish again")
    development = development and development.completed(header)
    pictures = plots.public(transcript.header, transcript.y, development, chosen_step)
    (staging / FIGURES).mkdir()
    for name, png in pictures.items():
        write_whole(staging / FIGURES / name, png)
    if task is not None:
        task_file.write(staging, task)
    facts: dict[str, Any] = {
        "chosen_step": chosen_step,
        "weights_sha256": weights_sha256,
        "threshold": threshold,
        "development": development and development.facts(chosen_step),
        "steps_sha256": transcript.chain(),
        "license": license,
    }
    folder = "adapter" if (staging / "adapter").is_dir() else "model"
    write_whole(staging / CARD, card(transcript.header, facts, folder=folder, pictures=tuple(pictures), task=task))
    files = {name: statement.file_hash(staging / name) for name in statement.released_files(staging)}
    document = statement.statement(transcript.header, files=files, steps_run=len(transcript.y), **facts)
    write_whole(staging / statement.NAME, statement.render(document))
    return document


def save_weights(model: "nn.Module", tokenizer: "PreTrainedTokenizerBase", folder: Path, *, base: str) -> None:
    """Saves an adapter with PEFT, or the whole model and its tokenizer; equal weights give equal bytes."""
    from peft import PeftModel

    from paczero.models.layers import plain

    if isinstance(model, PeftModel):
        for config in model.peft_config.values():
            config.base_model_name_or_path = base
        had_card = (folder / CARD).exists()
        # With save_embedding_layers="auto", PEFT queries the Hub for the base model, which may fail.
        model.save_pretrained(str(folder), save_embedding_layers=False)
        if not had_card:
            (folder / CARD).unlink(missing_ok=True)  # PEFT's template; the release has a card of its own
        _sort_lists(folder / "adapter_config.json")
        return
    with warnings.catch_warnings():
        # Layers on disk are loaded for one file of weights at a time; this is intended.
        warnings.filterwarnings("ignore", "Attempting to save a model with offloaded modules", UserWarning)
        plain(model).save_pretrained(folder, max_shard_size="5GB")
    tokenizer.save_pretrained(folder)


def _sort_lists(path: Path) -> None:
    """Sorts the lists in PEFT's settings, which PEFT writes from sets, in an order that differs between processes."""
    content = json.loads(path.read_text())
    for key, value in content.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            content[key] = sorted(value)
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
