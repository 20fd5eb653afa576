"""Randomness for noise and samples: the operating system's, or a function of a test seed."""

import pytest

from paczero.errors import PACZeroError
from paczero.mechanism import randomness as module
from paczero.mechanism.randomness import Draws, Stream, below, bits


def test_the_operating_system_is_asked_each_time(monkeypatch):
    asked = []
    monkeypatch.setattr(module.os, "urandom", lambda count: asked.append(count) or bytes(count))
    stream = Draws().stream("noise", 0)
    assert bits(stream, 64) == bits(stream, 12) == 0
    assert asked == [8, 2]


def test_a_test_seed_decides_and_keeps_uses_apart():
    def first(seed, purpose, step):
        return Draws(seed).stream(purpose, step).take(16)

    assert first(1, "noise", 0) == first(1, "noise", 0)
    others = {first(1, "noise", 0), first(2, "noise", 0), first(1, "sample", 0), first(1, "noise", 1)}
    assert len(others) == 4
    stream = Draws(1).stream("noise", 0)
    assert stream.take(16) != stream.take(16)
    assert Draws().stream("noise", 0).take(16) != Draws().stream("noise", 0).take(16)


def test_they_tell_nothing_of_themselves():
    assert repr(Draws(5)) == "Draws(redacted)" and repr(Stream("5")) == "Stream(redacted)"


@pytest.mark.parametrize("bound", [1, 2, 3, 7, 256, 257, 2**100 + 1])
def test_below_is_in_range_and_reaches_its_ends(bound):
    stream = Draws(0).stream("test", bound)
    seen = [below(stream, bound) for _ in range(200)]
    assert all(0 <= value < bound for value in seen)
    assert bound > 7 or set(seen) == set(range(bound))


def test_below_is_uniform():
    stream = Draws(0).stream("test", 0)
    counts = [0] * 5
    for _ in range(10_000):
        counts[below(stream, 5)] += 1
    assert sum((count - 2000) ** 2 / 2000 for count in counts) < 25  # chi square of 4 degrees: 1 in 20,000


def test_no_range_is_refused():
    with pytest.raises(PACZeroError, match="bound: 0 was given"):
        below(Stream(), 0)
