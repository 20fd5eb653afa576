"""The exact joint law of secret and transcript of a small run, and what must hold of it. For the tests that enumerate.

A test runs a mechanism with every secret and every string of coins that can occur. The coins are forced, so the chance
of a path is the product of what the releases say of their noise. Source: the chain rule of mutual information,
I(S*; Y_1..T) = E[Σ β_t], which PACZero (arXiv 2605.06505) rests on.
"""

import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from paczero.mechanism.base import Release
from paczero.mechanism.bounds import posterior_success
from paczero.mechanism.pac import MI
from paczero.utils.io import canonical

KEPT, FLIPPED = 2**64 - 1, 0


class Forced:
    """Coins that flip the releases (step, k) that they are told to flip, and no other."""

    def __init__(self, flipped: Collection[tuple[int, int]] = ()):
        self.flipped = flipped

    def word(self, step: int, k: int) -> int:
        return FLIPPED if (step, k) in self.flipped else KEPT


class Told(NamedTuple):
    """One transcript under one secret: its probability, the nats charged, the kinds of releases met."""

    probability: float
    spent: float
    kinds: frozenset[str]


Law = list[dict[tuple[int, ...], Told]]  # for each secret: its transcripts, bits -> path


def flip_chance(release: Release, k: int) -> float:
    """The probability of a flip."""
    return 0.0 if release.unanimous[k] else release.noise[k]


def chance(release: Release, flipped: Collection[tuple[int, int]]) -> float:
    """The probability of the coins that this release drew."""
    flips = [flip_chance(release, k) for k in range(len(release.y))]
    return math.prod(f if (release.step, k) in flipped else 1 - f for k, f in enumerate(flips))


def kinds_of(release: Release) -> set[str]:
    """Which kinds of releases its directions are: `unanimous`, `clear` (the secret's sign as it is) or `noisy`."""
    return {
        "unanimous" if unanimous else "noisy" if noise else "clear"
        for unanimous, noise in zip(release.unanimous, release.noise, strict=True)
    }


def joint_law(paths: Callable[[Path], dict[tuple[int, ...], Told]], subsets: int, place: Path) -> Law:
    """P(y | m) and the charges for every secret m: `paths` follows all runs with the secret of the file it gets."""
    law = []
    for index in range(subsets):
        secret = place / f"{index}.json"
        secret.write_bytes(canonical({"format": "paczero-secret/1", "index": index, "subsets": subsets}) + b"\n")
        secret.chmod(0o600)
        law.append(paths(secret))
        assert math.fsum(path.probability for path in law[-1].values()) == pytest.approx(1, abs=1e-13)
    return law


def kinds_met(law: Law) -> set[str]:
    """Which kinds of releases any of the paths has."""
    return set().union(*(path.kinds for own in law for path in own.values()))


def information_and_charges(law: Law) -> tuple[float, float]:
    """I(S*; Y) of the joint law, and the expectation of what was charged, in nats."""
    marginal: dict[tuple[int, ...], float] = {}
    for conditional in law:
        for bits, path in conditional.items():
            marginal[bits] = marginal.get(bits, 0.0) + path.probability / len(law)
    weighed = [(bits, path, path.probability / len(law)) for own in law for bits, path in own.items()]
    terms = [weight * math.log(path.probability / marginal[bits]) for bits, path, weight in weighed]
    return math.fsum(terms), math.fsum(weight * path.spent for _, path, weight in weighed)


def success(law: Law, membership: np.ndarray) -> list[float]:
    """Each unit's Bayes success, averaged over the transcripts."""
    everything = set().union(*law)
    none = Told(0.0, 0.0, frozenset())
    inside = {bits: np.array([own.get(bits, none).probability for own in law]) / len(law) for bits in everything}
    return [math.fsum(max(p[row].sum(), p[~row].sum()) for p in inside.values()) for row in membership]


def check_promise(law: Law, membership: np.ndarray, budget: float) -> None:
    """What `MI` promises: the information equals the charge, within the budget on every path; no unit is exposed."""
    information, charges = information_and_charges(law)
    assert abs(information - charges) <= 1e-12
    assert 0 < charges <= budget
    assert max(path.spent for own in law for path in own.values()) <= budget
    assert max(success(law, membership)) <= posterior_success(budget) + 1e-12


def make_mi(membership: np.ndarray, secret: Path, coins: Forced, **settings: Any) -> MI:
    """An `MI` of bit channels; `settings` are directions, budget, steps and allocation."""
    return MI(membership, clip=2.0, coins=coins, channel="bit", secret=secret, **settings)
