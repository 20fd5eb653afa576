"""Modules whose output is the same in every step, found by recording one forward pass, and what replaces them.

Below the first trained layer nothing changes. In that layer nothing changes either until a trained weight is met: its
first norm and the frozen projections that read it give the same output in every step. `constant_modules` and
`skippable_modules` find such modules, `recorded` records what their replacements need, `replaced` swaps them.
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
    """Replaces layers or a module: returns the output that was kept."""

    output: Tensor

    def forward(self, *args: object, **kwargs: object) -> Tensor:
        return self.output


class CachedInput(nn.Module):
    """Replaces a block that only computes the input of a trained module: calls that module with the kept input."""

    output: Tensor

    def __init__(self, reader: "ModuleSlot"):
        super().__init__()
        self.reader = reader

    def forward(self, *args: object, **kwargs: object) -> Tensor:
        return self.reader.module(self.output)


class IdentityLayer(nn.Module):
    """Replaces a layer that need not run, so that the other layers keep their indices."""

    def forward(self, hidden_states: Tensor, *args: object, **kwargs: object) -> Tensor:
        return hidden_states


@dataclass(frozen=True)
class ModuleSlot:
    """The attribute that holds a module: `parent.name`."""

    parent: nn.Module
    name: str

    @property
    def module(self) -> nn.Module:
        return getattr(self.parent, self.name)

    def replacement(self) -> CachedOutput | CachedInput:
        """A module that uses the kept tensor instead."""
        return CachedOutput()

    def on_call(self, keep: Callable[[Tensor], None]) -> RemovableHandle:
        """Calls `keep` with the tensor that the replacement needs, whenever the module runs."""
        return self.module.register_forward_hook(lambda _module, _args, output: keep(output))


@dataclass(frozen=True)
class InputBlock(ModuleSlot):
    """The slot of a block that only computes the input of a trained module inside it; that input never changes.

    Attributes:
        reader: the slot of the trained module.
    """

    reader: ModuleSlot

    def replacement(self) -> CachedInput:
        return CachedInput(self.reader)

    def on_call(self, keep: Callable[[Tensor], None]) -> RemovableHandle:
        return self.reader.module.register_forward_pre_hook(lambda _module, args: keep(args[0]))


@dataclass
class Call:
    """A module's call in a forward pass: the module's name in its layer, the arguments, the output."""

    name: str
    args: tuple
    kwargs: dict[str, Any]
    output: object = None


def constant_modules(layer: nn.Module, run: Callable[[], object]) -> list[ModuleSlot]:
    """The modules of a layer whose output is the same while the layer's input is the same.

    These are its innermost modules without a trained parameter whose argument is the layer's input, or the output of
    another such module.

    Args:
        layer: the first trained layer.
        run: one forward pass through it.

    Returns:
        In the order in which they run.
    """
    calls = _recorded_calls(layer, run)
    entry = calls[0].args[0] if calls[0].args else calls[0].kwargs["hidden_states"]
    return [_slot(layer, name) for name in _constant(layer, calls, 0, [entry])]


def skippable_modules(layer: nn.Module, run: Callable[[], object]) -> list[ModuleSlot]:
    """The modules of the only trained layer that need not run while the layer's input is the same.

    All modules that run before the first trained one give the same output in every step. So does a frozen module
    whose argument is such an output, or the first trained module's input: the matrix beside an adapter, for example.
    A block that only computes that input is replaced entirely: a feed-forward block whose last matrix trains.

    Args:
        layer: the only trained layer.
        run: one forward pass through it.

    Returns:
        In the order in which they run; none where a trained weight lies in no module that the pass calls.
    """
    calls = _recorded_calls(layer, run)
    trained = {_user_of(layer, name) for name, p in layer.named_parameters() if p.requires_grad}
    if not trained <= {call.name for call in calls}:
        return []
    first = next(index for index, call in enumerate(calls) if call.name in trained)
    reader = calls[first]
    names = _constant(layer, calls, first, [])
    block = _input_block(reader, calls[:first]) if len(trained) == 1 else None
    if block is None:
        return [_slot(layer, name) for name in names]
    names = [name for name in names if not _inside(name, block) or _inside(name, reader.name)]
    slot = _slot(layer, block)
    return [*(_slot(layer, name) for name in names), InputBlock(slot.parent, slot.name, _slot(layer, reader.name))]


def _constant(layer: nn.Module, calls: list[Call], first: int, constant: list[object]) -> list[str]:
    """Names of the frozen innermost modules that ran before call `first`, or read only constant tensors.

    Args:
        first: index of the call whose first argument is constant too.
        constant: tensors that never change.
    """
    frozen = {
        name
        for name, module in layer.named_modules()
        if next(module.children(), None) is None and not any(p.requires_grad for p in module.parameters())
    }
    names, constant = [], list(constant)

    def known(value: object) -> bool:
        return any(value is tensor for tensor in constant)

    for index, call in enumerate(calls):
        if index == first:
            constant += call.args[:1]
        reads_constant = len(call.args) == 1 and known(call.args[0])
        # A module that returns its argument (dropout, for example) gives nothing new.
        unchanging = call.name in frozen and (index < first or reads_constant)
        if unchanging and isinstance(call.output, Tensor) and not known(call.output):
            constant.append(call.output)
            names.append(call.name)
    return names


def _recorded_calls(layer: nn.Module, run: Callable[[], object]) -> list[Call]:
    """The calls of a layer and its modules in one forward pass, in the order in which they began."""
    calls: list[Call] = []
    open_calls: list[Call] = []

    def begin(name: str, _: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        calls.append(Call(name, args, kwargs))
        open_calls.append(calls[-1])

    def end(_: nn.Module, _args: tuple, output: object) -> None:
        open_calls.pop().output = output

    with contextlib.ExitStack() as hooks:
        for name, module in layer.named_modules():
            hook = module.register_forward_pre_hook(functools.partial(begin, name), with_kwargs=True)
            hooks.callback(hook.remove)
            hooks.callback(module.register_forward_hook(end).remove)
        run()
    return calls


def _input_block(reader: Call, before: list[Call]) -> str | None:
    """The outermost module around the trained one, within the layer, that returns the trained module's output."""
    around = (call for call in before if call.name and _inside(reader.name, call.name))
    return next((call.name for call in around if call.output is reader.output and len(reader.args) == 1), None)


def _inside(name: str, outer: str) -> bool:
    return name.startswith(f"{outer}.")


def _slot(layer: nn.Module, name: str) -> ModuleSlot:
    parent, _, leaf = name.rpartition(".")
    return ModuleSlot(layer.get_submodule(parent), leaf)


def _user_of(layer: nn.Module, parameter: str) -> str:
    """The module whose call begins to use a trained parameter: the adapted linear layer, else its own module."""
    path = parameter.split(".")[:-1]
    prefixes = [".".join(path[:end]) for end in range(1, len(path) + 1)]
    return next((name for name in prefixes if isinstance(layer.get_submodule(name), BaseTunerLayer)), ".".join(path))


@contextlib.contextmanager
def recorded(layer: nn.Module, slots: Sequence[ModuleSlot]) -> Iterator[list[Tensor]]:
    """A list that holds, after a forward pass, the layer's input and what the replacement of each slot needs."""
    states: list[Tensor] = [torch.empty(0)] * (1 + len(slots))

    def before(_: nn.Module, args: tuple, kwargs: dict) -> None:
        states[0] = args[0] if args else kwargs["hidden_states"]

    with contextlib.ExitStack() as hooks:
        hooks.callback(layer.register_forward_pre_hook(before, with_kwargs=True).remove)
        for index, slot in enumerate(slots, start=1):
            hooks.callback(slot.on_call(functools.partial(states.__setitem__, index)).remove)
        yield states


@contextlib.contextmanager
def replaced(slots: Sequence[ModuleSlot], replacements: Sequence[nn.Module]) -> Iterator[None]:
    """Puts a replacement into each slot for as long as the context lasts."""
    originals = [slot.module for slot in slots]
    try:
        for slot, replacement in zip(slots, replacements, strict=True):
            setattr(slot.parent, slot.name, replacement)
        yield
    finally:
        for slot, original in zip(slots, originals, strict=True):
            setattr(slot.parent, slot.name, original)
