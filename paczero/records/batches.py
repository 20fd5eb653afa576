"""Micro-batches: records that go through the model together, and no token position more than they need.

A record is its prompt and, where label words have several tokens, the tree of their inner tokens behind it, so that no
prompt is computed twice. Records lie end to end (`packing`), and tokens with which all prompts begin, such as an
instruction, are there once a micro-batch (`prefix`). Without packing each record is a row, padded on the right, where
causal attention never looks.

>>> tree = CandidateTree([[7], [8]])
>>> batches = micro_batches([[1, 2, 3], [1, 5]], tree, batch_tokens=1024)
>>> sum(batch.positions for batch in batches)        # 1, once; 2, 3; 5
4
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from paczero.errors import PACZeroError

# What starting one more micro-batch costs, in token positions: measured on two cores with SmolLM2-135M, where a batch
# of 24 positions takes about as long as the difference between batches of 200 and 224.
BATCH_OVERHEAD = 24


class CandidateTree:
    """The label words of a task as a tree of tokens below the end of the prompt.

    A node is a proper prefix of some candidate; the root is the end of the prompt. What follows a node is predicted
    there, so a candidate's last token is never computed, and prefixes that candidates share are computed once.

    Args:
        candidates: C token sequences, each of one token or more.

    Attributes:
        tokens: token of each node below the root (E,).
        depths: its distance from the root minus one (E,).
        sees: which nodes a node attends to, itself included (E, E).
        terms: for each candidate the pairs (reading place, token) whose log-probabilities make its score; place 0 is
            the end of the prompt, place 1 + e is node e.
    """

    def __init__(self, candidates: Sequence[Sequence[int]]):
        paths = [tuple(candidate) for candidate in candidates]
        prefixes = {path[:end] for path in paths for end in range(1, len(path))}
        nodes = sorted(prefixes, key=lambda node: (len(node), node))
        place = {(): 0} | {node: 1 + index for index, node in enumerate(nodes)}
        self.tokens = np.array([node[-1] for node in nodes], dtype=np.int64)
        self.depths = np.array([len(node) - 1 for node in nodes], dtype=np.int64)
        ancestors = [[node[: len(other)] == other for other in nodes] for node in nodes]
        self.sees = np.array(ancestors, dtype=bool).reshape(len(nodes), len(nodes))
        self.terms = [[(place[path[:end]], path[end]) for end in range(len(path))] for path in paths]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class MicroBatch:
    """Records that go through the model together, a row each.

    Attributes:
        records: which record each row is (B,).
        input_ids: tokens, filled up on the right (B, S).
        lengths: tokens of each row that are not filling (B,).
        reads: positions in the row whose output is needed, the prompt's end first (B, P).
        tree: what lies behind each prompt; None where the rows are plain sequences.
        prefix: how many tokens all rows begin with are computed once, for all of them.
        packed: whether rows are laid end to end for the model, so that filling is never computed.
    """

    records: np.ndarray
    input_ids: np.ndarray
    lengths: np.ndarray
    reads: np.ndarray
    tree: CandidateTree | None = None
    prefix: int = 0
    packed: bool = False

    @property
    def positions(self) -> int:
        """Token positions computed, padding included."""
        return self.tokens if self.packed else int(self.input_ids.size)

    @property
    def tokens(self) -> int:
        """Token positions that are not padding."""
        return self.prefix + int((self.lengths - self.prefix).sum())

    @property
    def own(self) -> np.ndarray:
        """Which positions (B, S) are neither filling nor part of the prefix."""
        places = np.arange(self.input_ids.shape[1])
        return (places >= self.prefix) & (places < self.lengths[:, None])

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
        )


def micro_batches(
    prompts: Sequence[Sequence[int]],
    tree: CandidateTree,
    *,
    batch_tokens: int,
    packing: bool = True,
    prefix: bool = True,
) -> list[MicroBatch]:
    """The one partition of the pool that every step uses.

    Args:
        prompts: R token sequences, each of one token or more.
        tree: the candidates' tokens, appended to every prompt.
        batch_tokens: token positions of a micro-batch at most, padding included (a longer record is alone in one).
        packing: records end to end; otherwise rows padded to the longest of a micro-batch.
        prefix: with packing, what all prompts begin with is computed once a micro-batch.

    Returns:
        Micro-batches, shortest records first; together they hold every record once.

    Raises:
        PACZeroError: a prompt has no token.
    """
    lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64) + len(tree)
    if len(lengths) and lengths.min() <= len(tree):
        raise PACZeroError(f"record {int(lengths.argmin()) + 1} has a prompt without a token; give it some text")
    shared = common_prefix(prompts) if packing and prefix else 0
    order = np.argsort(lengths, kind="stable")
    if packing:
        bounds = _even_partition(lengths[order] - shared, batch_tokens - shared)
    else:
        bounds = _padded_partition(lengths[order], batch_tokens)
    return [_batch(order[a:b], prompts, tree, packing, shared) for a, b in itertools.pairwise(bounds)]


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; each keeps one of its own at least."""
    if len(prompts) < 2:
        return 0
    texts = [tuple(prompt) for prompt in prompts]
    first, last = min(texts), max(texts)  # in lexical order, so all others lie between
    most = min(map(len, texts)) - 1
    return next((place for place in range(most) if first[place] != last[place]), most)


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
    records: np.ndarray, prompts: Sequence[Sequence[int]], tree: CandidateTree, packed: bool, prefix: int
) -> MicroBatch:
    ends = np.array([len(prompts[record]) for record in records], dtype=np.int64)
    lengths = ends + len(tree)
    width = int(lengths.max())
    input_ids = np.zeros((len(records), width), dtype=np.int64)
    for row, record in enumerate(records):
        input_ids[row, : ends[row]] = prompts[record]
        input_ids[row, ends[row] : lengths[row]] = tree.tokens
    reads = ends[:, None] - 1 + np.arange(1 + len(tree))  # (B, P): the prompt's end, then every node
    return MicroBatch(records, input_ids, lengths, reads, tree if len(tree) else None, prefix, packed)
