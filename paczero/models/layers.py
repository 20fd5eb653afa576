"""The decoder layers of a model, and the canonical names of its parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import nn
from transformers import PreTrainedModel

from paczero.errors import PACZeroError


def plain(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside a PEFT wrapper, or the model itself."""
    inner = getattr(model, "get_base_model", None)
    return cast(PreTrainedModel, model if inner is None else inner())


def canonical_name(name: str) -> str:
    """A parameter's name without what PEFT adds.

    >>> canonical_name("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight")
    'model.layers.0.self_attn.q_proj.lora_A.weight'
    """
    return name.removeprefix("base_model.model.").replace(".default.", ".").replace(".base_layer.", ".")


def plain_name(name: str) -> str:
    """A tensor's name in the plain model, from PEFT's name in a file or in memory."""
    return canonical_name(name).replace(".modules_to_save.", ".")


@dataclass(frozen=True)
class DecoderLayers:
    """The decoder layers of a model.

    Attributes:
        parent: the module that runs them.
        attribute: the list's name in `parent`.
        layers: one module a layer.
        path: canonical prefix of the layers' parameters, such as `model.layers.`.
    """

    parent: nn.Module
    attribute: str
    layers: nn.ModuleList
    path: str

    def layer_of(self, name: str) -> int | None:
        """Index of the layer that holds this parameter (canonical name); None outside the layers."""
        return int(name[len(self.path) :].split(".", 1)[0]) if name.startswith(self.path) else None


def find_layers(model: nn.Module) -> DecoderLayers:
    """Finds the list of decoder layers by its length.

    Raises:
        PACZeroError: the model has no such list.
    """
    base = plain(model)
    count = base.config.get_text_config().num_hidden_layers
    for path, module in base.named_modules():
        for attribute, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == count:
                return DecoderLayers(module, attribute, child, f"{path}.{attribute}.".removeprefix("."))
    raise PACZeroError(f"model: no list of {count} decoder layers in {type(base).__name__}; expected a causal decoder")


def first_trained_layer(model: nn.Module, trained: Sequence[str]) -> int:
    """The lowest layer whose output a trained parameter can change; 0 for parameters below or outside the layers.

    The output of the layers below it is the same in every step and computed once.
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
    """Parameters that are used only after the last layer: the final norm, and an output head that is not tied."""
    base, found = plain(model), find_layers(model)
    final = list(found.parent.named_children())
    after = [child for name, child in final[[name for name, _ in final].index(found.attribute) + 1 :]]
    head = base.get_output_embeddings()
    embedding = {id(p) for p in base.get_input_embeddings().parameters()}
    parameters = {id(p) for module in [*after, head] if module is not None for p in module.parameters()} - embedding
    return {canonical_name(name) for name, p in base.named_parameters() if id(p) in parameters}


def has_experts(model: nn.Module) -> bool:
    """Whether tokens of all records go through shared experts, so that a matrix has as many rows as chose it."""
    return any("expert" in name.rpartition(".")[2].lower() for name, _ in model.named_modules())
