"""(ε, δ) and the success of a guess under the differentially private mechanisms, and the noise that an ε needs.

>>> eps0 = calibrate("dp-sign", 2.0, delta=1e-6, steps=500)
>>> epsilon_of("dp-sign", eps0, delta=1e-6, steps=500) <= 2.0
True
>>> round(success_of("dp-sign", eps0, steps=500), 3)
0.589

The noise of `dp-sign` is ε₀, the log-odds by which one unit can move a bit, and less is more private. That of `dpzero`
and `dp-aggzo` is σ, in units of the clip, and more is more private. Adjacency: the derivatives of one unit become 0
(zero-out), and N is public. `dp-sign` makes K releases a step, each on a sample of its own where it samples; `dp-aggzo`
makes one, a K-vector that is clipped as a whole; `dpzero` has K = 1.
"""

import math
from collections.abc import Callable
from functools import lru_cache

from paczero.errors import PACZeroError
from paczero.mechanism.gaussian_accounting import Gaussians, mean_of
from paczero.mechanism.registry import SPECS, MechanismSpec, spec_of
from paczero.mechanism.sign_accounting import Bits

_MOST_EPSILON = 50.0  # p prints as 1 long before, and the accountants would take minutes
_DIGITS = 6  # the noise is rounded to so many, so that another version of a library gives the same one
_CLOSE = 2e-3  # of ln δ: the search ends so far below
_LONGEST_STEP, _SMALLEST_STEP = 0.7, 1e-6  # of ln ε₀ or ln σ
_COARSE, _FINE = 10.0, 1.0  # width of the accountants' cells
_LOWEST = 1e-320  # the smallest δ that has a logarithm
_SAFER = 0.99  # of ε₀, where the search ended on the wrong side


def epsilon_of(
    name: str, noise: float, *, delta: float, steps: int, directions: int = 1, sampling_prob: float = 1.0
) -> float:
    """The ε that a run has at most.

    Args:
        name: `dp-sign`, `dpzero` or `dp-aggzo`.
        noise: ε₀ of `dp-sign`, σ of the others; above 0.
        delta: δ in (0, 1).
        steps: T.
        directions: K.
        sampling_prob: the Poisson rate, in (0, 1].

    Raises:
        PACZeroError: a value out of range, or `dp-accounting` is needed and not installed.
    """
    spec = _checked(name, delta, steps, directions, sampling_prob)
    return _releases(spec, noise, steps, directions, sampling_prob).epsilon(delta)


@lru_cache(maxsize=64)
def success_of(name: str, noise: float, *, steps: int, directions: int = 1, sampling_prob: float = 1.0) -> float:
    """How often a guess whether a unit is in the pool is right, at most, by an adversary who knows all other units.

    Args:
        name, noise, steps, directions, sampling_prob: as for `epsilon_of`.

    Returns:
        p = 1/2 + δ(0)/2, where δ(0) is the total variation between the releases with and without the unit.

    Raises:
        PACZeroError: as for `epsilon_of`.
    """
    spec = _checked(name, 0.5, steps, directions, sampling_prob)
    return min(0.5 + _releases(spec, noise, steps, directions, sampling_prob).delta(0.0) / 2, 1.0)


def default_delta(units: int) -> float:
    """δ of a run that names none: 1e-6, and 1/N² where that is less, so that a pool's worth of δ stays small."""
    return min(1e-6, units**-2.0)


@lru_cache(maxsize=64)
def calibrate(
    name: str, epsilon: float, *, delta: float, steps: int, directions: int = 1, sampling_prob: float = 1.0
) -> float:
    """The noise at which a run is (ε, δ)-DP: never too little, and 0.1 % too much at most.

    Args:
        epsilon: ε > 0.
        name, delta, steps, directions, sampling_prob: as for `epsilon_of`.

    Returns:
        ε₀ of `dp-sign`, rounded down to six digits; σ of the others, rounded up.

    Raises:
        PACZeroError: as for `epsilon_of`.
    """
    spec = _checked(name, delta, steps, directions, sampling_prob)
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise PACZeroError(f"epsilon: {epsilon!r} was given; expected a finite number above 0")
    if epsilon > _MOST_EPSILON:
        raise PACZeroError(f"epsilon: {epsilon!r} was given; expected {_MOST_EPSILON:g} at most, as more hides nothing")

    return _noise(spec, epsilon, delta, steps, directions, sampling_prob)


@lru_cache(maxsize=64)
def calibrate_success(
    name: str, success: float, *, steps: int, directions: int = 1, sampling_prob: float = 1.0
) -> float:
    """The noise at which a guess about membership is right with probability `success` at most.

    Args:
        success: p, between 1/2 and 1.
        name, steps, directions, sampling_prob: as for `epsilon_of`.

    Returns:
        As for `calibrate`. The ε of that noise can be large: p bounds the average guess only.

    Raises:
        PACZeroError: as for `epsilon_of`.
    """
    spec = _checked(name, 0.5, steps, directions, sampling_prob)
    if not 0.5 < success < 1:
        raise PACZeroError(f"success: {success!r} was given; expected a probability above 0.5 and below 1")
    return _noise(spec, 0.0, 2 * success - 1, steps, directions, sampling_prob)


def _noise(spec: MechanismSpec, epsilon: float, delta: float, steps: int, directions: int, rate: float) -> float:
    """The noise at which δ(ε) is `delta` at most."""

    def excess(cell: float) -> Callable[[float], float]:
        """ln(δ(ε) / delta), a growing function of ln ε₀ or −ln σ."""

        def of(log_loss: float) -> float:
            noise = math.exp(log_loss if spec.per_direction else -log_loss)
            return math.log(max(_releases(spec, noise, steps, directions, rate, cell).delta(epsilon), _LOWEST) / delta)

        return of

    mean, slope = mean_of(epsilon, delta)
    mean /= rate * math.sqrt(steps * directions if spec.per_direction else steps)
    root = math.log(2 * math.asinh(mean) if spec.per_direction else mean)
    if rate < 1:  # then that is far off, and a coarse grid is fast
        root = _safe_root(excess(_COARSE), root, slope)
    root = _safe_root(excess(_FINE), root, slope)
    noise = math.exp(root if spec.per_direction else -root)
    # The search trusts that δ grows; this does not.
    while _releases(spec, noise := _rounded(noise, spec), steps, directions, rate).delta(epsilon) > delta:
        noise *= _SAFER if spec.per_direction else 1 / _SAFER
    return noise


def _rounded(noise: float, spec: MechanismSpec) -> float:
    """To six digits, towards privacy."""
    scale = 10.0 ** (_DIGITS - 1 - math.floor(math.log10(noise)))
    return (math.floor if spec.per_direction else math.ceil)(noise * scale) / scale


def _safe_root(excess: Callable[[float], float], start: float, slope: float) -> float:
    """A point at which a growing function is just below 0, by the secant rule within known ends.

    Args:
        excess: the function.
        start: where to look first.
        slope: of the function there, about.
    """
    low, high, at = -math.inf, math.inf, start
    value = excess(at)
    while not -_CLOSE <= value <= 0:
        low, high = (at, high) if value <= 0 else (low, at)
        step = min(max(-(value + _CLOSE / 2) / slope, -_LONGEST_STEP), _LONGEST_STEP)
        if not low < at + step < high:
            step = (low + high) / 2 - at
        if abs(step) < _SMALLEST_STEP:  # the function has steps of its own there
            return low if math.isfinite(low) else at - _LONGEST_STEP
        before, at = value, at + step
        value = excess(at)
        slope = (value - before) / step if value != before else slope
    return at


def _releases(
    spec: MechanismSpec, noise: float, steps: int, directions: int, rate: float, cell: float = _FINE
) -> Bits | Gaussians:
    """All that a run releases, for its accountant."""
    if spec.per_direction:
        return Bits(noise, steps * directions, rate, cell)
    return Gaussians(noise, steps, rate, cell)


def _checked(name: str, delta: float, steps: int, directions: int, rate: float) -> MechanismSpec:
    spec = spec_of(name)
    if not spec.is_dp:
        known = ", ".join(name for name, spec in SPECS.items() if spec.is_dp)
        raise PACZeroError(f"mechanism: {name!r} was given; expected one of {known}")
    most = 1 if spec.one_direction else math.inf
    for what, value, fine, expected in (
        ("delta", delta, 1e-300 <= delta < 1, "a probability from 1e-300 to below 1"),
        ("steps", steps, steps >= 1, "1 or more"),
        ("directions", directions, 1 <= directions <= most, "1 or more; dpzero: 1"),
        ("sampling_prob", rate, 0 < rate <= 1, "a rate in (0, 1]"),
    ):
        if not fine:
            raise PACZeroError(f"{what}: {value!r} was given; expected {expected}")
    return spec
