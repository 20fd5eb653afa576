"""What stays the same in every step is computed once; these modules hand it out in the place of what computed it.

Below the first trained layer nothing changes. In that layer nothing changes either until a trained weight is met: its
first norm and the frozen projections that read it give the same output in every step. `constant_modules` finds these
by watching one forward pass; `kept` records what they give, `replaced` puts stand-ins in their place.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn


class Given(nn.Module):
    """Stands in for whatever gave this output: layers, or a module whose input never changes."""

    output: torch.Tensor

    def forward(self, *args: object, **kwargs: object) -> torch.Tensor:
        return self.output


class Skip(nn.Module):
    """Stands in for a layer that is not needed; keeps the others' indices as they are."""

    def forward(self, hidden_states: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        return hidden_states


@dataclass(frozen=True)
class Site:
    """Where a module hangs: `parent.name`."""

    parent: nn.Module
    name: str

    @property
    def module(self) -> nn.Module:
        return getattr(self.parent, self.name)


def constant_modules(layer: nn.Module, run: Callable[[], Any]) -> list[Site]:
    """The modules of a layer whose output cannot change while the layer's input stays the same.

    These are its innermost modules without a trained parameter that are handed the layer's input, or the output of
    another such module, as it is.

    Args:
        layer: the first trained layer.
        run: one forward pass through it.

    Returns:
        In the order in which they run.
    """
    sites: list[Site] = []
    constant: list[torch.Tensor] = []  # kept alive, so that no other tensor can take one's identity
    where = _frozen_leaves(layer)

    def known(value: object) -> bool:
        return any(value is tensor for tensor in constant)

    def before(_: nn.Module, args: tuple, kwargs: dict) -> None:
        constant.append(args[0] if args else kwargs["hidden_states"])

    def after(module: nn.Module, args: tuple, output: object) -> None:
        if len(args) == 1 and known(args[0]) and isinstance(output, torch.Tensor) and not known(output):
            constant.append(output)
            sites.append(where[id(module)])

    hooks = [layer.register_forward_pre_hook(before, with_kwargs=True)]
    hooks += [module.register_forward_hook(after) for module in layer.modules() if id(module) in where]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return sites


def settled_modules(layer: nn.Module, run: Callable[[], Any]) -> list[Site]:
    """The linear maps of a layer whose output cannot change while the layer's input stays the same.

    All that runs before the first trained weight is met gives the same in every step, and so does whatever is handed
    such an output, or the input of the first module that trains, as it is: the frozen matrix beside an adapter, say.

    Args:
        layer: the only layer that trains.
        run: one forward pass through it.

    Returns:
        In the order in which they run; none where a trained weight lies in no module that the pass calls.
    """
    inside = dict(layer.named_modules())
    holders = {_holder(name, inside) for name, p in layer.named_parameters() if p.requires_grad}
    where = _frozen_leaves(layer)
    constant: list[torch.Tensor] = []  # kept alive, so that no other tensor can take one's identity
    sites: list[Site] = []
    met: set[str] = set()

    def meets(name: str) -> Callable[..., None]:
        def before(_: nn.Module, args: tuple) -> None:
            if not met and args:
                constant.append(args[0])
            met.add(name)

        return before

    def after(module: nn.Module, args: tuple, output: object) -> None:
        known = not met or (len(args) == 1 and any(args[0] is tensor for tensor in constant))
        if known and isinstance(output, torch.Tensor):
            constant.append(output)
            if isinstance(module, nn.Linear):
                sites.append(where[id(module)])

    hooks = [inside[name].register_forward_pre_hook(meets(name)) for name in holders]
    hooks += [module.register_forward_hook(after) for module in inside.values() if id(module) in where]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return sites if met == holders else []


def _frozen_leaves(layer: nn.Module) -> dict[int, Site]:
    """Where a layer's innermost modules without a trained parameter hang, by the module's identity."""
    return {
        id(child): Site(parent, name)
        for parent in layer.modules()
        for name, child in parent.named_children()
        if not any(True for _ in child.children()) and not any(p.requires_grad for p in child.parameters())
    }


def _holder(parameter: str, inside: dict[str, nn.Module]) -> str:
    """The module whose call begins to use a trained parameter: the whole of an adapted layer, else its own module."""
    path = parameter.split(".")[:-1]
    for end in range(1, len(path) + 1):
        name = ".".join(path[:end])
        if isinstance(inside[name], BaseTunerLayer):
            return name
    return ".".join(path)


@contextlib.contextmanager
def kept(layer: nn.Module, sites: list[Site]) -> Iterator[list[torch.Tensor]]:
    """A list that holds, after one forward pass, the layer's input and the output of each site's module."""
    states: list[torch.Tensor] = []

    def before(_: nn.Module, args: tuple, kwargs: dict) -> None:
        states.append(args[0] if args else kwargs["hidden_states"])

    hooks = [layer.register_forward_pre_hook(before, with_kwargs=True)]
    hooks += [site.module.register_forward_hook(lambda _m, _a, output: states.append(output)) for site in sites]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def replaced(sites: Sequence[Site], stand_ins: Sequence[nn.Module]) -> Iterator[None]:
    """Puts a stand-in in the place of each site's module, for as long as the context lasts."""
    originals = [site.module for site in sites]
    try:
        for site, stand_in in zip(sites, stand_ins, strict=True):
            setattr(site.parent, site.name, stand_in)
        yield
    finally:
        for site, original in zip(sites, originals, strict=True):
            setattr(site.parent, site.name, original)
