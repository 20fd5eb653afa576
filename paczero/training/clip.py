"""The clip of a differentially private run (`clip: auto`) and, with individual accounting, its ε₀: measured on records
that are not protected.

The signal of a clipped sum against its noise is E[clip(g)]/c. It falls with c wherever most derivatives g share little
of their size, so a clip should change many of them. The median of |g| keeps nine tenths of what the smallest clip
keeps, and a unit with large derivatives still counts for more than one vote. The dev set's records are public, so the
clip costs no ε.

With individual accounting a unit spends the square of its clipped derivatives. ε₀ is such that a unit whose derivatives
have the mean square of the dev set's spends its share with the last bit. A unit that spends faster stops earlier.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.special import ndtri
from torch import nn

from paczero.config import PACZeroConfig
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.individual import Share
from paczero.mechanism.registry import spec_of
from paczero.optim.derivatives import Objective
from paczero.training.factory import make_weights

DIRECTIONS = 8
_ENOUGH = 0.5  # of the sum's signal


def measured_of_run(transcript: Path, names: Sequence[str]) -> dict[str, float] | None:
    """What a run that goes on has measured, from its staged transcript; None for a run without one.

    The journal has the hash of the transcript's header, so a changed clip is refused when the journal is opened.

    Args:
        names: of values in the header's `mechanism`.

    Raises:
        IntegrityError: the file cannot be read.
    """
    if not transcript.is_file():
        return None
    try:
        with open(transcript, encoding="utf-8") as lines:
            stated = json.loads(lines.readline())["mechanism"]
            return {name: float(stated[name]) for name in names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = " and ".join(names)
        raise IntegrityError(f"{transcript}: its first line names no {what} ({error}); restore the file") from error


def dev_derivatives(
    args: PACZeroConfig,
    objective: Objective,
    weights: dict[str, nn.Parameter],
    progress: Callable[[str, int, int], None],
) -> np.ndarray:
    """Derivatives of the dev set's units along 8 public directions, at the weights as they stand: float64 (n, 8).

    Args:
        objective: the dev set's losses.
        weights: the trained parameters; they stand where they stood afterwards.
        progress: called with (what, done, total).
    """
    pilot = make_weights(weights, args, purpose="clip")
    start, columns = pilot.snapshot(), []
    for index in range(DIRECTIONS):
        columns.append(objective.derivatives(pilot, index, 1).values[:, 0])
        progress("clip directions", index + 1, DIRECTIONS)
    pilot.load(start)  # `restore: arithmetic` drifts
    return np.stack(columns, axis=1)


def median_clip(args: PACZeroConfig, derivatives: np.ndarray) -> float:
    """c, the median size of a unit's derivative, to two digits; of a K-vector that is released as one, its length.

    Args:
        derivatives: (n, P) from `dev_derivatives`.

    Raises:
        PACZeroError: the derivatives are 0 or not finite, so they give no clip.
    """
    sizes = np.abs(derivatives)
    if not spec_of(args.mechanism.name).per_direction and args.directions > 1:
        sizes = np.sqrt(args.directions * np.square(sizes).mean(axis=1))
    median = float(np.median(sizes))
    if not (np.isfinite(median) and median > 0):
        raise PACZeroError(
            f"mechanism.clip: auto found a median derivative of {median} on the dev set; expected one above 0; give "
            "mechanism.clip as a number"
        )
    return float(f"{median:.2g}")


def measured_log_odds(derivatives: np.ndarray, *, clip: float, rho: float, count: int) -> float:
    """ε₀ of a run with individual accounting, for a unit whose derivatives are those of the dev set.

    Args:
        derivatives: (n, P) from `dev_derivatives`.
        clip: c.
        rho: the share of a unit.
        count: T·K.

    Raises:
        PACZeroError: all derivatives are 0.
    """
    square = float(np.square(np.clip(np.nan_to_num(derivatives), -clip, clip) / clip).mean())
    if square == 0:
        raise PACZeroError("mechanism.individual: derivatives of 0 were found on the dev set; expected some above it")
    return Share(rho).log_odds(count, square)


def sign_efficiency(derivatives: np.ndarray, clip: float, eps0: float, units: int) -> float:
    """About E[y·S]/E|S| of `dp-sign` for a pool of such units: 1 where a bit is the sign of the sum S, 0 for a coin.

    Given S, the mean of y is tanh(ε₀S/2). S of N units is taken as normal, with N times the variance within a direction
    and N² times that of the mean over directions, without what chance among the n measured units adds to it.

    Args:
        derivatives: (n, P) from `dev_derivatives`.
        clip: c.
        eps0: ε₀.
        units: N of the pool.
    """
    shares = np.clip(derivatives, -clip, clip) / clip
    within = float(shares.var(axis=0).mean())
    between = max(float(np.square(shares.mean(axis=0)).mean()) - within / len(shares), 0.0)
    sums = np.sqrt(units * within + units**2 * between) * np.abs(_NORMAL)
    return float((np.tanh(eps0 * sums / 2) * sums).mean() / max(sums.mean(), 1e-300))


_NORMAL = ndtri((np.arange(1000) + 0.5) / 1000)


def sign_note(derivatives: np.ndarray, clip: float, eps0: float, units: int, steps: int) -> str | None:
    """What N, T and ε mean together for `dp-sign`, with a better T; None where bits mostly follow the sum.

    Args:
        steps: T. At the same ε, ε₀ falls with the square root of it.
    """
    found = sign_efficiency(derivatives, clip, eps0, units)
    if found >= _ENOUGH:
        return None
    text = f"a bit carries {found:.0%} of the sum's signal with {units:,} units, {steps:,} steps and this ε"
    for fewer in (2.0**-k for k in range(1, 20)):
        better = max(round(steps * fewer), 1)
        if sign_efficiency(derivatives, clip, eps0 * math.sqrt(steps / better), units) >= _ENOUGH:
            return f"{text}; with max_steps {better:,} it would be half or more. Take fewer steps, or more units"
        if better == 1:
            break
    return f"{text}, and fewer steps do not help enough; take more units or a larger ε"
