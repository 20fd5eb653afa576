"""Compares a release with weights that are rebuilt from the base model and the transcript. Nothing private is read."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig

from paczero.errors import IntegrityError
from paczero.mechanism.transcript import Transcript
from paczero.models.layers import plain_name
from paczero.models.offload import WholeState
from paczero.release.replay import rebuild_from
from paczero.release.verify.weights import ReleasedTensors, check_hash, weights_folder

_OF_THE_WRITER = {"transformers_version", "_name_or_path"}  # say who wrote the file, and where the base model lay


def check_with_base(
    release: Path,
    transcript: Transcript,
    document: Mapping[str, Any],
    model: str | None,
    progress: Callable[[str], None],
) -> int:
    """Compares the rebuilt weights with the stated hash and with each tensor that was released.

    Args:
        model: the base model's folder or id; by default, the one in the header.

    Returns:
        The number of tensors compared.

    Raises:
        PACZeroError: the base model cannot be loaded.
        IntegrityError: it is another than the header's, or a tensor differs, is missing or is one too many.
    """
    rebuilt, _, weights = rebuild_from(transcript, step=document["chosen_step"], model=model, progress=progress)
    check_hash(weights.fingerprint(), document, "weights: those rebuilt from the transcript")
    folder = weights_folder(release)
    released = ReleasedTensors.read(folder)
    if folder.name == "adapter":
        expected: Mapping[str, torch.Tensor] = {plain_name(n): p.detach() for n, p in weights.parameters.items()}
    else:
        expected = WholeState(rebuilt, names=released)  # tied weights are stored once
        _check_settings(folder, rebuilt)
    for problem, names in (
        ("is missing from the release", expected.keys() - released.keys()),
        ("is released, but no weight of this model", released.keys() - expected.keys()),
    ):
        if names:
            raise IntegrityError(f"{folder}: {min(names)} {problem} ({len(names)} such tensors)")
    for name, tensor in released.items():
        other = expected[name].cpu().contiguous()
        if tensor.dtype != other.dtype or tensor.shape != other.shape:
            raise IntegrityError(f"{folder}: {name} has another type or shape than the rebuilt one")
        if not torch.equal(tensor.flatten().view(torch.uint8), other.flatten().view(torch.uint8)):
            raise IntegrityError(f"{folder}: {name} differs from the rebuilt weights; it does not follow from the bits")
    return len(released)


def _check_settings(folder: Path, model: Any) -> None:
    """Compares the settings that transformers loads from a released model with those of the rebuilt one.

    Raises:
        IntegrityError: they differ: in the architecture, in its numbers, or in how it generates.
    """
    for name, kind, expected in (
        ("config.json", AutoConfig, model.config),
        ("generation_config.json", GenerationConfig, model.generation_config),
    ):
        if expected is None:
            continue
        try:
            released = kind.from_pretrained(folder).to_dict()  # absent keys are those of this version of transformers
        except Exception as error:
            raise IntegrityError(f"{folder / name}: cannot be loaded: {' '.join(str(error).split())[:160]}") from error
        stated = expected.to_dict()
        for key in sorted((released.keys() | stated.keys()) - _OF_THE_WRITER):
            if released.get(key) != stated.get(key):
                raise IntegrityError(
                    f"{folder / name}: {key} is {released.get(key)!r}; that of the base model is {stated.get(key)!r}"
                )
