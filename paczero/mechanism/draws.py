"""Randomness for noise and samples: bytes of the operating system, fresh at each call and never stored.

>>> stream = Draws(test_seed=3).stream("noise", step=0)
>>> 0 <= below(stream, 10) < 10
True

With a test seed the bytes are a function of (seed, purpose, step), so that an interrupted run can be compared with a
whole one; the report of such a run is void.
"""

import hashlib
import os

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
