"""Attacks on the secret half: the optimal one, and one that learns from examples.

    belief = bayes(trial, membership)
    belief.shape, belief.sum()
    # ((128,), 1.0)

`bayes` knows model, records, candidates and procedure; only S* is unknown. It computes the probability of each
candidate given the releases. No attack on the releases is right more often. `trained` knows none of this. It sees runs
whose secret is known, and learns to tell the halves apart from weights and losses. It can find a leak that the model of
`bayes` misses.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from paczero.audit.arrays import Bools, Floats
from paczero.audit.simulation import Trial
from paczero.errors import PACZeroError


def bayes(trial: Trial, *, gaussian: bool = False) -> Floats:
    """P(candidate m is S* | all releases), (M,).

    Args:
        trial: with the signs of all candidates along the run's path.
        gaussian: whether contested releases use the Gaussian channel; the attacker then sees its real output, as the
            ledger assumes.
    """
    if trial.signs is None:
        raise PACZeroError("trial: no candidates were given; expected a run of a mechanism with candidates")
    signs, output = trial.signs.astype(np.float64), trial.output[:, :, None]
    possible = np.zeros(signs.shape[2])
    for step, direction in np.ndindex(signs.shape[:2]):
        noise, s, out = trial.noise[step, direction], signs[step, direction], output[step, direction]
        alive = np.isfinite(possible)
        if len(set(s[alive])) < 2 or np.isinf(noise) or (noise == 0.5 and not gaussian):
            continue  # unanimous, or a fair coin
        if gaussian and noise > 0:
            possible = possible - (out - s) ** 2 / (2 * noise**2)
        elif out[0] != 0:  # 0 is `skip`, which reveals nothing about S*
            with np.errstate(divide="ignore"):
                possible = possible + np.log(np.where(s == out[0], 1 - noise, noise))
    weights = np.exp(possible - possible.max())
    return np.asarray(weights / weights.sum())


def half_guesses(belief: Floats, membership: Bools, coins: Bools) -> Bools:
    """The likelier half of every unit, (N,); the coins (N,) break ties."""
    inside = membership @ belief
    even = np.abs(inside - 0.5) < 1e-12
    return np.where(even, coins, inside > 0.5)


def features(trial: Trial, *, source: str) -> npt.NDArray[np.float64]:
    """The input of the trained attacker: `model` (weights and losses) or `transcript` (released values)."""
    if source == "model":
        return np.concatenate([trial.weights.astype(np.float64), trial.losses])
    return trial.y.ravel()


def trained(seen: Sequence[npt.NDArray[np.float64]], inside: Bools, new: Sequence[npt.NDArray[np.float64]]) -> Bools:
    """Guesses (n,) about one unit's half in new runs, learned from runs whose secret is known.

    Uses scikit-learn's logistic regression on standardised features, with a strong penalty for many features and few
    runs. Nothing is chosen on the new runs.

    Args:
        seen: features of each known run.
        inside: (r,) whether the unit was in S* there.
        new: features of the runs to guess about.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known, unknown = np.stack(seen), np.stack(new)
    if inside.all() or not inside.any():
        return np.full(len(unknown), bool(inside[0]))
    varies = known.std(axis=0) > 0
    if not varies.any():  # nothing to learn from
        return np.full(len(unknown), bool(inside.mean() > 0.5))
    known, unknown = known[:, varies], unknown[:, varies]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=500))
    model.fit(known, inside)
    return np.asarray(model.predict(unknown), dtype=bool)
