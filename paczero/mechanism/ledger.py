"""The budget of a run: what each step may leak, what was charged, and a refusal of charges beyond the budget.

>>> ledger = Ledger(budget=0.33, steps=1000)
>>> beta = ledger.allowance(0)          # what step 0 may leak, in nats
>>> ledger.charge(0.9 * beta)       # what it did leak
>>> ledger.allowance(1) > beta          # adaptive: what is not used goes to later steps
True

A step's allowance depends on public history only (the budget, the step number, earlier charges). Therefore the chain
rule holds: I(S*; Y_1..T) = E[Σ β_t] with Σ β_t <= B on every path. Source: PACZero (arXiv 2605.06505) for the uniform
allocation. The adaptive one is ours; it passes on what unanimous and cheap steps did not use.
"""

import math
from fractions import Fraction

from paczero.errors import PACZeroError
from paczero.mechanism.bounds import at_least_zero

ALLOCATIONS = ("adaptive", "uniform")

# An allowance is divided by K and rounded, and K such parts are charged: this factor keeps their exact sum within it.
_SHAVE = Fraction(2**50 - 1, 2**50)
_SMALLEST = 1e-290  # below, floats are too coarse for that argument, and the information is nil anyway


class Ledger:
    """Charges against a budget, added exactly (floats are binary fractions): their sum never passes the budget.

    Args:
        budget: B, finite nats >= 0 for the whole run.
        steps: T >= 1.
        allocation: `adaptive`: (B − spent)/(T − step); `uniform`: B/T.

    Raises:
        PACZeroError: anything else.
    """

    def __init__(self, budget: float, steps: int, allocation: str = "adaptive") -> None:
        self.budget = at_least_zero("budget", budget)
        if math.isinf(self.budget):
            raise PACZeroError(f"budget: {budget!r} was given; expected finite nats")
        self.steps = steps
        if self.steps < 1:
            raise PACZeroError(f"steps: {steps!r} was given; expected 1 or more")
        if allocation not in ALLOCATIONS:
            raise PACZeroError(f"allocation: {allocation!r} was given; expected one of {', '.join(ALLOCATIONS)}")
        self.allocation = allocation
        self._spent = Fraction(0)

    @property
    def spent(self) -> float:
        """Nats charged so far: the exact sum, rounded once."""
        return float(self._spent)

    @property
    def _remaining(self) -> Fraction:
        """Nats that may still be charged; never negative."""
        return Fraction(self.budget) - self._spent

    def allowance(self, step: int) -> float:
        """β_t: nats that step `step` (from 0) may leak in all its K releases together.

        It lies 1e-15 below the exact figure, relative, so that K rounded K-th parts of it are never refused.

        Raises:
            PACZeroError: a step outside [0, steps).
        """
        if not 0 <= step < self.steps:
            raise PACZeroError(f"step: {step!r} was given; expected 0 to {self.steps - 1}, as steps = {self.steps}")
        if self.allocation == "adaptive":
            exact = self._remaining / (self.steps - step)
        else:
            exact = min(Fraction(self.budget) / self.steps, self._remaining)
        allowance = float(exact * _SHAVE)
        return allowance if allowance >= _SMALLEST else 0.0

    def charge(self, nats: float) -> None:
        """Counts `nats` as leaked.

        Raises:
            PACZeroError: negative or NaN nats, or more than what remains; nothing is charged then.
        """
        nats = at_least_zero("nats", nats)
        if math.isinf(nats) or Fraction(nats) > self._remaining:
            raise PACZeroError(
                f"nats: {nats!r} was given; expected at most the {float(self._remaining)!r} that remain of the budget "
                f"{self.budget!r}; release no more, or run anew with a larger budget"
            )
        self._spent += Fraction(nats)
