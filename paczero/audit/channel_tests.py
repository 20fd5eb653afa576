"""Tests of the channel itself: in a re-run the secret and all sums are known, so released values have a known law.

    [test.failed for test in channel_tests(trials, simulation)]
    # [False, False, False, False, False]

The attacks believe the noise that the journal states. These tests do not: they compare what was released with the law
that the mechanism promises.

- `zpl`, `mi`: a contested bit equals the sign of S* with probability 1/2 or 1 − f, never more; what each f lets
  through under the true posterior is charged; unanimous bits are the common sign; S* is uniform and coins are fresh.
- `dp-sign`: P(+1) = 1/(1 + e^(−ε₀S)) of the known clipped sum S, with the ε₀ that the settings lead to.
- `dpzero`, `dp-aggzo`: the residuals (y − S)/σ are independent N(0, 1).
- Poisson samples are drawn anew, with the stated rate.

Every test has an upper bound on the probability of what it saw, or of anything as extreme, under the honest mechanism
(`p_value`). It is exact for a fixed number of runs (binomial, normal, χ²), or it is 1/E of an e-value: a product of
likelihood ratios of each value given all earlier ones. An e-value is needed where the number of contested bits, their f
and the sums depend on earlier bits: no binomial law holds for them, but P(E >= 1/α) <= α does, for every dependence and
for every moment at which one stops (Ville 1939; Ramdas et al. 2023, "Game-Theoretic Statistics and Safe Anytime-Valid
Inference").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_expit, logit, logsumexp, ndtr, rel_entr
from scipy.stats import binom, chi2, kstest, norm

from paczero.audit.arrays import Bools, Floats
from paczero.audit.simulation import Simulation, Trial
from paczero.mechanism.channels import GaussianChannel
from paczero.mechanism.registry import spec_of

ERROR = 0.001  # probability that an honest mechanism fails one of its channel tests, at most

_SHIFTS = np.array([0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0])  # alternatives, in log-odds
_FACTORS = np.array([0.0, 0.25, 0.5, 0.7, 0.85, 1.2, 1.4, 2.0, 3.0, 5.0])  # alternatives, of log-odds or deviations
_MAJORITIES = (0.5, 0.75, 0.9, 0.95)  # alternatives, of the share from which coins might follow the majority
_PARTS = (0.25, 0.5, 1.0)  # alternatives, of how much stopped units go on contributing
_ROUNDING = 1e-9  # relative error of this module's information; the ledger's is smaller


@dataclass(frozen=True)
class ChannelTest:
    """One test of the released values' law.

    Attributes:
        name: of the test.
        meaning: what an honest mechanism does.
        trials: number of values that it uses.
        detail: what was seen.
        p_value: at least the probability under the honest mechanism of what was seen, or of anything as extreme.
        level: the p-value below which the test fails.
        failed: whether it does.
    """

    name: str
    meaning: str
    trials: int
    detail: str
    p_value: float
    level: float
    failed: bool


_Found = tuple[str, str, int, str, float]


def channel_tests(trials: Sequence[Trial], simulation: Simulation, *, look: int = 1) -> tuple[ChannelTest, ...]:
    """All tests that fit the mechanism of these runs.

    Args:
        trials: independent runs of one simulation.
        simulation: with the settings that the mechanism promises to follow.
        look: how often runs of these settings were tested, this time included. Look j may err with probability
            0.001/(j(j + 1)), so all looks together with 0.001.
    """
    spec = spec_of(simulation.args.mechanism.name)
    found: list[_Found] = []
    if spec.candidates and spec.hides == "half":
        found += [_secrets(trials, simulation), _unanimous(trials)]
        contested = _contested(trials, simulation)
        if spec.zero:
            found.append(_zeros(contested))
        else:
            found += [_kept(contested), _first(trials, contested), _majority(contested, coin=not spec.has_budget)]
        found.append(_charges(trials, simulation))
    elif spec.is_dp:
        stated = simulation.stated(simulation.units)
        found += _residuals(trials, simulation, stated) if spec.real else [_logistic(trials, stated["eps0"])]
        if simulation.args.mechanism.individual:
            found.append(_stopped(trials, stated["eps0"]))
        if stated["sampling"] < 1:
            found += _samples(trials, stated["sampling"])
    level = ERROR / (look * (look + 1) * max(len(found), 1))
    return tuple(ChannelTest(*values, level, values[-1] < level) for values in found)


@dataclass(frozen=True, eq=False)
class _Contested:
    """The contested releases of all runs, (n,) each, in order.

    Attributes:
        kept: whether the released sign is that of S*.
        chance: probability of that, for the noise that the journal states (`zpl`: 1/2).
        majority: whether it is the sign of most candidates.
        share: the share of these candidates.
        y: what was released.
        run, index: the run, and the number of the release within it.
    """

    kept: Bools
    chance: Floats
    majority: Bools
    share: Floats
    y: Floats
    run: Floats
    index: Floats


def _paths(trial: Trial, gaussian: bool) -> "list[tuple[tuple[int, int], Floats]]":
    """The log weights of an observer before each release, with the release's index; the true posterior of its path."""
    assert trial.signs is not None
    logs, found = np.zeros(trial.signs.shape[2]), []
    for index in np.ndindex(trial.y.shape):
        found.append((index, logs))
        signs, noise, output = trial.signs[index].astype(np.float64), trial.noise[index], trial.output[index]
        if len(set(signs[np.isfinite(logs)])) < 2 or output == 0 or np.isinf(noise):
            continue
        if gaussian and noise > 0:
            logs = logs - (output - signs) ** 2 / (2 * noise**2)
        elif noise != 0.5 or gaussian:
            with np.errstate(divide="ignore"):
                evidence = np.log(np.where(signs == np.sign(output), 1 - noise, noise))
            if np.isfinite(logs + evidence).any():
                logs = logs + evidence
        logs = logs - logs.max()
    return found


def _gaussian(simulation: Simulation) -> bool:
    chosen = simulation.args.mechanism
    return spec_of(chosen.name).has_budget and chosen.channel == "gaussian"


def _contested(trials: Sequence[Trial], simulation: Simulation) -> _Contested:
    budgeted, gaussian = spec_of(simulation.args.mechanism.name).has_budget, _gaussian(simulation)
    rows = []
    for run, trial in enumerate(trials):
        assert trial.signs is not None and trial.secret is not None
        for number, (index, logs) in enumerate(_paths(trial, gaussian)):
            signs, y, noise = trial.signs[index], trial.y[index], trial.noise[index]
            if len(set(signs[np.isfinite(logs)])) < 2:
                continue
            chance = 0.5 if not budgeted else float(ndtr(1 / noise)) if gaussian and noise else 1.0 - noise
            majority = 1 if np.count_nonzero(signs > 0) * 2 >= len(signs) else -1
            share = np.count_nonzero(signs == majority) / len(signs)
            rows.append((y == signs[trial.secret], chance, y == majority, share, y, run, number))
    columns = np.array(rows, dtype=np.float64).reshape(-1, 7).T
    return _Contested(columns[0] > 0, columns[1], columns[2] > 0, *columns[3:])


def _secrets(trials: Sequence[Trial], simulation: Simulation) -> _Found:
    subsets, runs = simulation.args.mechanism.subsets, len(trials)
    counts = np.bincount([trial.secret or 0 for trial in trials], minlength=subsets)
    most = int(counts.max())
    p_value = min(1.0, subsets * float(binom.sf(most - 1, runs, 1 / subsets)))
    detail = f"{np.count_nonzero(counts)} of {subsets} candidates were S*, one of them {most} times"
    return "secrets", "S* is drawn anew for each run, each candidate alike", runs, detail, p_value


def _unanimous(trials: Sequence[Trial]) -> _Found:
    signs, y = np.array([t.signs for t in trials]), np.array([t.y for t in trials])
    alike = np.abs(signs.sum(axis=-1, dtype=np.int64)) == signs.shape[-1]
    wrong, count = int(np.count_nonzero(alike & (y != signs[..., 0]))), int(np.count_nonzero(alike))
    detail = f"{wrong:,} of {count:,} are not the common sign"
    return "unanimous bits", "where all candidates agree, their sign is released", count, detail, float(not wrong)


def _zeros(contested: _Contested) -> _Found:
    wrong, count = int(np.count_nonzero(contested.y)), len(contested.y)
    return "contested releases", "0 is released", count, f"{wrong:,} of {count:,} are not 0", float(not wrong)


def _kept(contested: _Contested) -> _Found:
    count, kept = len(contested.kept), int(contested.kept.sum())
    expected = float(contested.chance.sum())
    detail = f"{kept:,} of {count:,} equal the sign of S*; {expected:,.1f} are expected"
    return (
        "bits and S*",
        "a contested bit equals the sign of S* as often as its noise says",
        count,
        detail,
        _bits_p(contested.kept, logit(contested.chance)),
    )


def _majority(contested: _Contested, *, coin: bool) -> _Found:
    """For coins: they do not follow the majority. Otherwise the posterior decides, and `_kept` and charges do."""
    count, same = len(contested.majority), int(contested.majority.sum())
    p_value = 1.0
    if coin and count:
        # Alternatives: coins follow the majority where it is large.
        signs = np.where(contested.majority, 1.0, -1.0)
        logs = [
            log_expit(signs[large] * shift).sum() - log_expit(0.0) * np.count_nonzero(large)
            for least in _MAJORITIES
            for large in [contested.share >= least]
            for shift in np.concatenate([_SHIFTS, -_SHIFTS])
        ]
        p_value = min(1.0, math.exp(min(math.log(len(logs)) - float(logsumexp(logs)), 0.0)))
    return "bits and majority", "a coin follows no candidate", count, f"{same:,} of {count:,} equal it", p_value


def _first(trials: Sequence[Trial], contested: _Contested) -> _Found:
    """All runs are alike until their first contested release. Over the runs, its coin is then exactly binomial."""
    where = [int(np.flatnonzero(contested.run == run)[0]) for run in range(len(trials)) if (contested.run == run).any()]
    kept, chances = contested.kept[where], contested.chance[where]
    if not where or len(set(contested.index[where])) > 1 or len(set(chances)) > 1:
        # Runs that should be alike are not, or no release is contested: the first case cannot be honest.
        return "first coin", "fresh for each run", len(where), "nothing to compare", float(not where)
    values = contested.y[where] > 0 if chances[0] == 0.5 else kept
    count, seen, chance = len(where), int(values.sum()), float(chances[0])
    detail = f"{seen} of {count}, where {chance:.1%} are expected"
    return (
        "first coin",
        "the first contested bit has a coin of its own in each run",
        count,
        detail,
        _binomial_p(seen, count, chance),
    )


def _charges(trials: Sequence[Trial], simulation: Simulation) -> _Found:
    """What each release lets through, given the true posterior of its path, is charged, and the sum is within B."""
    chosen, gaussian = simulation.args.mechanism, _gaussian(simulation)
    budget = spec_of(chosen.name).budget(chosen.budget) or 0.0
    wrong = count = above = 0
    largest = 0.0
    for trial in trials:
        assert trial.signs is not None
        total = 0.0
        for index, logs in _paths(trial, gaussian):
            plus = trial.signs[index] > 0
            weights = np.exp(logs)
            q = float(weights[plus].sum() / weights.sum())
            minority = min(q, float(weights[~plus].sum() / weights.sum()))
            if not (plus.any() and (~plus).any() and minority > 0) or not spec_of(chosen.name).has_budget:
                continue
            count += 1
            noise = trial.noise[index]
            told = GaussianChannel.information(minority, noise) if gaussian else _bit_information(minority, noise)
            total += told
            wrong += told > trial.beta[index] * (1 + _ROUNDING) + 1e-15
        largest = max(largest, total)
        above += max(total, float(trial.beta.sum())) > budget * (1 + _ROUNDING)
    detail = (
        f"at most {largest:.6g} of {budget:g} nats in a run; {wrong:,} of {count:,} releases tell more than is charged"
    )
    return (
        "charges",
        "no release tells more than it is charged, no run more than B",
        count,
        detail,
        float(not (wrong or above)),
    )


def _bit_information(m: float, f: float) -> float:
    """Σ P log of a bit flipped with probability f, for a minority of mass m."""
    a = m * (1 - f) + (1 - m) * f
    terms = rel_entr([1 - f, f], [a, 1 - a]), rel_entr([f, 1 - f], [a, 1 - a])
    return float(m * terms[0].sum() + (1 - m) * terms[1].sum())


def _logistic(trials: Sequence[Trial], eps0: float) -> _Found:
    y = np.array([t.y for t in trials]).ravel() > 0
    odds = eps0 * np.array([t.sums for t in trials]).ravel()
    expected = float(np.exp(log_expit(odds)).sum())
    detail = f"{int(y.sum()):,} of {y.size:,} are +1; {expected:,.1f} are expected"
    return "bits and sums", "P(+1) = 1/(1 + e^(−ε₀S)) of the known sum", y.size, detail, _bits_p(y, odds, _FACTORS)


def _stopped(trials: Sequence[Trial], eps0: float) -> _Found:
    """Against bits that also follow the units which have spent their share, in part or as if they had not."""
    signs = np.array([t.y for t in trials]).ravel()
    sums, stopped = (np.array([getattr(t, name) for t in trials]).ravel() for name in ("sums", "stopped"))
    base = log_expit(signs * eps0 * sums).sum()
    logs = [log_expit(signs * eps0 * (sums + part * stopped)).sum() - base for part in _PARTS]
    p = min(1.0, math.exp(min(-float(logsumexp(logs) - math.log(len(logs))), 0.0)))
    after = stopped != 0
    detail = f"{int((signs * stopped > 0)[after].sum()):,} of {int(after.sum()):,} have the sign of their sum"
    return "spent shares", "bits do not follow units that have spent their share", int(after.sum()), detail, p


def _residuals(trials: Sequence[Trial], simulation: Simulation, stated: "dict[str, float]") -> list[_Found]:
    """(y − S)/σ, by its size, mean, shape, slope on S, and agreement between runs."""
    clip, sigma = simulation.args.mechanism.number_of_clip or 1.0, stated["sigma"]
    y, sums = np.array([t.y for t in trials]), np.array([t.sums for t in trials])
    noise = (y * (stated["sampling"] * simulation.units / clip) - sums) / sigma
    flat, runs = noise.ravel(), len(trials)
    size, mean = float(np.square(flat).sum()), float(flat.sum() / math.sqrt(flat.size))
    same = float(np.square(noise.sum(axis=0)).sum() / runs)
    places = noise[0].size
    slope = float((noise * sums).sum())
    info = float(np.square(sums).sum())
    prior = flat.size / 100.0  # a slope of 0.1 standard deviations; any number would be valid
    log_e = 0.5 * (math.log(prior / (prior + info)) + slope**2 / (prior + info))
    shape = float(kstest(flat, "norm").pvalue)
    sided = 2 * min(float(chi2.sf(size, flat.size)), float(chi2.cdf(size, flat.size)))
    return [
        ("noise, size", "residuals have variance 1", flat.size, f"variance {size / flat.size:.4f}", min(1.0, sided)),
        ("noise, mean", "residuals have mean 0", flat.size, f"mean {flat.mean():.4f}", 2 * float(norm.sf(abs(mean)))),
        ("noise, shape", "residuals are normal", flat.size, f"by Kolmogorov and Smirnov, p = {shape:.3g}", shape),
        ("noise, slope", "residuals do not follow the sum", flat.size, f"slope {slope / max(info, 1e-300):.4f}", min(
            1.0, math.exp(min(-log_e, 0.0))
        )),
        ("noise, fresh", "no two runs share their noise", places, f"{same / places:.4f} of the expected 1", float(
            chi2.sf(same, places)
        )),
    ]  # fmt: skip


def _samples(trials: Sequence[Trial], rate: float) -> list[_Found]:
    """Samples of different runs at one step are independent, and each unit is in one with the stated rate."""
    drawn = np.array([t.sampled for t in trials])  # (R, T, N)
    runs = len(drawn)
    inside, size = int(drawn.sum()), drawn.size
    # The number of pairs of neighbouring runs that agree on a unit: independent pairs, so exactly binomial.
    agree = drawn[0 : runs - runs % 2 : 2] == drawn[1:runs:2]
    chance, seen = rate**2 + (1 - rate) ** 2, int(agree.sum())
    return [
        ("samples, rate", "each unit is in a sample with the stated rate", size, f"{inside / size:.2%} for {rate:.2%}",
         _binomial_p(inside, size, rate)),
        ("samples, fresh", "two runs agree on a unit by chance only", agree.size,
         f"{seen / max(agree.size, 1):.2%} for {chance:.2%}", float(binom.sf(seen - 1, agree.size, chance))),
    ]  # fmt: skip


def _binomial_p(seen: int, trials: int, chance: float) -> float:
    """Twice the smaller tail."""
    return min(1.0, 2 * min(float(binom.sf(seen - 1, trials, chance)), float(binom.cdf(seen, trials, chance))))


def _bits_p(bits: Bools, odds: Floats, factors: Floats | None = None) -> float:
    """1/E for bits whose log-odds, given all earlier ones, are `odds` under the honest mechanism.

    E is the mean over alternatives: log-odds that are shifted, or multiplied by a factor, each alike.
    """
    if not bits.size:
        return 1.0
    signs = np.where(bits, 1.0, -1.0)
    certain = np.isinf(odds)
    if (certain & (signs * odds < 0)).any():
        return 0.0  # what cannot happen has happened
    signs, odds = signs[~certain], odds[~certain]
    shifts = np.concatenate([_SHIFTS, -_SHIFTS])
    shifted = [odds + shift for shift in shifts] + [
        odds * factor for factor in (factors if factors is not None else ())
    ]
    base = log_expit(signs * odds).sum()
    logs = np.array([log_expit(signs * other).sum() - base for other in shifted])
    return min(1.0, math.exp(min(-float(logsumexp(logs) - math.log(len(logs))), 0.0)))
