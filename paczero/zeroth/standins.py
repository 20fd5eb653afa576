"""What stays the same in every step is computed once: caches, and the modules that hand their content out.

Below the first trained layer nothing changes. In that layer nothing changes either until a trained weight is met: its
first norm and the frozen projections that read it give the same output in every step. `constant_modules` finds these
by watching one forward pass; `kept` records what they give, `replaced` puts stand-ins in their place.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
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
    where = {
        id(child): Site(parent, name)
        for parent in layer.modules()
        for name, child in parent.named_children()
        if not any(True for _ in child.children()) and not any(p.requires_grad for p in child.parameters())
    }

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


class HiddenCache:
    """What a set of records gives below and around the first trained weights, some tensors (B, S, …) a micro-batch.

    Args:
        limit: bytes that stay in memory; beyond them the states go to a memory-mapped file.
        directory: where that file lies (private: the states are the pool's text in another form).
    """

    def __init__(self, limit: int, directory: Path | None):
        self.limit = limit
        self.directory = directory
        self.states: list[list[torch.Tensor]] = []

    def fill(self, rows: list[int], compute: Callable[[int], list[torch.Tensor]]) -> None:
        """Computes and keeps the states of all micro-batches, in order.

        Args:
            rows: vectors that each state of a micro-batch has.
            compute: number of the micro-batch -> its states.
        """
        mapped: torch.Tensor | None = None
        offset = 0
        for index in range(len(rows)):
            states = compute(index)
            if index == 0:
                total = sum(rows) * sum(state.shape[-1] for state in states)
                mapped = self._mapped(total, states[0]) if total * states[0].element_size() > self.limit else None
            if mapped is not None:
                for place, state in enumerate(states):
                    view = mapped[offset : offset + state.numel()].view(state.shape)
                    view.copy_(state)
                    offset += state.numel()
                    states[place] = view
            self.states.append(states)

    def _mapped(self, elements: int, like: torch.Tensor) -> torch.Tensor | None:
        if self.directory is None or like.device.type != "cpu":
            return None
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.directory / "hidden.bin"
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o600)
        try:
            os.ftruncate(descriptor, elements * like.element_size())
            if hasattr(
                os, "posix_fallocate"
            ):  # a full disk is refused here; met while writing it would kill the process
                os.posix_fallocate(descriptor, 0, elements * like.element_size())
        finally:
            os.close(descriptor)
        return torch.from_file(str(path), shared=True, size=elements, dtype=like.dtype)
