"""Adapters merged into the weights beside them for a pass: one product instead of three and two additions.

    x Wᵀ + s · (x Aᵀ) Bᵀ  =  x (W + s · B A)ᵀ

W is not changed: the sum lies in a buffer, and a plain linear layer with this buffer replaces the adapted layer during
a pass. In float32 the two sides of the equation differ by rounding only. In half precision the adapter would round
away, so nothing is merged.

    merged = find_mergeable(model, positions=1700)
    with merging(merged):
        model(input_ids)
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from paczero.engine.frozen_modules import ModuleSlot, replaced


@dataclass
class Mergeable:
    """An adapted linear layer and its replacement.

    Attributes:
        slot: of the adapted layer.
        linear: a linear layer with the same bias and a weight of its own.
    """

    slot: ModuleSlot
    linear: nn.Linear

    @torch.no_grad()
    def refresh(self) -> None:
        """Computes W + s · B A from the current adapter."""
        adapted: Any = self.slot.module
        [name] = adapted.active_adapters
        up, down = adapted.lora_B[name].weight, adapted.lora_A[name].weight
        torch.addmm(
            adapted.base_layer.weight, up, down, beta=1, alpha=adapted.scaling[name], out=self.linear.weight.data
        )


def find_mergeable(
    model: nn.Module, *, positions: int, skip: Callable[[nn.Module], bool] = lambda base: False
) -> list[Mergeable]:
    """The adapted layers for which merging is exact enough and pays.

    Args:
        model: a transformers model whose linear layers PEFT may have wrapped.
        positions: token positions of a pass over all records; building W + s · B A must cost less than running them.
        skip: (base layer) -> whether to leave its adapter unmerged.
    """
    found = []
    for parent in model.modules():
        for name, child in parent.named_children():
            base = getattr(child, "base_layer", None)
            if base is None or not _simple(child) or skip(base):
                continue
            rows, columns = base.weight.shape
            if positions * (rows + columns) > 2 * rows * columns:
                linear = nn.Linear(columns, rows, bias=False, device="meta")
                linear.weight = nn.Parameter(torch.empty_like(base.weight), requires_grad=False)
                linear.bias = base.bias
                found.append(Mergeable(ModuleSlot(parent, name), linear))
    return found


def _simple(adapted: Any) -> bool:
    """Whether this is plain LoRA of a plain float32 linear layer that is not offloaded."""
    base = adapted.base_layer
    active = list(getattr(adapted, "active_adapters", ()))
    if type(base) is not nn.Linear or len(active) != 1 or active[0] not in getattr(adapted, "lora_A", {}):
        return False
    name = active[0]
    weights: list[Tensor] = [base.weight, adapted.lora_A[name].weight, adapted.lora_B[name].weight]
    return (
        all(type(part) is nn.Linear and part.bias is None for part in (adapted.lora_A[name], adapted.lora_B[name]))
        and all(weight.dtype == torch.float32 and weight.device.type != "meta" for weight in weights)
        and not hasattr(base, "_hf_hook")
        and not adapted.merged
        and not adapted.disable_adapters
        and not adapted.training
        and name not in getattr(adapted, "lora_variant", {})
        and not getattr(adapted, "fan_in_fan_out", False)
    )


@contextlib.contextmanager
def merging(layers: list[Mergeable]) -> Iterator[None]:
    """Replaces adapted layers by merged ones, with the adapters' values on entry."""
    for layer in layers:
        layer.refresh()
    with replaced([layer.slot for layer in layers], [layer.linear for layer in layers]):
        yield
