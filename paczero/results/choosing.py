"""Of cells that differ in one setting alone, such as the learning rate, the one that the selection sets prefer.

>>> kept, aside = choose(cells, "learning_rate", METRICS["accuracy"])     # doctest: +SKIP
>>> kept[0].name, aside[0].cell.name                                      # doctest: +SKIP
('zpl', 'zpl,learning_rate=0.006')

What stands aside is not looked at on the test set.
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from paczero.errors import PACZeroError
from paczero.records.metrics import Metric
from paczero.results.cells import OF_THE_SEED, Cell, best

_NOTHING = object()


@dataclass(frozen=True)
class Aside:
    """A cell that was not chosen.

    Attributes:
        cell: which.
        value: of the setting.
        instead: name under which the chosen cell stands.
    """

    cell: Cell
    value: Any
    instead: str


def choose(cells: Sequence[Cell], setting: str, metric: Metric) -> tuple[list[Cell], list[Aside]]:
    """Keeps of each group of cells that are alike but for one setting the best by the mean on the selection sets.

    Args:
        cells: in the order of tables.
        setting: dotted name, as in a grid.
        metric: by which they are judged.

    Returns:
        The chosen cells, in the same order, named without the setting; and the others.

    Raises:
        PACZeroError: no cell has such a setting, no two cells differ in it alone, or of a group not every cell has a
            figure on a selection set.
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
    """A setting's value, and all other settings but those that seeds may differ in, as a text to compare."""
    config = copy.deepcopy(dict(cell.runs[0].config))
    *above, last = setting.split(".")
    inside: Any = config
    for name in above:
        inside = inside.get(name) if isinstance(inside, dict) else None
    value = inside.pop(last, _NOTHING) if isinstance(inside, dict) else _NOTHING
    rest = {key: value for key, value in config.items() if key not in OF_THE_SEED}
    return value, json.dumps(rest, sort_keys=True, default=str)


def _without(name: str, setting: str) -> str:
    """A sweep's name of a cell without what its grid says of the setting: `zpl,learning_rate=0.003` -> `zpl`."""
    said = f"{setting.rpartition('.')[2]}="
    parts = [part for part in name.split(",") if not part.startswith(said)]
    return ",".join(parts) or name
