"""The cost of choosing among several runs on one pool: their promises add up.

>>> searched([Searched("mi", 0.33), Searched("mi", 0.33), Searched("zpl", 0.0)])
'3 runs on the pool: if you keep one of them for its metrics, state what holds for all together, not for that \
run alone: 0.66 nats (p = 0.9947); or choose the settings on other records'

The choice is a function of the releases of all runs. Let p be the probability that a guess about the secret of the kept
run is right. If secrets and releases were independent, it would be 1/2, whichever run is kept. By data processing
kl(p ‖ 1/2) <= I(all secrets; all releases). This is at most the sum of the budgets, whether or not the runs share a
secret. Differentially private runs add up in the same way (basic composition).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from paczero.mechanism.bounds import posterior_success
from paczero.mechanism.registry import MechanismSpec, spec_of
from paczero.release.guarantee import rounded_up


class Searched(NamedTuple):
    """One of the runs.

    Attributes:
        name: of the mechanism.
        budget: B in nats, of `mi`.
        epsilon: ε of a differentially private mechanism.
    """

    name: str
    budget: float | None = None
    epsilon: float | None = None

    @property
    def spec(self) -> MechanismSpec:
        return spec_of(self.name)


def searched(runs: Sequence[Searched]) -> str | None:
    """A warning about runs from which one may be chosen; None for fewer than two."""
    if len(runs) < 2:
        return None
    promises = [text for text in (_halves(runs), _pool(runs)) if text]
    opening = f"{len(runs):,} runs on the pool: "
    if not promises:
        return f"{opening}none of them makes a promise"
    return (
        f"{opening}if you keep one of them for its metrics, state what holds for all together, not for that run alone: "
        f"{'; '.join(promises)}; or choose the settings on other records"
    )


def _halves(runs: Sequence[Searched]) -> str:
    """The promise about secret halves; empty if no run hides one."""
    if not any(run.spec.hides == "half" for run in runs):
        return ""
    if any(run.spec.candidates and run.spec.hides == "nothing" for run in runs):
        return "no bound on the secret half, which half-sign releases"
    nats = math.fsum(run.budget or 0.0 for run in runs if run.spec.has_budget)
    success = posterior_success(nats)
    return f"{nats:g} nats " + (f"(p = {rounded_up(success)})" if success < 1 else "(no bound: ln 2 or more)")


def _pool(runs: Sequence[Searched]) -> str:
    """The promise about membership in the pool; empty if no run is differentially private."""
    private = [run for run in runs if run.spec.is_dp]
    if not private:
        return ""
    if any(run.spec.hides in ("half", "nothing") for run in runs):
        return "no ε over the pool, since other runs here have none"
    return f"ε = {math.fsum(run.epsilon or 0.0 for run in private):g} over the pool, and the δ add up too"
