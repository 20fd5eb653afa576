"""Packed micro-batches: records end to end in one row, without padding.

Everything in a decoder except attention works on each token position by itself, so positions of many records may lie in
one row (1, S). Attention follows a `PackedLayout`: it gathers each record's queries, keys and values into a row of its
own, where only the ends of the rows are padding, and scatters the results back. Keys and values of a prefix that all
records share are computed once.

    with packed(model, layout_of(batch, device, dtype)):
        hidden = model(input_ids=ids, position_ids=positions).last_hidden_state   # (1, S, D)

It is registered in transformers' attention interface, and works for families whose attention uses that interface.

The last part of this module selects and merges rows of micro-batches that have the read positions only.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from paczero.data.batching import MicroBatch
from paczero.errors import PACZeroError

ATTENTION_NAME = "paczero_packed"

# Up to so many keys a record, attention by two batched products is faster on a CPU than the fused kernel, which is
# made for long sequences; the scores of all heads then fit into the cache. Beyond, the fused kernel saves memory.
_SHORT = 128


@dataclass(frozen=True)
class PackedLayout:
    """Which positions of a packed row belong together.

    Attributes:
        prefix: P; positions 0 to P − 1 are shared by all records and attend to themselves only.
        rows: position of each record's own tokens (B, W); padding repeats a valid position.
        inverse: index of each own position in the flattened rows (B · W), (S − P,).
        mask: added to the scores (B or 1, W, P + W): 0 where a query may attend, −∞ where not.
        prefix_mask: the same within the prefix (1, P, P).
        causal: whether this is plain causal attention without a prefix.
    """

    prefix: int
    rows: Tensor
    inverse: Tensor
    mask: Tensor
    prefix_mask: Tensor
    causal: bool

    def on(self, device: torch.device) -> "PackedLayout":
        """The same on a layer's device, where layers are on several devices."""
        if device == self.rows.device:
            return self
        return replace(
            self, **{name: getattr(self, name).to(device) for name in ("rows", "inverse", "mask", "prefix_mask")}
        )


def can_pack(model: PreTrainedModel, longest: int) -> bool:
    """Whether this model's attention supports packing, for records of at most `longest` tokens."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    unknown_types = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    return bool(model._supports_attention_backend) and not unknown_types and (window is None or longest <= window)


def layout_of(batch: MicroBatch, device: torch.device, dtype: torch.dtype) -> PackedLayout:
    """The layout of a packed micro-batch."""
    own, prefix = batch.own[:, batch.prefix :], batch.prefix
    rows = np.zeros(own.shape, dtype=np.int64)
    rows[own] = prefix + np.arange(int(own.sum()))
    width = own.shape[1]
    own_visible = batch.visible
    visible = (
        np.tri(width, prefix + width, k=prefix, dtype=bool)[None] if own_visible is None else own_visible[:, prefix:]
    )

    def mask(visible: np.ndarray) -> Tensor:
        blocked = torch.from_numpy(~visible)
        return torch.zeros(visible.shape, dtype=dtype).masked_fill_(blocked, -torch.inf).to(device)

    return PackedLayout(
        prefix,
        torch.from_numpy(rows).to(device),
        torch.from_numpy(np.flatnonzero(own)).to(device),
        mask(visible),
        mask(np.tri(prefix, dtype=bool)[None]),
        causal=batch.tree is None and prefix == 0,
    )


def packed_inputs(batch: MicroBatch, device: torch.device) -> dict[str, Tensor | None]:
    """Arguments of the model: the prefix, then every record's own tokens, (1, S)."""
    positions = batch.position_ids
    if positions is None:
        positions = np.tile(np.arange(batch.input_ids.shape[1]), (len(batch.records), 1))

    def pack(values: np.ndarray) -> Tensor:
        unpadded = np.concatenate([values[0, : batch.prefix], values[batch.own]])
        return torch.from_numpy(unpadded)[None].to(device)

    return {"input_ids": pack(batch.input_ids), "position_ids": pack(positions), "attention_mask": None}


def packed_reads(batch: MicroBatch) -> np.ndarray:
    """The read positions of a micro-batch in its packed row, (B, P)."""
    starts = batch.prefix + np.concatenate(([0], np.cumsum(batch.lengths - batch.prefix)[:-1]))
    return starts[:, None] + batch.reads - batch.prefix


def packed_positions(batch: MicroBatch, rows: np.ndarray) -> np.ndarray:
    """The positions of the packed row that some rows of the micro-batch need, ascending."""
    owner = np.repeat(np.arange(len(batch.records)), batch.lengths - batch.prefix)
    return np.concatenate([np.arange(batch.prefix), batch.prefix + np.flatnonzero(np.isin(owner, rows))])


_layouts: list[PackedLayout] = []  # of the contexts that are active, innermost last


@contextlib.contextmanager
def packed(model: PreTrainedModel, layout: PackedLayout | None) -> Iterator[None]:
    """Attention follows the layout for as long as the context lasts; None changes nothing."""
    if layout is None:
        yield
        return
    before = model.config._attn_implementation
    model.config._attn_implementation = ATTENTION_NAME
    _layouts.append(layout)
    try:
        yield
    finally:
        _layouts.pop()
        model.config._attn_implementation = before


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attention in transformers' interface: query (1, H, S, D), key and value (1, G, S, D) -> (1, S, H, D)."""
    unknown = [name for name in ("position_bias", "s_aux") if more.get(name) is not None]
    if attention_mask is not None or unknown:
        raise PACZeroError(
            f"engine.packing: true was given, but {type(module).__name__} uses more than packing supports "
            f"({', '.join(unknown) or 'a mask'}); add --engine.packing false"
        )
    layout = _layouts[-1].on(query.device)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))  # (S, heads, D)
    out = query.new_empty(*query.shape[:2], value.shape[-1])
    if layout.prefix:
        head = slice(0, layout.prefix)
        shared_query, shared_key, shared_value = (part[head][None] for part in (query, key, value))
        out[head] = _scored(shared_query, shared_key, shared_value, layout.prefix_mask, True, scaling, softcap)[0]
    own_query = _rows(query, layout, shared=0)
    own_key, own_value = (_rows(part, layout, shared=layout.prefix) for part in (key, value))
    own = _scored(own_query, own_key, own_value, layout.mask, layout.causal, scaling, softcap)
    out[layout.prefix :] = own.reshape(-1, *out.shape[1:]).index_select(0, layout.inverse)
    return out[None], None


def _rows(part: Tensor, layout: PackedLayout, *, shared: int) -> Tensor:
    """(S, heads, D) -> each record's own positions (B, W, heads, D), behind `shared` positions of the prefix."""
    own = part.index_select(0, layout.rows.view(-1)).view(*layout.rows.shape, *part.shape[1:])
    return torch.cat([part[:shared].expand(len(own), -1, -1, -1), own], dim=1) if shared else own


def _scored(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, causal: bool, scaling: float, softcap: float | None
) -> Tensor:
    """Attention of rows: query (B, W, H, D), key and value (B, V, G, D), mask (B or 1, W, V) -> (B, W, H, D)."""
    short = query.device.type == "cpu" and query.dtype == torch.float32 and key.shape[1] <= _SHORT
    if softcap is not None or short:
        return _by_products(query, key, value, mask, scaling, softcap)
    queries, keys, values = (part.transpose(1, 2) for part in (query, key, value))
    attn_mask = None if causal else mask[:, None]
    grouped = queries.shape[1] != keys.shape[1]
    attended = nn.functional.scaled_dot_product_attention(
        queries, keys, values, attn_mask=attn_mask, is_causal=causal, scale=scaling, enable_gqa=grouped
    )
    return attended.transpose(1, 2)


def _by_products(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, softcap: float | None
) -> Tensor:
    """The same by two batched products; heads that share keys are stacked, so that keys are not repeated."""
    rows, width, heads, size = query.shape
    seen, groups = key.shape[1:3]
    per_group = heads // groups
    queries = query.view(rows, width, groups, per_group, size).permute(0, 2, 3, 1, 4)
    queries = queries.reshape(rows * groups, per_group * width, size)
    keys = key.transpose(1, 2).reshape(rows * groups, seen, size)
    values = value.transpose(1, 2).reshape(rows * groups, seen, value.shape[-1])
    # (B or 1, W, V) -> (B · G, heads a group · W, V).
    mask = mask.repeat(1, per_group, 1)
    if len(mask) > 1:
        mask = mask.repeat_interleave(groups, dim=0)
    if softcap is None:
        scores = torch.baddbmm(mask, queries, keys.transpose(1, 2), alpha=scaling)
    else:
        scores = torch.bmm(queries, keys.transpose(1, 2)).mul_(scaling / softcap).tanh_().mul_(softcap).add_(mask)
    out = torch.bmm(scores.float().softmax(dim=-1).to(values.dtype), values)
    out = out.view(rows, groups, per_group, width, value.shape[-1]).permute(0, 3, 1, 2, 4)
    return out.reshape(rows, width, heads, value.shape[-1])


AttentionInterface.register(ATTENTION_NAME, attend)

LAST_LAYER_ROWS = 1024  # vectors that go through the last layer together where attention is cached


def unpadded(hidden: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    """Output at the read positions, (1, n, D) of packed rows, (B, P, D) of others -> (n, D) without padding."""
    if batch.counts is None or batch.packed:
        return hidden.reshape(-1, hidden.shape[-1])
    return hidden[torch.from_numpy(batch.real_reads)]


def select_rows(state: torch.Tensor, batch: MicroBatch, rows: np.ndarray) -> torch.Tensor:
    """The part of a cached state that belongs to some rows of its micro-batch."""
    if batch.packed:
        return state[:, torch.from_numpy(packed_positions(batch, rows))]
    return state[torch.from_numpy(rows)]


def group_batches(batches: list[MicroBatch]) -> list[list[MicroBatch]]:
    """Groups of micro-batches with at most `LAST_LAYER_ROWS` read positions each."""
    groups: list[list[MicroBatch]] = []
    room = 0
    for batch in batches:
        reads = int(batch.starts[-1])
        if reads > room:
            groups.append([])
            room = max(LAST_LAYER_ROWS, reads)
        groups[-1].append(batch)
        room -= reads
    return groups


def merge_batches(members: list[MicroBatch]) -> MicroBatch:
    """The read positions of several micro-batches as one micro-batch, without tokens.

    Rows with the same number of positions form a rectangle, others are packed.
    """
    records = np.concatenate([batch.records for batch in members])
    counts = np.concatenate([np.diff(batch.starts) for batch in members])
    width = int(counts.max())
    even = bool((counts == width).all())
    return MicroBatch(
        records,
        input_ids=np.zeros((len(records), width), dtype=np.int64),
        lengths=counts,
        reads=np.minimum(np.arange(width), counts[:, None] - 1),
        packed=not even,
        counts=None if even else counts,
    )
