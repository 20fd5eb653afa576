"""Derivatives of every unit along a step's directions, from two passes over the pool each.

>>> g, nonfinite = objective.derivatives(weights, step=0, directions=1)  # doctest: +SKIP
>>> g.shape                                                             # (N, K)  # doctest: +SKIP
(600, 1)

Paper: arXiv 2605.06505; the two-point estimate is that of MeZO (arXiv 2305.17333).
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from paczero.distributed.base import ProcessGroup
from paczero.mechanism.signs import unit_means
from paczero.optim.parameters import PerturbedParameters

Losses = Callable[[np.ndarray, np.ndarray], np.ndarray]


class ScoreSource(Protocol):
    """What gives a set of records their scores with the weights as they stand: `Scorer`, or `Generator`.

    Attributes:
        records: R.
        ranks: the processes that share the work.
    """

    records: int
    group: ProcessGroup

    def scores(self, wanted: np.ndarray | None = None) -> np.ndarray:
        """Scores of every record, float64 (R, C); those not `wanted` (R,) are 0."""

    def features(self) -> np.ndarray:
        """Output of the last layer at the end of each prompt, float32 (R, D)."""

    def check(self) -> None:
        """Compares some scores with the model's own forward pass; raises PACZeroError where they differ."""

    def partition(self) -> str:
        """A hash of the micro-batches, on whose bounds the last bits of scores depend."""


@dataclass(frozen=True)
class Derivatives:
    """What one step measured.

    Attributes:
        values: derivative of each unit along each direction, in nats of loss per unit of direction (n, K).
        nonfinite: how many record derivatives were not finite and count as 0.
        unit_indices: which units the rows are, where the step used a part of the pool; None for all of them.
        loss: mean loss of the records over all points that were evaluated, nats.
    """

    values: np.ndarray
    nonfinite: int
    unit_indices: np.ndarray | None
    loss: float

    @property
    def zero_derivatives(self) -> int:
        """Directions along which every derivative is exactly 0; none where there were no units."""
        return int(np.count_nonzero(~self.values.any(axis=0))) if len(self.values) else 0


class Objective:
    """The pool's losses as a function of the weights.

    Args:
        scorer: scores of the R records.
        targets: the right candidate of each record (R,).
        unit_of_record: whose record it is (R,), units counted from 0.
        losses: (scores (R, C), targets (R,)) -> losses (R,).
    """

    def __init__(self, scorer: ScoreSource, targets: np.ndarray, unit_of_record: np.ndarray, losses: Losses):
        self.scorer = scorer
        self.targets = targets
        self.unit_of_record = unit_of_record
        self.units = int(unit_of_record.max()) + 1
        self.losses = losses

    def derivatives(
        self, weights: PerturbedParameters, step: int, directions: int, unit_indices: np.ndarray | None = None
    ) -> Derivatives:
        """Central differences (ℓ(θ + μz) − ℓ(θ − μz)) / 2μ; the weights stand as before when this returns.

        Args:
            weights: the trained weights; they know μ and the law of directions.
            step: t, which names the directions.
            directions: K.
            unit_indices: the units that this step uses; all where left out.
        """
        wanted = np.ones(self.scorer.records, dtype=bool)
        if unit_indices is not None:
            wanted = np.isin(self.unit_of_record, unit_indices)
        columns, means = [], []
        for k in range(directions):
            at: dict[int, np.ndarray] = {}
            with contextlib.closing(weights.perturb(step, k)) as sides:
                for side in sides:
                    scores = self.scorer.scores(wanted if unit_indices is not None else None)
                    at[side] = self.losses(scores, self.targets)[wanted]
            with np.errstate(invalid="ignore"):  # Inf − Inf is counted as non-finite below
                columns.append((at[+1] - at[-1]) / (2 * weights.mu))
            means.append(float(np.mean((at[+1] + at[-1]) / 2)))
        owners, units = self.unit_of_record[wanted], self.units
        if unit_indices is not None:
            owners, units = np.searchsorted(unit_indices, owners), len(unit_indices)
        values, nonfinite = unit_means(np.stack(columns, axis=1), owners, units)
        return Derivatives(values, nonfinite, unit_indices, float(np.mean(means)))
