"""Tasks: how a record becomes tokens, its possible continuations, and its metrics. One file for each kind of task.

>>> encoded = Encoded(prompts=[[5, 6], [7]], candidates=[[1], [2]], targets=np.array([0, 1]))
>>> encoded.lengths.tolist(), encoded.single_token
([3, 2], True)

The trainer knows none of them; `paczero.data.tasks.registry.task_of` gives the one that the settings name.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from paczero.config import TaskConfig
from paczero.data.completions import CandidateTree, Completions, PerRecordCompletions
from paczero.data.dataset import Dataset
from paczero.data.metrics import Metric

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer


@dataclass(frozen=True, eq=False)
class Encoded:
    """Records as tokens.

    Attributes:
        prompts: R token sequences of one token or more, with the tokens that the tokenizer puts at the start.
        candidates: C token sequences of one token or more that may follow a prompt, the same for every record.
        targets: which candidate is each record's (R,) int64.
        truncated: how many records were cut to fit.
        answers: instead of candidates, the R token sequences that should follow, each of one token or more.
        lost: how many records lost every answer from their prompt when they were cut.
    """

    prompts: list[list[int]]
    candidates: list[list[int]]
    targets: NDArray[np.int64]
    truncated: int = 0
    answers: list[list[int]] | None = None
    lost: int = 0

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each record with its longest candidate, or its answer (R,)."""
        if self.answers is None:
            behind = [max(map(len, self.candidates))] * len(self.prompts)
        else:
            behind = list(map(len, self.answers))
        return np.array([len(prompt) for prompt in self.prompts], dtype=np.int64) + np.array(behind, dtype=np.int64)

    @property
    def single_token(self) -> bool:
        """Whether every candidate is one token, so that the rows of a few tokens decide."""
        return self.answers is None and all(len(candidate) == 1 for candidate in self.candidates)

    @cached_property
    def continuations(self) -> Completions:
        """What may follow the prompts, for micro-batches and scorers."""
        return CandidateTree(self.candidates) if self.answers is None else PerRecordCompletions(self.answers)


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's output for a set of records.

    Attributes:
        scores: of each candidate, or of the record's own answer: mean token log-probability (R, C).
        texts: what was generated for each record, where the task generates.
    """

    scores: NDArray[np.float64]
    texts: list[str] | None = None


class Task(Protocol):
    """One kind of task under its settings.

    Attributes:
        config: its settings.
        metric: the figure by which it is judged.
        generates: whether an evaluation generates texts.
    """

    @property
    def config(self) -> TaskConfig: ...

    @property
    def metric(self) -> Metric: ...

    @property
    def generates(self) -> bool: ...

    def encode(self, pool: Dataset, tokenizer: "Tokenizer", *, context: int) -> Encoded:
        """The records as tokens; raises PACZeroError for a record that does not fit."""

    def losses(self, scores: NDArray[np.float64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Nats, float64 (R,): of the right candidate among all, or of the record's own answer."""

    def figures(self, pool: Dataset, encoded: Encoded, found: Predictions, threshold: float) -> dict[str, float]:
        """The means over the records by name, the metric and `loss` (nats) among them."""

    def table(self, pool: Dataset, encoded: Encoded, found: Predictions, threshold: float) -> dict[str, list[Any]]:
        """The values whose means are the figures: name of a column -> R values, one for each record."""
