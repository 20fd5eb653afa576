"""Differential privacy over the pool: DPSign, DP-AggZO and DPZero. None of them reads the secret.

>>> import numpy as np
>>> from paczero.mechanism.randomness import RandomStreams
>>> g = np.array([[0.5, 1.0], [1.0, -1.0]])
>>> DPSign(clip=1.0, eps0=1e6, units=2, rng=RandomStreams(), directions=2).release(0, g).y[0]
1
>>> mean = AggZO(clip=8.0, sigma=0.0, units=2, rng=RandomStreams(), directions=2)
>>> [round(y, 9) for y in mean.release(0, g).y]
[0.75, 0.0]

Adjacency: one unit's derivatives become 0 (zero-out), and N is public. So one unit moves a clipped sum by c at most.

`DPSign` releases y = +1 with probability 1/(1 + e^(−ε₀S)) for each direction, with S = Σ clip(g)/c. One unit moves the
log-odds of y by ε₀ at most, so each bit is ε₀-DP by itself (the exponential mechanism on {−1, +1}). S is an exact
integer in units of 2^−40, and the draw is an exact Bernoulli variable: no probability is ever a float. Where steps use
a Poisson sample of the pool, each bit draws its own, and K is 1. With individual accounting (`individual`) a unit
contributes until it has spent its share.

`AggZO` releases the mean of K-vectors, each clipped in L2, under Gaussian noise: one Gaussian release a step, with σ in
units of c. Where steps use a Poisson sample of the pool, the sum is divided by the public expected size of the sample,
never by the drawn one. Everything up to the noise is in integers, in units of c·2^−40: a clipped vector is rounded
towards 0, so that it gets no longer, and the noise is an exact discrete Gaussian. The released float is made of the
noisy integer alone.

`DPZero` is `AggZO` with K = 1, where clipping in L2 is clipping to ±c. Source: Zhang et al. 2023, "DPZero: Private
Fine-Tuning of Language Models without Backpropagation" (arXiv 2310.09639).
"""

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from paczero.errors import PACZeroError
from paczero.mechanism.base import Floats, StatelessMechanism, UnitIndices
from paczero.mechanism.individual import Account
from paczero.mechanism.randomness import RandomStreams, discrete_gaussian, logistic_sign, poisson_sample
from paczero.mechanism.signs import LARGEST_POOL, SCALE, quantise

_SHORTER = 1 - 2.0**-45  # more than floats can make a clipped vector too long by


class _Sampled(StatelessMechanism):
    """A mechanism whose steps use the whole pool or a secret Poisson sample of it.

    Args:
        clip: c > 0.
        noise: for the journal; 0 or more.
        units: N, public.
        rng: where samples and noise come from.
        sampling_prob: the Poisson rate, in (0, 1]; at 1 each step uses the whole pool.
        directions: K >= 1.

    Raises:
        PACZeroError: a value out of range.
    """

    budget = 0.0
    _noise_name: str  # of the argument, for messages

    def __init__(
        self, *, clip: float, noise: float, units: int, rng: RandomStreams, sampling_prob: float, directions: int
    ) -> None:
        super().__init__(directions)
        for name, value, fine in (
            ("clip", clip, not isinstance(clip, str) and math.isfinite(clip) and clip > 0),
            (self._noise_name, noise, math.isfinite(noise) and noise >= 0),
            ("units", units, 1 <= units <= LARGEST_POOL),
            ("sampling_prob", sampling_prob, 0 < sampling_prob <= 1),
        ):
            if not fine:
                raise PACZeroError(f"{name}: {value!r} was given; expected a value in range, see {type(self).__name__}")
        self.noise = float(noise)
        self._clip, self._units, self._rate, self._rng = float(clip), units, float(sampling_prob), rng
        self._drawn: UnitIndices | None = None

    def sample(self, step: int) -> UnitIndices | None:
        """The secret Poisson sample of the units that step `step` is measured on; None for the whole pool at rate 1.

        Raises:
            PACZeroError: another step is next.
        """
        if step != self._step:
            raise PACZeroError(f"step: {step!r} was given; expected step {self._step}")
        if self._rate < 1:
            self._drawn = poisson_sample(self._rng.stream("sample", step), self._units, self._rate)
        return self._drawn

    def _check_units(self, rows: int, unit_indices: UnitIndices | None) -> None:
        drawn, self._drawn = self._drawn, None
        if self._rate < 1 and (drawn is None or unit_indices is None or not np.array_equal(drawn, unit_indices)):
            raise PACZeroError("unit_indices: not the sample of this step; expected what `sample` drew")
        if self._rate == 1 and unit_indices is not None:
            raise PACZeroError("unit_indices: some were given; expected none: the sampling rate 1 takes the whole pool")
        expected = self._units if drawn is None else len(drawn)
        if rows != expected:
            raise PACZeroError(f"derivatives: {rows} rows were given; expected one a unit, {expected} in this step")


class DPSign(_Sampled):
    """A random sign for each direction, whose log-odds are ε₀ times the clipped sum.

    Args:
        clip: c > 0, each unit's derivative along each direction is clipped to ±c.
        eps0: ε₀ >= 0, log-odds per clip; 0 releases fair coins.
        units, rng, sampling_prob: as for `AggZO`.
        directions: K >= 1; 1 where steps use a sample.
        rho: the share that each unit may spend, with individual accounting; without, each unit contributes always.

    Raises:
        PACZeroError: a value out of range.
    """

    name = "dp-sign"
    _noise_name = "eps0"

    def __init__(
        self,
        *,
        clip: float,
        eps0: float,
        units: int,
        rng: RandomStreams,
        sampling_prob: float = 1.0,
        directions: int = 1,
        rho: float | None = None,
    ) -> None:
        super().__init__(
            clip=clip, noise=eps0, units=units, rng=rng, sampling_prob=sampling_prob, directions=directions
        )
        if sampling_prob < 1 and directions > 1:
            raise PACZeroError(
                f"directions: {directions} was given with sampling_prob {sampling_prob!r}; expected 1: each bit of "
                "dp-sign has a sample of its own, so take more steps instead"
            )
        if sampling_prob < 1 and rho is not None:
            raise PACZeroError(f"rho: {rho!r} was given with sampling_prob {sampling_prob!r}; expected no samples")
        self._per_unit = Fraction(self.noise) / int(SCALE)  # log-odds per unit of the integer sum
        self._account = None if rho is None else Account(rho, eps0=self.noise, units=units)

    @property
    def unit_spent(self) -> UnitIndices | None:
        """What each unit has spent; see `Mechanism.unit_spent`."""
        return None if self._account is None else self._account.spent

    def restore_spent(self, spent: UnitIndices) -> None:
        """Takes it again; see `Mechanism.restore_spent`."""
        if self._account is None:
            raise PACZeroError("spent: accounts of units were given; expected none without individual accounting")
        self._account.restore(spent)

    def _values(self, step: int, derivatives: Floats) -> tuple[int, ...]:
        stream = self._rng.stream("dp-sign", step)
        shares = quantise(derivatives, clip=self._clip)[0] if len(derivatives) else np.zeros((1, 1), dtype=np.int64)
        if self._account is not None:
            shares = self._account.admitted(shares)
        sums = shares.sum(axis=0).tolist()
        rise, run = self._per_unit.as_integer_ratio()
        return tuple(logistic_sign(stream, total * rise, run) for total in sums)


class AggZO(_Sampled):
    """The noisy mean of clipped K-vectors.

    Args:
        clip: c > 0, the Euclidean length of a unit's K-vector at most.
        sigma: σ >= 0, in units of c; 0 releases the mean as it is.
        units: N, public.
        rng: where samples and noise come from.
        sampling_prob: the Poisson rate, in (0, 1]; at 1 each step uses the whole pool.
        directions: K >= 1.

    Raises:
        PACZeroError: a value out of range.
    """

    name = "dp-aggzo"
    real = True
    _noise_name = "sigma"

    def __init__(
        self,
        *,
        clip: float,
        sigma: float,
        units: int,
        rng: RandomStreams,
        sampling_prob: float = 1.0,
        directions: int = 1,
    ) -> None:
        super().__init__(
            clip=clip, noise=sigma, units=units, rng=rng, sampling_prob=sampling_prob, directions=directions
        )
        self._sigma = math.ceil(Fraction(self.noise) * int(SCALE))

    def _values(self, step: int, derivatives: Floats) -> tuple[float, ...]:
        stream = self._rng.stream("noise", step)
        totals = clipped(derivatives, self._clip).sum(axis=0).tolist()
        unit = self._clip / (SCALE * self._rate * self._units)
        return tuple(float(total + discrete_gaussian(stream, self._sigma)) * unit for total in totals)


class DPZero(AggZO):
    """The noisy mean of clipped derivatives along one direction.

    Args:
        clip, sigma, units, rng, sampling_prob: as for `AggZO`.
    """

    name = "dpzero"

    def __init__(
        self, *, clip: float, sigma: float, units: int, rng: RandomStreams, sampling_prob: float = 1.0
    ) -> None:
        super().__init__(clip=clip, sigma=sigma, units=units, rng=rng, sampling_prob=sampling_prob)


def clipped(derivatives: Floats, clip: float) -> npt.NDArray[np.int64]:
    """Rows scaled down to the length c where they are longer, in units of c·2^−40, rounded towards 0.

    Args:
        derivatives: (n, K), finite.
        clip: c > 0.

    Returns:
        int64 (n, K); no row is longer than 2^40.
    """
    largest = np.abs(derivatives).max(axis=1, keepdims=True, initial=0.0)
    shape = derivatives / np.where(largest > 0, largest, 1.0)  # within ±1, or squares could overflow
    length = np.sqrt(np.square(shape).sum(axis=1, keepdims=True))
    with np.errstate(over="ignore"):  # an infinite quotient is longer than the clip, which is all that matters here
        size = np.minimum(largest / clip, 1 / np.maximum(length, 1.0))
    return np.trunc(shape * (size * (_SHORTER * SCALE))).astype(np.int64)
