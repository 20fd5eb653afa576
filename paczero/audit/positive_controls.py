"""Positive controls: leaks known from other code, rebuilt deliberately. A valid audit catches each of them.

    [control.caught for control in controls()]
    # [True, True, True, True]

Training cannot reach this code. It works on signs and bits, so a run takes no time. Each leak is attacked by Bayes'
rule and judged by the rule for real runs: the lower end of the interval, corrected for the number of attacks, is above
the claimed bound. The first four are from the authors' code (repository bilgehanertan/paczero): everything from one
seeded stream, a bisection with an absolute tolerance, a posterior that is lost. The fifth has no leak and must *not* be
caught.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from paczero.audit.arrays import Floats
from paczero.audit.intervals import Comparison, compare
from paczero.mechanism.bounds import posterior_success
from paczero.mechanism.channels import BitChannel

CONFIDENCE = 0.999

_SUBSETS, _STEPS, _BUDGET = 128, 400, 2.5  # S* has an entropy of ln 128 = 4.85 nats

_INTERRUPTED = 10  # steps between two interruptions in the fourth leak

_MASSES = np.append(np.geomspace(1e-6, 0.25, 400)[:-1], np.linspace(0.25, 0.5, 100))

Random = np.random.Generator

Outcome = tuple[int, int, float]  # right guesses, runs, claimed bound


@dataclass(frozen=True)
class Control:
    """A deliberate leak, and whether it is caught.

    Attributes:
        name: of the leak.
        meaning: the defect, in a sentence.
        leaks: whether there is a leak; False for the honest control, which must not be caught.
        caught: whether the decision is the right one.
        caught_by: the attack.
        detail: its figures.
        comparison: success and claimed bound.
    """

    name: str
    meaning: str
    leaks: bool
    caught: bool
    caught_by: str
    detail: str
    comparison: Comparison


def controls(*, seed: int = 0) -> tuple[Control, ...]:
    """Runs all of them.

    Args:
        seed: public, of the runs' coins; the same seed gives the same result.
    """
    found = []
    for number, (name, meaning, attack, leaks, run) in enumerate(_LEAKS):
        right, runs, bound = run(np.random.default_rng([seed, number]))
        comparison = compare(bound, right, runs, len(_LEAKS), CONFIDENCE)
        interval = comparison.interval
        detail = (
            f"right in {interval.estimate:.1%} of {runs:,} runs (interval {interval.low:.1%} to {interval.high:.1%}), "
            f"where {bound:.1%} was claimed"
        )
        found.append(Control(name, meaning, leaks, comparison.exceeded == leaks, attack, detail, comparison))
    return tuple(found)


def _seeded(rng: Random) -> Outcome:
    """S*, coins and noise from one stream of a default seed: a reader of the code can draw S* again."""
    right = 0
    for _ in range(500):
        stream = np.random.default_rng(42)  # the unchanged default
        secret = int(stream.integers(_SUBSETS))
        guess = int(np.random.default_rng(42).integers(_SUBSETS))
        right += guess == secret
    return right, 500, 1 / _SUBSETS


def _tolerance(rng: Random) -> Outcome:
    """Many small steps, whose noise a bisection finds to 1e-6 nats absolute: each leaks ten times its charge."""
    beta, steps, runs = 5e-8, 20_000, 20_000
    low, high = 0.0, 0.5
    while True:
        flip = (low + high) / 2
        achieved = BitChannel.information(0.5, flip)
        if abs(achieved - beta) < 1e-6:
            break
        low, high = (flip, high) if achieved > beta else (low, flip)
    # Each step's sign indicates the unit's half; a tie is decided by a coin.
    inside = rng.random(runs) < 0.5
    agree = rng.binomial(steps, 1 - flip, size=runs)
    plus = np.where(inside, agree, steps - agree)
    guess = (plus > steps / 2) | ((plus == steps / 2) & (rng.random(runs) < 0.5))
    return int(np.count_nonzero(guess == inside)), runs, posterior_success(beta * steps)


def _splits(rng: Random, known: Callable[[Floats, Floats], Floats]) -> Outcome:
    """Guesses S* after splits that depend on the releases, each through a channel calibrated to the weights of `known`.

    As in training, signs may depend on earlier releases. Each split takes the fewest candidates that hold half of the
    posterior mass. A wrong posterior takes their small number for a small mass, so the noise is too small.
    """
    beta, runs, rows = _BUDGET / _STEPS, 1000, np.arange(1000)[:, None]
    noise = np.array([BitChannel.calibrate(q, beta) for q in _MASSES])
    secret = rng.integers(_SUBSETS, size=runs)
    belief = np.full((runs, _SUBSETS), 1 / _SUBSETS)
    kept = np.full((runs, _SUBSETS), 1.0)  # the posterior at the last loss
    for step in range(_STEPS):
        if step % _INTERRUPTED == 0:
            kept = belief
        order = np.argsort(-belief, axis=1, kind="stable")
        before = np.cumsum(belief[rows, order], axis=1) - belief[rows, order]
        inside = np.zeros_like(belief, dtype=bool)
        inside[rows, order] = before < 0.5
        weights = known(belief, kept)
        q = (weights * inside).sum(axis=1) / weights.sum(axis=1)
        # The next larger calibrated minority: never less noise than the exact one needs.
        minority = np.minimum(np.minimum(q, 1 - q) * (1 + 1e-9), 0.5)
        flip = noise[np.searchsorted(_MASSES, minority)]
        reported = inside[rows[:, 0], secret] != (rng.random(runs) < flip)
        belief = belief * np.where(inside == reported[:, None], 1 - flip[:, None], flip[:, None])
        belief = np.maximum(belief / belief.sum(axis=1, keepdims=True), 1e-300)
    right = int(np.count_nonzero(belief.argmax(axis=1) == secret))
    return right, runs, posterior_success(_BUDGET, 1 / _SUBSETS)


_LEAKS: tuple[tuple[str, str, str, bool, Callable[[Random], Outcome]], ...] = (
    (
        "seeded secret",
        "the secret half, the coins and the directions come from one stream with a default seed",
        "drawing S* again",
        True,
        _seeded,
    ),
    (
        "absolute tolerance",
        "the channel's noise is found to within 1e-6 nats, where a step may leak 5e-8",
        "Bayes, one unit's half",
        True,
        _tolerance,
    ),
    (
        "posterior not updated",
        "each step's noise is calibrated to the prior, as if nothing had been released",
        "Bayes, S* itself",
        True,
        lambda rng: _splits(rng, lambda belief, kept: np.ones_like(belief)),
    ),
    (
        "posterior lost on resume",
        "after each interruption the posterior begins anew, while the budget goes on",
        "Bayes, S* itself",
        True,
        lambda rng: _splits(rng, lambda belief, kept: belief / kept),
    ),
    (
        "no leak",
        "the same splits with the true posterior; the attack must stay below the bound",
        "Bayes, S* itself",
        False,
        lambda rng: _splits(rng, lambda belief, kept: belief),
    ),
)
