"""Whether the released weights are those that header and statement name, without the base model where that can be.

>>> check_weights(release, header, document)                    # doctest: +SKIP
8
>>> follows_without_base(header), check_steps(transcript, document)   # doctest: +SKIP

Names, types and shapes are read from the file's head and compared with the header before any tensor is. LoRA begins
from our own generator and the public seed, so where only LoRA was trained, the weights can be made again from the
transcript alone. Full tuning begins from the base model's weights: whoever has these compares all of it.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from paczero.errors import IntegrityError, PACZeroError
from paczero.release.verify.documents import read_object

if TYPE_CHECKING:
    import torch

    from paczero.mechanism.transcript import Transcript


_TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

_INDEX = "model.safetensors.index.json"


class _Place(NamedTuple):
    """Where a tensor lies, and as what: from the head of its file alone."""

    path: Path
    raw: str  # its name there
    kind: str
    shape: list[int]


def check_weights(release: Path, header: Mapping[str, Any], document: Mapping[str, Any]) -> int:
    """That the trained tensors have the header's names, types and shapes, and the statement's hash.

    Returns:
        How many tensors were trained.

    Raises:
        IntegrityError: a tensor is missing, too many or another; the hash differs; a file carries more than tensors.
    """
    from paczero.optim.parameters import fingerprint_tensors

    adapter = release / "adapter"
    folder = adapter if adapter.is_dir() else release / "model"
    if (header["peft"] is None) == adapter.is_dir():
        raise IntegrityError(f"{folder}: the header says that {'an adapter' if header['peft'] else 'a model'} trained")
    places = _places(folder)
    stated = {name: (kind, shape) for name, kind, shape in header["parameters"]}
    for name, (kind, shape) in stated.items():
        if name not in places:
            raise IntegrityError(f"{folder}: {name} was trained, but is not there")
        if places[name][2:] != (kind, shape):
            raise IntegrityError(f"{folder}: {name} is {places[name][2:]}; the header says {kind} of shape {shape}")
    if folder == adapter and (more := sorted(places.keys() - stated.keys())):
        raise IntegrityError(f"{folder}: {more[0]} is no weight that the header names ({len(more)} such tensors)")
    found = fingerprint_tensors(_Loaded(places, stated))
    if found != document["weights_sha256"]:
        raise IntegrityError(
            f"{folder}: the trained weights have the hash {found[:12]}…, but privacy.json says "
            f"{str(document['weights_sha256'])[:12]}…"
        )
    return len(stated)


def _places(folder: Path) -> dict[str, _Place]:
    """Plain name -> place of each tensor."""
    from safetensors import SafetensorError, safe_open

    from paczero.models.layers import plain_name

    found: dict[str, _Place] = {}
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise IntegrityError(f"{folder}: holds no safetensors file; restore it")
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).keys() - {"format"}:
                    raise IntegrityError(f"{path}: carries more than tensors in its head; restore it")
                for raw in file.keys():  # noqa: SIM118
                    name = plain_name(raw)
                    part = file.get_slice(raw)
                    kind = _TYPES.get(part.get_dtype(), part.get_dtype())
                    if name in found:
                        raise IntegrityError(f"{path}: {name} is there twice")
                    found[name] = _Place(path, raw, kind, list(part.get_shape()))
        except (OSError, SafetensorError, ValueError) as error:
            if isinstance(error, IntegrityError):
                raise
            raise IntegrityError(f"{path}: cannot be read: {' '.join(str(error).split())[:160]}") from error
    _check_index(folder, found)
    return found


def _check_index(folder: Path, found: Mapping[str, _Place]) -> None:
    """A model in several files has an index that says which tensor lies where; it must say what is so."""
    path = folder / _INDEX
    if not path.exists():
        return
    index = read_object(path).get("weight_map")
    if index != {name: place.path.name for name, place in found.items()}:
        raise IntegrityError(f"{path}: does not say where the tensors lie; restore it")


class _Loaded(Mapping[str, "torch.Tensor"]):
    """The trained tensors, each read when it is asked for, so that a large model is never in memory whole."""

    def __init__(self, places: Mapping[str, _Place], names: Mapping[str, object]) -> None:
        self._places, self._names = places, names

    def __getitem__(self, name: str) -> "torch.Tensor":
        from safetensors import safe_open

        place = self._places[name]
        with safe_open(place.path, framework="pt") as file:
            return file.get_tensor(place.raw)

    def __iter__(self) -> Any:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


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
    transcript: "Transcript", document: Mapping[str, Any], on_step: Callable[[int], None] | None = None
) -> None:
    """Makes a LoRA adapter again from the transcript, and compares its hash with the statement's.

    Raises:
        IntegrityError: the adapter at the start or the served one is another.
    """
    import torch
    from torch import nn

    from paczero.models.adapters import initialise_adapter
    from paczero.optim.directions import direction_law
    from paczero.optim.parameters import PerturbedParameters
    from paczero.release.replay import take_steps

    header = transcript.header
    parameters = {
        name: nn.Parameter(torch.zeros(shape, dtype=getattr(torch, kind)), requires_grad=False)
        for name, kind, shape in header["parameters"]
    }
    try:
        initialise_adapter(parameters, header["seed"])
        law = direction_law(header["direction_law"])
        weights = PerturbedParameters(
            parameters, law=law, seed=header["seed"], mu=header["mu"], restore=header["restore"]
        )
        if weights.fingerprint() != header["adapter"]["sha256"]:
            raise IntegrityError("transcript.jsonl: the initial adapter is not the one that its header names")
        take_steps(weights, transcript, until=document["chosen_step"], on_step=on_step)
    except PACZeroError as error:
        raise IntegrityError(f"transcript.jsonl: {error}") from error
    if weights.fingerprint() != document["weights_sha256"]:
        raise IntegrityError(
            "adapter: its weights do not follow from the released values: another bit, step, rate or seed made them"
        )


def check_model_config(release: Path) -> None:
    """That a released model is one of transformers' own: no code of its own would be loaded.

    Raises:
        IntegrityError: its settings name code, or are no JSON.
    """
    for path in sorted((release / "model").glob("*.json")):
        text = json.dumps(read_object(path)) if path.stat().st_size < 2**24 else ""
        if '"auto_map"' in text or '"custom_pipelines"' in text:
            raise IntegrityError(f"{path}: names code to be loaded (auto_map); a release has none")
