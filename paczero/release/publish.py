"""Writes a finished run's `release/`: weights, transcript, model card, figures and statement, in one rename.

Everything in it is a function of the transcript, the base model and the dev set's figures, so a run that was killed
and resumed leaves the same bytes as one that was not.
"""

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import nn
from transformers import PreTrainedTokenizerBase

from paczero.config import TaskConfig
from paczero.models.layers import plain
from paczero.release.model_card import publish
from paczero.release.plots import Development
from paczero.run_directory import RunDirectory
from paczero.utils.io import make_durable, sync_directory


def publish_release(
    run: RunDirectory,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    header: Mapping[str, Any],
    *,
    chosen_step: int,
    weights_sha256: str,
    threshold: float,
    development: Development | None,
    task: TaskConfig,
) -> dict[str, Any]:
    """Publishes the weights as they stand in the model.

    Returns:
        The statement that was written to `privacy.json`.
    """
    shutil.rmtree(run.staging, ignore_errors=True)
    run.staging.mkdir()
    folder = run.staging / ("model" if header["peft"] is None else "adapter")
    save_weights(model, tokenizer, folder, base=header["base"]["id"])
    shutil.copyfile(run.staged_transcript, run.staging / "transcript.jsonl")
    statement = publish(
        run.staging,
        header,
        chosen_step=chosen_step,
        weights_sha256=weights_sha256,
        threshold=threshold,
        development=development,
        task=task,
    )
    make_durable(run.staging)
    os.rename(run.staging, run.release)
    sync_directory(run.root)
    return statement


def save_weights(model: nn.Module, tokenizer: PreTrainedTokenizerBase, folder: Path, *, base: str) -> None:
    """Saves an adapter as PEFT does, or the whole model with its tokenizer, in a form with one spelling only."""
    if isinstance(model, PeftModel):
        for config in model.peft_config.values():
            config.base_model_name_or_path = base
        had_card = (folder / "README.md").exists()
        # Whether the embeddings were trained is known here, and asking the hub for the base model may fail.
        model.save_pretrained(str(folder), save_embedding_layers=False)
        if not had_card:
            (folder / "README.md").unlink(missing_ok=True)  # PEFT's template; the release has a card of its own
        _sort_lists(folder / "adapter_config.json")
        return
    with warnings.catch_warnings():
        # One file of weights is put together in memory at a time, also where layers wait on disk; that is meant.
        warnings.filterwarnings("ignore", "Attempting to save a model with offloaded modules", UserWarning)
        plain(model).save_pretrained(folder, max_shard_size="5GB")
    tokenizer.save_pretrained(folder)


def _sort_lists(path: Path) -> None:
    """PEFT writes sets in an order that changes from process to process."""
    content = json.loads(path.read_text())
    for key, value in content.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            content[key] = sorted(value)
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
