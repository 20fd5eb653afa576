"""`clip: auto`: the clip of a differentially private run, measured on records that are not protected.

The signal of a clipped sum against its noise is E[clip(g)]/c. It falls with c wherever most derivatives g share little
of their size, so a clip should bite. The median of |g| keeps nine tenths of what the smallest clip keeps, and a unit
with large derivatives still counts for more than one vote. The dev set's records are public, so the clip costs no ε.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn

from paczero.config import PACZeroConfig
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.registry import spec_of
from paczero.optim.derivatives import Objective
from paczero.training.factory import make_weights

DIRECTIONS = 8


def clip_of_run(transcript: Path) -> float | None:
    """The clip of a run that goes on, from its staged transcript; None for a run without one.

    The journal has the hash of the transcript's header, so a changed clip is refused when the journal is opened.

    Raises:
        IntegrityError: the file cannot be read.
    """
    if not transcript.is_file():
        return None
    try:
        with open(transcript, encoding="utf-8") as lines:
            return float(json.loads(lines.readline())["mechanism"]["clip"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{transcript}: its first line names no clip ({error}); restore the file") from error


def measure_clip(
    args: PACZeroConfig,
    objective: Objective,
    weights: dict[str, nn.Parameter],
    progress: Callable[[str, int, int], None],
) -> float:
    """The median size of a dev unit's derivative at the weights as they stand, to two digits, in nats.

    Args:
        objective: the dev set's losses.
        weights: the trained parameters; they stand where they stood afterwards.
        progress: called with (what, done, total).

    Returns:
        c: the median of |g| over units and 8 public directions; of a K-vector that is released as one, of its length.

    Raises:
        PACZeroError: the derivatives are 0 or not finite, so they give no clip.
    """
    pilot = make_weights(weights, args, purpose="clip")
    start, columns = pilot.snapshot(), []
    for index in range(DIRECTIONS):
        columns.append(objective.derivatives(pilot, index, 1).values[:, 0])
        progress("clip directions", index + 1, DIRECTIONS)
    pilot.load(start)  # `restore: arithmetic` drifts
    sizes = np.abs(np.stack(columns, axis=1))
    if not spec_of(args.mechanism.name).per_direction and args.directions > 1:
        sizes = np.sqrt(args.directions * np.square(sizes).mean(axis=1))
    median = float(np.median(sizes))
    if not (np.isfinite(median) and median > 0):
        raise PACZeroError(
            f"mechanism.clip: auto found a median derivative of {median} on the dev set; expected one above 0; give "
            "mechanism.clip as a number"
        )
    return float(f"{median:.2g}")
