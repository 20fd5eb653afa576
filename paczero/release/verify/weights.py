"""Checks the released weights without the base model, as far as that goes.

Names, types and shapes are read from the file's head and compared with the header before any tensor is read. LoRA
starts from our own generator and the public seed, so where only LoRA was trained, the transcript alone gives the
weights. Full tuning starts from the base model's weights; `with_base` compares all of it.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from paczero.errors import IntegrityError, PACZeroError
from paczero.utils.io import read_object

if TYPE_CHECKING:
    import torch

    from paczero.mechanism.transcript import Transcript


_TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

_INDEX = "model.safetensors.index.json"


class TensorLocation(NamedTuple):
    """Where a tensor lies, and its form: from the head of its file alone."""

    path: Path
    raw: str  # its name there
    dtype: str
    shape: list[int]


class ReleasedTensors(Mapping[str, "torch.Tensor"]):
    """The tensors of a folder by their plain names, each read when it is used: a large model is never in memory whole.

    Raises:
        IntegrityError: a file is no safetensors file, carries more than tensors, or holds a name twice; a name is not
            the one under which PEFT or transformers looks for it.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        from paczero.models.layers import plain_name

        self.locations: dict[str, TensorLocation] = {}
        prefix = "base_model.model." if folder.name == "adapter" else ""
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            raise IntegrityError(f"{folder}: holds no safetensors file; restore it")
        for path in paths:
            try:
                with safe_open(path, framework="pt") as file:
                    if (file.metadata() or {}).keys() - {"format"}:
                        raise IntegrityError(f"{path}: carries more than tensors in its head; restore it")
                    for raw in file.keys():  # noqa: SIM118
                        name, part = plain_name(raw), file.get_slice(raw)
                        if raw != prefix + name:
                            raise IntegrityError(f"{path}: {raw} is not the name of a released tensor; restore it")
                        if name in self.locations:
                            raise IntegrityError(f"{path}: {name} is there twice")
                        dtype = _TYPES.get(part.get_dtype(), part.get_dtype())
                        self.locations[name] = TensorLocation(path, raw, dtype, list(part.get_shape()))
            except (OSError, SafetensorError, ValueError) as error:
                if isinstance(error, IntegrityError):
                    raise
                raise IntegrityError(f"{path}: cannot be read: {' '.join(str(error).split())[:160]}") from error
        self._check_index(folder / _INDEX)

    def _check_index(self, path: Path) -> None:
        """The index of a model in several files says which tensor lies where."""
        if path.exists():
            index = read_object(path).get("weight_map")
            if index != {name: location.path.name for name, location in self.locations.items()}:
                raise IntegrityError(f"{path}: does not say where the tensors lie; restore it")

    def __getitem__(self, name: str) -> "torch.Tensor":
        from safetensors import safe_open

        location = self.locations[name]
        with safe_open(location.path, framework="pt") as file:
            return file.get_tensor(location.raw)

    def __iter__(self) -> Iterator[str]:
        return iter(self.locations)

    def __len__(self) -> int:
        return len(self.locations)


class _ByStatedName(Mapping[str, "torch.Tensor"]):
    """The trained tensors by the header's names, which keep what PEFT leaves out of its file."""

    def __init__(self, released: ReleasedTensors, names: Mapping[str, object]) -> None:
        self._released, self._names = released, names

    def __getitem__(self, name: str) -> "torch.Tensor":
        from paczero.models.layers import plain_name

        return self._released[plain_name(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def weights_folder(release: Path) -> Path:
    """`adapter/` or `model/`, whichever the release has."""
    return release / ("adapter" if (release / "adapter").is_dir() else "model")


def check_weights(release: Path, header: Mapping[str, Any], document: Mapping[str, Any]) -> int:
    """Checks that the trained tensors have the header's names, types and shapes, and the statement's hash.

    Returns:
        How many tensors were trained.

    Raises:
        IntegrityError: a tensor is missing, too many or another; the hash differs; a file carries more than tensors.
    """
    from paczero.models.layers import plain_name
    from paczero.optim.parameters import fingerprint_tensors

    folder = weights_folder(release)
    if (header["peft"] is None) == (folder.name == "adapter"):
        raise IntegrityError(f"{folder}: the header says that {'an adapter' if header['peft'] else 'a model'} trained")
    released = ReleasedTensors(folder)
    stated = {name: (dtype, shape) for name, dtype, shape in header["parameters"]}
    for name, (dtype, shape) in stated.items():
        location = released.locations.get(plain_name(name))
        if location is None:
            raise IntegrityError(f"{folder}: {name} was trained, but is not there")
        if (location.dtype, location.shape) != (dtype, shape):
            raise IntegrityError(
                f"{folder}: {name} is {location.dtype} of shape {location.shape}; the header says {dtype} of {shape}"
            )
    if folder.name == "adapter" and (more := sorted(released.keys() - set(map(plain_name, stated)))):
        raise IntegrityError(f"{folder}: {more[0]} is no weight that the header names ({len(more)} such tensors)")
    found = fingerprint_tensors(_ByStatedName(released, stated))
    if found != document["weights_sha256"]:
        raise IntegrityError(
            f"{folder}: the trained weights have the hash {found[:12]}…, but privacy.json says "
            f"{str(document['weights_sha256'])[:12]}…"
        )
    return len(stated)


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
        name: nn.Parameter(torch.zeros(shape, dtype=getattr(torch, dtype)), requires_grad=False)
        for name, dtype, shape in header["parameters"]
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
    """Checks that a released model is one of transformers' own, so that no code of its own is loaded.

    Raises:
        IntegrityError: its settings name code, or are no JSON.
    """
    for path in sorted((release / "model").glob("*.json")):
        if path.name in ("tokenizer.json", "vocab.json", "added_tokens.json"):
            continue  # words, not settings
        if _keys(read_object(path)) & {"auto_map", "custom_pipelines"}:
            raise IntegrityError(f"{path}: names code to be loaded (auto_map); a release has none")


def _keys(value: Any) -> set[str]:
    """All keys within a JSON value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(value if isinstance(value, dict) else (), *map(_keys, inner))
