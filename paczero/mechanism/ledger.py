"""The budget of a run: what a step may leak, what was charged, and a refusal before it would be passed.

>>> ledger = Ledger(budget=0.33, steps=1000)
>>> beta = ledger.share(0)          # what step 0 may leak, in nats
>>> ledger.charge(0.9 * beta)       # what it did leak
>>> ledger.share(1) > beta          # adaptive: what is left over goes to later steps
True

A step's share depends on public history only (the budget, the step number, earlier charges), which is what makes the
chain rule hold: I(S*; Y_1..T) = E[Σ β_t] with Σ β_t <= B on every path. Source: PACZero (arXiv 2605.06505), its uniform
allocation and ours, which passes on what unanimous and cheap steps left.
"""

import math
import operator
from fractions import Fraction

from paczero.errors import PACZeroError
from paczero.mechanism.bounds import at_least_zero

ALLOCATIONS = ("adaptive", "uniform")

# A share is divided by K and rounded, and K such parts are charged: this much less keeps their exact sum within it.
_SHAVE = Fraction(2**50 - 1, 2**50)
_SMALLEST_SHARE = 1e-290  # below, floats are too coarse for that argument, and the information is nil anyway


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
        self.steps = _whole("steps", steps)
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
    def remaining(self) -> float:
        """Nats that may still be charged, rounded once; never negative."""
        return float(self._exact_remaining)

    @property
    def _exact_remaining(self) -> Fraction:
        return Fraction(self.budget) - self._spent

    def share(self, step: int) -> float:
        """β_t: nats that step `step` (from 0) may leak in all its K releases; a hair (1e-15) below the exact figure,
        so that K rounded K-th parts of it are never refused.

        Raises:
            PACZeroError: a step outside [0, steps).
        """
        number = _whole("step", step)
        if not 0 <= number < self.steps:
            raise PACZeroError(f"step: {step!r} was given; expected 0 to {self.steps - 1}, as steps = {self.steps}")
        if self.allocation == "adaptive":
            exact = self._exact_remaining / (self.steps - number)
        else:
            exact = min(Fraction(self.budget) / self.steps, self._exact_remaining)
        share = float(exact * _SHAVE)
        return share if share >= _SMALLEST_SHARE else 0.0

    def charge(self, nats: float) -> None:
        """Count `nats` as leaked.

        Raises:
            PACZeroError: negative or NaN nats, or more than what remains; nothing is charged then.
        """
        nats = at_least_zero("nats", nats)
        if math.isinf(nats) or Fraction(nats) > self._exact_remaining:
            raise PACZeroError(
                f"nats: {nats!r} was given; expected at most the {self.remaining!r} that remain of the budget "
                f"{self.budget!r}; release no more, or run anew with a larger budget"
            )
        self._spent += Fraction(nats)


def _whole(name: str, value: int) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise PACZeroError(f"{name}: {value!r} was given; expected a whole number") from None
