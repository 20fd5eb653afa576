"""What a run's moves lose to the rounding of the weights' type, before budget is spent on steps that train nothing."""

import bisect

from paczero.config import PACZeroConfig
from paczero.errors import PACZeroError
from paczero.mechanism.kinds import KINDS
from paczero.zeroth.updates import Weights

_MOST = 0.5  # of the trained weights, or of the steps: a run that loses more trains next to nothing
# Below such μ, rounding inside a model of that type made derivatives as wrong as they are large where all layers of
# SmolLM2-135M trained (benchmarks/precision.py); the error grows as 1/μ.
_COARSE = {"bfloat16": 1e-2, "float16": 2e-3}
_CURE = "Train in float32 (dtype), enlarge it, or pass --force true"


def check_moves(weights: Weights, args: PACZeroConfig) -> list[str]:
    """Refuses a run whose steps would mostly round to nothing (they would cost budget and train nothing).

    Returns:
        What should be known of a smaller loss, a sentence each.

    Raises:
        PACZeroError: μ, the first step or most of the schedule's steps would leave most weights where they are.
    """
    if KINDS[args.mechanism.name].real or args.force:
        return []

    def share(step: int) -> float:
        return weights.lost_share(args.learning_rate_at(step) / args.directions)

    for what, move, lost in (
        ("learning_rate", args.learning_rate / args.directions, share(0)),
        ("mu", args.mu, weights.lost_share(args.mu)),
    ):
        if lost > _MOST:
            raise PACZeroError(
                f"{what}: {move:g} rounds away for {lost:.0%} of the trained weights in their type; expected most to "
                f"move. {_CURE}"
            )
    notes = []
    if args.mu < _COARSE.get(args.dtype, 0.0):
        notes.append(
            f"Precision: a model in {args.dtype} rounds on its way what μ = {args.mu:g} changes, so that many "
            f"derivatives may have a wrong sign; float32 or μ = {_COARSE[args.dtype]:g} is safer."
        )
    if args.learning_rate_at(args.steps - 1) == args.learning_rate or share(args.steps - 1) <= _MOST:
        return notes
    # Rates never rise, so what is lost is the end of the schedule.
    tail = args.steps - bisect.bisect_left(range(args.steps), True, key=lambda step: share(step) > _MOST)
    said = (
        f"with the schedule {args.schedule!r} the last {tail:,} of {args.steps:,} steps are so small that they round "
        "away for most of the trained weights in their type"
    )
    if tail > _MOST * args.steps:
        raise PACZeroError(f"learning_rate: {said}; expected most steps to train. {_CURE}")
    return [*notes, f"Precision: {said}; they cost what other steps cost."]
