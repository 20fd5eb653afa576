"""Tasks: how a record becomes tokens and what its answers are. One file a task; the trainer knows none of them.

>>> encoded = Encoded(prompts=[[5, 6], [7]], candidates=[[1], [2]], targets=np.array([0, 1]))
>>> encoded.lengths.tolist(), encoded.single_token
([3, 2], True)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Encoded"]


@dataclass(frozen=True, eq=False)
class Encoded:
    """Records as tokens.

    Attributes:
        prompts: R token sequences of one token or more, with the tokens that the tokenizer puts at the start.
        candidates: C token sequences of one token or more that may follow a prompt, the same for every record.
        targets: which candidate is each record's (R,) int64.
        truncated: how many records were cut to fit.
    """

    prompts: list[list[int]]
    candidates: list[list[int]]
    targets: NDArray[np.int64]
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each record with its longest candidate (R,)."""
        longest = max(map(len, self.candidates))
        return np.array([len(prompt) + longest for prompt in self.prompts], dtype=np.int64)

    @property
    def single_token(self) -> bool:
        """Whether every candidate is one token, so that the rows of a few tokens decide."""
        return all(len(candidate) == 1 for candidate in self.candidates)
