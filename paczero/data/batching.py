"""Micro-batches: records that go through the model together, and no token position more than they need.

A record is its prompt and what lies behind it: where label words have several tokens, the tree of their inner tokens,
so that no prompt is computed twice; of an answer of its own, all but the last token. Records lie end to end
(`packing`), and tokens with which all prompts begin, such as an instruction, are there once a micro-batch (`prefix`).
Without packing each record is a row, padded on the right, where causal attention never looks. Where no record may
change what is computed of another one, each has a micro-batch of its own (`isolated`, see `engine.isolation`).

>>> tree = CandidateTree([[7], [8]])
>>> batches = micro_batches([[1, 2, 3], [1, 5]], tree, batch_tokens=1024)
>>> sum(batch.positions for batch in batches)        # 1, once; 2, 3; 5
4
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from paczero.data.completions import CandidateTree, Completions
from paczero.errors import PACZeroError

# What starting one more micro-batch costs, in token positions: measured on two cores with SmolLM2-135M, where a batch
# of 24 positions takes about as long as the difference between batches of 200 and 224.
BATCH_OVERHEAD = 24

# Isolated records are filled up to multiples of so many positions, so that records of similar length share a shape.
_WIDTH_STEP = 8


@dataclass(frozen=True)
class MicroBatch:
    """Records that go through the model together, a row each.

    Attributes:
        records: which record each row is (B,).
        input_ids: tokens, filled up on the right (B, S).
        lengths: tokens of each row that are not filling (B,).
        reads: positions in the row whose output is needed, the prompt's end first (B, P).
        counts: how many of them each row has, the rest being filling (B,); None where all rows have P.
        tree: what lies behind each prompt; None where the rows are plain sequences.
        prefix: how many tokens all rows begin with are computed once, for all of them.
        packed: whether rows are laid end to end for the model, so that filling is never computed.
        filled: which rows are records (B,), the others filling up a block of fixed shape; None where all are.
        isolated: whether nothing but the record itself may change what is computed of it.
    """

    records: np.ndarray
    input_ids: np.ndarray
    lengths: np.ndarray
    reads: np.ndarray
    tree: CandidateTree | None = None
    prefix: int = 0
    packed: bool = False
    counts: np.ndarray | None = None
    filled: np.ndarray | None = None
    isolated: bool = False

    @property
    def positions(self) -> int:
        """Token positions computed, padding included."""
        return self.tokens if self.packed else int(self.input_ids.size)

    @property
    def tokens(self) -> int:
        """Token positions that are not padding."""
        return self.prefix + int((self.lengths - self.prefix).sum())

    @property
    def real_reads(self) -> np.ndarray:
        """Which of the read positions (B, P) are no filling."""
        if self.counts is None:
            return np.ones(self.reads.shape, dtype=bool)
        return np.arange(self.reads.shape[1]) < self.counts[:, None]

    @property
    def real_rows(self) -> np.ndarray:
        """Which rows (B,) are no filling."""
        return np.ones(len(self.records), dtype=bool) if self.filled is None else self.filled

    @property
    def starts(self) -> np.ndarray:
        """Where each row begins among all read positions laid end to end, and how many there are (B + 1,)."""
        counts = np.full(len(self.records), self.reads.shape[1]) if self.counts is None else self.counts
        return np.concatenate(([0], np.cumsum(counts)))

    @property
    def own(self) -> np.ndarray:
        """Which positions (B, S) are neither filling nor part of the prefix."""
        positions = np.arange(self.input_ids.shape[1])
        return (positions >= self.prefix) & (positions < self.lengths[:, None])

    @property
    def position_ids(self) -> np.ndarray | None:
        """(B, S), or None where they simply count."""
        if self.tree is None:
            return None
        positions = np.tile(np.arange(self.input_ids.shape[1]), (len(self.records), 1))
        for row, end in enumerate(self.lengths - len(self.tree)):
            positions[row, end : self.lengths[row]] = end + self.tree.depths
        return positions

    @property
    def visible(self) -> np.ndarray | None:
        """Which positions each position attends to (B, S, S), or None where plain causal attention is right.

        Made anew each time: for long records it is much larger than all else about them.
        """
        if self.tree is None:
            return None
        visible = np.tile(np.tri(self.input_ids.shape[1], dtype=bool), (len(self.records), 1, 1))
        for row, end in enumerate(self.lengths - len(self.tree)):
            node = slice(end, self.lengths[row])
            visible[row, node, node] = self.tree.sees
        return visible

    def take(self, rows: np.ndarray) -> "MicroBatch":
        """The same batch with only some of its rows."""
        return replace(
            self,
            records=self.records[rows],
            input_ids=self.input_ids[rows],
            lengths=self.lengths[rows],
            reads=self.reads[rows],
            counts=None if self.counts is None else self.counts[rows],
        )


def micro_batches(
    prompts: Sequence[Sequence[int]],
    continuations: Completions,
    *,
    batch_tokens: int,
    packing: bool = True,
    prefix: bool = True,
    isolated: bool = False,
    context: int = 2**31,
) -> list[MicroBatch]:
    """The one partition of the pool that every step uses.

    Args:
        prompts: R token sequences, each of one token or more.
        continuations: what lies behind each prompt.
        batch_tokens: token positions of a micro-batch at most, padding included (a longer record is alone in one).
        packing: records end to end; otherwise rows padded to the longest of a micro-batch.
        prefix: with packing, what all prompts begin with is computed once a micro-batch.
        isolated: each record alone, whatever the other settings say, filled up to a width that follows from its length.
        context: positions that the model takes at most.

    Returns:
        Micro-batches, shortest records first; together they hold every record once.

    Raises:
        PACZeroError: a prompt has no token.
    """
    ends = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
    if len(ends) and ends.min() == 0:
        raise PACZeroError(f"record {int(ends.argmin()) + 1} has a prompt without a token; give it some text")
    lengths = ends + np.array([len(continuations.behind(record)) for record in range(len(ends))], dtype=np.int64)
    packing = packing and not isolated
    shared = common_prefix(prompts) if packing and prefix else 0
    order = np.argsort(lengths, kind="stable")
    if isolated:
        bounds = list(range(len(order) + 1))
    elif packing:
        bounds = _even_partition(lengths[order] - shared, batch_tokens - shared)
    else:
        bounds = _padded_partition(lengths[order], batch_tokens)
    batches = [_batch(order[a:b], prompts, continuations, packing, shared) for a, b in itertools.pairwise(bounds)]
    return [_isolated(batch, context) for batch in batches] if isolated else batches


def _isolated(batch: MicroBatch, context: int) -> MicroBatch:
    """The micro-batch of one record, filled up; one with an answer of its own, which seldom shares a shape, is not."""
    length = int(batch.lengths[0])
    alone = batch.tree is None and batch.reads.shape[1] > 1
    width = length if alone else min(-(-length // _WIDTH_STEP) * _WIDTH_STEP, context)
    return replace(batch, input_ids=np.pad(batch.input_ids, ((0, 0), (0, width - length))), isolated=True)


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; each keeps one of its own at least."""
    if len(prompts) < 2:
        return 0
    texts = [tuple(prompt) for prompt in prompts]
    first, last = min(texts), max(texts)  # in lexical order, so all others lie between
    most = min(map(len, texts)) - 1
    return next((index for index in range(most) if first[index] != last[index]), most)


def _even_partition(sizes: np.ndarray, limit: int) -> list[int]:
    """Cuts into the fewest parts of at most `limit` tokens, and those as even as can be."""
    ends = np.concatenate(([0], np.cumsum(sizes)))

    def cost(first: int, end: int) -> np.ndarray:
        totals = (ends[end] - ends[first:end]).astype(np.float64)
        return totals**2 + float(max(limit, 1)) ** 2  # one part more never pays: squares fall by less than this

    def reach(end: int) -> int:
        return min(int(np.searchsorted(ends, ends[end] - limit)), end - 1)

    return _cuts(len(sizes), cost, reach)


def _padded_partition(lengths: np.ndarray, batch_tokens: int) -> list[int]:
    """Cuts ascending lengths where positions plus the overhead of each batch are fewest."""

    def cost(first: int, end: int) -> np.ndarray:
        return (end - np.arange(first, end)) * float(lengths[end - 1]) + BATCH_OVERHEAD

    def reach(end: int) -> int:
        return max(0, end - max(1, batch_tokens // int(lengths[end - 1])))

    return _cuts(len(lengths), cost, reach)


def _cuts(count: int, cost: Callable[[int, int], np.ndarray], reach: Callable[[int], int]) -> list[int]:
    """Where to cut a sequence so that the parts' costs add up to the least (dynamic programming).

    Args:
        count: of elements.
        cost: (first, end) -> cost of the parts [first, end), [first + 1, end), … [end − 1, end).
        reach: end -> the lowest start that a part ending there may have.
    """
    least = np.zeros(count + 1)
    start = np.zeros(count + 1, dtype=np.int64)
    for end in range(1, count + 1):
        first = reach(end)
        totals = least[first:end] + cost(first, end)
        best = int(totals.argmin())
        least[end], start[end] = totals[best], first + best
    bounds = [count]
    while bounds[-1] > 0:
        bounds.append(int(start[bounds[-1]]))
    return bounds[::-1]


def _batch(
    records: np.ndarray,
    prompts: Sequence[Sequence[int]],
    continuations: Completions,
    packed: bool,
    prefix: int,
) -> MicroBatch:
    behind = [continuations.behind(int(record)) for record in records]
    ends = np.array([len(prompts[record]) for record in records], dtype=np.int64)
    counts = 1 + np.array([len(tokens) for tokens in behind], dtype=np.int64)
    lengths = ends + counts - 1
    input_ids = np.zeros((len(records), int(lengths.max())), dtype=np.int64)
    for row, record in enumerate(records):
        input_ids[row, : ends[row]] = prompts[record]
        input_ids[row, ends[row] : lengths[row]] = behind[row]
    offsets = np.arange(counts.max())  # from the prompt's end through every token behind it
    reads = ends[:, None] - 1 + np.minimum(offsets, counts[:, None] - 1)
    tree = continuations if isinstance(continuations, CandidateTree) and len(continuations) else None
    even = bool((counts == counts[0]).all())
    return MicroBatch(records, input_ids, lengths, reads, tree, prefix, packed, None if even else counts)
