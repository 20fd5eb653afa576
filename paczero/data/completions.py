"""The possible continuations of each prompt: the label words that all records share, or a text of each record's own.

>>> CandidateTree([[7], [8, 9]]).behind(0).tolist(), PerRecordCompletions([[7, 8, 9], [5]]).behind(0).tolist()
([8], [7, 8])

The last token of a continuation is predicted, never read, so it does not lie behind the prompt.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Completions(Protocol):
    """The continuations of all prompts, as micro-batches, heads and checks use them.

    Attributes:
        columns: how many scores each record has.
        relative: whether a record's scores are known up to a constant only.
    """

    columns: int
    relative: bool

    def __len__(self) -> int:
        """How many tokens lie behind a prompt at most."""

    def behind(self, record: int) -> NDArray[np.int64]:
        """The tokens that lie behind a record's prompt; the model's output is read at its end and at each of them."""

    def follows(self, record: int, column: int) -> list[int]:
        """The tokens whose mean log-probability is this score of the record."""

    def of(self, records: NDArray[np.int64]) -> "Completions":
        """The same for these records alone, counted from 0."""


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
        terms: for each candidate the pairs (reading position, token) whose log-probabilities make its score;
            position 0 is the end of the prompt, position 1 + e is node e.
    """

    relative = True

    def __init__(self, candidates: Sequence[Sequence[int]]):
        paths = [tuple(candidate) for candidate in candidates]
        prefixes = {path[:end] for path in paths for end in range(1, len(path))}
        nodes = sorted(prefixes, key=lambda node: (len(node), node))
        position = {(): 0} | {node: 1 + index for index, node in enumerate(nodes)}
        self.tokens = np.array([node[-1] for node in nodes], dtype=np.int64)
        self.depths = np.array([len(node) - 1 for node in nodes], dtype=np.int64)
        ancestors = [[node[: len(other)] == other for other in nodes] for node in nodes]
        self.sees = np.array(ancestors, dtype=bool).reshape(len(nodes), len(nodes))
        self.terms = [[(position[path[:end]], path[end]) for end in range(len(path))] for path in paths]
        self.columns = len(paths)

    def __len__(self) -> int:
        return len(self.tokens)

    def behind(self, record: int) -> NDArray[np.int64]:
        return self.tokens

    def follows(self, record: int, column: int) -> list[int]:
        return [token for _, token in self.terms[column]]

    def of(self, records: NDArray[np.int64]) -> "CandidateTree":
        return self


class PerRecordCompletions:
    """One text a record, such as the answer to its question.

    Args:
        answers: R token sequences, each of one token or more.
    """

    columns = 1
    relative = False

    def __init__(self, answers: Sequence[Sequence[int]]):
        self.answers = [np.array(answer, dtype=np.int64) for answer in answers]

    def __len__(self) -> int:
        return max(map(len, self.answers), default=1) - 1

    def behind(self, record: int) -> NDArray[np.int64]:
        return self.answers[record][:-1]

    def follows(self, record: int, column: int) -> list[int]:
        return [int(token) for token in self.answers[record]]

    def of(self, records: NDArray[np.int64]) -> "PerRecordCompletions":
        return PerRecordCompletions([self.answers[record] for record in records])
