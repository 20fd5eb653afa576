"""The law of one released value given the clipped derivatives of the units, as an attacker computes it.

>>> round(float(log_likelihood(np.array(1.0), np.array(20.0), np.array(0.0), noise=0.05, real=False)), 4)
-0.3133

An attacker knows derivatives, clip, noise and rates, and neither coins nor the secret Poisson sample. The sum over
units whose presence is unknown has a known mean and variance; it is taken as normal.
"""

import math

import numpy as np
from scipy.special import log_expit

from paczero.audit.arrays import Floats
from paczero.config import PACZeroConfig
from paczero.mechanism.registry import spec_of


def clipped_shares(args: PACZeroConfig, derivatives: Floats) -> Floats:
    """Derivatives (…, K, N) clipped as the mechanism clips, in units of the clip.

    Each by itself, or, where the K values are one release, as one vector in L2.
    """
    spec, clip = spec_of(args.mechanism.name), args.mechanism.number_of_clip
    if clip is None:
        return np.asarray(derivatives, dtype=np.float64)
    shares = np.asarray(derivatives, dtype=np.float64) / clip
    if spec.is_dp and not spec.per_direction:
        return np.asarray(shares / np.maximum(np.sqrt(np.square(shares).sum(axis=-2, keepdims=True)), 1.0))
    return np.clip(shares, -1.0, 1.0)


def noisy_sums(args: PACZeroConfig, y: Floats, pool: int) -> Floats:
    """What a differentially private run released, (T, K): signs as they are, means as sums in units of the clip."""
    if not spec_of(args.mechanism.name).real:
        return y
    return y * ((args.mechanism.sampling_prob or 1.0) * pool / (args.mechanism.number_of_clip or 1.0))


def log_likelihood(y: Floats, mean: Floats, variance: Floats | float = 0.0, *, noise: float, real: bool) -> Floats:
    """ln P(y) up to a constant, of any shape.

    Args:
        y: a sign, or a noisy sum in units of the clip.
        mean, variance: of the sum of the clipped derivatives.
        noise: ε₀ of signs, σ of real values.
        real: whether y is real.
    """
    if real:
        spread = noise**2 + variance
        return np.asarray(-0.5 * ((y - mean) ** 2 / spread + np.log(spread)))
    # The mean of a logistic function over a normal argument (MacKay 1992), to about 1 %.
    odds = noise * mean / np.sqrt(1 + math.pi / 8 * noise**2 * variance)
    return np.asarray(log_expit(np.sign(y) * odds))


def mixed(present: Floats, absent: Floats, rate: float) -> Floats:
    """ln of the likelihood where a unit is in a step's sample with probability `rate`, from both cases' logarithms."""
    if rate >= 1:
        return present
    return np.logaddexp(math.log(rate) + present, math.log1p(-rate) + absent)


def dp_scores(args: PACZeroConfig, y: Floats, derivatives: Floats, known: int, *, noise: float, pool: int) -> Floats:
    """`membership_scores` of a differentially private run.

    Args:
        args: its settings.
        y: (T, K) released.
        derivatives: (T, K, N) of all units; the canaries are the last.
        known, noise: as for `membership_scores`.
        pool: how many units it took as its pool.
    """
    real, rate = spec_of(args.mechanism.name).real, args.mechanism.sampling_prob or 1.0
    shares = clipped_shares(args, derivatives)
    return membership_scores(noisy_sums(args, y, pool), shares, known, noise=noise, rate=rate, real=real)


def membership_scores(y: Floats, shares: Floats, known: int, *, noise: float, rate: float, real: bool) -> Floats:
    """ln P(released | in the pool) − ln P(released | not in it) of each canary, (m,), all other canaries being unknown.

    Args:
        y: (T, K) signs, or noisy sums in units of the clip.
        shares: (T, K, N) clipped derivatives of all units, in units of the clip; the canaries are the last.
        known: how many units, the first ones, are in the pool for sure.
        noise: ε₀ of signs, σ of real values.
        rate: of the Poisson samples.
        real: whether y is real.
    """
    chance = np.where(np.arange(shares.shape[-1]) < known, rate, rate / 2)  # that a unit is in a step's sum
    means, variances = shares * chance, np.square(shares) * (chance * (1 - chance))
    own = shares[..., known:]
    mean = means.sum(axis=-1, keepdims=True) - means[..., known:]
    variance = np.maximum(variances.sum(axis=-1, keepdims=True) - variances[..., known:], 0.0)
    with_it, without = (
        log_likelihood(y[..., None], mean + added, variance, noise=noise, real=real) for added in (own, 0.0)
    )
    return np.asarray((mixed(with_it, without, rate) - without).sum(axis=(0, 1)))
