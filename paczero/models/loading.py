"""Loads a model and its tokenizer from a hub id or a directory, in evaluation mode.

model, tokenizer = load("HuggingFaceTB/SmolLM2-135M-Instruct", dtype="float32", device="cpu")
"""

import logging
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub import HfApi, constants, try_to_load_from_cache
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from paczero.config import EngineConfig
from paczero.errors import PACZeroError
from paczero.models.layers import find_layers
from paczero.models.offload import WholeState, device_map, is_placed
from paczero.optim.parameters import fingerprint_tensors

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    model: str | PreTrainedModel,
    *,
    dtype: str,
    device: str,
    tokenizer: PreTrainedTokenizerBase | None = None,
    engine: EngineConfig | None = None,
    keep: Sequence[int] = (),
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in evaluation mode, and its tokenizer.

    Args:
        model: a hub id, a local directory, or a loaded model (used as it is).
        dtype: `float32`, `bfloat16` or `float16`; for a model that is loaded here.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        tokenizer: used instead of loading one.
        engine: the devices over which the model may be spread, and where frozen layers may be offloaded.
        keep: decoder layers whose own weights train; they are not offloaded (negative indices count from the last).

    Raises:
        PACZeroError: the model, its tokenizer or the device is not available, the model has an adapter already, or
            it does not fit.
    """
    target = pick_device(device)
    name = model if isinstance(model, str) else str(model.config._name_or_path)
    if isinstance(model, str):
        _require_available(model)
        try:
            model = _from_pretrained(model, DTYPES[dtype], target, engine or EngineConfig(), keep)
        except PACZeroError:  # about the settings, not about the model
            raise
        except UnpicklingError as error:  # torch loads tensors only, and refuses other pickles in a long message
            raise PACZeroError(
                f"model: the weights of {name!r} are a pickle that holds more than tensors, and it is not opened; "
                "expected safetensors"
            ) from error
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, MemoryError, SafetensorError) as error:
            if not out_of_memory(error):
                raise PACZeroError(_cannot_load("model", name, error)) from error
            raise PACZeroError(
                f"model: {name!r} does not fit into memory as {dtype}; let its layers wait elsewhere (--engine.offload "
                "disk, or cpu beside a GPU), or use --dtype bfloat16"
            ) from error
    elif engine is not None and (engine.offload, engine.devices) != ("none", "one") and not is_placed(model):
        raise PACZeroError(
            f"model: a loaded {type(model).__name__} was given with engine.offload {engine.offload!r} and "
            f"engine.devices {engine.devices!r}; expected a directory or hub id, so that layers are placed while "
            "it is loaded"
        )
    if hasattr(model, "peft_config") or any(".base_layer." in part for part, _ in model.named_parameters()):
        raise PACZeroError(
            "model: it has an adapter already, so a replay would not find its base; merge it (merge_and_unload) and "
            "save it, or load the base model again"
        )
    if tokenizer is None:
        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise PACZeroError(_cannot_load("tokenizer", name, error)) from error
    if not is_placed(model):
        nn.Module.to(model, target)  # transformers' own `to` has no type for a device
    return model.eval(), tokenizer


def _from_pretrained(
    name: str, dtype: torch.dtype, device: torch.device, engine: EngineConfig, keep: Sequence[int]
) -> PreTrainedModel:
    """Loads a model, each layer to its device. Layers that are offloaded to disk are not read from safetensors."""
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": "sdpa"}
    if device.type != "cpu":
        options["device_map"] = {"": device}  # straight there, without a copy in the host's memory
    if (engine.offload, engine.devices) == ("none", "one"):
        return AutoModelForCausalLM.from_pretrained(name, **options)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(name), dtype=dtype)
    found = find_layers(empty)
    kept = {index % len(found.layers) for index in keep}
    layer_devices = device_map(empty, found.path, engine, device, kept)
    if layer_devices is None:
        return AutoModelForCausalLM.from_pretrained(name, **options)
    folder = tempfile.mkdtemp(prefix="paczero-")
    options |= {"device_map": layer_devices, "offload_folder": folder}
    logging.getLogger("accelerate.big_modeling").setLevel(logging.ERROR)  # it warns that layers are offloaded
    model = AutoModelForCausalLM.from_pretrained(name, **options)
    weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)
    return model


def out_of_memory(error: BaseException) -> bool:
    """Whether the host's or the GPU's allocator raised this error because no memory is left."""
    message = str(error)
    words = ("out of memory", "can't allocate memory", "Cannot allocate memory", "unable to mmap")
    return isinstance(error, MemoryError) or any(word in message for word in words)


def _require_available(model: str) -> None:
    """Refuses a model that is no directory, not cached and not on the hub; transformers would retry for a minute."""
    if Path(model).is_dir() or constants.HF_HUB_OFFLINE:
        return
    try:
        if try_to_load_from_cache(model, "config.json") is None:
            HfApi().model_info(model, timeout=10)
    except Exception as error:  # hub and network fail in many ways; the user needs one line
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PACZeroError(
            f"model: there is no directory {model!r} in {str(Path.cwd())!r}, and no such model can be had from the hub "
            f"({type(error).__name__}: {reason}); expected a hub id or a directory that save_pretrained() wrote"
        ) from error


def _cannot_load(what: str, name: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    return (
        f"model: the {what} of {name!r} cannot be loaded; expected a hub id or a directory that "
        f"save_pretrained() wrote (a GGUF file goes through `paczero convert` first): {reason}"
    )


def pick_device(device: str) -> torch.device:
    """The torch device of a setting; `auto` is a GPU where there is one.

    Raises:
        PACZeroError: this machine has no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
        torch.empty(0, device=picked)
    except (RuntimeError, AssertionError) as error:
        here = ["auto", "cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        reason = " ".join(str(error).split()).partition(". ")[0][:200]
        raise PACZeroError(
            f"device: {device!r} was given; expected {', '.join(here[:-1])} or {here[-1]} on this machine ({reason})"
        ) from error
    return picked


def base_fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 of the base model's weights (names, types, shapes, values); taken before an adapter is attached.

    Tied weights count once. The hash is the same on any device; offloaded weights are read one at a time.
    """
    return fingerprint_tensors(WholeState(model))
