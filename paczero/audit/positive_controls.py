"""Positive controls: leaks known from other code, rebuilt on purpose. An audit that does not see them is blind.

    [control.caught for control in controls()]
    # [True, True, True, True]

None of this can be reached from training; it lives here, at the level of signs and bits, where a run takes no time.
Each leak is attacked by Bayes' rule, and judged by the rule by which real runs are: the lower end of the interval,
corrected for the number of attacks, above the bound that was claimed. The first four are the authors' (repository
bilgehanertan/paczero): everything from one seeded stream, a bisection with an absolute tolerance, a posterior that is
lost. A fifth line has no leak and must *not* be caught.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from paczero.audit.arrays import Floats
from paczero.audit.intervals import Comparison, compare
from paczero.mechanism.bounds import posterior_success
from paczero.mechanism.channels import BitChannel

CONFIDENCE = 0.999

_SUBSETS, _STEPS, _BUDGET = 128, 400, 2.5  # of ln 128 = 4.85 nats that there are to know about S*

_INTERRUPTED = 10  # steps after which a run of the fourth leak is interrupted, and resumed

_MASSES = np.append(np.geomspace(1e-6, 0.25, 400)[:-1], np.linspace(0.25, 0.5, 100))

Random = np.random.Generator

Outcome = tuple[int, int, float]  # right guesses, runs, what was claimed


@dataclass(frozen=True)
class Control:
    """A leak built on purpose, and whether it was caught.

    Attributes:
        name: of the leak.
        meaning: what is wrong, in a sentence.
        leaks: whether there is a leak; of the control without one it must not be caught.
        caught: whether the decision came out as it must.
        caught_by: which attack.
        detail: its figures.
        comparison: success beside the bound that was claimed.
    """

    name: str
    meaning: str
    leaks: bool
    caught: bool
    caught_by: str
    detail: str
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def controls(*, seed: int = 0) -> tuple[Control, ...]:
    """Runs all of them.

    Args:
        seed: public, of the runs' coins, so that the same audit says the same.
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
    """S*, coins and noise from one stream of a default seed: a reader of the code draws S* again."""
    right = 0
    for _ in range(500):
        stream = np.random.default_rng(42)  # a default that users keep
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
    # Each step's sign shows the unit's half; of as many plus as minus nothing follows.
    inside = rng.random(runs) < 0.5
    agree = rng.binomial(steps, 1 - flip, size=runs)
    plus = np.where(inside, agree, steps - agree)
    guess = (plus > steps / 2) | ((plus == steps / 2) & (rng.random(runs) < 0.5))
    return int(np.count_nonzero(guess == inside)), runs, posterior_success(beta * steps)


def _forgotten(rng: Random) -> Outcome:
    """Noise made for what was known at the start, so that a split of the few that are left passes for an unlikely "
    "one."""
    return _splits(rng, lambda belief, kept: np.ones_like(belief))


def _reset(rng: Random) -> Outcome:
    """The posterior is lost on each resume, while the budget goes on."""
    return _splits(rng, lambda belief, kept: belief / kept)


def _honest(rng: Random) -> Outcome:
    """The posterior as it is: nothing to be caught."""
    return _splits(rng, lambda belief, kept: belief)


def _splits(rng: Random, known: Callable[[Floats, Floats], Floats]) -> Outcome:
    """Guesses at S* after splits that follow the releases, each through a channel calibrated to what is `known`.

    What the candidates say may depend on what was released before, as in training. Here each split takes the fewest
    candidates that hold half of what is likely. Calibrated to another posterior than the true one, their small number
    passes for a small mass, and less noise is added than the split needs.
    """
    beta, runs, rows = _BUDGET / _STEPS, 1000, np.arange(1000)[:, None]
    noise = np.array([BitChannel.calibrate(q, beta) for q in _MASSES])
    secret = rng.integers(_SUBSETS, size=runs)
    belief = np.full((runs, _SUBSETS), 1 / _SUBSETS)
    kept = np.full((runs, _SUBSETS), 1.0)  # what the posterior was when it was lost
    for step in range(_STEPS):
        if step % _INTERRUPTED == 0:
            kept = belief
        order = np.argsort(-belief, axis=1, kind="stable")
        before = np.cumsum(belief[rows, order], axis=1) - belief[rows, order]
        inside = np.zeros_like(belief, dtype=bool)
        inside[rows, order] = before < 0.5
        weights = known(belief, kept)
        q = (weights * inside).sum(axis=1) / weights.sum(axis=1)
        # The next larger minority of those that were calibrated: never less noise than the exact one needs.
        minority = np.minimum(np.minimum(q, 1 - q) * (1 + 1e-9), 0.5)
        flip = noise[np.searchsorted(_MASSES, minority)]
        says = inside[rows[:, 0], secret] != (rng.random(runs) < flip)
        belief = belief * np.where(inside == says[:, None], 1 - flip[:, None], flip[:, None])
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
        "each step's noise is made for somebody who has seen nothing yet",
        "Bayes, S* itself",
        True,
        _forgotten,
    ),
    (
        "posterior lost on resume",
        "after each interruption the posterior begins anew, while the budget goes on",
        "Bayes, S* itself",
        True,
        _reset,
    ),
    (
        "no leak",
        "the same splits with the true posterior; here nothing may be found",
        "Bayes, S* itself",
        False,
        _honest,
    ),
)
