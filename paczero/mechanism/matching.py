"""The settings at which a guess about one unit is right equally often under every mechanism.

>>> rows = matched(success=0.55, units=1000, steps=50)
>>> [(row.name, row.nats) for row in rows][:2]
[('zpl', 0.0), ('mi', 0.00500836)]

Two questions are compared by p, the probability of a right answer where both answers are equally likely before the
release. Which half was a unit in? This is bounded by mutual information, on average over releases. Was the unit in the
pool at all? This is bounded by the total variation that the accounting of a differentially private mechanism gives,
against an adversary who knows all other units. At the same p the second promise is the stronger one. But p bounds the
average guess only: noise that is found for p alone can have a large ε.
"""

import math
from dataclasses import dataclass
from typing import Any

from paczero.errors import PACZeroError
from paczero.mechanism.accounting import calibrate, calibrate_success, default_delta, epsilon_of, success_of
from paczero.mechanism.bounds import as_probability, epsilon_for_nats, nats_for_success, posterior_success
from paczero.mechanism.registry import SPECS, MechanismSpec, spec_of

_DIGITS = 6
SIGN = spec_of("dp-sign")


@dataclass(frozen=True)
class Matched:
    """One mechanism at the requested p.

    Attributes:
        name: of the mechanism.
        settings: what to set, by dotted key.
        hides: `half`, `pool`, `all` or `nothing`, as in `registry`.
        success: p, at most; 1.0 where nothing is bounded.
        nats: the budget B; None where ε bounds the guess, or nothing does.
        epsilon: ε of a differentially private mechanism; else the one with the same p (δ = 0), for comparison.
        delta: δ; None where there is none.
        sigma: the Gaussian noise, in units of the clip; None where there is none.
        eps0: ε₀ of a random sign, in log-odds per clip; None where there is none.
    """

    name: str
    settings: dict[str, Any]
    hides: str
    success: float
    nats: float | None = None
    epsilon: float | None = None
    delta: float | None = None
    sigma: float | None = None
    eps0: float | None = None


def matched(
    *,
    success: float | None = None,
    nats: float | None = None,
    epsilon: float | None = None,
    units: int = 1000,
    delta: float | None = None,
    steps: int = 1000,
    directions: int = 1,
    sampling_prob: float = 1.0,
) -> list[Matched]:
    """Every mechanism at the same posterior success.

    Args:
        success, nats, epsilon: what decides p; exactly one of them. Of an ε, p is that of `dp-sign`.
        units: N, of which δ is made where it is not given.
        delta: δ; the smaller one of 1e-6 and 1/N² where left out.
        steps: T.
        directions: K; `dpzero` has 1, and so has `dp-sign` with samples.
        sampling_prob: the Poisson rate of the differentially private mechanisms.

    Returns:
        A row a mechanism, in the order of `SPECS`.

    Raises:
        PACZeroError: none or several of the three were given, or a value is out of range.
    """
    if units < 1:
        raise PACZeroError(f"units: {units} was given; expected 1 or more")
    run = _Run(default_delta(units) if delta is None else delta, steps, directions, sampling_prob)
    if sum(value is not None for value in (success, nats, epsilon)) != 1:
        raise PACZeroError("success, nats, epsilon: expected one of the three, from which the other two follow")
    if success is not None:
        p = as_probability("success", success)
    else:
        p = run.at(SIGN, epsilon).success if epsilon is not None else posterior_success(nats or 0.0)
    if not 0.5 < p < 1:
        raise PACZeroError(
            f"success: p = {p:g} follows from what was given; expected above 0.5 (a blind guess, at which only a "
            "mechanism that tells nothing can be) and below 1 (at which nothing is promised)"
        )
    budget = rounded_down(nats_for_success(p) if nats is None else nats)
    return [
        _informed(spec, budget) if not spec.is_dp else run.at(spec, epsilon or run.epsilon_at(spec, p))
        for spec in SPECS.values()
    ]


@dataclass(frozen=True)
class _Run:
    """What the differentially private mechanisms have in common."""

    delta: float
    steps: int
    directions: int
    sampling_prob: float

    def lengths(self, spec: MechanismSpec) -> dict[str, Any]:
        single = spec.one_direction or (spec.per_direction and self.sampling_prob < 1)
        return {
            "steps": self.steps,
            "directions": 1 if single else self.directions,
            "sampling_prob": self.sampling_prob,
        }

    def epsilon_at(self, spec: MechanismSpec, success: float) -> float:
        """The ε whose noise keeps p at `success` or below."""
        lengths = self.lengths(spec)
        noise = calibrate_success(spec.name, success, **lengths)
        epsilon = rounded_down(epsilon_of(spec.name, noise, delta=self.delta, **lengths))
        if epsilon <= 0:
            raise PACZeroError(
                f"delta: {self.delta:g} was given; expected less, as it alone allows p = {success:g}; more units help"
            )
        return epsilon

    def at(self, spec: MechanismSpec, epsilon: float) -> Matched:
        lengths = self.lengths(spec)
        noise = calibrate(spec.name, epsilon, delta=self.delta, **lengths)
        settings = {"mechanism.name": spec.name, "mechanism.epsilon": epsilon, "mechanism.delta": self.delta}
        settings |= {"max_steps": self.steps, "directions": lengths["directions"]}
        settings |= {"mechanism.sampling_prob": self.sampling_prob} if self.sampling_prob < 1 else {}
        p = success_of(spec.name, noise, **lengths)
        return Matched(spec.name, settings, spec.hides, p, None, epsilon, self.delta, **{str(spec.noise): noise})


def rounded_down(value: float) -> float:
    """To six digits, so that it can be typed."""
    scale = 10.0 ** (_DIGITS - 1 - math.floor(math.log10(value))) if value > 0 else 1.0
    return math.floor(value * scale) / scale


def _informed(spec: MechanismSpec, budget: float) -> Matched:
    """A mechanism that is bounded by mutual information, or by nothing."""
    settings: dict[str, Any] = {"mechanism.name": spec.name}
    bound = spec.budget(budget)
    if bound is None:
        return Matched(spec.name, settings, spec.hides, 1.0)
    if bound:
        settings["mechanism.budget"] = bound
    return Matched(spec.name, settings, spec.hides, posterior_success(bound), bound, float(epsilon_for_nats(bound)))
