"""Attacks on membership in the pool, about which most mechanisms promise nothing.

    result = canaries({"zpl, random": canary_settings(MechanismConfig())}, runs=40)
    result.rows[0].auc, result.rows[0].epsilon_low
    # (0.61, 0.4)

Canaries are records with random labels. In each run an independent fair coin decides whether a canary is in the
pool. Two outsider attacks use the final loss on each canary: LiRA compares it with runs whose pool is known (Carlini et
al. 2022); the one-run audit turns its best guesses about one run into a lower bound on ε (Steinke et al. 2023). The
insider knows all other records and the whole procedure, clips as the mechanism does, knows the units of each step
(of a secret Poisson sample its rate), and computes the likelihood of the released values with and without the canary.
None of this decides whether an audit passes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from paczero.audit.arrays import Bools, Floats
from paczero.audit.intervals import corrected, epsilon_lower_bound_one_run, one_run
from paczero.audit.likelihoods import dp_scores
from paczero.audit.membership import auc, epsilon_from_scores, lira_each, logit_scores, tpr_at_fpr
from paczero.audit.simulation import Progress, Simulation, Trial, scratch, settings, settings_of
from paczero.config import MechanismConfig, PACZeroConfig
from paczero.mechanism.accounting import default_delta
from paczero.mechanism.registry import spec_of
from paczero.mechanism.signs import Empty, direction_signs, quantise
from paczero.mechanism.subsets import draw_units

BASE, CANARIES = 128, 64
_GOOD = 0.95  # share of equal labels among the others; candidates then agree about as often as in a real run
_STEPS, _RATE, _REAL_RATE = 100, 0.02, 0.05
CONFIDENCE = 0.95
_GUESSES = (8, 16, 32)  # of the one-run audit, fixed in advance; the confidence is corrected for all three
_CERTAIN = 1e-9  # probability of values that are impossible but for rounding

Found = tuple[Floats, Floats, float, float]  # scores of members and others, lower bound on ε, the most it could be
Done = Callable[[int, int], None]  # called with the number of finished runs, and of all


@dataclass(frozen=True)
class CanaryRow:
    """The success of one attack on one mechanism.

    Attributes:
        label: mechanism and family.
        mechanism, family: the parts of the label; no family without candidates.
        attack: `LiRA` or `insider`.
        meaning: the result in plain words.
        runs: number of trainings.
        scores: number of members and of others.
        auc, auc_low, auc_high: probability that a member scores above a non-member, with its interval.
        tpr_1_percent, tpr_01_percent: true positive rate at a false positive rate of 1 % (0.1 %); None where fewer
            than 100 (1,000) others were scored, which cannot resolve such a rate.
        epsilon_low: lower bound on ε for pool membership, at `delta`.
        epsilon_most: the bound that an attack without a mistake would have shown with as many trials.
        delta: δ of that bound.
        stated_epsilon: ε that the mechanism promises for pool membership; None if it promises none.
    """

    label: str
    mechanism: str
    family: str | None
    attack: str
    meaning: str
    runs: int
    scores: tuple[int, int]
    auc: float
    auc_low: float
    auc_high: float
    tpr_1_percent: float | None
    tpr_01_percent: float | None
    epsilon_low: float
    epsilon_most: float
    delta: float
    stated_epsilon: float | None


@dataclass(frozen=True)
class CanaryResult:
    """All mechanisms.

    Attributes:
        rows: one for each attack and mechanism.
        confidence: of intervals and lower bounds.
        base: number of records in every pool.
        canaries: number of records that a coin puts into it.
        steps: T.
    """

    rows: tuple[CanaryRow, ...]
    confidence: float
    base: int
    canaries: int
    steps: int


def canary_settings(
    mechanism: MechanismConfig, *, directions: int = 1, units_per_step: int | None = None
) -> PACZeroConfig:
    """Settings of the small model for canaries: long enough to learn, with many unanimous releases."""
    rate = _REAL_RATE if spec_of(mechanism.name).real else _RATE
    made = settings(mechanism, steps=_STEPS, directions=directions)
    return replace(made, learning_rate=rate, units_per_step=units_per_step)


def own_and_references(header: Mapping[str, Any]) -> dict[str, PACZeroConfig]:
    """The audited run's mechanism first, then `none`, which hides nothing, and `dp-sign`, which hides membership."""
    chosen = settings_of(header, units=BASE)
    own = chosen.mechanism
    found = {label_of(own): canary_settings(own, directions=chosen.directions, units_per_step=chosen.units_per_step)}
    for mechanism in (MechanismConfig(name="none"), MechanismConfig(name="dp-sign", epsilon=2.0, clip=1.0)):
        found.setdefault(label_of(mechanism), canary_settings(mechanism))
    return found


def label_of(mechanism: MechanismConfig) -> str:
    """A mechanism in a few words: `zpl, balanced`, `mi, random, 0.33 nats`, `dp-sign, ε = 2`."""
    parts: list[str] = [mechanism.name]
    spec = spec_of(mechanism.name)
    if spec.candidates:
        parts.append(mechanism.family)
    if spec.has_budget:
        parts.append(f"{mechanism.budget:g} nats")
    if mechanism.epsilon is not None:
        parts.append(f"ε = {mechanism.epsilon:g}" + (", individual" if mechanism.individual else ""))
    return ", ".join(parts)


def canaries(
    mechanisms: Mapping[str, PACZeroConfig],
    *,
    runs: int = 40,
    base: int = BASE,
    count: int = CANARIES,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> CanaryResult:
    """Attacks each mechanism.

    Args:
        mechanisms: label -> settings (`canary_settings`).
        runs: trainings of each for the outsiders, and as many for the insider; 24 or more, so that each canary is
            in some pools and out of others.
        base: number of records in every pool.
        count: number of canaries.
        seed: public, of model and records.
        progress: called with (name, done, total).
    """
    rows, steps = [], 0
    for label, args in mechanisms.items():
        steps = args.max_steps
        for attack, attacker, tested in (("LiRA", _outsider, count), ("insider", _insider, 1)):
            simulation = Simulation(args, units=base + tested, odd=tested, good=_GOOD, seed=seed)
            delta = args.mechanism.delta or default_delta(simulation.units)
            found = attacker(simulation, base, runs, delta, partial(progress, f"{attack}, {label}"))
            rows.append(_row(label, args, attack, runs, delta, *found))
    return CanaryResult(tuple(rows), CONFIDENCE, base, count, steps)


def _outsider(simulation: Simulation, base: int, runs: int, delta: float, done: Done) -> Found:
    """LiRA over the runs, and the best one-run bound at a confidence corrected for their number."""
    count = simulation.units - base
    rng = np.random.default_rng()  # seeded by the operating system: membership is the secret here
    members = rng.random((runs, count)) < 0.5
    scores = []
    with scratch() as root:
        for number, inside in enumerate(members):
            done(number, runs)
            in_pool = np.append(np.ones(base, dtype=bool), inside)
            scores.append(logit_scores(simulation.run(root / str(number), in_pool=in_pool).losses[base:]))
    ratios = lira_each(np.array(scores), members)
    guesses = [number for number in _GUESSES if number <= count]
    confidence = 1 - (1 - CONFIDENCE) / runs
    bounds = [
        one_run(ratio, member, guesses, delta=delta, confidence=confidence).epsilon
        for ratio, member in zip(ratios, members, strict=True)
    ]
    each = corrected(confidence, len(guesses))
    most = max(epsilon_lower_bound_one_run(n, n, count, delta=delta, confidence=each) for n in guesses)
    return ratios[members], ratios[~members], max(bounds), most


def _insider(simulation: Simulation, base: int, runs: int, delta: float, done: Done) -> Found:
    """The likelihood ratio of the released values with and without one canary, given all other records."""
    candidates, ratios = simulation.membership, np.empty(runs)
    members = np.random.default_rng().random(runs) < 0.5
    with scratch() as root:
        for number, member in enumerate(members):
            done(number, runs)
            in_pool = np.append(np.ones(base, dtype=bool), member)
            own = None if candidates is None else candidates[in_pool]
            trial = simulation.run(root / str(number), in_pool=in_pool, membership=own)
            ratios[number] = _likelihood_ratio(trial, simulation.args, candidates, base + int(member))
    inside, outside = ratios[members], ratios[~members]
    low, most = (
        epsilon_from_scores(*scores, delta=delta, confidence=CONFIDENCE)
        for scores in ((inside, outside), (np.ones_like(inside), np.zeros_like(outside)))
    )
    return inside, outside, low, most


def _likelihood_ratio(trial: Trial, args: PACZeroConfig, candidates: Bools | None, pool: int) -> float:
    """ln P(released | with the canary) − ln P(released | without it), the canary being the last unit.

    `pool` is the number of units; a differentially private mean was divided by what it is expected to sample of them.
    """
    units = trial.derivatives.shape[2]
    if spec_of(args.mechanism.name).is_dp:
        return float(dp_scores(args, trial.y, trial.derivatives, units - 1, noise=trial.noise[0, 0], pool=pool)[0])
    total = 0.0
    for step, (g, y) in enumerate(zip(trial.derivatives, trial.y, strict=True)):
        for sign, count in ((1, units), (-1, units - 1)):
            drawn = np.arange(count)
            if args.units_per_step is not None:  # public, but of another pool
                drawn = draw_units(count, args.units_per_step, seed=args.seed, step=step)
            members = None if candidates is None else candidates[drawn]
            total += sign * _log_likelihood(args, g[:, drawn].T, members, y)
    return total


def _log_likelihood(args: PACZeroConfig, g: Floats, members: Bools | None, y: Floats) -> float:
    """ln P(these K values are released | the derivatives (n, K) of the step's units), without differential privacy."""
    spec, clip = spec_of(args.mechanism.name), args.mechanism.number_of_clip
    if spec.hides == "all":
        return len(y) * math.log(0.5)
    if members is None and spec.real:
        means = (g if clip is None else np.clip(g, -clip, clip)).mean(axis=0)
        return _certain(np.isclose(means, y, rtol=1e-9, atol=1e-15))
    assert clip is not None
    if members is None:
        return _certain((quantise(g, clip=clip)[0].sum(axis=0) >= 0) == (y > 0))
    empty: Empty = "positive" if args.units_per_step is None else "majority"
    plus = (direction_signs(g, members, clip=clip, empty=empty)[0] > 0).mean(axis=1)
    same = np.where(y > 0, plus, 1 - plus)  # the share of candidates of the released sign
    if spec.hides == "nothing":  # the secret half's sign as it is
        return float(np.log(np.maximum(same, _CERTAIN)).sum())
    agreed = (plus == 0) | (plus == 1)
    if spec.zero:
        return _certain(np.where(agreed, (same == 1) & (y != 0), y == 0))
    # A contested release is a coin; `mi` is close to one at useful budgets.
    return _certain(same[agreed] == 1) + int(np.count_nonzero(~agreed)) * math.log(0.5)


def _certain(seen: Bools) -> float:
    """ln P of values of which only one was possible each."""
    return int(np.count_nonzero(~seen)) * math.log(_CERTAIN)


def _row(
    label: str,
    args: PACZeroConfig,
    attack: str,
    runs: int,
    delta: float,
    scores_in: Floats,
    scores_out: Floats,
    low: float,
    most: float,
) -> CanaryRow:
    area = auc(scores_in, scores_out, CONFIDENCE)
    one, tenth = (
        tpr_at_fpr(scores_in, scores_out, 1 / others).tpr.estimate if len(scores_out) >= others else None
        for others in (100, 1000)
    )
    spec = spec_of(args.mechanism.name)
    attacker = "An attacker who sees the model" if attack == "LiRA" else "An attacker who knows all other records"
    meaning = f"{attacker} ranks a record of the pool above another in {area.estimate:.0%} of pairs (a coin: 50 %)" + (
        "." if spec.is_dp else "; nothing is promised about this."
    )
    return CanaryRow(
        label=label,
        mechanism=spec.name,
        family=args.mechanism.family if spec.candidates else None,
        attack=attack,
        meaning=meaning,
        runs=runs,
        scores=(len(scores_in), len(scores_out)),
        auc=area.estimate,
        auc_low=area.low,
        auc_high=area.high,
        tpr_1_percent=one,
        tpr_01_percent=tenth,
        epsilon_low=low,
        epsilon_most=most,
        delta=delta,
        stated_epsilon=args.mechanism.epsilon if spec.is_dp else None,
    )
