"""Randomness for noise and samples: bytes of the operating system, fresh at each call and never stored.

>>> stream = Draws(test_seed=3).stream("noise", step=0)
>>> 0 <= below(stream, 10) < 10
True

With a test seed the bytes are a function of (seed, purpose, step), so that an interrupted run can be compared with a
whole one; the report of such a run is void.

Gaussian noise on integers, drawn exactly: no float takes part, so no low bit of one can tell what was added to what.

>>> from paczero.mechanism.randomness import Draws
>>> stream = Draws(test_seed=0).stream("noise", 0)
>>> sum(discrete_gaussian(stream, 10) ** 2 for _ in range(2000)) // 2000   # its variance, about σ²
100

A float Gaussian added to a float sum has gaps that depend on the sum (Mironov 2012, "On significance of the least
significant bits"). Here sums are integers in units of c·2^−40 and the noise is the discrete Gaussian, P(x) ∝
exp(−x²/2σ²) over the integers. Its Rényi divergences between integer means are no larger than the continuous one's, and
at σ of 2^30 and more the two laws differ by less than any float can hold. Source: Canonne, Kamath & Steinke 2020, "The
Discrete Gaussian for Differential Privacy", algorithms 1 to 3.

The Poisson sample of a step: each unit is in it with the same probability, independently. Secret, never stored.

>>> from paczero.mechanism.randomness import Draws
>>> poisson_sample(Draws(test_seed=0).stream("sample", 0), 4, 0.5).tolist()
[0, 1, 3]

That nobody knows who was in it is what makes the noise of a step count for more (amplification by sampling), so a
sample of public randomness, such as that of `units_per_step`, would not do.
"""

import hashlib
import os
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from paczero.errors import PACZeroError


class Stream:
    """Uniform bytes: those of the operating system, or with a key a function of it.

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
        return "Stream(redacted)"


class Draws:
    """The streams of one run.

    Args:
        test_seed: decides all of them; None leaves that to the operating system.
    """

    __slots__ = ("__seed",)

    def __init__(self, test_seed: int | None = None) -> None:
        self.__seed = test_seed

    def stream(self, purpose: str, step: int) -> Stream:
        """The stream of one purpose in one step."""
        return Stream(None if self.__seed is None else f"{purpose}|{self.__seed}|{step}")

    def __repr__(self) -> str:
        return "Draws(redacted)"


def bits(stream: Stream, count: int) -> int:
    """A uniform integer in [0, 2^count)."""
    size = (count + 7) // 8
    return int.from_bytes(stream.take(size), "big") >> (8 * size - count) if count else 0


def below(stream: Stream, bound: int) -> int:
    """A uniform integer in [0, bound), exactly: what is too large is drawn again.

    Raises:
        PACZeroError: the bound is below 1.
    """
    if bound < 1:
        raise PACZeroError(f"bound: {bound} was given; expected 1 or more")
    width = (bound - 1).bit_length()
    while (value := bits(stream, width)) >= bound:
        pass
    return value


def discrete_gaussian(stream: Stream, sigma: int) -> int:
    """One draw; 0 where σ is 0.

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


def _laplace(stream: Stream, scale: int) -> int:
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


def _bernoulli_exp(stream: Stream, numerator: int, denominator: int) -> bool:
    """True with probability exp(−numerator/denominator)."""
    while numerator > denominator:
        if not _bernoulli_exp(stream, 1, 1):
            return False
        numerator -= denominator
    k = 1
    while below(stream, denominator * k) < numerator:
        k += 1
    return k % 2 == 1


def poisson_sample(stream: Stream, units: int, rate: float) -> npt.NDArray[np.int64]:
    """The units of one step, ascending; there may be none.

    Args:
        stream: where the words come from, 64 bits a unit.
        units: N >= 1.
        rate: in (0, 1), rounded down to a multiple of 2^−64.

    Raises:
        PACZeroError: a rate outside (0, 1), or no units.
    """
    if not 0 < rate < 1:
        raise PACZeroError(f"sampling: {rate!r} was given; expected a rate above 0 and below 1")
    if units < 1:
        raise PACZeroError(f"units: {units} were given; expected 1 or more")
    words = np.frombuffer(stream.take(8 * units), dtype="<u8")
    return np.flatnonzero(words < np.uint64(int(Fraction(rate) * 2**64)))
