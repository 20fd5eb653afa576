"""Rows of micro-batches as the last layer has them: read positions alone, of some records or of several batches."""

import numpy as np
import torch

from paczero.records.batches import MicroBatch
from paczero.zeroth.packing import packed_places

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
