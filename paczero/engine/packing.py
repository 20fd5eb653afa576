"""Records end to end in one row, without padding; attention alone still takes them apart.

Everything in a decoder but attention works on each token position by itself, so positions of many records may lie in
one row (1, S). Attention is told by a `Layout` which of them belong together: it gathers each record's queries, keys
and values into a row of its own, where only the rows' ends are filled up, and puts the results back. Keys and values
of a prefix that all records share are computed once and lent to each.

>>> with packed(model, layout_of(batch, device, dtype)):                          # doctest: +SKIP
...     hidden = model(input_ids=ids, position_ids=positions).last_hidden_state   # (1, S, D)

It comes in by transformers' attention interface, for families whose attention goes through it.

Rows of micro-batches as the last layer has them: read positions alone, of some records or of several batches.
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

NAME = "paczero_packed"

# Up to so many keys a record, attention by two batched products is faster on a CPU than the fused kernel, which is
# made for long sequences; the scores of all heads then fit into the cache. Beyond, the fused kernel saves memory.
_SHORT = 128


@dataclass(frozen=True)
class Layout:
    """Which positions of a packed row belong together.

    Attributes:
        prefix: positions 0 to P − 1 are shared by all records and attend to themselves only.
        rows: position of each record's own tokens (B, W); rows are filled up with a position that is there.
        back: where in the flattened rows (B · W) each own position is found (S − P,).
        hidden: added to the scores (B or 1, W, P + W): 0 where a query may look, −∞ where not.
        above: the same within the prefix (1, P, P).
        causal: whether that is plain causal attention without a prefix.
    """

    prefix: int
    rows: Tensor
    back: Tensor
    hidden: Tensor
    above: Tensor
    causal: bool

    def on(self, device: torch.device) -> "Layout":
        """The same on the device of a layer, where layers lie on several."""
        if device == self.rows.device:
            return self
        return replace(self, **{name: getattr(self, name).to(device) for name in ("rows", "back", "hidden", "above")})


def can_pack(model: PreTrainedModel, longest: int) -> bool:
    """Whether this model's attention can be told of a layout, for records of so many tokens at most."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    return bool(model._supports_attention_backend) and not kinds and (window is None or longest <= window)


def layout_of(batch: MicroBatch, device: torch.device, dtype: torch.dtype) -> Layout:
    """The layout of a packed micro-batch."""
    own, prefix = batch.own[:, batch.prefix :], batch.prefix
    rows = np.zeros(own.shape, dtype=np.int64)
    rows[own] = prefix + np.arange(int(own.sum()))
    width = own.shape[1]
    rows_see = batch.visible
    visible = np.tri(width, prefix + width, k=prefix, dtype=bool)[None] if rows_see is None else rows_see[:, prefix:]

    def added(visible: np.ndarray) -> Tensor:
        blocked = torch.from_numpy(~visible)
        return torch.zeros(visible.shape, dtype=dtype).masked_fill_(blocked, -torch.inf).to(device)

    return Layout(
        prefix,
        torch.from_numpy(rows).to(device),
        torch.from_numpy(np.flatnonzero(own)).to(device),
        added(visible),
        added(np.tri(prefix, dtype=bool)[None]),
        causal=batch.tree is None and prefix == 0,
    )


def packed_inputs(batch: MicroBatch, device: torch.device) -> dict[str, Tensor | None]:
    """What the model is called with: the prefix, then every record's own tokens, (1, S)."""
    positions = batch.position_ids
    if positions is None:
        positions = np.tile(np.arange(batch.input_ids.shape[1]), (len(batch.records), 1))

    def laid(values: np.ndarray) -> Tensor:
        flat = np.concatenate([values[0, : batch.prefix], values[batch.own]])
        return torch.from_numpy(flat)[None].to(device)

    return {"input_ids": laid(batch.input_ids), "position_ids": laid(positions), "attention_mask": None}


def packed_reads(batch: MicroBatch) -> np.ndarray:
    """Where the read positions (B, P) of a micro-batch lie in its packed row."""
    starts = batch.prefix + np.concatenate(([0], np.cumsum(batch.lengths - batch.prefix)[:-1]))
    return starts[:, None] + batch.reads - batch.prefix


def packed_places(batch: MicroBatch, rows: np.ndarray) -> np.ndarray:
    """Positions of the packed row that only these rows of the micro-batch need, in order."""
    owner = np.repeat(np.arange(len(batch.records)), batch.lengths - batch.prefix)
    return np.concatenate([np.arange(batch.prefix), batch.prefix + np.flatnonzero(np.isin(owner, rows))])


_layouts: list[Layout] = []  # of the pass under way; the innermost context's last


@contextlib.contextmanager
def packed(model: PreTrainedModel, layout: Layout | None) -> Iterator[None]:
    """Attention follows the layout for as long as the context lasts; nothing changes where there is none."""
    if layout is None:
        yield
        return
    before = model.config._attn_implementation
    model.config._attn_implementation = NAME
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
    """Attention of transformers' interface: query (1, H, S, D), key and value (1, G, S, D) -> (1, S, H, D)."""
    unknown = [name for name in ("position_bias", "s_aux") if more.get(name) is not None]
    if attention_mask is not None or unknown:
        raise PACZeroError(
            f"engine.packing: true was given, but {type(module).__name__} asks for more than packing knows "
            f"({', '.join(unknown) or 'a mask'}); add --engine.packing false"
        )
    layout = _layouts[-1].on(query.device)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))  # (S, heads, D)
    out = query.new_empty(*query.shape[:2], value.shape[-1])
    if layout.prefix:
        head = slice(0, layout.prefix)
        shared_query, shared_key, shared_value = (part[head][None] for part in (query, key, value))
        out[head] = _scored(shared_query, shared_key, shared_value, layout.above, True, scaling, softcap)[0]
    own_query = _rows(query, layout, lent=0)
    own_key, own_value = (_rows(part, layout, lent=layout.prefix) for part in (key, value))
    own = _scored(own_query, own_key, own_value, layout.hidden, layout.causal, scaling, softcap)
    out[layout.prefix :] = own.reshape(-1, *out.shape[1:]).index_select(0, layout.back)
    return out[None], None


def _rows(part: Tensor, layout: Layout, *, lent: int) -> Tensor:
    """(S, heads, D) -> each record's own positions (B, W, heads, D), behind the prefix's that are lent to all."""
    own = part.index_select(0, layout.rows.view(-1)).view(*layout.rows.shape, *part.shape[1:])
    return torch.cat([part[:lent].expand(len(own), -1, -1, -1), own], dim=1) if lent else own


def _scored(
    query: Tensor, key: Tensor, value: Tensor, hidden: Tensor, causal: bool, scaling: float, softcap: float | None
) -> Tensor:
    """Attention of rows: query (B, W, H, D), key and value (B, V, G, D), hidden (B or 1, W, V) -> (B, W, H, D)."""
    short = query.device.type == "cpu" and query.dtype == torch.float32 and key.shape[1] <= _SHORT
    if softcap is not None or short:
        return _by_products(query, key, value, hidden, scaling, softcap)
    queries, keys, values = (part.transpose(1, 2) for part in (query, key, value))
    mask = None if causal else hidden[:, None]
    shared = queries.shape[1] != keys.shape[1]
    attended = nn.functional.scaled_dot_product_attention(
        queries, keys, values, attn_mask=mask, is_causal=causal, scale=scaling, enable_gqa=shared
    )
    return attended.transpose(1, 2)


def _by_products(
    query: Tensor, key: Tensor, value: Tensor, hidden: Tensor, scaling: float, softcap: float | None
) -> Tensor:
    """The same by two batched products; heads that share keys lie below each other, so that keys are not repeated."""
    rows, width, heads, size = query.shape
    seen, groups = key.shape[1:3]
    share = heads // groups
    queries = query.view(rows, width, groups, share, size).permute(0, 2, 3, 1, 4)
    queries = queries.reshape(rows * groups, share * width, size)
    keys = key.transpose(1, 2).reshape(rows * groups, seen, size)
    values = value.transpose(1, 2).reshape(rows * groups, seen, value.shape[-1])
    # (B or 1, W, V) -> for every group, and below each other for the heads that share it.
    mask = hidden.repeat(1, share, 1)
    if len(mask) > 1:
        mask = mask.repeat_interleave(groups, dim=0)
    if softcap is None:
        scores = torch.baddbmm(mask, queries, keys.transpose(1, 2), alpha=scaling)
    else:
        scores = torch.bmm(queries, keys.transpose(1, 2)).mul_(scaling / softcap).tanh_().mul_(softcap).add_(mask)
    out = torch.bmm(scores.float().softmax(dim=-1).to(values.dtype), values)
    out = out.view(rows, groups, share, width, value.shape[-1]).permute(0, 3, 1, 2, 4)
    return out.reshape(rows, width, heads, value.shape[-1])


AttentionInterface.register(NAME, attend)

KEPT_ROWS = 1024  # vectors that go through the last layer together where attention is kept


def flat(hidden: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    """Output at the read positions, of packed rows (1, n, D), of others (B, P, D) -> (n, D) without filling."""
    if batch.counts is None or batch.packed:
        return hidden.reshape(-1, hidden.shape[-1])
    return hidden[torch.from_numpy(batch.real_reads)]


def part_of(state: torch.Tensor, batch: MicroBatch, rows: np.ndarray) -> torch.Tensor:
    """What some rows of a micro-batch have of a state that was kept for all of them."""
    if batch.packed:
        return state[:, torch.from_numpy(packed_places(batch, rows))]
    return state[torch.from_numpy(rows)]


def grouped(batches: list[MicroBatch]) -> list[list[MicroBatch]]:
    """Micro-batches whose read positions are few enough to go through the last layer together."""
    groups: list[list[MicroBatch]] = []
    room = 0
    for batch in batches:
        reads = int(batch.starts[-1])
        if reads > room:
            groups.append([])
            room = max(KEPT_ROWS, reads)
        groups[-1].append(batch)
        room -= reads
    return groups


def joined(members: list[MicroBatch]) -> MicroBatch:
    """The read positions of several micro-batches as one; tokens no longer matter.

    Rows with as many positions each are a rectangle, others lie end to end.
    """
    records = np.concatenate([batch.records for batch in members])
    counts = np.concatenate([np.diff(batch.starts) for batch in members])
    places = int(counts.max())
    even = bool((counts == places).all())
    return MicroBatch(
        records,
        input_ids=np.zeros((len(records), places), dtype=np.int64),
        lengths=counts,
        reads=np.minimum(np.arange(places), counts[:, None] - 1),
        packed=not even,
        counts=None if even else counts,
    )
