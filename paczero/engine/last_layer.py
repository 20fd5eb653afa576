"""The last layer, cut down to the positions whose output is read.

Keys and values are computed at every position, everything behind attention only where it is read. Where nothing
before attention's output projection trains, the input of that projection never changes and is cached.

    narrowing = find_narrowing(layer, model)
    with narrowed(layer, narrowing, reads):
        hidden = model(input_ids).last_hidden_state              # (B, P, D) instead of (B, S, D)
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from paczero.engine.frozen_modules import CachedOutput, ModuleSlot

# Names in known pre-norm decoder layers: the norm before attention, attention, its output projection, the norm before
# the feed-forward block (without one, that block runs beside attention and reads all positions). In other layers every
# position is computed.
_SHAPES = (
    ("input_layernorm", "self_attn", "o_proj", "post_attention_layernorm"),
    ("self_attn_layer_norm", "self_attn", "out_proj", "final_layer_norm"),
)


class CachedAttention(CachedOutput):
    """Replaces attention: applies the output projection, which may train, to its cached input."""

    def __init__(self, projection: nn.Module):
        super().__init__()
        self.projection = projection

    def forward(self, *args: object, **kwargs: object) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        return self.projection(self.output), None


@dataclass(frozen=True)
class AttentionSlot(ModuleSlot):
    """The slot of attention whose output projection has an input that never changes.

    Attributes:
        projection: the output projection.
    """

    projection: nn.Module

    def replacement(self) -> CachedAttention:
        return CachedAttention(self.projection)


@dataclass(frozen=True)
class Narrowing:
    """The modules of a layer at which it is cut.

    Attributes:
        norm: the norm before attention.
        attention: the slot of the attention module.
        output: the name of the output projection within attention.
    """

    norm: nn.Module
    attention: ModuleSlot
    output: str

    @property
    def projection(self) -> nn.Module:
        """Attention's output projection, or its replacement at the moment."""
        return self.attention.module.get_submodule(self.output)

    def cached_attention(self) -> AttentionSlot:
        """The slot whose replacement runs the output projection alone."""
        return AttentionSlot(self.attention.parent, self.attention.name, self.projection)

    @property
    def attention_frozen(self) -> bool:
        """Whether nothing trains before the output projection."""
        inside = {id(p) for p in self.projection.parameters()}
        before = [*self.norm.parameters(), *(p for p in self.attention.module.parameters() if id(p) not in inside)]
        return not any(p.requires_grad for p in before)


def find_narrowing(layer: nn.Module, model: nn.Module) -> Narrowing | None:
    """Where to cut a layer; None for a layer of unknown structure."""
    if getattr(model.config, "do_layer_norm_before", True) is False:
        return None
    for norm, attention, projection, following in _SHAPES:
        with contextlib.suppress(AttributeError):
            layer.get_submodule(following)
            layer.get_submodule(f"{attention}.{projection}")
            return Narrowing(layer.get_submodule(norm), ModuleSlot(layer, attention), projection)
    return None


def gather(hidden: torch.Tensor, reads: torch.Tensor) -> torch.Tensor:
    """hidden (B, S, D) at positions reads (B, P) -> (B, P, D)."""
    return hidden.gather(1, reads.to(hidden.device)[:, :, None].expand(-1, -1, hidden.shape[-1]))


@contextlib.contextmanager
def narrowed(layer: nn.Module, narrowing: Narrowing, reads: torch.Tensor) -> Iterator[list[torch.Tensor]]:
    """Narrows a layer for as long as the context lasts.

    The layer's residual stream has the read positions only, its first norm reads all positions, and the output of
    attention is cut to the read positions before the output projection.

    Yields:
        A list that holds, after a forward pass, the layer's residual stream (B, P, D) and the projection's input.
    """
    full: list[torch.Tensor] = []
    kept: list[torch.Tensor] = []

    def before_layer(_: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        full[:] = [args[0] if args else kwargs["hidden_states"]]
        kept[:] = [gather(full[0], reads)]
        rest = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        return (kept[0], *args[1:]), rest

    def before_projection(_: nn.Module, args: tuple) -> tuple:
        kept.append(gather(args[0], reads))
        return (kept[-1], *args[1:])

    handles = [
        layer.register_forward_pre_hook(before_layer, with_kwargs=True),
        narrowing.norm.register_forward_pre_hook(lambda _, args: (full[0], *args[1:])),
        narrowing.projection.register_forward_pre_hook(before_projection),
    ]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
