"""The exposure of each unit of the audited run: what its absence would have changed in the releases. Owner only.

    result = exposure(RunDirectory(Path("runs/demo")))
    result.most[0].unit, result.most[0].total_variation
    # (17, 0.9375)

Training writes each direction's margin into `private/diagnostics.jsonl` (`mechanism.margins`). A unit is taken out by
zeroing its derivative. On the path that the run took, each release is then a sign or a fair coin with it, and a sign or
a coin without it. `zpl` promises nothing about this difference; it is what an insider uses who knows all other records.
Contested releases count as fair coins here for every mechanism with candidates, which is exact for `zpl`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paczero.errors import IntegrityError
from paczero.mechanism.margins import Margin
from paczero.mechanism.transcript import Transcript
from paczero.report.run_record import json_lines
from paczero.run_directory import RunDirectory

SHOWN = 10  # units and steps


@dataclass(frozen=True)
class ExposedUnit:
    """What the absence of one unit would change.

    Attributes:
        unit: its number, from 1, in the order of the pool; without a unit column that of its record.
        made: releases that are a sign with it and a coin without it.
        broken: releases that are a coin with it and a sign without it.
        turned: releases that are one sign with it and the other without it.
        total_variation: between all releases with and without it, if the weights took the run's path either way:
            1 − 2^−max(made, broken), or 1 if any is turned. A guess whether the unit was there is right with
            (1 + this)/2 at most.
        log_ratio: ln P(what was released | with it)/P(… | without it); None where it is impossible without.
    """

    unit: int
    made: int
    broken: int
    turned: int
    total_variation: float
    log_ratio: float | None


@dataclass(frozen=True)
class ExposureResult:
    """All units.

    Attributes:
        units: N.
        releases: how many have margins.
        missing: how many have none: of steps that were taken from the journal after a crash, or of an earlier version.
        unanimous: of those with margins, how many are unanimous.
        hanging: unanimous releases that the absence of a single unit would make contested.
        breakable: unanimous releases that some further unit could have made contested.
        margins: least, 5th percentile, median of the unanimous releases' margins, in units of the clip: what one unit
            must add to break them. Empty if none is unanimous.
        closest: (step, direction, margin) of the ten unanimous releases with the least margin.
        exposed: units whose absence would change a release.
        most: the ten most exposed.
    """

    units: int
    releases: int
    missing: int
    unanimous: int
    hanging: int
    breakable: int
    margins: tuple[float, ...]
    closest: tuple[tuple[int, int, float], ...]
    exposed: int
    most: tuple[ExposedUnit, ...]


def exposure(directory: RunDirectory) -> ExposureResult:
    """Reads the margins of a run.

    Raises:
        IntegrityError: a file of the run cannot be read as one.
    """
    transcript = Transcript.read(directory.transcript)
    units, directions = int(transcript.header["units"]), int(transcript.header["directions"])
    found: dict[tuple[int, int], Margin] = {}
    for row in json_lines(directory.diagnostics):
        if row.get("kind") == "step" and "margins" in row:
            try:
                rows = [_margin(given, units) for given in row["margins"]]
                if len(rows) != directions or not 0 <= row["t"] < len(transcript.y):
                    raise ValueError(row["t"])
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise IntegrityError(
                    f"{directory.diagnostics}: no margins that a run writes; restore the file, or delete it"
                ) from error
            found |= {(row["t"], k): margin for k, margin in enumerate(rows)}
    return summarised(found, [[int(value) for value in values] for values in transcript.y], units)


def summarised(margins: Mapping[tuple[int, int], Margin], y: Sequence[Sequence[int]], units: int) -> ExposureResult:
    """The result for these releases.

    Args:
        margins: (step, direction) -> margin.
        y: (T, K) what was released.
        units: N.
    """
    tally = _Tally(units)
    for (step, k), margin in margins.items():
        tally.add(margin, y[step][k])
    unanimous = sorted((m.margin, step, k) for (step, k), m in margins.items() if m.sign)
    values = [margin for margin, *_ in unanimous]
    changed = np.flatnonzero(tally.made + tally.broken + tally.turned)
    most = sorted((tally.of(unit) for unit in changed.tolist()), key=_rank)[:SHOWN]
    return ExposureResult(
        units=units,
        releases=len(margins),
        missing=sum(map(len, y)) - len(margins),
        unanimous=len(unanimous),
        hanging=sum(bool(margin.sign and margin.without) for margin in margins.values()),
        breakable=sum(value <= 1 for value in values),
        margins=tuple(np.quantile(values, [0.0, 0.05, 0.5]).tolist()) if values else (),
        closest=tuple((step, k, margin) for margin, step, k in unanimous[:SHOWN]),
        exposed=len(changed),
        most=tuple(most),
    )


@dataclass
class _Tally:
    """Counts of each unit, (N,)."""

    units: int
    made: Any = field(init=False)
    broken: Any = field(init=False)
    turned: Any = field(init=False)
    unlikely: Any = field(init=False)

    def __post_init__(self) -> None:
        self.made, self.broken, self.turned, self.unlikely = (np.zeros(self.units, dtype=np.int64) for _ in range(4))

    def add(self, margin: Margin, y: int) -> None:
        """One release, of value `y`."""
        for other, units in margin.without.items():
            rows = list(units)
            kind = self.made if other == 0 else self.broken if margin.sign == 0 else self.turned
            kind[rows] += 1
            # Without the unit this sign could not have been released; `skip`'s 0 could not either.
            self.unlikely[rows] += other not in (0, y)

    def of(self, unit: int) -> ExposedUnit:
        made, broken, turned = (int(counts[unit]) for counts in (self.made, self.broken, self.turned))
        distance = 1.0 if turned else 1 - 2.0 ** -max(made, broken)
        ratio = None if self.unlikely[unit] else (made - broken) * math.log(2)
        return ExposedUnit(unit + 1, made, broken, turned, distance, ratio)


def _rank(unit: ExposedUnit) -> tuple[float, int, int]:
    return -unit.total_variation, -(unit.made + unit.broken + unit.turned), unit.unit


def _margin(given: Mapping[str, Any], units: int) -> Margin:
    """The margin that `asdict` and JSON made this of; ValueError, TypeError or KeyError for anything else."""
    without = {int(other): _numbers(numbers, units) for other, numbers in given["without"].items()}
    made = Margin(given["sign"], float(given["margin"]), without)
    if made.sign not in (-1, 0, 1) or not made.margin >= 0 or not set(without) <= {-1, 0, 1} - {made.sign}:
        raise ValueError(made.sign)
    return made


def _numbers(numbers: Iterable[Any], units: int) -> tuple[int, ...]:
    found = tuple(numbers)
    if not all(type(number) is int and 0 <= number < units for number in found):
        raise ValueError(found[:1])
    return found
