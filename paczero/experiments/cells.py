"""Runs of the same settings under different seeds are one cell; only cells that are comparable are compared.

    cells = group(runs)
    cell, why = best([c for c in cells if c.mechanism == "zpl"], METRICS["accuracy"])
    why
    # 'the best mean accuracy on the selection sets of 6 such cells'

Of cells that differ in one setting alone, such as the learning rate, `choose` keeps the best one.

    kept, aside = choose(cells, "learning_rate", METRICS["accuracy"])
    kept[0].name, aside[0].cell.name
    # ('zpl', 'zpl,learning_rate=0.006')

Every choice is made by the metrics on the selection (dev) sets, never by those on the test sets.
"""

import copy
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from paczero.config import FREE_SETTINGS
from paczero.data.metrics import METRICS, Metric
from paczero.errors import PACZeroError
from paczero.experiments.collect import Run
from paczero.mechanism.bounds import nats_for_success
from paczero.mechanism.registry import SPECS, MechanismSpec, spec_of
from paczero.release import guarantee

# The settings in which runs of one cell may differ.
_FREE = FREE_SETTINGS | {"seed"}

# In tables, mechanisms that hide nothing come first, then those that hide the secret half, then the pool.
_ORDER = ("nothing", "half", "all", "pool")


@dataclass(frozen=True, eq=False)
class Cell:
    """The runs of one cell.

    Attributes:
        name: of the cell.
        runs: at least one, by ascending seed.
    """

    name: str
    runs: tuple[Run, ...]

    @property
    def header(self) -> Mapping[str, Any]:
        return self.runs[0].header

    @property
    def kind(self) -> MechanismSpec:
        return spec_of(self.header["mechanism"]["name"])

    @property
    def mechanism(self) -> str:
        return self.kind.name

    @property
    def family(self) -> str | None:
        """How the candidates were drawn; None without candidates."""
        return self.header["family"] if self.kind.candidates else None

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs]

    @cached_property
    def dev(self) -> float | None:
        """Mean metric on the selection sets over the seeds; None if a seed has none."""
        values = [run.dev for run in self.runs if run.dev is not None]
        return statistics.fmean(values) if len(values) == len(self.runs) else None

    @property
    def success(self) -> float:
        """p, the highest over the seeds (δ may depend on the pool's size); 1.0 without a promise."""
        return max(guarantee.success(run.header) for run in self.runs)

    @property
    def nats(self) -> float | None:
        """The budget B, or for differential privacy the nats of equal posterior success; None without a promise.

        For a differentially private mechanism the nats are no mutual information; they only have the same p.
        """
        if any(guarantee.verdict(run.header) != "kept" for run in self.runs):
            return None
        if not self.kind.is_dp:
            return float(max(run.header["budget"] for run in self.runs))
        return nats_for_success(self.success)

    @property
    def order(self) -> tuple[Any, ...]:
        """Sort key in tables."""
        subsets = self.header["subsets"] if self.kind.candidates else 0
        group, index = _ORDER.index(self.kind.hides), list(SPECS).index(self.mechanism)
        return group, index, -(self.nats or 0.0), self.family or "", subsets, self.rate, self.name

    @property
    def rate(self) -> float:
        """The learning rate at the first step."""
        return float(self.header["schedule"]["learning_rate"])


def group(runs: Sequence[Run]) -> list[Cell]:
    """Groups runs into cells, in the order of tables.

    Raises:
        PACZeroError: runs of one cell have the same seed or different settings; cells have different metrics, or
            different test sets for one seed.
    """
    gathered: dict[str, list[Run]] = {}
    for run in runs:
        gathered.setdefault(run.cell, []).append(run)
    cells = [Cell(name, tuple(sorted(inside, key=lambda run: run.seed))) for name, inside in gathered.items()]
    for cell in cells:
        _check_alike(cell)
    _check_comparable(cells)
    return sorted(cells, key=lambda cell: cell.order)


def _check_alike(cell: Cell) -> None:
    first = cell.runs[0]
    for before, run in zip(cell.runs, cell.runs[1:], strict=False):
        if run.seed == before.seed:
            raise PACZeroError(
                f"cell {cell.name!r}: {before.directory!r} and {run.directory!r} have the same seed {run.seed}; "
                "expected different ones; move one of them away"
            )
        both = first.config.keys() & run.config.keys() - _FREE
        differing = sorted(name for name in both if first.config[name] != run.config[name])
        if differing:
            raise PACZeroError(
                f"cell {cell.name!r}: seeds {first.seed} and {run.seed} differ in {', '.join(differing)}; expected the "
                "same settings; move one of them away"
            )


def _check_comparable(cells: Sequence[Cell]) -> None:
    metrics: dict[str, Cell] = {}
    scored: dict[int, tuple[str, Cell]] = {}
    for cell in cells:
        for run in cell.runs:
            metrics.setdefault(run.metric, cell)
            if run.test_sha256 is None:
                continue
            known, other = scored.setdefault(run.seed, (run.test_sha256, cell))
            if known != run.test_sha256:
                raise PACZeroError(
                    f"cells {other.name!r} and {cell.name!r} were scored on different test sets (seed {run.seed}); "
                    "expected one for each seed; call `paczero results` for each by itself"
                )
    if len(metrics) > 1:
        raise PACZeroError(
            f"cells {' and '.join(repr(cell.name) for cell in metrics.values())} are judged by "
            f"{' and '.join(metrics)}; expected one metric; call `paczero results` for each by itself"
        )


def best(cells: Sequence[Cell], metric: Metric) -> tuple[Cell | None, str]:
    """The cell with the best mean metric on the selection sets, and the reason in words; None if it is unknown.

    Only cells with the most seeds are candidates, since a single seed can be lucky.
    """
    if not cells:
        return None, "there is no such cell"
    most = max(len(cell.runs) for cell in cells)
    full = [cell for cell in cells if len(cell.runs) == most]
    fewer = f" ({len(cells) - len(full)} with fewer seeds aside)" if len(full) < len(cells) else ""
    if len(full) == 1:
        return full[0], f"the only such cell{fewer}"
    known = [(metric.better(cell.dev), cell) for cell in full if cell.dev is not None]
    if len(known) < len(full):
        return None, f"{len(full)} such cells, and not all have a figure on a selection set to choose by"
    top = max(value for value, _ in known)
    equal = [cell for value, cell in known if value == top]
    tied = f", the first in the table of {len(equal)} that are equal" if len(equal) > 1 else ""
    return equal[0], f"the best mean {metric.title} on the selection sets of {len(full)} such cells{fewer}{tied}"


def metric_of(cells: Sequence[Cell]) -> Metric:
    """The one metric of these cells."""
    return METRICS[cells[0].runs[0].metric]


_NOTHING = object()


@dataclass(frozen=True)
class Aside:
    """A cell that was not chosen.

    Attributes:
        cell: the cell.
        value: its value of the setting.
        instead: name of the chosen cell in the document.
    """

    cell: Cell
    value: Any
    instead: str


def choose(cells: Sequence[Cell], setting: str, metric: Metric) -> tuple[list[Cell], list[Aside]]:
    """Keeps the best cell, by the selection sets, of each group of cells that differ in one setting alone.

    Args:
        cells: in the order of tables.
        setting: dotted name, as in a grid.
        metric: of the task.

    Returns:
        The chosen cells, in the same order, named without the setting; and the others.

    Raises:
        PACZeroError: no cell has the setting, no two cells differ in it alone, or a cell of a group has no metric on
            a selection set.
    """
    apart = {cell: _apart(cell, setting) for cell in cells}
    if all(value is _NOTHING for value, _ in apart.values()):
        raise PACZeroError(f"--choose: no run has a setting {setting!r}; expected one as in a grid, say learning_rate")
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(apart[cell][1], []).append(cell)
    if len(groups) == len(cells):
        raise PACZeroError(f"--choose: no two cells differ in {setting!r} alone; leave the option out")
    kept: dict[Cell, Cell] = {}
    aside: list[Aside] = []
    for group in groups.values():
        chosen, why = best(group, metric)
        if chosen is None:
            raise PACZeroError(f"--choose: of {', '.join(cell.name for cell in group)} none can be chosen: {why}")
        name = _without(chosen.name, setting) if len(group) > 1 else chosen.name
        kept[chosen] = replace(chosen, name=name)
        aside += [Aside(cell, apart[cell][0], name) for cell in group if cell is not chosen]
    names = [cell.name for cell in kept.values()]
    unlike = {cell: new if names.count(new.name) == 1 else cell for cell, new in kept.items()}
    return [unlike[cell] for cell in cells if cell in unlike], aside


def _apart(cell: Cell, setting: str) -> tuple[Any, str]:
    """A setting's value, and as a text to compare all other settings except those in which seeds may differ."""
    config = copy.deepcopy(dict(cell.runs[0].config))
    *above, last = setting.split(".")
    inside: Any = config
    for name in above:
        inside = inside.get(name) if isinstance(inside, dict) else None
    value = inside.pop(last, _NOTHING) if isinstance(inside, dict) else _NOTHING
    rest = {key: value for key, value in config.items() if key not in _FREE}
    return value, json.dumps(rest, sort_keys=True, default=str)


def _without(name: str, setting: str) -> str:
    """A cell's name without its part for the setting: `zpl,learning_rate=0.003` -> `zpl`."""
    prefix = f"{setting.rpartition('.')[2]}="
    return ",".join(part for part in name.split(",") if not part.startswith(prefix)) or name
