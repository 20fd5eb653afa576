"""Loads a model, decides which of its parameters train, and finds its decoder layers.

>>> model, tokenizer = load("HuggingFaceTB/SmolLM2-135M-Instruct", dtype="float32", device="cpu")  # doctest: +SKIP
>>> model, trained = attach(model, peft_config=LoraConfig(target_modules=["q_proj"]))              # doctest: +SKIP

Names of trained parameters are canonical: those of the plain model, without what PEFT wraps around them.
"""

import contextlib
import logging
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from huggingface_hub import HfApi, constants, try_to_load_from_cache
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from paczero.config import EngineConfig
from paczero.errors import PACZeroError
from paczero.zeroth.adapters import initialise_adapter
from paczero.zeroth.offload import WholeState, device_map, is_placed, settle
from paczero.zeroth.updates import fingerprint_tensors

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DEVICES = ("auto", "cpu", "cuda")


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
        tokenizer: taken as it is where given.
        engine: over which devices the model may be spread, and where frozen layers may wait.
        keep: decoder layers whose own weights train, so they do not wait (negative indices count from the last).

    Raises:
        PACZeroError: the model, its tokenizer or the device cannot be had, the model has an adapter already, or it
            does not fit.
    """
    target = pick_device(device)
    name = model if isinstance(model, str) else str(model.config._name_or_path)
    if isinstance(model, str):
        _require_there(model)
        try:
            model = _from_pretrained(model, DTYPES[dtype], target, engine or EngineConfig(), keep)
        except PACZeroError:  # what the settings ask of the device; the model itself may be fine
            raise
        except UnpicklingError as error:  # torch opens pickles without running what is in them, and says at length why
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
            f"engine.devices {engine.devices!r}; expected a directory or hub id, so that layers find places while "
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
    """Loads a model, each layer to its place; what waits on disk is not read, but for what no safetensors file has."""
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": "sdpa"}
    if device.type != "cpu":
        options["device_map"] = {"": device}  # straight there, without a copy in the host's memory
    if (engine.offload, engine.devices) == ("none", "one"):
        return AutoModelForCausalLM.from_pretrained(name, **options)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(name), dtype=dtype)
    found = find_layers(empty)
    kept = {index % len(found.layers) for index in keep}
    places = device_map(empty, found.path, engine, device, kept)
    if places is None:
        return AutoModelForCausalLM.from_pretrained(name, **options)
    folder = tempfile.mkdtemp(prefix="paczero-")
    with _no_note_of_meta():
        options |= {"device_map": places, "offload_folder": folder}
        model = AutoModelForCausalLM.from_pretrained(name, **options)
    weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)
    return model


@contextlib.contextmanager
def _no_note_of_meta() -> Iterator[None]:
    """Keeps accelerate from saying on every start that layers wait, which was asked for."""
    logger = logging.getLogger("accelerate.big_modeling")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def out_of_memory(error: BaseException) -> bool:
    """Whether this is what the host's or the GPU's allocator says where there is no memory left."""
    said = str(error)
    words = ("out of memory", "can't allocate memory", "Cannot allocate memory", "unable to mmap")
    return isinstance(error, MemoryError) or any(word in said for word in words)


def _require_there(model: str) -> None:
    """One short question before transformers asks the hub for a minute: is this a directory, cached, or on the hub?"""
    if Path(model).is_dir() or constants.HF_HUB_OFFLINE:
        return
    try:
        if try_to_load_from_cache(model, "config.json") is None:
            HfApi().model_info(model, timeout=10)
    # hub and network fail in dozens of ways, all of them the user's to know in one line
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PACZeroError(
            f"model: there is no directory {model!r} in {str(Path.cwd())!r}, and no such model can be had from the hub "
            f"({type(error).__name__}: {said}); expected a hub id or a directory that save_pretrained() wrote"
        ) from error


def _cannot_load(what: str, name: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    return (
        f"model: the {what} of {name!r} cannot be loaded; expected a hub id or a directory that "
        f"save_pretrained() wrote (a GGUF file goes through `paczero convert` first): {reason}"
    )


def pick_device(device: str) -> torch.device:
    """The torch device of a setting; `auto` takes a GPU where there is one.

    Raises:
        PACZeroError: there is no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
        torch.empty(0, device=picked)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PACZeroError(f"device: {device!r} was given; expected one of {DEVICES} that is here: {reason}") from error
    return picked


def plain(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside a PEFT wrapper, or the model itself."""
    inner = getattr(model, "get_base_model", None)
    return cast(PreTrainedModel, model if inner is None else inner())


def base_fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 of the base model's weights (names, types, shapes, values); taken before an adapter is attached.

    Tied weights count once. It is the same wherever the weights are; what waits on disk is read piece by piece.
    """
    return fingerprint_tensors(WholeState(model))


def attach(
    model: PreTrainedModel, *, peft_config: Any = None, train_layers: Sequence[int] | None = None, seed: int = 0
) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """Marks what trains: a PEFT adapter, chosen decoder layers, or every parameter.

    Args:
        model: the base model.
        peft_config: a PEFT configuration; the adapter starts from the public `seed`, not from torch's generator.
        train_layers: full tuning of these decoder layers only (negative indices count from the last).

    Returns:
        The model (wrapped by PEFT where a configuration was given) and canonical name -> trained parameter.

    Raises:
        PACZeroError: the configuration fits neither the model nor zeroth-order training.
    """
    if peft_config is not None:
        if train_layers is not None:
            raise PACZeroError("train_layers: given together with peft; expected one of them. Use layers_to_transform")
        attached = _with_adapter(model, peft_config)
    else:
        attached = model
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(_is_chosen(name, model, train_layers))
    settle(attached)
    trained = {canonical_name(name): p for name, p in attached.named_parameters() if p.requires_grad}
    if not trained:
        raise PACZeroError("peft: nothing would train; check target_modules and layers_to_transform against the model")
    if peft_config is not None:
        initialise_adapter(trained, seed)
    return attached, trained


def _with_adapter(model: PreTrainedModel, peft_config: Any) -> nn.Module:
    from peft import PeftType, get_peft_model  # noqa: PLC0415 (full tuning needs no PEFT)

    if peft_config.peft_type != PeftType.LORA:
        raise PACZeroError(f"peft: {peft_config.peft_type.value} was given; expected LORA or no adapter at all")
    if peft_config.init_lora_weights is not True:
        raise PACZeroError(
            f"peft.init_lora_weights: {peft_config.init_lora_weights!r} was given; leave it out, since the adapter "
            "starts from the run's public seed so that anyone can replay it"
        )
    if peft_config.task_type is None:
        peft_config.task_type = "CAUSAL_LM"
    count = len(find_layers(model).layers)
    chosen = peft_config.layers_to_transform
    for layer in [chosen] if isinstance(chosen, int) else chosen or []:
        _check_layer("peft.layers_to_transform", layer, count, lowest=0)
    try:
        with warnings.catch_warnings():
            # PEFT asks for a property that transformers 5 calls by another name; users can do nothing about it.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            attached = get_peft_model(model, peft_config)
        return attached.eval()  # new modules start in training mode, with LoRA's dropout on
    except (ValueError, TypeError, RuntimeError) as error:
        raise PACZeroError(f"peft: {' '.join(str(error).split())[:300]}") from error


def _is_chosen(name: str, model: PreTrainedModel, train_layers: Sequence[int] | None) -> bool:
    if train_layers is None:
        return True
    found = find_layers(model)
    count = len(found.layers)
    for layer in train_layers:
        _check_layer("train_layers", layer, count, lowest=-count)
    index = found.layer_of(name)
    return index is not None and index in {layer % count for layer in train_layers}


def _check_layer(name: str, layer: int, count: int, *, lowest: int) -> None:
    if not lowest <= layer < count:
        raise PACZeroError(f"{name}: {layer} was given; expected an index from {lowest} to {count - 1}")


def canonical_name(name: str) -> str:
    """A parameter's name without PEFT's wrapping: `…q_proj.lora_A.default.weight` -> `…q_proj.lora_A.weight`."""
    return name.removeprefix("base_model.model.").replace(".default.", ".").replace(".base_layer.", ".")


def plain_name(name: str) -> str:
    """A tensor's name as in the plain model, whether PEFT wrote it to a file or holds it in memory."""
    return canonical_name(name).replace(".modules_to_save.", ".")


@dataclass(frozen=True)
class DecoderLayers:
    """Where a model keeps its decoder layers.

    Attributes:
        parent: the module that loops over them.
        attribute: the list's name there.
        layers: the list itself, one module a layer.
        path: canonical prefix of the layers' parameters, such as `model.layers.`.
    """

    parent: nn.Module
    attribute: str
    layers: nn.ModuleList
    path: str

    def layer_of(self, name: str) -> int | None:
        """The layer that holds the parameter of this canonical name; None for what is outside all layers."""
        return int(name[len(self.path) :].split(".", 1)[0]) if name.startswith(self.path) else None


def find_layers(model: nn.Module) -> DecoderLayers:
    """Finds the list of decoder layers by its length.

    Raises:
        PACZeroError: the model has no such list (it is not a decoder that transformers builds the usual way).
    """
    base = plain(model)
    count = base.config.get_text_config().num_hidden_layers
    for path, module in base.named_modules():
        for attribute, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == count:
                return DecoderLayers(module, attribute, child, f"{path}.{attribute}.".removeprefix("."))
    raise PACZeroError(f"model: no list of {count} decoder layers in {type(base).__name__}; expected a causal decoder")


def first_trained_layer(model: nn.Module, trained: Sequence[str]) -> int:
    """The lowest layer whose output a trained parameter can change; 0 where it sits below or outside the layers.

    Everything below it is the same in every step, so its output is computed once.
    """
    found = find_layers(model)
    above = _names_above(model)
    lowest = len(found.layers)
    for name in trained:
        index = found.layer_of(name)
        if index is None:
            index = lowest if name in above else 0
        lowest = min(lowest, index)
    return min(lowest, len(found.layers) - 1)


def _names_above(model: nn.Module) -> set[str]:
    """Parameters that only act after the last layer: the final norm and an output head of its own."""
    base, found = plain(model), find_layers(model)
    final = list(found.parent.named_children())
    after = [child for name, child in final[[name for name, _ in final].index(found.attribute) + 1 :]]
    head = base.get_output_embeddings()
    embedding = {id(p) for p in base.get_input_embeddings().parameters()}
    parameters = {id(p) for module in [*after, head] if module is not None for p in module.parameters()} - embedding
    return {canonical_name(name) for name, p in base.named_parameters() if id(p) in parameters}


def peft_config_from(settings: Mapping[str, Any]) -> Any:
    """A PEFT configuration from the keys that a recipe gives; LoRA where no `peft_type` is named.

    Raises:
        PACZeroError: a key or a value that PEFT does not know.
    """
    from peft import LoraConfig  # noqa: PLC0415

    given = dict(settings)
    kind = str(given.pop("peft_type", "LORA")).upper()
    if kind != "LORA":
        raise PACZeroError(f"peft.peft_type: {kind!r} was given; expected LORA, or no peft for full tuning")
    unknown = sorted(set(given) - {field.name for field in fields(LoraConfig)})
    if unknown:
        raise PACZeroError(f"peft: {', '.join(unknown)} is no key of peft's LoraConfig; see its documentation")
    try:
        return LoraConfig(**given)
    except (TypeError, ValueError) as error:
        raise PACZeroError(f"peft: {' '.join(str(error).split())}") from error


def peft_settings(config: Any) -> dict[str, Any]:
    """The keys of a PEFT configuration that differ from its defaults, in a form that JSON and YAML hold."""
    default = type(config)()
    ignored = {"base_model_name_or_path", "inference_mode", "task_type", "peft_version", "revision"}
    found: dict[str, Any] = {"peft_type": config.peft_type.value}
    for field_ in fields(config):
        value = getattr(config, field_.name)
        if field_.name in ignored or value == getattr(default, field_.name):
            continue
        value = sorted(value) if isinstance(value, set | frozenset) else value
        if not isinstance(value, bool | int | float | str | list | dict | type(None)):
            continue  # runtime objects of PEFT's own
        found[field_.name] = value
    return found
