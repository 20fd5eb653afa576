"""What stays the same in every step is computed once; these modules hand it out in the place of what computed it.

Below the first trained layer nothing changes. In that layer nothing changes either until a trained weight is met: its
first norm and the frozen projections that read it give the same output in every step. `constant_modules` finds these
by watching one forward pass; `kept` records what they give, `replaced` puts stand-ins in their place.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class CachedOutput(nn.Module):
    """Stands in for whatever gave this output: layers, or a module whose input never changes."""

    output: Tensor

    def forward(self, *args: object, **kwargs: object) -> Tensor:
        return self.output


class CachedInput(nn.Module):
    """Stands in for what only prepares the input of a module that trains: hands that module the input that was kept."""

    output: Tensor

    def __init__(self, reader: "ModuleSlot"):
        super().__init__()
        self.reader = reader

    def forward(self, *args: object, **kwargs: object) -> Tensor:
        return self.reader.module(self.output)


class IdentityLayer(nn.Module):
    """Stands in for a layer that is not needed; keeps the others' indices as they are."""

    def forward(self, hidden_states: Tensor, *args: object, **kwargs: object) -> Tensor:
        return hidden_states


@dataclass(frozen=True)
class ModuleSlot:
    """Where a module hangs: `parent.name`."""

    parent: nn.Module
    name: str

    @property
    def module(self) -> nn.Module:
        return getattr(self.parent, self.name)

    def stand_in(self) -> CachedOutput | CachedInput:
        """What hands out the kept tensor in the module's place."""
        return CachedOutput()

    def watch(self, keep: Callable[[Tensor], None]) -> RemovableHandle:
        """Hands on, whenever the module runs, the tensor that its stand-in needs."""
        return self.module.register_forward_hook(lambda _module, _args, output: keep(output))


@dataclass
class Call:
    """A module's call in a forward pass: its name, what it was handed, what it gave."""

    name: str
    args: tuple
    output: object = None


@dataclass(frozen=True)
class InputBlock(ModuleSlot):
    """Where a module hangs whose output is that of one inside it that trains, the input of which never changes.

    Attributes:
        reader: where the one that trains hangs.
    """

    reader: ModuleSlot

    def stand_in(self) -> CachedInput:
        return CachedInput(self.reader)

    def watch(self, keep: Callable[[Tensor], None]) -> RemovableHandle:
        return self.reader.module.register_forward_pre_hook(lambda _module, args: keep(args[0]))


def constant_modules(layer: nn.Module, run: Callable[[], Any]) -> list[ModuleSlot]:
    """The modules of a layer whose output cannot change while the layer's input stays the same.

    These are its innermost modules without a trained parameter that are handed the layer's input, or the output of
    another such module, as it is.

    Args:
        layer: the first trained layer.
        run: one forward pass through it.

    Returns:
        In the order in which they run.
    """
    sites: list[ModuleSlot] = []
    constant: list[Tensor] = []  # kept alive, so that no other tensor can take one's identity
    where = _frozen_leaves(layer)

    def known(value: object) -> bool:
        return any(value is tensor for tensor in constant)

    def before(_: nn.Module, args: tuple, kwargs: dict) -> None:
        constant.append(args[0] if args else kwargs["hidden_states"])

    def after(module: nn.Module, args: tuple, output: object) -> None:
        if len(args) == 1 and known(args[0]) and isinstance(output, Tensor) and not known(output):
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


def settled_modules(layer: nn.Module, run: Callable[[], Any]) -> list[ModuleSlot]:
    """The modules of a layer that need not run while the layer's input stays the same.

    All that runs before the first trained weight is met gives the same in every step, and so does whatever is handed
    such an output, or the input of the first module that trains, as it is: the frozen matrix beside an adapter, say.
    What does nothing but prepare that input is left out as a whole: a feed-forward block whose last matrix trains.

    Args:
        layer: the only layer that trains.
        run: one forward pass through it.

    Returns:
        In the order in which they run; none where a trained weight lies in no module that the pass calls.
    """
    inside = dict(layer.named_modules())
    holders = {_holder(name, inside) for name, p in layer.named_parameters() if p.requires_grad}
    calls = _calls(inside, run)
    if not holders <= {call.name for call in calls}:
        return []
    first = next(index for index, call in enumerate(calls) if call.name in holders)
    reader = calls[first]
    feeder = _feeder(reader, calls[:first]) if len(holders) == 1 else None
    constant: list[object] = []
    where, sites = _frozen_leaves(layer), []
    for index, call in enumerate(calls):
        if index == first:
            constant += call.args[:1]
        module, known = inside[call.name], [any(value is tensor for tensor in constant) for value in call.args]
        if id(module) not in where or not (index < first or known == [True]) or not isinstance(call.output, Tensor):
            continue
        if any(call.output is tensor for tensor in constant):
            continue  # it hands on what it was given: dropout, say
        constant.append(call.output)
        if feeder is None or not _below(call.name, feeder) or _below(call.name, reader.name):
            sites.append(where[id(module)])
    return (
        sites
        if feeder is None
        else [*sites, InputBlock(*_place(feeder, inside), ModuleSlot(*_place(reader.name, inside)))]
    )


def _calls(inside: dict[str, nn.Module], run: Callable[[], Any]) -> list[Call]:
    """What a forward pass called of these modules, in the order in which it began them."""
    calls: list[Call] = []
    open_calls: list[Call] = []

    def begins(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple) -> None:
            calls.append(Call(name, args))
            open_calls.append(calls[-1])

        return hook

    def ends(_: nn.Module, _args: tuple, output: object) -> None:
        open_calls.pop().output = output

    hooks = [module.register_forward_pre_hook(begins(name)) for name, module in inside.items()]
    hooks += [module.register_forward_hook(ends) for module in inside.values()]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _feeder(reader: Call, before: list[Call]) -> str | None:
    """The outermost module around the one that trains, below the layer, that gives what that one gives and no more."""
    around = (call for call in before if call.name and _below(reader.name, call.name))
    return next((call.name for call in around if call.output is reader.output and len(reader.args) == 1), None)


def _below(name: str, above: str) -> bool:
    return name.startswith(f"{above}.")


def _place(name: str, inside: dict[str, nn.Module]) -> tuple[nn.Module, str]:
    parent, _, last = name.rpartition(".")
    return inside[parent], last


def _frozen_leaves(layer: nn.Module) -> dict[int, ModuleSlot]:
    """Where a layer's innermost modules without a trained parameter hang, by the module's identity."""
    return {
        id(child): ModuleSlot(parent, name)
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
def kept(layer: nn.Module, sites: list[ModuleSlot]) -> Iterator[list[Tensor]]:
    """A list that holds, after one forward pass, the layer's input and what each site's stand-in needs, in order."""
    states: list[Tensor] = [torch.empty(0)] * (1 + len(sites))

    def before(_: nn.Module, args: tuple, kwargs: dict) -> None:
        states[0] = args[0] if args else kwargs["hidden_states"]

    hooks = [layer.register_forward_pre_hook(before, with_kwargs=True)]
    hooks += [site.watch(functools.partial(states.__setitem__, place)) for place, site in enumerate(sites, start=1)]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def replaced(sites: Sequence[ModuleSlot], stand_ins: Sequence[nn.Module]) -> Iterator[None]:
    """Puts a stand-in in the place of each site's module, for as long as the context lasts."""
    originals = [site.module for site in sites]
    try:
        for site, stand_in in zip(sites, stand_ins, strict=True):
            setattr(site.parent, site.name, stand_in)
        yield
    finally:
        for site, original in zip(sites, originals, strict=True):
            setattr(site.parent, site.name, original)
