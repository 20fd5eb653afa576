"""What a run's header promises, in figures: whether anything is promised, p and ε, each on its safe side.

>>> verdict(header), success(header)     # doctest: +SKIP
('kept', 0.5)

Fail closed: a run that promises nothing states p = 1 and no ε, so that a program that reads the numbers alone is never
told more than is true.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

from paczero.errors import PACZeroError
from paczero.mechanism.bounds import epsilon_for_nats, posterior_success, success_for_epsilon
from paczero.mechanism.registry import SPECS, MechanismSpec, spec_of

Verdict = Literal["kept", "nothing", "void"]


def verdict(header: Mapping[str, Any]) -> Verdict:
    """`kept`: the promise holds; `nothing`: the mechanism or its budget bounds nothing; `void`: test coins."""
    if header["test_seed"] is not None:
        return "void"
    return "nothing" if _bound(header) >= 1 else "kept"


def kind_of(header: Mapping[str, Any]) -> MechanismSpec:
    """The mechanism.

    Raises:
        PACZeroError: one that is unknown here, of which nothing could truthfully be said.
    """
    name = header["mechanism"]["name"]
    if name not in SPECS:
        raise PACZeroError(f"mechanism: {name!r} was given; expected one that can be stated: {', '.join(SPECS)}")
    return spec_of(name)


def mechanism_name(header: Mapping[str, Any]) -> str:
    """`zpl`, `mi`, `none` or another that is known; PACZeroError otherwise."""
    return kind_of(header).name


def success(header: Mapping[str, Any]) -> float:
    """p: how often, at most, a guess about one unit is right; 1.0 where nothing is promised.

    The guess is which half the unit was in; with a differentially private mechanism, whether it was in the pool.
    """
    return _bound(header) if verdict(header) == "kept" else 1.0


def epsilon(header: Mapping[str, Any]) -> float | None:
    """ε of a differentially private run; else the one with the same p (δ = 0), for comparison; None: no promise."""
    if verdict(header) != "kept":
        return None
    return float(header["mechanism"]["epsilon"] if kind_of(header).is_dp else epsilon_for_nats(header["budget"]))


def _bound(header: Mapping[str, Any]) -> float:
    kind = kind_of(header)
    if kind.is_dp:
        return success_for_epsilon(header["mechanism"]["epsilon"], header["mechanism"]["delta"])
    return 1.0 if kind.hides == "nothing" else float(posterior_success(header["budget"]))


def rounded_up(value: float, digits: int = 4) -> str:
    """A bound in print: never smaller than it is (0.88187… -> "0.8819")."""
    scale = 10**digits
    text = f"{math.ceil(value * scale) / scale:.{digits}f}".rstrip("0")
    return text.rstrip(".")
