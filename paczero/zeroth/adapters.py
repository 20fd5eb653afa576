"""The initial adapter: our own generator and the public seed, so that whoever replays a run starts from the same bits.

>>> initialise_adapter(dict(peft_model.named_parameters()), seed=0)

The law is PEFT's default for LoRA of linear layers: A uniform on ±1/√fan_in, B zero, so that the adapted model is the
base model at first.
"""

import math
from collections.abc import Mapping

from torch import nn

from paczero.errors import PACZeroError
from paczero.zeroth.directions import uniform
from paczero.zeroth.updates import round32

ADAPTER_LAW = "uniform(±1/√fan_in) for lora_A, zero for lora_B"


def initialise_adapter(parameters: Mapping[str, nn.Parameter], seed: int) -> None:
    """Set the trained parameters of an adapter to their initial values.

    Args:
        parameters: canonical name -> trained parameter. `lora_A` (rank, fan_in): uniform; `lora_B`: zero. Copies of
            base parameters (a name with `modules_to_save`, or a bias of the base) stay as they are.
        seed: the public seed.

    Raises:
        PACZeroError: a parameter of an adapter that is not LoRA of linear layers; then none has been set.
    """
    kinds = {name: _kind(name, parameter) for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        if kinds[name] == "lora_B":
            parameter.detach().zero_()
        elif kinds[name] == "lora_A":
            bound = round32(1 / math.sqrt(parameter.shape[1]))
            values = uniform(seed=seed, name=name, count=parameter.numel()).mul_(bound)
            parameter.detach().copy_(values.view(parameter.shape))


def _kind(name: str, parameter: nn.Parameter) -> str:
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
