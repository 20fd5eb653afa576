"""A small trained set updated as one tensor: an adapter has hundreds of small matrices, and a call for each is slow.

The arithmetic of every element is that of `chunked.py`. One call copies all parameters into one tensor, and one call
copies the result back.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from paczero.optim.directions import DirectionLaw


class _Group:
    """The parameters of one device and dtype.

    Attributes:
        parameters: in the order of names.
        layout: the offset of each in one tensor.
        saved: a copy of them, of their dtype.
        updated: float32; the result of an update.
        saved_views, updated_views: the part of each parameter in `saved` and in `updated`.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], law: DirectionLaw, seed: int, purpose: str) -> None:
        self.parameters: list[Tensor] = list(parameters.values())
        device, dtype = self.parameters[0].device, self.parameters[0].dtype
        sizes = {name: parameter.numel() for name, parameter in parameters.items()}
        self.layout = law.layout(seed=seed, sizes=sizes, device=device, purpose=purpose)
        self.saved = torch.zeros(self.layout.elements, dtype=dtype, device=device)
        self.updated = torch.zeros(self.layout.elements, dtype=torch.float32, device=device)
        self.saved_views, self.updated_views = self._views(self.saved), self._views(self.updated)

    def _views(self, tensor: Tensor) -> list[Tensor]:
        entries = zip(self.layout.starts.values(), self.layout.sizes.values(), self.parameters, strict=True)
        return [tensor[start : start + size].view(parameter.shape) for start, size, parameter in entries]


class FlatParameters:
    """A small trained set, each update of which is one operation a group.

    Args:
        parameters: canonical name -> parameter, in the order of names.
        law, seed, purpose: of the directions.
        keep: elements of directions that may be kept from the first perturbation of a step to its update.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], *, law: DirectionLaw, seed: int, purpose: str, keep: int
    ) -> None:
        self.law, self.keep = law, keep
        groups: dict[tuple[torch.device, torch.dtype], dict[str, nn.Parameter]] = {}
        for name, parameter in parameters.items():
            groups.setdefault((parameter.device, parameter.dtype), {})[name] = parameter
        self._groups = [_Group(members, law, seed, purpose) for members in groups.values()]
        self._elements = sum(group.layout.elements for group in self._groups)
        self._kept: dict[tuple[int, int], tuple[int, Any]] = {}

    def on_same_devices(self) -> bool:
        """Whether the parameters are on the devices of their copies."""
        return all(p.device == group.saved.device for group in self._groups for p in group.parameters)

    @torch.no_grad()
    def save(self) -> None:
        """Keeps a copy of the weights."""
        for group in self._groups:
            torch._foreach_copy_(group.saved_views, group.parameters)

    @torch.no_grad()
    def restore(self) -> None:
        """Puts back the copy, bit for bit."""
        for group in self._groups:
            torch._foreach_copy_(group.parameters, group.saved_views)

    @torch.no_grad()
    def shift(self, step: int, k: int, by: float, *, saved: bool) -> None:
        """θ ← (the saved copy, or θ itself) + by · z; by is a float32 value."""
        for number, group in enumerate(self._groups):
            direction = self._direction(number, step, k)
            if saved:  # without a new tensor, whose allocation takes as long as the addition
                torch.mul(direction, by, out=group.updated).add_(group.saved)
            else:
                torch._foreach_copy_(group.updated_views, group.parameters)
                group.updated.add_(direction * by)
            torch._foreach_copy_(group.parameters, group.updated_views)  # rounded to their dtype

    @torch.no_grad()
    def update(self, step: int, factors: Sequence[float], scale: float) -> None:
        """θ ← θ + scale · Σ_k f_k z_k."""
        for number, group in enumerate(self._groups):
            total = self._direction(number, step, 0) * factors[0]
            for k, factor in enumerate(factors[1:], 1):
                total.add_(self._direction(number, step, k) * factor)
            torch._foreach_copy_(group.updated_views, group.parameters)
            group.updated.add_(total.mul_(scale))
            torch._foreach_copy_(group.parameters, group.updated_views)  # rounded to their dtype

    def _direction(self, number: int, step: int, k: int) -> Tensor:
        """z of a group; read only, since it may be kept."""
        layout = self._groups[number].layout
        if (k + 1) * self._elements > self.keep:
            return self.law.draw_flat(layout, step=step, k=k)
        of_step, kept = self._kept.pop((k, number), (-1, None))  # removed first, in case drawing is interrupted
        if of_step != step:
            kept = self.law.draw_flat(layout, step=step, k=k, out=kept)
        self._kept[k, number] = (step, kept)
        return kept
