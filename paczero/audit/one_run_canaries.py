"""The audit of a differentially private mechanism from one run, through its transcript (white box).

    simulation = Simulation(args, units=128 + 1000, odd=1000)
    result = audit_one_run(simulation, known=128)
    result.epsilon_low, result.epsilon_high, result.epsilon_stated, result.refuted

A fair coin decides about each canary. Two lower bounds on ε come from the one run:

- Per-step likelihoods. The laboratory knows the clipped sum of every step. If a unit moved what is released κ times as
  much as stated (ε₀κ of `dp-sign`, σ/κ of the others), the released values would have a known law, whatever the weights
  did. An interval for κ is the set of all κ at which the likelihood ratio of a mixture over other κ stays below
  1/error (Robbins 1970; Ville 1939: it holds for every dependence of a step on earlier ones). ε of its ends follows by
  the accountant. This takes the form of the law as given, which `channel_tests` test.
- Guesses. The canaries' likelihood ratios are scores; right guesses give a bound that takes nothing as given (Steinke,
  Nasr & Jagielski 2023, arXiv 2305.08846), and is looser.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from paczero.audit.arrays import Floats, inside
from paczero.audit.intervals import one_run
from paczero.audit.likelihoods import dp_scores, log_likelihood, noisy_sums
from paczero.audit.simulation import Simulation, Trial, scratch
from paczero.errors import PACZeroError
from paczero.mechanism.accounting import default_delta, epsilon_of
from paczero.mechanism.registry import spec_of

CANARIES = 1000
_FACTORS = 2.0 ** np.linspace(-5, 5, 321)  # κ


@dataclass(frozen=True)
class OneRunResult:
    """One run against its statement.

    Attributes:
        mechanism, steps, directions: of the run.
        canaries: m.
        confidence: of the interval, and of the bound by guesses.
        delta: δ of every ε.
        epsilon_stated: what the settings promise.
        factor, factor_low, factor_high: κ, how many times as much as stated a unit moves what is released: the
            likeliest value and its interval; infinite where the steps do not bound it.
        epsilon_low, epsilon_high: ε at the interval's ends.
        refuted: whether the interval lies above 1.
        guesses, correct: of the canaries, by their likelihood ratios.
        epsilon_by_guesses: lower bound on ε by the right guesses alone.
    """

    mechanism: str
    steps: int
    directions: int
    canaries: int
    confidence: float
    delta: float
    epsilon_stated: float
    factor: float
    factor_low: float
    factor_high: float
    epsilon_low: float
    epsilon_high: float
    refuted: bool
    guesses: int
    correct: int
    epsilon_by_guesses: float


def audit_one_run(
    simulation: Simulation,
    known: int,
    *,
    guesses: Sequence[int] | None = None,
    confidence: float = 0.95,
    seed: int | None = None,
) -> OneRunResult:
    """Trains once.

    Args:
        simulation: of a differentially private mechanism; its settings are the statement, whatever it builds.
        known: how many units, the first ones, are in the pool for sure; the others are canaries.
        guesses: how many canaries are guessed, or several such numbers, each even; by default a quarter, and all.
        confidence: in (0, 1), of each of the two results.
        seed: of the canaries' coins, for tests; the operating system's by default.

    Raises:
        PACZeroError: the mechanism is not differentially private, or has individual accounts, or there are fewer than
            two canaries.
    """
    args, canaries = simulation.args, simulation.units - known
    spec = spec_of(args.mechanism.name)
    if not spec.is_dp or args.mechanism.individual:
        raise PACZeroError(
            f"mechanism: {spec.name!r} states no ε, or accounts of single units; expected a differentially private one "
            "without such accounts"
        )
    if canaries < 2:
        raise PACZeroError(f"known: {known} of {simulation.units} units were given; expected two canaries or more")
    included = np.random.default_rng(seed).random(canaries) < 0.5
    in_pool = np.append(np.ones(known, dtype=bool), included)
    pool = int(in_pool.sum())
    with scratch() as root:
        trial = simulation.run(root / "run", in_pool=in_pool)
    stated = simulation.stated(pool)
    noise = float(stated[spec.noise or ""])
    delta = args.mechanism.delta or default_delta(pool)
    scores = dp_scores(args, trial.y, trial.derivatives, known, noise=noise, pool=pool)
    numbers = list(guesses or sorted({canaries // 8 * 2 or 2, canaries // 2 * 2}))
    guessed = one_run(scores, included, numbers, delta=delta, confidence=confidence)
    factor, low, high = _interval(_log_likelihoods(simulation, trial, noise, pool), confidence)

    def epsilon(factor: float) -> float:
        if not 0 < factor < math.inf:
            return factor
        scaled = noise * factor if spec.per_direction else noise / factor
        return epsilon_of(
            spec.name, scaled, delta=delta, steps=args.max_steps, directions=args.directions,
            sampling_prob=stated["sampling"],
        )  # fmt: skip

    return OneRunResult(
        mechanism=spec.name,
        steps=args.max_steps,
        directions=args.directions,
        canaries=canaries,
        confidence=confidence,
        delta=delta,
        epsilon_stated=float(stated["epsilon"]),
        factor=factor,
        factor_low=low,
        factor_high=high,
        epsilon_low=epsilon(low),
        epsilon_high=epsilon(high),
        refuted=low > 1,
        guesses=guessed.guesses,
        correct=guessed.correct,
        epsilon_by_guesses=guessed.epsilon,
    )


def _log_likelihoods(simulation: Simulation, trial: Trial, noise: float, pool: int) -> Floats:
    """ln P(all released values) for each κ."""
    spec, y = spec_of(simulation.args.mechanism.name), noisy_sums(simulation.args, trial.y, pool)
    scales = noise * (_FACTORS if spec.per_direction else 1 / _FACTORS)
    return np.array([log_likelihood(y, trial.sums, noise=scale, real=spec.real).sum() for scale in scales])


def _interval(logs: Floats, confidence: float) -> tuple[float, float, float]:
    """The likeliest κ and the ends of its interval, each one point of the grid farther out, to be safe."""
    evidence = logsumexp(logs) - math.log(len(logs)) - logs
    kept = np.flatnonzero(evidence < -math.log1p(-inside("confidence", confidence)))
    low, high = int(kept[0]), int(kept[-1])
    return (
        float(_FACTORS[int(np.argmax(logs))]),
        float(_FACTORS[low - 1]) if low else 0.0,
        float(_FACTORS[high + 1]) if high + 1 < len(logs) else math.inf,
    )
