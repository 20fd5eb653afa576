"""The numbers that a run's header promises, on the secret half and on membership in the pool.

    half(header)    # {'nats': 0.0, 'posterior_success': 0.5, 'equivalent_epsilon': 0.0}
    pool(header)    # {'epsilon': None, 'delta': None, 'posterior_success': 1.0}

Every bound is rounded to its safe side. Fail closed: without a promise, p is 1 and ε is None, so a program that reads
only the numbers never sees too good a bound. The bound between information and posterior success is
kl(p ‖ 1/2) ≤ I (paper: arXiv 2605.06505).
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal

from paczero.mechanism.bounds import epsilon_for_nats, posterior_success, success_for_epsilon
from paczero.mechanism.registry import spec_of

Verdict = Literal["kept", "nothing", "void"]

Header = Mapping[str, Any]


def total_nats(header: Header) -> float | None:
    """The sum of the budgets of this run and of earlier ones with the same secret, rounded up; None without a bound."""
    own: float | None = header["budget"]
    if own is None and not spec_of(header["mechanism"]["name"]).reads_secret:
        own = 0.0
    if own is None or not header.get("prior_budgets"):
        return own
    exact = sum(map(Fraction, [*header["prior_budgets"], own]), Fraction(0))
    total = float(exact)
    return total if Fraction(total) >= exact else math.nextafter(total, math.inf)


def half(header: Header) -> dict[str, Any]:
    """The promise on the secret half.

    Returns:
        `nats`: upper bound on the information about it in the release, with the releases of earlier runs that used the
            same secret; None without a bound.
        `posterior_success`: upper bound on the probability of a right guess of one unit's half.
        `equivalent_epsilon`: the ε (at δ = 0) with the same p.
    """
    nats = total_nats(header)
    if nats is None or header["test_seed"] is not None:
        return {"nats": None, "posterior_success": 1.0, "equivalent_epsilon": None}
    p = float(posterior_success(nats))
    return {"nats": nats, "posterior_success": p, "equivalent_epsilon": epsilon_for_nats(nats) if p < 1 else None}


def pool(header: Header) -> dict[str, Any]:
    """The promise on membership in the pool.

    Returns:
        `epsilon`, `delta`: of differential privacy, where one unit's derivatives become 0; None without it.
        `posterior_success`: upper bound on the probability of a right guess whether a unit is in the pool.
    """
    spec, mechanism = spec_of(header["mechanism"]["name"]), header["mechanism"]
    if header["test_seed"] is None and spec.hides == "all":
        return {"epsilon": 0.0, "delta": 0.0, "posterior_success": 0.5}
    if header["test_seed"] is None and spec.is_dp:
        # Runs of version 0.1 state no p of their own accounting; then the bound is the one that ε and δ alone give.
        p = mechanism.get("posterior_success", success_for_epsilon(mechanism["epsilon"], mechanism["delta"]))
        if p < 1:
            return {"epsilon": mechanism["epsilon"], "delta": mechanism["delta"], "posterior_success": p}
    return {"epsilon": None, "delta": None, "posterior_success": 1.0}


def success(header: Header) -> float:
    """p of what the mechanism hides: the half, or membership in the pool; 1.0 without a promise."""
    hides = spec_of(header["mechanism"]["name"]).hides
    if hides == "nothing":
        return 1.0
    return float((pool if hides == "pool" else half)(header)["posterior_success"])


def epsilon(header: Header) -> float | None:
    """ε of a differentially private run, otherwise the ε with the same p (δ = 0); None without a promise."""
    if verdict(header) != "kept":
        return None
    found = (
        pool(header)["epsilon"] if spec_of(header["mechanism"]["name"]).is_dp else half(header)["equivalent_epsilon"]
    )
    return float(found)


def verdict(header: Header) -> Verdict:
    """`kept`: the promise holds; `nothing`: the mechanism or its budget bounds nothing; `void`: a test seed."""
    if header["test_seed"] is not None:
        return "void"
    return "nothing" if success(header) >= 1 else "kept"


def rounded_up(value: float, digits: int = 4) -> str:
    """A bound as text, rounded up.

    >>> rounded_up(0.88187), rounded_up(0.5)
    ('0.8819', '0.5')
    """
    scale = 10**digits
    text = f"{math.ceil(value * scale) / scale:.{digits}f}".rstrip("0")
    return text.rstrip(".")
