"""How many nats the re-runs really tell about S*, from below.

>>> round(mean_at_least([0.5, 0.3] * 200, least=-3.0, error=0.001), 2)
0.31

For any distribution q over the candidates that is a function of the released values, E[ln(M·q(S*))] <= I(S*; Y)
(Gibbs' inequality); with the true posterior it is equal. So a lower bound on this mean that lies above B refutes the
claim. Several q are tried: the posterior for the noise that the journal states, and posteriors for less noise, in case
the journal is wrong. Each is mixed with a little of the prior, so that no single run counts without limit.

The bound is an empirical one, which adapts to the variance: the betting bound of Waudby-Smith and Ramdas 2024,
"Estimating means of bounded random variables by betting". It needs a lower limit of the values only. The classical
empirical Bernstein interval (Maurer and Pontil 2009) holds for the same values, but with M = 128 and 300 runs it is
wider than 0.5 nats, since it also pays for the largest value, ln M.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit, logit, logsumexp

from paczero.audit.arrays import numbers
from paczero.audit.attacks import bayes
from paczero.audit.simulation import Trial

ERROR = 0.001  # probability that a true budget is refuted, at most

_PRIOR = 0.05  # the share of the prior in each q
_SHARPER = (1.0, 2.0, 6.0)  # factors of the log-odds that the journal states
_COIN = 0.35  # the flips that are tried in the place of coins
_BETS = np.geomspace(0.005, 0.95, 24)


@dataclass(frozen=True)
class InformationEstimate:
    """What the re-runs tell about S*, beside the budget.

    Attributes:
        estimate: the largest mean over the tried posteriors, nats a run; it is below I(S*; Y) on average.
        low: lower bound on I(S*; Y), nats, whose error is stated; 0.0 where nothing is shown.
        budget: B, nats.
        runs: number of independent runs.
        error: probability that `low` is above I(S*; Y), at most.
        exceeded: whether `low` lies above B.
    """

    estimate: float
    low: float
    budget: float
    runs: int
    error: float
    exceeded: bool


def estimate(trials: Sequence[Trial], budget: float, *, gaussian: bool, look: int = 1) -> InformationEstimate:
    """The information of these runs.

    Args:
        trials: independent runs of one simulation with candidates.
        budget: B that is claimed.
        gaussian: whether contested releases use the Gaussian channel.
        look: as for `channel_tests`.
    """
    error = ERROR / (look * (look + 1))
    means, lows = [], []
    for factor in _SHARPER:
        nats = [_nats(trial, factor, gaussian) for trial in trials]
        means.append(float(np.mean(nats)))
        lows.append(mean_at_least(nats, least=math.log(_PRIOR), error=error / len(_SHARPER)))
    low = max(0.0, *lows)
    return InformationEstimate(max(means), low, budget, len(trials), error, low > budget)


def mean_at_least(values: npt.ArrayLike, *, least: float, error: float) -> float:
    """A lower bound on the mean of independent values; `least` where nothing is shown.

    It is valid however many values there are, and wherever one stops.

    Args:
        values: (n,) none below `least`.
        least: the lower limit.
        error: probability that the bound is above the mean, at most.
    """
    above = numbers("values", values) - least

    def excess(mean: float) -> float:
        """ln of the capital of a gambler who bets that the mean is above `mean`, over what is needed."""
        logs = np.log1p(_BETS[:, None] * (above / mean - 1)).sum(axis=1)
        return float(logsumexp(logs) - math.log(len(_BETS)) + math.log(error))

    smallest, average = 1e-9, float(above.mean())
    if average <= smallest or excess(smallest) <= 0:
        return least
    return least + float(brentq(excess, smallest, average, xtol=1e-12))


def _nats(trial: Trial, factor: float, gaussian: bool) -> float:
    """ln(M·q(S*)) for noise whose log-odds are `factor` times those stated."""
    noise = trial.noise
    if gaussian:
        noise = noise / math.sqrt(factor)
    elif factor != 1:
        odds = factor * logit(np.clip(noise, 1e-300, 0.5))
        noise = np.where(noise == 0.5, _COIN, np.where(noise == 0, 0.0, expit(odds)))
    belief = bayes(replace(trial, noise=noise), gaussian=gaussian)
    assert trial.secret is not None
    return math.log(_PRIOR + (1 - _PRIOR) * len(belief) * float(belief[trial.secret]))
