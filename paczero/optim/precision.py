"""Refuses runs whose updates would mostly round away in the weights' dtype.

    RoundingModel(weights).lost_fraction(1e-7, normal=True)     # 1.0 for float16 weights of size 0.02

A step moves each weight by η/K · Σ_k y_k z_k. Where y is ±1 that is ±η for one Rademacher direction, and else (about) a
normal number of size η/√K, because the directions are independent of the bits. A number that is less than half of the
distance to the next representable weight changes nothing; a larger one changes the weight by whole distances. The part
of a step that survives along its direction is E[z · moved(ηz)] / η; to first order that is also the part of its effect
on the loss. Normal updates survive well below the distance, because rare large ones move too far by what others lose.
"""

import bisect
import math
from collections import Counter
from collections.abc import Callable

import torch
from scipy.optimize import brentq

from paczero.config import PACZeroConfig
from paczero.errors import PACZeroError
from paczero.mechanism.registry import spec_of
from paczero.optim.chunked import chunks
from paczero.optim.parameters import PerturbedParameters, round32

_MOST = 0.5  # of a step, or of the steps: a run that loses more trains next to nothing

# Below such μ, rounding inside a model of that type made derivatives as wrong as they are large where all layers of
# SmolLM2-135M trained (benchmarks/precision.py); the error grows as 1/μ.
_COARSE = {"bfloat16": 1e-2, "float16": 2e-3}

_CURE = "Train in float32 (dtype), enlarge it, or pass --force true"

_EXPONENTS = 160  # beyond those of all float32 numbers, which end at −148 and 128

# Half a distance in sizes of a normal move: below the one 1e-8 of it is lost, above the other all but 1e-16.
_FINE, _COARSEST = 0.5, 9.0


class RoundingModel:
    """The distances between representable numbers at the non-zero weights.

    Zero weights are left out: a step of any size changes them, and half of an adapter's weights start at zero.

    Args:
        weights: read once, in chunks.

    Attributes:
        halves: half the distance from a weight to its neighbour away from zero -> fraction of the weights, in [0, 1].
    """

    def __init__(self, weights: PerturbedParameters) -> None:
        counts: Counter[float] = Counter()
        for chunk in chunks(weights.parameters, size=2**16):
            value = chunk.out.float()
            exponents = torch.frexp(value[value != 0]).exponent + _EXPONENTS
            type_ = torch.finfo(chunk.out.dtype)
            for at, count in enumerate(torch.bincount(exponents, minlength=1).tolist()):
                if count:  # value = m · 2^exponent with m in [1/2, 1)
                    counts[max(2.0 ** (at - _EXPONENTS - 1), type_.tiny) * type_.eps / 2] += count
        self.halves = {half: count / counts.total() for half, count in sorted(counts.items())}

    def lost_fraction(self, size: float, *, normal: bool) -> float:
        """The fraction, in [0, 1], of an update that does not survive rounding, averaged over the weights.

        Args:
            size: the update's root mean square, 0 or more.
            normal: whether its elements are normal numbers; ±size otherwise.
        """
        if round32(size) == 0:
            return 1.0
        survives = _surviving_normal if normal else _surviving_sign
        return sum(fraction * (1 - survives(half / size)) for half, fraction in self.halves.items())


def _surviving_normal(half: float) -> float:
    """E[z · moved(z)], at most 1, for z ~ N(0, 1) and half a distance of that size.

    moved(z) grows by 2·half at each odd multiple of half, and E[|z|; |z| > a] is 2 φ(a).
    """
    if not _FINE < half < _COARSEST:
        return float(half <= _FINE)
    total = sum(math.exp(-((odd * half) ** 2) / 2) for odd in range(1, 19, 2))
    return min(1.0, 4 * half * total / math.sqrt(2 * math.pi))


def _surviving_sign(half: float) -> float:
    """The same for z = ±1."""
    return float(half < 1)


def check_update_precision(weights: PerturbedParameters, args: PACZeroConfig) -> list[str]:
    """Refuses a run whose steps would mostly round away: they would cost budget and train nothing.

    A mechanism that releases real numbers is warned and not refused, since its step sizes are not known before.

    Returns:
        Warnings about smaller losses, a sentence each.

    Raises:
        PACZeroError: half or more of μ, of the first step, or of most steps would round away.
    """
    if args.force:
        return []
    rounding, signs = RoundingModel(weights), weights.law.name == "rademacher"

    def step_lost(rate: float) -> float:
        return rounding.lost_fraction(rate / math.sqrt(args.directions), normal=args.directions > 1 or not signs)

    lost = rounding.lost_fraction(args.mu, normal=not signs)
    if lost > _MOST:
        raise PACZeroError(
            f"mu: {args.mu:g} rounds away by {lost:.0%} in the type of the trained weights; expected half of it or "
            f"more to be left. {_CURE}"
        )
    notes = []
    if args.mu < _COARSE.get(args.dtype, 0.0):
        notes.append(
            f"Precision: a model in {args.dtype} rounds on its way what μ = {args.mu:g} changes, so that many "
            f"derivatives may have a wrong sign; float32 or μ = {_COARSE[args.dtype]:g} is safer."
        )
    first = step_lost(args.learning_rate)
    if spec_of(args.mechanism.name).real:
        if first > _MOST:
            least = brentq(lambda log: step_lost(args.learning_rate * 10**log) - _MOST, 0, 40)
            notes.append(
                f"Precision: with learning_rate {args.learning_rate:g} a step rounds away by half or more in the type "
                f"of the trained weights, unless what it releases is about {10**least:.2g} or larger; --dtype float32 "
                "keeps it."
            )
        return notes
    if first > _MOST:
        shared = f" shared by {args.directions} directions" if args.directions > 1 else ""
        raise PACZeroError(
            f"learning_rate: {args.learning_rate:g}{shared} rounds away by {first:.0%} in the type of the trained "
            f"weights; expected half of it or more to be left. {_CURE}"
        )
    return [*notes, *_end_of_schedule(args, step_lost)]


def _end_of_schedule(args: PACZeroConfig, step_lost: Callable[[float], float]) -> list[str]:
    """A warning about the last steps, where they are too small."""
    # Rates never rise, so the steps that round away are at the end.
    reached = bisect.bisect_left(range(args.max_steps), True, key=lambda t: step_lost(args.learning_rate_at(t)) > _MOST)
    tail = args.max_steps - reached
    if tail == 0:
        return []
    message = (
        f"with the schedule {args.lr_scheduler_type!r} the last {tail:,} of {args.max_steps:,} steps are so small that "
        "they round away by half or more in the type of the trained weights"
    )
    if tail > _MOST * args.max_steps:
        raise PACZeroError(f"learning_rate: {message}; expected most steps to train. {_CURE}")
    return [f"Precision: {message}; they cost what other steps cost."]
