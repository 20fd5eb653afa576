"""Secret randomness: coins of contested releases, Gaussian noise, Poisson samples. Never stored.

>>> stream = RandomStreams(test_seed=0).stream("noise", 0)
>>> 0 <= below(stream, 10) < 10
True
>>> sum(discrete_gaussian(stream, 10) ** 2 for _ in range(2000)) // 2000   # the variance, about σ²
100
>>> poisson_sample(RandomStreams(test_seed=0).stream("sample", 0), 4, 0.5).tolist()
[0, 1, 3]
>>> Coins(test_seed=0).word(step=0, k=0) < 2**64
True

All of it comes from the operating system, fresh at each call. With a test seed it is a function of (seed, purpose,
step), so that an interrupted run can be compared with a whole one; the report of such a run is void.

Gaussian noise is drawn exactly, on the integers. A float Gaussian added to a float sum has gaps that depend on the sum
(Mironov 2012, "On significance of the least significant bits"). Here sums are integers in units of c·2^−40 and the
noise is the discrete Gaussian, P(x) ∝ exp(−x²/2σ²). Its Rényi divergences between integer means are no larger than
those of the continuous one, and at σ of 2^30 and more the two laws differ by less than any float can hold. Source:
Canonne, Kamath & Steinke 2020, "The Discrete Gaussian for Differential Privacy", algorithms 1 to 3.

A Poisson sample has each unit in it with the same probability, independently. Amplification by sampling needs the
sample to be secret, so the public randomness of `units_per_step` would not do.
"""

import hashlib
import os
import secrets
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from paczero.errors import PACZeroError


class Coins:
    """The words that decide contested releases.

    Args:
        test_seed: decides all of them; None leaves that to the operating system.
    """

    __slots__ = ("__seed",)

    def __init__(self, test_seed: int | None = None) -> None:
        self.__seed = test_seed

    def word(self, step: int, k: int) -> int:
        """64 uniform bits as an integer in [0, 2^64), for direction k of `step`."""
        if self.__seed is None:
            return secrets.randbits(64)
        return int.from_bytes(hashlib.sha256(f"coin|{self.__seed}|{step}|{k}".encode()).digest()[:8], "big")

    def __repr__(self) -> str:
        return "Coins(redacted)"


class RandomStream:
    """Uniform bytes, of the operating system or a function of a key.

    Args:
        key: None for the operating system.
    """

    __slots__ = ("__count", "__key")

    def __init__(self, key: str | None = None) -> None:
        self.__key = key
        self.__count = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if self.__key is None:
            return os.urandom(count)
        self.__count += 1
        return hashlib.shake_256(f"{self.__key}|{self.__count}".encode()).digest(count)

    def __repr__(self) -> str:
        return "RandomStream(redacted)"


class RandomStreams:
    """The streams of one run.

    Args:
        test_seed: decides all of them; None leaves that to the operating system.
    """

    __slots__ = ("__seed",)

    def __init__(self, test_seed: int | None = None) -> None:
        self.__seed = test_seed

    def stream(self, purpose: str, step: int) -> RandomStream:
        """The stream of one purpose in one step."""
        return RandomStream(None if self.__seed is None else f"{purpose}|{self.__seed}|{step}")

    def __repr__(self) -> str:
        return "RandomStreams(redacted)"


def bits(stream: RandomStream, count: int) -> int:
    """A uniform integer in [0, 2^count)."""
    size = (count + 7) // 8
    return int.from_bytes(stream.take(size), "big") >> (8 * size - count) if count else 0


def below(stream: RandomStream, bound: int) -> int:
    """A uniform integer in [0, bound), exactly: what is too large is drawn again. The bound is 1 or more."""
    width = (bound - 1).bit_length()
    while (value := bits(stream, width)) >= bound:
        pass
    return value


def discrete_gaussian(stream: RandomStream, sigma: int) -> int:
    """One draw of the discrete Gaussian; 0 where σ is 0.

    Args:
        stream: where the bytes come from.
        sigma: σ >= 0, a whole number.

    Raises:
        PACZeroError: σ is negative.
    """
    if sigma < 0:
        raise PACZeroError(f"sigma: {sigma} was given; expected 0 or more")
    if sigma == 0:
        return 0
    scale, variance = sigma + 1, sigma * sigma
    while True:
        value = _laplace(stream, scale)
        if _bernoulli_exp(stream, (abs(value) * scale - variance) ** 2, 2 * variance * scale * scale):
            return value


def _laplace(stream: RandomStream, scale: int) -> int:
    """P(x) ∝ exp(−|x|/scale)."""
    while True:
        rest = below(stream, scale)
        if not _bernoulli_exp(stream, rest, scale):
            continue
        whole = 0
        while _bernoulli_exp(stream, 1, 1):
            whole += 1
        value, negative = rest + scale * whole, below(stream, 2)
        if value or not negative:  # or 0 would come twice as often
            return -value if negative else value


def _bernoulli_exp(stream: RandomStream, numerator: int, denominator: int) -> bool:
    """True with probability exp(−numerator/denominator)."""
    while numerator > denominator:
        if not _bernoulli_exp(stream, 1, 1):
            return False
        numerator -= denominator
    k = 1
    while below(stream, denominator * k) < numerator:
        k += 1
    return k % 2 == 1


def logistic_sign(stream: RandomStream, numerator: int, denominator: int) -> int:
    """+1 with probability 1/(1 + exp(−numerator/denominator)), exactly; otherwise −1.

    A fair coin accepts the likelier sign, and the other one is accepted with probability exp(−|log-odds|); where both
    are refused, it is drawn again.
    """
    likelier = 1 if numerator >= 0 else -1
    while True:
        if below(stream, 2):
            return likelier
        if _bernoulli_exp(stream, abs(numerator), denominator):
            return -likelier


def poisson_sample(stream: RandomStream, units: int, rate: float) -> npt.NDArray[np.int64]:
    """The units of one step, ascending; it may be empty.

    Args:
        stream: where the words come from, 64 bits a unit.
        units: N >= 1.
        rate: in (0, 1), rounded down to a multiple of 2^−64.

    Raises:
        PACZeroError: the rate is outside (0, 1).
    """
    if not 0 < rate < 1:
        raise PACZeroError(f"sampling_prob: {rate!r} was given; expected a rate above 0 and below 1")
    words = np.frombuffer(stream.take(8 * units), dtype="<u8")
    return np.flatnonzero(words < np.uint64(int(Fraction(rate) * 2**64)))
