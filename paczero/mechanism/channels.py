"""Channels: how the secret candidate's sign is released so that the output tells at most β nats.

q, the probability of the sign +1 given all earlier releases, is public. A channel turns the sign into an output. Its
noise is solved for from q and β and rounded to the private side of the root. `information` says what that noise really
leaks, and this is charged.

>>> f = BitChannel.calibrate(0.5, 0.01)
>>> round(1 - 2 * f, 4), BitChannel.information(0.5, f) <= 0.01
(0.1412, True)
>>> BitChannel.sample(+1, f, word=0)   # the word, from the operating system, is below f·2^64: flipped
-1.0

`bit` flips the sign with probability f: I = h(q(1−f) + (1−q)f) − h(f), h the binary entropy. `gaussian`, the paper's,
adds N(0, σ²): I = h(q) − E[h(posterior of +1 given the output)]. At small β the bit carries √(π/2) times the signal of
the sign of a Gaussian for the same budget, by data processing: that sign is a bit channel of less information. Source:
PACZero (arXiv 2605.06505) for the Gaussian channel; the bit channel and the numerics are ours.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtri

from paczero.errors import PACZeroError
from paczero.mechanism.bounds import as_probability, at_least_zero

Floats = npt.NDArray[np.float64]

WORD_BITS = 64
_WORDS = 1 << WORD_BITS
_SMALLEST_FLIP = 2.0**-WORD_BITS
# `information` is right to about 1e-15 (bit) and 1e-12 (gaussian) relative; aiming lower keeps the truth below.
_BIT_AIM, _GAUSSIAN_AIM = 1 - 1e-12, 1 - 1e-9
_NIL = 1e-300  # nats below which the most noise is returned: floats have too few digits there
_SERIES_BELOW = 0.5  # 1 − 2f from which the sum of divergences loses nothing to cancellation
_LARGE_SNR = 40.0  # 1/σ from which h(q) − I is nothing in floats, for every q that floats can hold
_SMALL_SNR = 1e-3  # 1/σ below which two terms of the series in 1/σ² are right to 1e-12
_TAIL = 10.0  # standard deviations
_GRID = 2.0**-20


class Channel(ABC):
    """A channel from a sign to a float. `noise` is f or σ; 0.0 releases the sign as it is.

    Attributes:
        name: as in settings and headers.
        real: whether the output is a real number; otherwise it is −1 or +1.
    """

    name: str
    real = False

    @staticmethod
    @abstractmethod
    def calibrate(q: float, nats: float) -> float:
        """The least noise at which the output tells at most `nats` about the sign.

        Args:
            q: in [0, 1], the probability of one of the two signs. That of the less likely one is more exact: a mass
                near 0 keeps its digits, one near 1 does not.
            nats: 0 or more.

        Returns:
            f in [0, 1/2] or σ in [0, inf]: 0.0 where nats >= h(q), the upper end where nats < 1e-300.

        Raises:
            PACZeroError: q outside [0, 1], negative or NaN nats.
        """

    @staticmethod
    @abstractmethod
    def information(q: float, noise: float) -> float:
        """Mutual information in nats between the sign and the output; PACZeroError for q or noise out of range."""

    @staticmethod
    @abstractmethod
    def sample(sign: int, noise: float, word: int) -> float:
        """The output for `sign` (−1 or +1), a function of 64 random bits: 0 <= word < 2^64."""

    @staticmethod
    @abstractmethod
    def log_likelihood(signs: npt.NDArray[np.integer], output: float, noise: float) -> Floats:
        """(M,) log probability (or density up to a constant) of `output` for each of `signs` (M,); −inf: impossible."""


class BitChannel(Channel):
    """The sign, flipped with probability f, a multiple of 2^−64: sampling compares integers and is exact."""

    name = "bit"

    @staticmethod
    def calibrate(q: float, nats: float) -> float:
        """See `Channel.calibrate`: f, rounded up to a multiple of 2^−64; at most 1e-5 relative below `nats`."""
        m, nats = _minority(q), at_least_zero("nats", nats)
        if nats >= _entropy(m):
            return 0.0
        target = nats * _BIT_AIM
        if target < _NIL:
            return 0.5
        if _bit_information(m, _SMALLEST_FLIP) <= target:
            return _SMALLEST_FLIP
        f, step = _round_up(_bit_root(m, target)), _SMALLEST_FLIP
        while f < 0.5 and _bit_information(m, f) > target:  # doubling: where I is flat its rounding hides single steps
            f, step = max(math.nextafter(f, 1.0), _round_up(f + step)), 2 * step
        return min(f, 0.5)

    @staticmethod
    def information(q: float, noise: float) -> float:
        """See `Channel.information`; right to about 1e-15 relative."""
        return _bit_information(_minority(q), _flip(noise))

    @staticmethod
    def sample(sign: int, noise: float, word: int) -> float:
        """See `Channel.sample`: flipped if and only if word < f·2^64."""
        threshold = round(math.ldexp(_flip(noise), WORD_BITS))  # exact: scaling by a power of two, then an integer
        return float(-_sign(sign) if word < threshold else _sign(sign))

    @staticmethod
    def log_likelihood(signs: npt.NDArray[np.integer], output: float, noise: float) -> Floats:
        """See `Channel.log_likelihood`; `output` is −1 or +1."""
        f = _flip(noise)
        kept, flipped = math.log1p(-f), math.log(f) if f > 0 else -math.inf
        return np.where(np.asarray(signs) == _sign(output), kept, flipped)


class GaussianChannel(Channel):
    """The sign plus N(0, σ²), on a grid of σ·2^−20 without zero, so that no low bit of the float tells the sign."""

    name = "gaussian"
    real = True

    @staticmethod
    def calibrate(q: float, nats: float) -> float:
        """See `Channel.calibrate`: σ; infinity for nats = 0."""
        m, nats = _minority(q), at_least_zero("nats", nats)
        if nats >= _entropy(m):
            return 0.0
        target = nats * _GAUSSIAN_AIM
        if target < _NIL:
            return math.inf
        # I <= 2 m (1 − m) / σ² (the sign's variance times snr²/2), so the root lies above
        low = math.sqrt(target / (2 * m * (1 - m))) * (1 - 1e-9)
        if low < _SMALL_SNR / 2:
            half = 2 * m * (1 - m)  # target = x − x² with x = half·snr²
            snr = math.sqrt(2 * target / (1 + math.sqrt(1 - 4 * target)) / half)
        else:
            high = 2 * low
            while high < _LARGE_SNR and _gaussian_information(m, high) < target:
                high *= 2
            snr = _log_root(lambda s: _gaussian_information(m, s), target, low, high)
        sigma, step = 1 / snr, 1e-15
        while _gaussian_information(m, 1 / sigma) > target:  # doubling, as for the bit
            sigma, step = sigma * (1 + step), 2 * step
        return sigma

    @staticmethod
    def information(q: float, noise: float) -> float:
        """See `Channel.information`; right to about 1e-12 relative."""
        m, sigma = _minority(q), at_least_zero("noise", noise)
        return _gaussian_information(m, math.inf if sigma == 0 else 1 / sigma)

    @staticmethod
    def sample(sign: int, noise: float, word: int) -> float:
        """See `Channel.sample`. At σ = infinity the output is N(0, 1), whatever the sign."""
        sigma, mean = at_least_zero("noise", noise), float(_sign(sign))
        if sigma == 0:
            return mean
        if math.isinf(sigma):
            mean, sigma = 0.0, 1.0
        # the upper half mirrors the lower one: (word + 1/2)/2^64 near 1 would round to 1
        lower = min(word, _WORDS - 1 - word)
        normal = float(ndtri((2 * lower + 1) / (2 * _WORDS)))
        step = sigma * _GRID
        value = mean + sigma * (normal if lower == word else -normal)
        return (math.floor(value / step) + 0.5) * step

    @staticmethod
    def log_likelihood(signs: npt.NDArray[np.integer], output: float, noise: float) -> Floats:
        """See `Channel.log_likelihood`; `output` is any finite float, and −1 or +1 where σ = 0."""
        array, sigma = np.asarray(signs), at_least_zero("noise", noise)
        if sigma == 0:
            return np.where(array == _sign(output), 0.0, -np.inf)
        return -0.5 * ((output - array.astype(np.float64)) / sigma) ** 2


def channel(name: str) -> type[Channel]:
    """The channel called `name`, `bit` or `gaussian`; PACZeroError for any other."""
    for made in (BitChannel, GaussianChannel):
        if made.name == name:
            return made
    raise PACZeroError(f"channel: {name!r} was given; expected bit or gaussian")


def _minority(q: float) -> float:
    q = as_probability("q", q)
    return min(q, 1 - q)  # 1 − q is exact from 1/2 on


def _flip(noise: float) -> float:
    if not 0 <= noise <= 0.5:
        raise PACZeroError(f"noise: {noise!r} was given; expected a flip probability from 0 to 1/2")
    return float(noise)


def _sign(value: float) -> int:
    if value not in (-1, 1):
        raise PACZeroError(f"sign: {value!r} was given; expected -1 or +1")
    return int(value)


def _entropy(m: float) -> float:
    """Binary entropy in nats, for the smaller probability."""
    return -m * math.log(m) - (1 - m) * math.log1p(-m) if m > 0 else 0.0


def _log_root(function: Callable[[float], float], target: float, low: float, high: float) -> float:
    """x in [low, high] with function(x) = target, for an increasing function, solved in the logarithms of both."""
    scaled = math.log(target)
    ends = math.log(low), math.log(high)
    return math.exp(brentq(lambda v: math.log(function(math.exp(v))) - scaled, *ends, xtol=1e-15, rtol=1e-15))


def _round_up(f: float) -> float:
    return math.ldexp(math.ceil(math.ldexp(f, WORD_BITS)), -WORD_BITS)


def _bit_root(m: float, target: float) -> float:
    """f with I(f) = target, near enough to be rounded up, through u = ln((1−f)/f), which resolves f near 0 and 1/2."""

    def information(u: float) -> float:
        return _bit_information(m, 1 / (1 + math.exp(u)), math.tanh(u / 2))

    high = -math.log(_SMALLEST_FLIP)
    low = min(math.sqrt(2 * target / (m * (1 - m))) * (1 - 1e-9), high)  # as I <= m (1 − m) u²/2
    return 1 / (1 + math.exp(_log_root(information, target, low, high)))


def _bit_information(m: float, f: float, c: float | None = None) -> float:
    """I for a minority of mass m and flips f; c = 1 − 2f, given where it is known better than f resolves it."""
    c = 1 - 2 * f if c is None else c
    if m == 0 or c == 0:
        return 0.0
    if f == 0:
        return _entropy(m)
    if c < _SERIES_BELOW:
        return _bit_series(m, c)
    # mean divergence of the output's law from its mixture, whose probability of the minority's sign is f + m·c
    shift = m * c
    a = f + shift
    minority = (1 - f) * math.log((1 - f) / a) + f * math.log(f / (1 - a))
    majority = -f * math.log1p(shift / f) - (1 - f) * math.log1p(-shift / (1 - f))
    return m * minority + (1 - m) * majority


def _bit_series(m: float, c: float) -> float:
    """h((1−bc)/2) − h((1−c)/2), b = 1 − 2m, by ln 2 − h((1−x)/2) = Σ x^2k / (2k(2k−1)): all terms are positive."""
    log_b2 = math.log1p(-4 * m * (1 - m)) if m < 0.25 else 2 * math.log(1 - 2 * m) if m < 0.5 else -math.inf
    total, power, square = 0.0, 1.0, c * c
    for k in range(1, 40):
        power *= square
        term = power * -math.expm1(k * log_b2) / (2 * k * (2 * k - 1))
        total += term
        if term < 1e-18 * total:
            break
    return total


def _gaussian_information(m: float, snr: float) -> float:
    """I for a minority of mass m and snr = 1/σ: E[kl(posterior ‖ prior)] over the output z, in units of σ.

    The trapezoid rule converges like exp(−2πd/h) for an integrand that is analytic in a strip of half-width d, here
    π/(2·snr), where the posterior's denominator vanishes.
    """
    half = 2 * m * (1 - m)
    if half == 0 or snr == 0:
        return 0.0
    if snr >= _LARGE_SNR:
        return _entropy(m)
    if snr < _SMALL_SNR:
        x = half * snr * snr
        return x - x * x
    count = math.ceil((snr + _TAIL) / min(0.5, 0.3 / snr))
    z, h = np.linspace(-snr - _TAIL, snr + _TAIL, 2 * count + 1, retstep=True)
    t = 2 * snr * z  # log likelihood ratio of the minority's sign, whose mean is +snr
    # ln of the posterior's denominator 1 + m(e^t − 1): two forms, each exact where the other overflows or cancels
    small = np.log1p(m * np.expm1(np.minimum(t, 30.0)))
    log_w = np.where(t < 30.0, small, np.logaddexp(math.log1p(-m), math.log(m) + t))
    divergence = np.exp(math.log(m) + t - log_w) * t - log_w
    density = (1 - m) * np.exp(-0.5 * (z + snr) ** 2) + m * np.exp(-0.5 * (z - snr) ** 2)
    return float((divergence * density).sum() * h / math.sqrt(2 * math.pi))
