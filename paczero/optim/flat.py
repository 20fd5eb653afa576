"""A small trained set moved as one tensor: an adapter is hundreds of small matrices, and a call for each is what would
take the time.

The arithmetic is that of `moves.py` on every element. Parameters stay where they are: they are gathered into one
tensor, and what came out is put back, by one call for all of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from paczero.optim.directions import DirectionLaw


class _Group:
    """The parameters of one device and type.

    Attributes:
        parameters: in the order of names.
        layout: where each lies in one tensor.
        saved: a copy of them, of their type.
        moved: float32; what a move makes.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], law: DirectionLaw, seed: int, purpose: str) -> None:
        self.parameters: list[Tensor] = list(parameters.values())
        device, dtype = self.parameters[0].device, self.parameters[0].dtype
        sizes = {name: parameter.numel() for name, parameter in parameters.items()}
        self.layout = law.layout(seed=seed, sizes=sizes, device=device, purpose=purpose)
        self.saved = torch.zeros(self.layout.elements, dtype=dtype, device=device)
        self.moved = torch.zeros(self.layout.elements, dtype=torch.float32, device=device)
        self._saved_views, self._moved_views = self._views(self.saved), self._views(self.moved)

    def _views(self, tensor: Tensor) -> list[Tensor]:
        places = zip(self.layout.starts.values(), self.layout.sizes.values(), self.parameters, strict=True)
        return [tensor[start : start + size].view(parameter.shape) for start, size, parameter in places]

    def save(self) -> None:
        torch._foreach_copy_(self._saved_views, self.parameters)

    def restore(self) -> None:
        torch._foreach_copy_(self.parameters, self._saved_views)

    def gather(self) -> None:
        """Put the weights as they stand into `moved`."""
        torch._foreach_copy_(self._moved_views, self.parameters)

    def put(self) -> None:
        """The weights become what is in `moved`, rounded to their type."""
        torch._foreach_copy_(self.parameters, self._moved_views)


class FlatParameters:
    """A trained set whose moves are one operation each.

    Args:
        parameters: canonical name -> parameter, in the order of names.
        law, seed, purpose: of the directions.
        keep: how many elements of directions may be kept from the first side of a step to its update.
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

    def fits(self) -> bool:
        """Whether the parameters are still on the devices where they were."""
        return all(p.device == group.saved.device for group in self._groups for p in group.parameters)

    @torch.no_grad()
    def save(self) -> None:
        """Keep a copy of the weights."""
        for group in self._groups:
            group.save()

    @torch.no_grad()
    def restore(self) -> None:
        """Put back the copy, bit for bit."""
        for group in self._groups:
            group.restore()

    @torch.no_grad()
    def shift(self, step: int, k: int, by: float, *, saved: bool) -> None:
        """θ ← (the saved copy, or θ itself) + by · z; by is a float32 value."""
        for number, group in enumerate(self._groups):
            direction = self._direction(number, step, k)
            if saved:  # no new memory: asking for some takes as long as the addition
                torch.mul(direction, by, out=group.moved).add_(group.saved)
            else:
                group.gather()
                group.moved.add_(direction * by)
            group.put()

    @torch.no_grad()
    def update(self, step: int, factors: Sequence[float], scale: float) -> None:
        """θ ← θ + scale · Σ_k f_k z_k."""
        for number, group in enumerate(self._groups):
            total = self._direction(number, step, 0) * factors[0]
            for k, factor in enumerate(factors[1:], 1):
                total.add_(self._direction(number, step, k) * factor)
            group.gather()
            group.moved.add_(total.mul_(scale))
            group.put()

    def _direction(self, number: int, step: int, k: int) -> Tensor:
        """z of a group; not to be written to, since it may be kept."""
        layout = self._groups[number].layout
        if (k + 1) * self._elements > self.keep:
            return self.law.draw_laid(layout, step=step, k=k)
        of_step, kept = self._kept.pop((k, number), (-1, None))  # gone should drawing be interrupted
        if of_step != step:
            kept = self.law.draw_laid(layout, step=step, k=k, out=kept)
        self._kept[k, number] = (step, kept)
        return kept
