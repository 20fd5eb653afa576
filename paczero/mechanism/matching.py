"""The settings at which a guess about one unit is right equally often under every mechanism.

>>> rows = matched(success=0.55, units=1000, steps=1000)
>>> [(row.name, row.nats) for row in rows][:2]
[('zpl', 0.0), ('mi', 0.00500836)]

Two questions are compared by p, the probability of a right answer where both answers are equally likely before the
release. Which half was a unit in? This is bounded by mutual information, on average over releases. Was the unit in the
pool at all? This is bounded by differential privacy, against an adversary who knows all other units. At the same p the
second promise is the stronger one.
"""

import math
from dataclasses import dataclass
from typing import Any

from paczero.errors import PACZeroError
from paczero.mechanism.accounting import calibrate
from paczero.mechanism.bounds import (
    epsilon_for_nats,
    epsilon_for_success,
    nats_for_success,
    posterior_success,
    success_for_epsilon,
)
from paczero.mechanism.registry import SPECS, MechanismSpec

_DIGITS = 6


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
        sigma: the noise, in units of the clip; None where there is none.
    """

    name: str
    settings: dict[str, Any]
    hides: str
    success: float
    nats: float | None = None
    epsilon: float | None = None
    delta: float | None = None
    sigma: float | None = None


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
        success, nats, epsilon: what decides p; exactly one of them.
        units: N, of which δ is made where it is not given.
        delta: δ; 1/N² where left out.
        steps: T.
        directions: K; `dpzero` has 1.
        sampling_prob: the Poisson rate of `dpzero` and `dp-aggzo`.

    Returns:
        A row a mechanism, in the order of `SPECS`.

    Raises:
        PACZeroError: none or several of the three were given, or a value is out of range.
    """
    if units < 1:
        raise PACZeroError(f"units: {units} was given; expected 1 or more")
    delta = units**-2.0 if delta is None else delta
    p = _success(success, nats, epsilon, delta)
    if not 0.5 < p < 1:
        raise PACZeroError(
            f"success: p = {p:g} follows from what was given; expected above 0.5 (a blind guess, at which only a "
            "mechanism that tells nothing can be) and below 1 (at which nothing is promised)"
        )
    budget = rounded_down(nats_for_success(p) if nats is None else nats)
    given = rounded_down(epsilon_for_success(p, delta) if epsilon is None else epsilon)
    if given <= 0:
        raise PACZeroError(f"delta: {delta:g} was given; expected less, as it alone allows p = {p:g}; more units help")
    noisy = {"epsilon": given, "delta": delta, "steps": steps}
    return [
        _private(spec, noisy, directions, sampling_prob) if spec.is_dp else _informed(spec, budget)
        for spec in SPECS.values()
    ]


def rounded_down(value: float) -> float:
    """To six digits, so that it can be typed."""
    scale = 10.0 ** (_DIGITS - 1 - math.floor(math.log10(value))) if value > 0 else 1.0
    return math.floor(value * scale) / scale


def _success(success: float | None, nats: float | None, epsilon: float | None, delta: float) -> float:
    if sum(value is not None for value in (success, nats, epsilon)) != 1:
        raise PACZeroError("success, nats, epsilon: expected one of the three, from which the other two follow")
    if success is not None:
        nats_for_success(success)  # refuses what is no such probability
        return success
    return success_for_epsilon(epsilon, delta) if epsilon is not None else posterior_success(nats or 0.0)


def _informed(spec: MechanismSpec, budget: float) -> Matched:
    """A mechanism that is bounded by mutual information, or by nothing."""
    settings: dict[str, Any] = {"mechanism.name": spec.name}
    bound = spec.budget(budget)
    if bound is None:
        return Matched(spec.name, settings, spec.hides, 1.0)
    if bound:
        settings["mechanism.budget"] = bound
    return Matched(spec.name, settings, spec.hides, posterior_success(bound), bound, float(epsilon_for_nats(bound)))


def _private(spec: MechanismSpec, noisy: dict[str, Any], directions: int, sampling_prob: float) -> Matched:
    """A differentially private mechanism."""
    k, rate = 1 if spec.one_direction else directions, sampling_prob if spec.sampled else 1.0
    epsilon, delta, steps = noisy["epsilon"], noisy["delta"], noisy["steps"]
    sigma = calibrate(spec.name, epsilon, delta=delta, steps=steps, directions=k, sampling_prob=rate)
    settings = {"mechanism.name": spec.name, "mechanism.epsilon": epsilon, "mechanism.delta": delta}
    settings |= {"max_steps": steps, "directions": k} | ({"mechanism.sampling_prob": rate} if rate < 1 else {})
    p = success_for_epsilon(epsilon, delta)
    return Matched(spec.name, settings, spec.hides, p, None, epsilon, delta, sigma)
