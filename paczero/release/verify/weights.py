"""Checks the released weights without the base model, as far as that goes.

Names, types and shapes are read from the file's head and compared with the header before any tensor is read. LoRA
starts from our own generator and the public seed, so the transcript alone gives the weights of a run that trained only
LoRA. Full tuning starts from the base model's weights; `with_base` compares them.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.transcript import Transcript
from paczero.models.adapters import initialise_adapter
from paczero.models.layers import plain_name
from paczero.optim.parameters import PerturbedParameters, fingerprint_tensors
from paczero.release.replay import replay_steps
from paczero.utils.io import read_object

_TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

_INDEX = "model.safetensors.index.json"


class TensorLocation(NamedTuple):
    """Where a tensor lies, and its form: from the head of its file alone."""

    path: Path
    raw: str  # its name there
    dtype: str
    shape: list[int]


class ReleasedTensors(Mapping[str, torch.Tensor]):
    """Tensors by name; each is read from its file when it is used, so that a large model is never in memory whole.

    Args:
        locations: name -> where the tensor lies.
    """

    def __init__(self, locations: dict[str, TensorLocation]) -> None:
        self.locations = locations

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The tensors of a folder by their plain names, from the heads of its files.

        Raises:
            IntegrityError: a file is no safetensors file, carries more than tensors, or holds a name twice; a name is
                not the one under which PEFT or transformers looks for it.
        """
        locations: dict[str, TensorLocation] = {}
        prefix = "base_model.model." if folder.name == "adapter" else ""
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            raise IntegrityError(f"{folder}: holds no safetensors file; restore it")
        whole = f"{folder.name}{'_model' if prefix else ''}.safetensors"  # loaded alone wherever it is there
        in_parts = (folder / _INDEX).exists() and whole not in {path.name for path in paths}
        if not in_parts and (len(paths) > 1 or paths[0].name != whole or (folder / _INDEX).exists()):
            raise IntegrityError(f"{folder}: its tensors are neither in {whole} alone, nor in parts with an index")
        for path in paths:
            try:
                with safe_open(path, framework="pt") as file:
                    if (file.metadata() or {}).keys() - {"format"}:
                        raise IntegrityError(f"{path}: carries more than tensors in its head; restore it")
                    for raw in file.keys():  # noqa: SIM118
                        name, part = plain_name(raw), file.get_slice(raw)
                        if raw != prefix + name:
                            raise IntegrityError(f"{path}: {raw} is not the name of a released tensor; restore it")
                        if name in locations:
                            raise IntegrityError(f"{path}: {name} is there twice")
                        dtype = _TYPES.get(part.get_dtype(), part.get_dtype())
                        locations[name] = TensorLocation(path, raw, dtype, list(part.get_shape()))
            except IntegrityError:
                raise
            except (OSError, SafetensorError, ValueError) as error:
                raise IntegrityError(f"{path}: cannot be read: {' '.join(str(error).split())[:160]}") from error
        index = folder / _INDEX  # of a model in several files: which tensor lies where
        stated = {name: location.path.name for name, location in locations.items()}
        if index.exists() and read_object(index).get("weight_map") != stated:
            raise IntegrityError(f"{index}: does not say where the tensors lie; restore it")
        return cls(locations)

    def __getitem__(self, name: str) -> torch.Tensor:
        location = self.locations[name]
        with safe_open(location.path, framework="pt") as file:
            return file.get_tensor(location.raw)

    def __iter__(self) -> Iterator[str]:
        return iter(self.locations)

    def __len__(self) -> int:
        return len(self.locations)


def weights_folder(release: Path) -> Path:
    """`adapter/` or `model/`, whichever the release has."""
    return release / ("adapter" if (release / "adapter").is_dir() else "model")


def check_weights(release: Path, header: Mapping[str, Any], document: Mapping[str, Any]) -> int:
    """Checks that the trained tensors have the header's names, types and shapes, and the statement's hash.

    Returns:
        The number of trained tensors.

    Raises:
        IntegrityError: a tensor is missing, added or another; the hash differs; a file carries more than tensors.
    """
    folder = weights_folder(release)
    if (header["peft"] is None) == (folder.name == "adapter"):
        raise IntegrityError(f"{folder}: the header says that {'an adapter' if header['peft'] else 'a model'} trained")
    released = ReleasedTensors.read(folder).locations
    trained: dict[str, TensorLocation] = {}  # by the header's names, which keep what PEFT leaves out of its file
    for name, dtype, shape in header["parameters"]:
        location = released.get(plain_name(name))
        if location is None:
            raise IntegrityError(f"{folder}: {name} was trained, but is not there")
        if (location.dtype, location.shape) != (dtype, shape):
            raise IntegrityError(
                f"{folder}: {name} is {location.dtype} of shape {location.shape}; the header says {dtype} of {shape}"
            )
        trained[name] = location
    if folder.name == "adapter" and (more := sorted(released.keys() - set(map(plain_name, trained)))):
        raise IntegrityError(f"{folder}: {more[0]} is no weight that the header names ({len(more)} such tensors)")
    check_hash(fingerprint_tensors(ReleasedTensors(trained)), document, f"{folder}: the trained weights")
    return len(trained)


def check_hash(found: str, document: Mapping[str, Any], subject: str) -> None:
    """Compares the fingerprint of weights with the statement's.

    Raises:
        IntegrityError: they differ; the message begins with `subject`.
    """
    stated = document["weights_sha256"]
    if found != stated:
        raise IntegrityError(f"{subject} have the hash {found[:12]}…, but privacy.json says {str(stated)[:12]}…")


def follows_without_base(header: Mapping[str, Any]) -> str | None:
    """Why the weights cannot be made again without the base model; None where they can."""
    if header["peft"] is None:
        return "full tuning begins from the base model's weights"
    if any(".lora_A." not in name and ".lora_B." not in name for name, _, _ in header["parameters"]):
        return "parts of the base model itself were trained"
    if header["direction_law"] != "rademacher" and header["device_kind"] != "cpu":
        return f"its directions are those of a {header['device_kind']} device"
    return None


def check_steps(
    transcript: Transcript, document: Mapping[str, Any], on_step: Callable[[int], None] | None = None
) -> None:
    """Makes a LoRA adapter again from the transcript, and compares its hash with the statement's.

    Raises:
        IntegrityError: the initial or the served adapter is another.
    """
    found = replay_adapter(transcript, until=document["chosen_step"], on_step=on_step).fingerprint()
    if found != document["weights_sha256"]:
        raise IntegrityError(
            "adapter: its weights do not follow from the released values: another bit, step, rate or seed made them"
        )


def replay_adapter(
    transcript: Transcript, *, until: int, on_step: Callable[[int], None] | None = None
) -> PerturbedParameters:
    """A LoRA adapter after `until` steps, from the transcript alone.

    Raises:
        IntegrityError: the initial adapter is another than the header's, or the steps cannot be applied to it.
    """
    header = transcript.header
    parameters = {
        name: nn.Parameter(torch.zeros(shape, dtype=getattr(torch, dtype)), requires_grad=False)
        for name, dtype, shape in header["parameters"]
    }
    try:
        initialise_adapter(parameters, header["seed"])
        return replay_steps(parameters, transcript, until=until, on_step=on_step)
    except PACZeroError as error:
        raise IntegrityError(f"transcript.jsonl: {error}") from error


def check_model_config(release: Path) -> None:
    """Checks that a released model is one of transformers' own, so that no code of its own is loaded.

    Raises:
        IntegrityError: its settings name code, or are no JSON.
    """
    for path in sorted((release / "model").glob("*.json")):
        if path.name in ("tokenizer.json", "vocab.json", "added_tokens.json"):
            continue  # words, not settings
        keys = _keys(read_object(path))
        if keys & {"auto_map", "custom_pipelines"}:
            raise IntegrityError(f"{path}: names code to be loaded (auto_map); a release has none")
        if "transformers_weights" in keys:  # transformers would load this file instead of the one that is checked
            raise IntegrityError(f"{path}: names a file of weights (transformers_weights); a release does not")


def _keys(value: Any) -> set[str]:
    """All keys within a JSON value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(value if isinstance(value, dict) else (), *map(_keys, inner))
