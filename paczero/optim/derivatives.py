"""Derivatives of every unit along a step's directions, from two passes over the pool for each direction.

    objective.derivatives(weights, step=0, directions=1).values       # float64 (N, K)

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
    """Scores a set of records with the current weights: `Scorer` or `Generator`.

    Attributes:
        records: R.
        group: the processes that share the work.
    """

    records: int
    group: ProcessGroup

    def scores(self, wanted: np.ndarray | None = None) -> np.ndarray:
        """Scores of every record, float64 (R, C); those not `wanted` (R,) are 0."""

    def features(self) -> np.ndarray:
        """Output of the last layer at the end of each prompt, float32 (R, D)."""

    def check(self) -> None:
        """Compares some results with the model's own forward pass; raises PACZeroError where they differ."""

    def partition(self) -> str:
        """SHA-256 (hex) of the micro-batches; the last bits of scores depend on them."""


@dataclass(frozen=True)
class Derivatives:
    """The measurements of one step.

    Attributes:
        values: derivative of each unit along each direction, in nats of loss per unit of direction (n, K).
        nonfinite: number of record derivatives that were not finite and count as 0.
        unit_indices: the unit of each row, where the step used some units only; None for all units.
        loss: mean loss of the records over all points that were evaluated, nats.
    """

    values: np.ndarray
    nonfinite: int
    unit_indices: np.ndarray | None
    loss: float

    @property
    def zero_derivatives(self) -> int:
        """The number of directions along which every derivative is exactly 0; 0 where there were no units."""
        return int(np.count_nonzero(~self.values.any(axis=0))) if len(self.values) else 0


class Objective:
    """The pool's losses as a function of the weights.

    Args:
        scorer: scores of the R records.
        targets: index of the right candidate of each record (R,).
        unit_of_record: index of the unit of each record (R,).
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
        """Central differences (ℓ(θ + μz) − ℓ(θ − μz)) / 2μ; restores the weights.

        Args:
            weights: the trained parameters, with μ and the law of directions.
            step: t, which names the directions.
            directions: K.
            unit_indices: the units that this step uses, ascending; all by default.
        """
        wanted = np.ones(self.scorer.records, dtype=bool)
        if unit_indices is not None:
            wanted = np.isin(self.unit_of_record, unit_indices)
        columns, means = [], []
        for k in range(directions):
            losses: dict[int, np.ndarray] = {}
            with contextlib.closing(weights.perturb(step, k)) as signs:
                for sign in signs:
                    scores = self.scorer.scores(wanted if unit_indices is not None else None)
                    losses[sign] = self.losses(scores, self.targets)[wanted]
            with np.errstate(invalid="ignore"):  # Inf − Inf is counted as non-finite below
                columns.append((losses[+1] - losses[-1]) / (2 * weights.mu))
            means.append(float(np.mean((losses[+1] + losses[-1]) / 2)))
        owners, units = self.unit_of_record[wanted], self.units
        if unit_indices is not None:
            owners, units = np.searchsorted(unit_indices, owners), len(unit_indices)
        values, nonfinite = unit_means(np.stack(columns, axis=1), owners, units)
        return Derivatives(values, nonfinite, unit_indices, float(np.mean(means)))
