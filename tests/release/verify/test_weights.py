"""The released tensors are those that the transcript names, under the names that PEFT and transformers look for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from paczero.errors import IntegrityError
from paczero.models.layers import plain_name
from paczero.optim.parameters import fingerprint_tensors
from paczero.release.verify.release import verify_release
from paczero.release.verify.weights import ReleasedTensors, weights_folder

from ...released_runs import WEIGHTS, refused, reseal


@pytest.mark.parametrize("name", ["zpl", "full"])
def test_any_weight(release: Callable[..., Path], name: str) -> None:
    folder = release(name)
    path = folder / (WEIGHTS if name == "zpl" else "model/model.safetensors")
    names = [row[0] for row in json.loads((folder / "transcript.jsonl").read_bytes().partition(b"\n")[0])["parameters"]]
    tensors, whole = load_file(path), path.read_bytes()
    for key in tensors:
        new = {name: tensor.clone() for name, tensor in tensors.items()}
        new[key].view(-1).view(torch.int32)[-1] ^= 1  # the last bit of the last weight
        save_file(new, path, metadata={"format": "pt"})
        reseal(folder)
        if name == "zpl" or any(key.endswith(trained.removeprefix("model.")) for trained in names):
            assert "hash" in refused(folder)
            reseal(folder, weights_sha256=fingerprint_of(folder, names))
            assert "weights" in refused(folder)
        path.write_bytes(whole)
        reseal(folder, weights_sha256=fingerprint_of(folder, names))


def fingerprint_of(folder: Path, names: list[str]) -> str:
    released = ReleasedTensors.read(weights_folder(folder)).locations
    return fingerprint_tensors(ReleasedTensors({name: released[plain_name(name)] for name in names}))


def test_names_under_which_peft_looks_for_tensors(release: Callable[..., Path]) -> None:
    """Other names would pass for the same tensors, and PEFT would serve the untuned model."""
    folder = release()
    tensors = load_file(folder / WEIGHTS)
    for old, new in (("base_model.model.", ""), (".lora_A.", ".lora_A.default.")):
        save_file({name.replace(old, new): tensor for name, tensor in tensors.items()}, folder / WEIGHTS)
        reseal(folder)
        assert "is not the name of a released tensor" in refused(folder)


def test_code_that_hides_in_a_long_settings_file(release: Callable[..., Path]) -> None:
    folder = release("full")
    path = folder / "model" / "tokenizer_config.json"
    path.write_text(json.dumps({"a": "x" * 2**24, "inner": [{"auto_map": {}}]}))
    reseal(folder)
    assert "auto_map" in refused(folder)


def test_a_file_of_weights_that_is_named_in_the_settings(release: Callable[..., Path]) -> None:
    folder = release("full")
    path = folder / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"transformers_weights": "model.safetensors"}))
    reseal(folder)
    assert "transformers_weights" in refused(folder)


def test_parts_beside_a_whole_file_of_weights(release: Callable[..., Path]) -> None:
    """transformers loads model.safetensors alone where there is one, and draws the tensors that it lacks."""
    folder = release("full")
    model = folder / "model"
    tensors, index = load_file(model / "model.safetensors"), model / "model.safetensors.index.json"
    first, *rest = sorted(tensors)
    part, other = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"

    def write(whole: str, indexed: bool) -> None:
        for path in (*model.glob("*.safetensors"), index):
            path.unlink(missing_ok=True)
        for name, names in ((whole, rest), (part, [first])):
            save_file({key: tensors[key] for key in names}, model / name, metadata={"format": "pt"})
        if indexed:
            index.write_text(json.dumps({"weight_map": {first: part} | dict.fromkeys(rest, whole)}))
        reseal(folder)

    write(other, indexed=True)
    verify_release(folder)
    for whole, indexed in (("model.safetensors", True), ("model.safetensors", False), (other, False)):
        write(whole, indexed)
        assert "neither in model.safetensors alone" in refused(folder)


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
        {"a": {"dtype": "F32", "shape": [2**63, 2**63], "data_offsets": [0, 4]}},
        {"__metadata__": {"format": "pt", "code": "x"}, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
    ],
)
@pytest.mark.parametrize("length", [None, 2**62])
def test_a_head_that_promises_terabytes(release: Callable[..., Path], header: object, length: int | None) -> None:
    """Nothing is allocated for what is not there."""
    folder, head = release(), json.dumps(header).encode()
    size = (length or len(head)).to_bytes(8, "little")
    (folder / WEIGHTS).write_bytes(size + head + b"\0\0\0\0")
    reseal(folder)
    refused(folder)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("config.json", "rms_norm_eps", 0.5),
        ("config.json", "rope_parameters", {"rope_theta": 1.0, "rope_type": "default"}),
        ("config.json", "num_key_value_heads", 1),
        ("generation_config.json", "max_length", 1),
    ],
)
def test_settings_that_are_not_the_base_models(
    release: Callable[..., Path], tiny_model_dir: Path, name: str, key: str, value: Any
) -> None:
    """The tensors are right, and another function is loaded."""
    folder = release("full")
    path = folder / "model" / name
    settings = json.loads(path.read_text()) | {"transformers_version": "4.0.0"}
    path.write_text(json.dumps(settings))
    reseal(folder)
    assert verify_release(folder, with_base=True, model=str(tiny_model_dir)).replayed
    path.write_text(json.dumps(settings | {key: value}))
    reseal(folder)
    with pytest.raises(IntegrityError, match=f"{key} is .*; that of the base model is"):
        verify_release(folder, with_base=True, model=str(tiny_model_dir))
