"""Loads a model, decides which of its parameters train, and finds its decoder layers.

>>> model, tokenizer = load("HuggingFaceTB/SmolLM2-135M-Instruct", dtype="float32", device="cpu")  # doctest: +SKIP
>>> model, trained = attach(model, peft_config=LoraConfig(target_modules=["q_proj"]))              # doctest: +SKIP

Names of trained parameters are canonical: those of the plain model, without what PEFT wraps around them.
"""

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
