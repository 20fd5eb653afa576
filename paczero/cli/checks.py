"""Checks a release: files, statement, steps, base model and every released weight.

>>> release = open_release(Path("runs/first"))                                   # doctest: +SKIP
>>> model, tokenizer, weights = rebuild_release(release, step=300, live=Live())  # doctest: +SKIP
>>> verify_weights(release, model, weights)     # the number of tensors that agree; IntegrityError otherwise

Whoever holds a release and the base model can do this; nothing private is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paczero.cli.console import Live
from paczero.errors import IntegrityError, PACZeroError
from paczero.run_directory import RunDirectory

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from paczero.mechanism.transcript import Transcript
    from paczero.optim.parameters import PerturbedParameters


_ACCOUNTANTS = 1 + 1e-3  # another version of the library may round to another grid


@dataclass(frozen=True)
class Release:
    """A release whose files agree with its statement.

    Attributes:
        folder: where it lies.
        transcript: header and released values.
        statement: the content of `privacy.json`.
    """

    folder: Path
    transcript: "Transcript"
    statement: dict[str, Any]


def released_folder(path: Path) -> Path:
    """The release that is meant: that of a run, or the folder itself.

    Raises:
        PACZeroError: there is none.
    """
    from paczero.release import statement

    run = RunDirectory(path)
    folder = run.release if run.release.is_dir() else path
    if not folder.is_dir():
        raise PACZeroError(f"{str(path)!r} is no directory; expected a run or its release/")
    if run.private.is_dir() and not run.release.is_dir():
        raise PACZeroError(f"{str(path)!r} is not finished and has no release; `paczero train --resume {path}`")
    if not (folder / statement.NAME).exists() and not (folder / "transcript.jsonl").exists():
        raise PACZeroError(f"{str(path)!r} holds no release; expected {statement.NAME} and transcript.jsonl in it")
    return folder


def open_release(path: Path) -> Release:
    """Reads a release and checks its files, its statement and its steps.

    Args:
        path: a run, or its `release/` by itself.

    Raises:
        PACZeroError: there is no release here.
        IntegrityError: a file is missing, added or changed, a step is missing, or statement and transcript disagree.
    """
    from paczero.mechanism.transcript import Transcript
    from paczero.release.verify.release import checked_statement

    folder = released_folder(path)
    if not (folder / "transcript.jsonl").exists():
        raise IntegrityError(f"{folder / 'transcript.jsonl'}: is missing; restore it")
    transcript = Transcript.read(folder / "transcript.jsonl")
    return Release(folder, transcript, checked_statement(folder, transcript))


def rebuild_release(
    release: Release, *, step: int, live: Live, model: str | None = None
) -> tuple["nn.Module", "PreTrainedTokenizerBase", "PerturbedParameters"]:
    """The weights after `step` steps, in the model.

    Raises:
        PACZeroError: the base model cannot be loaded.
        IntegrityError: it is another than the transcript's, or the transcript is none that a run wrote.
    """
    from paczero.config import EngineConfig
    from paczero.models.loading import load
    from paczero.release.replay import rebuild

    header = release.transcript.header
    try:
        # Rademacher directions are the same bits on any device; others need the kind that the run used.
        device = "cpu" if header["direction_law"] == "rademacher" else header["device_kind"]
        name, dtype = str(model or header["base"]["id"]), header["base"]["dtype"]
        live.show(f"loading {name}")
        base, tokenizer = load(
            name,
            dtype=dtype,
            device=device,
            engine=EngineConfig(offload="disk"),  # updates are all that is taken; what does not fit need not be here
            keep=header["train_layers"] or (),
        )
        done = f"of {step:,} steps again"
        wrapped, weights = rebuild(
            header, base, release.transcript, until=step, on_step=lambda index: live.show(f"{index + 1:,} {done}")
        )
    except (KeyError, TypeError) as error:
        raise IntegrityError(f"transcript: its header is none that a run wrote: {error!r}") from error
    return wrapped, tokenizer, weights


def verify_weights(release: Release, model: "nn.Module", weights: "PerturbedParameters") -> int:
    """Compares the rebuilt weights with the stated hash and with each tensor that was released.

    Returns:
        How many tensors were compared.

    Raises:
        IntegrityError: something differs, or a tensor is missing or too many.
    """
    stated = release.statement["weights_sha256"]
    found = weights.fingerprint()
    if found != stated:
        raise IntegrityError(
            f"weights: those rebuilt from the transcript have the hash {found[:12]}…, but privacy.json says "
            f"{str(stated)[:12]}…"
        )
    from paczero.models.layers import plain_name

    adapter = release.folder / "adapter"
    if adapter.is_dir():
        return _compare(_tensors(adapter), {plain_name(n): p.detach() for n, p in weights.parameters.items()}, adapter)
    from paczero.models.offload import WholeState

    folder = release.folder / "model"
    released = _tensors(folder)
    return _compare(released, WholeState(model, names=released), folder)  # tied weights are stored once


def noise_line(header: Mapping[str, Any]) -> str | None:
    """What the stated noise of a differentially private run is worth, accounted anew; None for any other run.

    Whether noise of that size was added nobody can tell from a release.

    Raises:
        IntegrityError: it is too little for the stated ε and δ, or no noise of a run.
    """
    from paczero.mechanism.accounting import MissingLibrary, epsilon_of

    stated = header["mechanism"]
    if "sigma" not in stated:
        return None
    accounted = {"delta": stated["delta"], "steps": header["steps"], "directions": header["directions"]}
    try:
        found = epsilon_of(stated["name"], stated["sigma"], sampling_prob=stated["sampling"], **accounted)
    except MissingLibrary as error:
        return f"not accounted anew ({error})"
    except PACZeroError as error:
        raise IntegrityError(f"transcript: its noise is none of a run: {error}") from error
    if found > stated["epsilon"] * _ACCOUNTANTS:
        raise IntegrityError(
            f"transcript: σ = {stated['sigma']:g} gives ε = {found:.4g}, but ε = {stated['epsilon']:g} is stated"
        )
    return (
        f"σ = {stated['sigma']:g} gives ε = {found:.4g} of the stated {stated['epsilon']:g}, δ = {stated['delta']:.3g}"
    )


def _tensors(folder: Path) -> dict[str, "torch.Tensor"]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from paczero.models.layers import plain_name

    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            found |= {plain_name(name): tensor for name, tensor in load_file(path).items()}
        except (OSError, SafetensorError) as error:
            raise IntegrityError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from error
    if not found:
        raise IntegrityError(f"{folder}: holds no safetensors file; restore it")
    return found


def _compare(released: Mapping[str, "torch.Tensor"], rebuilt: Mapping[str, "torch.Tensor"], folder: Path) -> int:
    import torch

    for problem, names in (
        ("is missing from the release", rebuilt.keys() - released.keys()),
        ("is released, but no weight of this model", released.keys() - rebuilt.keys()),
    ):
        if names:
            raise IntegrityError(f"{folder}: {min(names)} {problem} ({len(names)} such tensors)")
    for name, tensor in released.items():
        other = rebuilt[name].cpu().contiguous()
        if tensor.dtype != other.dtype or tensor.shape != other.shape:
            raise IntegrityError(f"{folder}: {name} has another type or shape than the rebuilt one")
        if not torch.equal(tensor.flatten().view(torch.uint8), other.flatten().view(torch.uint8)):
            raise IntegrityError(f"{folder}: {name} differs from the rebuilt weights; it does not follow from the bits")
    return len(released)
