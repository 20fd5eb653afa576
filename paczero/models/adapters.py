"""Marks what trains: a PEFT adapter, chosen decoder layers or every parameter.

    model, trained = attach(model, peft_config=LoraConfig(target_modules=["q_proj"]), seed=0)

Names of trained parameters are canonical: those of the plain model, without what PEFT wraps around them. An adapter
starts from our own generator and the public seed, so that a replay starts from the same bits. The law is PEFT's default
for LoRA of linear layers: A uniform on ±1/√fan_in, B zero, so that the adapted model starts as the base model.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from paczero.errors import PACZeroError
from paczero.models.layers import canonical_name, find_layers
from paczero.models.offload import settle
from paczero.optim.directions import uniform
from paczero.optim.parameters import round32


def attach(
    model: PreTrainedModel, *, peft_config: Any = None, train_layers: Sequence[int] | None = None, seed: int = 0
) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """Marks what trains: a PEFT adapter, chosen decoder layers, or every parameter.

    Args:
        model: the base model.
        peft_config: a PEFT configuration; the adapter starts from the public `seed`, not from torch's generator.
        train_layers: full tuning of these decoder layers only (negative indices count from the last).

    Returns:
        The model (wrapped by PEFT where a configuration was given), and canonical name -> trained parameter.

    Raises:
        PACZeroError: the configuration does not fit the model or zeroth-order training.
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
    from peft import PeftType, get_peft_model

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
            # PEFT uses a property that transformers 5 renamed; users cannot change that.
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


def peft_config_from(settings: Mapping[str, Any]) -> Any:
    """A LoRA configuration from the keys of a recipe.

    Raises:
        PACZeroError: another `peft_type`, or a key or value that PEFT refuses.
    """
    from peft import LoraConfig

    given = dict(settings)
    peft_type = str(given.pop("peft_type", "LORA")).upper()
    if peft_type != "LORA":
        raise PACZeroError(f"peft.peft_type: {peft_type!r} was given; expected LORA, or no peft for full tuning")
    unknown = sorted(set(given) - {field.name for field in fields(LoraConfig)})
    if unknown:
        raise PACZeroError(
            f"peft: {', '.join(unknown)} is no key of peft's LoraConfig; expected its keys, such as r, lora_alpha and "
            "target_modules"
        )
    try:
        return LoraConfig(**given)
    except (TypeError, ValueError) as error:
        raise PACZeroError(f"peft: {' '.join(str(error).split())}") from error


def peft_settings(config: Any) -> dict[str, Any]:
    """The keys of a PEFT configuration that differ from its defaults, as values of JSON and YAML."""
    default = type(config)()
    ignored = {"base_model_name_or_path", "inference_mode", "task_type", "peft_version", "revision"}
    found: dict[str, Any] = {"peft_type": config.peft_type.value}
    for field_ in fields(config):
        value = getattr(config, field_.name)
        if field_.name in ignored or value == getattr(default, field_.name):
            continue
        value = sorted(value) if isinstance(value, set | frozenset) else value
        if not isinstance(value, bool | int | float | str | list | dict | type(None)):
            continue  # PEFT's runtime objects
        found[field_.name] = value
    return found


ADAPTER_LAW = "uniform(±1/√fan_in) for lora_A, zero for lora_B"


def initialise_adapter(parameters: Mapping[str, nn.Parameter], seed: int) -> None:
    """Sets the trained parameters of an adapter to their initial values.

    Args:
        parameters: canonical name -> trained parameter. `lora_A` (rank, fan_in): uniform; `lora_B`: zero. Copies of
            base parameters (a name with `modules_to_save`, or a bias of the base) are not changed.
        seed: the public seed.

    Raises:
        PACZeroError: a parameter that is not of LoRA of linear layers; then none has been set.
    """
    roles = {name: _role(name, parameter) for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        if roles[name] == "lora_B":
            parameter.detach().zero_()
        elif roles[name] == "lora_A":
            bound = round32(1 / math.sqrt(parameter.shape[1]))
            values = uniform(seed=seed, name=name, count=parameter.numel()).mul_(bound)
            parameter.detach().copy_(values.view(parameter.shape))


def _role(name: str, parameter: nn.Parameter) -> str:
    parts = name.split(".")
    if "modules_to_save" in parts:
        return "base"
    if "lora_B" in parts and parameter.dim() <= 2:
        return "lora_B"
    if "lora_A" in parts and parameter.dim() == 2:
        return "lora_A"
    if parts[-1] == "bias" and not any(part.startswith("lora_") for part in parts):
        return "base"
    raise PACZeroError(
        f"{name}: a trained parameter of shape {tuple(parameter.shape)} was given; expected LoRA of linear layers "
        "(lora_A, lora_B) or modules_to_save; choose a LoraConfig without other kinds"
    )
