"""Micro-batches: records of like length side by side, so that hardly a token position is wasted.

Each record is one row: its prompt and, where label words have several tokens, the tree of their inner tokens behind
it, so that no prompt is computed twice. Rows are padded on the right, where causal attention never looks.

>>> tree = CandidateTree([[7], [8]])
>>> batches = micro_batches([[1, 2, 3], [4, 5]], tree, batch_tokens=1024)
>>> sum(batch.positions for batch in batches)
6
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

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
    """Rows that go through the model together.

    Attributes:
        records: which record each row is (B,).
        input_ids: tokens, padded on the right (B, S).
        lengths: tokens of each row that are not padding (B,).
        reads: positions whose output is needed, the prompt's end first (B, P).
        position_ids: (B, S), or None where they simply count.
        visible: which positions each position attends to (B, S, S), or None where plain causal attention is right.
    """

    records: np.ndarray
    input_ids: np.ndarray
    lengths: np.ndarray
    reads: np.ndarray
    position_ids: np.ndarray | None = None
    visible: np.ndarray | None = field(default=None, repr=False)

    @property
    def positions(self) -> int:
        """Token positions computed, padding included."""
        return int(self.input_ids.size)

    @property
    def tokens(self) -> int:
        """Token positions that are not padding."""
        return int(self.lengths.sum())

    def take(self, rows: np.ndarray) -> "MicroBatch":
        """The same batch with only some of its rows."""
        return MicroBatch(
            self.records[rows],
            self.input_ids[rows],
            self.lengths[rows],
            self.reads[rows],
            None if self.position_ids is None else self.position_ids[rows],
            None if self.visible is None else self.visible[rows],
        )


def micro_batches(prompts: Sequence[Sequence[int]], tree: CandidateTree, *, batch_tokens: int) -> list[MicroBatch]:
    """The one partition of the pool that every step uses.

    Args:
        prompts: R token sequences, each of one token or more.
        tree: the candidates' tokens, appended to every prompt.
        batch_tokens: token positions of a micro-batch at most, padding included (a longer record is alone in one).

    Returns:
        Micro-batches, shortest records first; together they hold every record once.

    Raises:
        PACZeroError: a prompt has no token.
    """
    lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64) + len(tree)
    if len(lengths) and lengths.min() <= len(tree):
        raise PACZeroError(f"record {int(lengths.argmin()) + 1} has a prompt without a token; give it some text")
    order = np.argsort(lengths, kind="stable")
    bounds = _partition(lengths[order], batch_tokens)
    return [_batch(order[a:b], prompts, tree) for a, b in itertools.pairwise(bounds)]


def _partition(lengths: np.ndarray, batch_tokens: int) -> list[int]:
    """Cuts ascending lengths where positions plus the overhead of each batch are fewest (dynamic programming)."""
    count = len(lengths)
    cost = np.zeros(count + 1)
    start = np.zeros(count + 1, dtype=np.int64)
    for end in range(1, count + 1):
        longest = int(lengths[end - 1])
        first = max(0, end - max(1, batch_tokens // longest))
        totals = cost[first:end] + (end - np.arange(first, end)) * longest
        best = int(totals.argmin())
        cost[end], start[end] = totals[best] + BATCH_OVERHEAD, first + best
    bounds = [count]
    while bounds[-1] > 0:
        bounds.append(int(start[bounds[-1]]))
    return bounds[::-1]


def _batch(records: np.ndarray, prompts: Sequence[Sequence[int]], tree: CandidateTree) -> MicroBatch:
    ends = np.array([len(prompts[record]) for record in records], dtype=np.int64)
    lengths = ends + len(tree)
    width = int(lengths.max())
    input_ids = np.zeros((len(records), width), dtype=np.int64)
    for row, record in enumerate(records):
        input_ids[row, : ends[row]] = prompts[record]
        input_ids[row, ends[row] : lengths[row]] = tree.tokens
    reads = ends[:, None] - 1 + np.arange(1 + len(tree))  # (B, P): the prompt's end, then every node
    if len(tree) == 0:
        return MicroBatch(records, input_ids, lengths, reads)
    position_ids = np.tile(np.arange(width), (len(records), 1))
    visible = np.tile(np.tri(width, dtype=bool), (len(records), 1, 1))
    for row, end in enumerate(ends):
        node = slice(end, end + len(tree))
        position_ids[row, node] = end + tree.depths
        visible[row, node, node] = tree.sees
    return MicroBatch(records, input_ids, lengths, reads, position_ids, visible)
