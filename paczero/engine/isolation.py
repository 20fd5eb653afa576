"""Blocks of records in which no record changes a bit of what is computed of another one.

The sensitivity of a differentially private mechanism is that of one unit only if the other units' derivatives stay as
they are when it leaves. A row of a matrix product is a function of that row, of the other matrix, and of the way in
which the product is cut for the processor, which follows from the product's shape and the row's place in it. So each
record has a block and a place that follow from that record alone:

- its length, rounded up, gives the shape of its block: rows and positions;
- a hash of its tokens gives its row;
- rows without a record are filled with copies, and what they give is dropped.

Which records share a block depends on all of them. What is computed of each does not, on a CPU with the same number of
threads; float32 needs no more than that the same product of the same shape is computed in the same way twice.

    for block in blocks(batches, chosen):
        batch, states = joined(batches, block, reads_only=False), joined_states(cache.states, block)
"""

import functools
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paczero.data.batching import MicroBatch
from paczero.engine.hidden_cache import HiddenCache

Block = tuple[int | None, ...]  # the index of the micro-batch in each row

# Positions of a block. Larger blocks cost fewer calls, and more rows without a record, so they pay where a call
# computes little: with 1,000 records an eighth, a third and a third of these positions are filling.
ALL_LAYERS = 64  # whole records through all layers; a longer record is alone in a block
LAST_LAYERS = 256  # whole records through the layers above the cached ones
READS = 64  # read positions alone


def block_shape(batch: MicroBatch, size: int, *, reads_only: bool) -> tuple[int, int, int]:
    """Rows, positions a row and read positions a row of the block of a record, of about `size` positions."""
    width, reads = batch.input_ids.shape[1], batch.reads.shape[1]
    if reads_only:
        return max(1, size // reads), reads, reads
    alone = reads > 1 and batch.tree is None  # an answer of its own: few records have this shape
    return 1 if alone else max(1, size // width), width, reads


def records_a_block(batch: MicroBatch, size: int, *, reads_only: bool) -> int:
    """About how many records share a block where there are many of this shape: three quarters of its rows."""
    return max(1, 3 * block_shape(batch, size, reads_only=reads_only)[0] // 4)


def blocks(
    batches: Sequence[MicroBatch], chosen: Iterable[int], size: int = ALL_LAYERS, *, reads_only: bool = False
) -> Iterator[Block]:
    """Which of the chosen records go through the model together, and in which rows.

    Args:
        batches: of one record each.
        chosen: indices of micro-batches.
        size: positions of a block.
        reads_only: whether the read positions alone are computed.
    """
    rows_of: dict[tuple[int, int, int], list[list[int]]] = {}
    for index in chosen:
        shape = block_shape(batches[index], size, reads_only=reads_only)
        row = zlib.crc32(batches[index].input_ids.tobytes()) % shape[0]
        rows_of.setdefault(shape, [[] for _ in range(shape[0])])[row].append(index)
    for queues in rows_of.values():
        yield from itertools.zip_longest(*queues)


def joined(batches: Sequence[MicroBatch], block: Block, *, reads_only: bool) -> MicroBatch:
    """The records of a block as one micro-batch, in their rows."""
    filled = np.array([index is not None for index in block])
    members = [batches[index] for index in _with_filler(block)]
    records = np.concatenate([member.records for member in members])
    if reads_only:
        reads = np.tile(np.arange(members[0].reads.shape[1]), (len(members), 1))
        return replace(
            members[0],
            records=records,
            input_ids=np.zeros_like(reads),
            lengths=np.full(len(members), reads.shape[1]),
            reads=reads,
            tree=None,
            filled=filled,
        )
    return replace(
        members[0],
        records=records,
        input_ids=np.concatenate([member.input_ids for member in members]),
        lengths=np.concatenate([member.lengths for member in members]),
        reads=np.concatenate([member.reads for member in members]),
        filled=filled,
    )


def joined_states(states: Sequence[list[Tensor]], block: Block) -> list[Tensor]:
    """The cached states of a block, from those of its records (1, W, D); always new tensors, aligned in memory."""
    return [torch.cat(kind) for kind in zip(*(states[index] for index in _with_filler(block)), strict=True)]


def by_record(states: list[Tensor], block: Block) -> dict[int, list[Tensor]]:
    """The states of each micro-batch of a block, from those of the block; one that is alone has them all."""
    parts = (
        [states]
        if len(block) == 1
        else [[state[row : row + 1].clone() for state in states] for row in range(len(block))]
    )
    return {index: part for index, part in zip(block, parts, strict=True) if index is not None}


def state_reader(
    batches: Sequence[MicroBatch],
    cache: HiddenCache,
    names: dict[str, Any],
    compute: Callable[[MicroBatch], list[Tensor]],
) -> Callable[[int], list[Tensor]]:
    """Index of a micro-batch -> its states: those that a file of another pool holds, else computed in its block.

    Args:
        batches: of one record each.
        names: of `HiddenCache.names`.
        compute: the states of a block.
    """

    @functools.cache
    def begin() -> tuple[dict[str, list[Tensor]], Iterator[Block]]:
        known = cache.known(names)
        missing = [index for index, name in enumerate(names["records"]) if name not in known]
        return known, blocks(batches, missing)

    ready: dict[int, list[Tensor]] = {}

    def read(index: int) -> list[Tensor]:
        known, waiting = begin()
        if names["records"][index] in known:
            return known[names["records"][index]]
        while index not in ready:
            block = next(waiting)
            ready.update(by_record(compute(joined(batches, block, reads_only=False)), block))
        return ready.pop(index)

    return read


def _with_filler(block: Block) -> list[int]:
    present = next(index for index in block if index is not None)
    return [present if index is None else index for index in block]
