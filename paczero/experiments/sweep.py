"""Which runs a sweep has: cells × grid × seeds, each with all of its settings.

>>> [dict(point) for point in points({"max_steps": [10, 20], "seed": [0]})]
[{'max_steps': 10, 'seed': 0}, {'max_steps': 20, 'seed': 0}]
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paczero.config import FREE_SETTINGS, RESUMABLE_SETTINGS
from paczero.config_io import (
    RunSettings,
    Settings,
    build_settings,
    convert,
    flatten,
    is_null,
    load_settings,
    merge,
    read_file,
    read_settings,
)
from paczero.errors import PACZeroError
from paczero.run_directory import RunDirectory, is_held

_KEYS = ("cells", "grid", "seeds", "jobs")  # of a sweep's file, beside the settings
_RESERVED = frozenset({"cache", "results"})  # names beside the cells' directories


@dataclass(frozen=True)
class Sweep:
    """A sweep as its file and flags describe it.

    Attributes:
        settings: of all runs, by dotted key.
        cells: name -> settings of that cell alone.
        seeds: of every cell.
        jobs: runs at once.
        root: where the cells' directories lie.
    """

    settings: Settings
    cells: Mapping[str, Settings]
    seeds: Sequence[int]
    jobs: int
    root: Path


@dataclass(frozen=True)
class Planned:
    """One run of a sweep.

    Attributes:
        cell: what it belongs to.
        seed: its seed.
        settings: all of its settings.
        root: where the cells' directories lie.
    """

    cell: str
    seed: int
    settings: RunSettings
    root: Path

    @property
    def name(self) -> str:
        return f"{self.cell}/seed-{self.seed}"

    @property
    def directory(self) -> Path:
        return run_directory(self.root, self.cell, self.seed)

    @property
    def log(self) -> Path:
        return self.root / self.cell / f"seed-{self.seed}.log"

    @property
    def config(self) -> Path:
        return self.root / self.cell / f"seed-{self.seed}.yaml"


def read_sweep(name: str, flags: Mapping[str, Any]) -> Sweep:
    """The sweep of a file.

    Args:
        name: the path of the file, or the name of a recipe.
        flags: settings for all runs, over those of the file.

    Raises:
        PACZeroError: no such file, something in it is no setting, or flags and cells set the same key.
    """
    settings, own = read_file(name, aside=_KEYS)
    cells = _cells(own)
    for key in sorted(flags.keys() & {key for cell in cells.values() for key in cell}):
        raise PACZeroError(
            f"--{key}: {flags[key]!r} was given; flags hold for all runs, and cells or grid of {name!r} set it "
            "themselves; change it there"
        )
    if "seed" in flags and "seeds" in own:
        raise PACZeroError(f"--seed: {flags['seed']} was given, and {name!r} has seeds; change them there")
    settings = merge(settings, flags)
    if "output_dir" not in settings:
        raise PACZeroError(f"output_dir: {name!r} names none; expected where the runs shall lie; add it")
    seeds = convert("seeds", own.get("seeds", settings.get("seed", 0)), list[int])
    if not seeds or len(set(seeds)) < len(seeds):
        raise PACZeroError(f"seeds: {seeds} was given; expected different whole numbers")
    return Sweep(settings, cells, seeds, convert("jobs", own.get("jobs", 1), int), Path(settings["output_dir"]))


def plan(sweep: Sweep, *, only: Sequence[str] | None = None) -> list[Planned]:
    """Every run, seed by seed, so that each cell has a first result early.

    Raises:
        PACZeroError: settings that cannot work, with the cell's name; a cell in `only` that does not exist.
    """
    for requested in only or ():
        if not any(_is_of(name, requested) for name in sweep.cells):
            raise PACZeroError(f"--only: {requested!r} was given; expected one of {', '.join(sweep.cells)}")
    names = [name for name in sweep.cells if not only or any(_is_of(name, requested) for requested in only)]
    return [_planned(sweep, name, seed) for seed in sweep.seeds for name in names]


def _planned(sweep: Sweep, cell: str, seed: int) -> Planned:
    settings = merge(sweep.settings, sweep.cells[cell])
    if settings.get("cache_dir") is None:  # hidden states that all cells share; private like all of a run but release/
        settings["cache_dir"] = str(sweep.root / "cache")
    directory = run_directory(sweep.root, cell, seed)
    try:
        return Planned(cell, seed, build_settings(settings | {"seed": seed, "output_dir": str(directory)}), sweep.root)
    except PACZeroError as error:
        raise PACZeroError(f"cell {cell!r}: {error}") from error


def run_directory(root: Path, cell: str, seed: int) -> Path:
    """Where the run of a cell with a seed lies."""
    return root / cell / f"seed-{seed}"


def _is_of(name: str, requested: str) -> bool:
    """Whether a cell is the requested one, or one of its grid."""
    return name == requested or name.startswith(f"{requested},")


def state_of(item: Planned) -> str:
    """`finished`, `interrupted` or `new`.

    Raises:
        PACZeroError: the run was begun under other settings.
    """
    directory = RunDirectory(item.directory)
    if not directory.config.is_file():
        return "new"
    begun = load_settings(directory.config)
    if _computed(begun) != _computed(item.settings):
        raise PACZeroError(
            f"cell {item.cell!r}: {str(item.directory)!r} was begun under other settings; give the cell another name, "
            "or remove the directory"
        )
    return "finished" if directory.finished and (directory.root / "summary.json").exists() else "interrupted"


def condition_of(item: Planned) -> str:
    """`state_of` for a person: also `running`, and `failed` for what was started and left no run."""
    directory = RunDirectory(item.directory)
    state = state_of(item)
    if is_held(item.log) or directory.busy:
        return "running"
    return "failed" if state == "new" and item.log.exists() else state


def _computed(settings: RunSettings) -> Settings:
    """The settings that say what a run computes."""
    return {key: value for key, value in flatten(settings).items() if key.partition(".")[0] not in FREE_SETTINGS}


def given_anew(item: Planned) -> Settings:
    """The settings with which an interrupted run goes on and that differ from those that it began with."""
    begun = flatten(load_settings(RunDirectory(item.directory).config))
    return {
        key: value
        for key, value in flatten(item.settings).items()
        if key.partition(".")[0] in RESUMABLE_SETTINGS and value != begun[key]
    }


def points(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of a grid's values; one empty one where there is no grid."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _cells(own: Mapping[str, Any]) -> dict[str, Settings]:
    """Every cell of a sweep's file with each point of its grid."""
    named, grid = ({} if is_null(own.get(key)) else own[key] for key in ("cells", "grid"))
    if not isinstance(grid, dict) or [] in grid.values():
        raise PACZeroError(f"grid: {grid!r} was given; expected settings, each with the values that it takes")
    if not isinstance(named, dict) or not all(isinstance(cell, dict) or is_null(cell) for cell in named.values()):
        raise PACZeroError(f"cells: {named!r} was given; expected a name for each, and under it its settings")
    axes = {key: values if isinstance(values, list) else [values] for key, values in grid.items()}
    cells: dict[str, Settings] = {}
    for name, overrides in (named or {"": {}}).items():
        for point in points(axes):
            parts = [name] if name else []
            parts += [f"{key.rpartition('.')[2]}={_word(value)}" for key, value in point.items()]
            cell = ",".join(parts) or "all"
            try:
                settings = read_settings({} if is_null(overrides) else overrides) | read_settings(point)
            except PACZeroError as error:
                raise PACZeroError(f"cell {cell!r}: {error}") from error
            _check_cell(cell, cells, settings)
            cells[cell] = settings
    return cells


def _check_cell(cell: str, known: Mapping[str, Any], settings: Settings) -> None:
    if not re.fullmatch(r"[\w.,=+-]+", cell) or cell.startswith("."):
        raise PACZeroError(f"cells: {cell!r} was given; expected a name of letters, digits and . , = + - _")
    if cell in _RESERVED:
        raise PACZeroError(f"cells: {cell!r} was given, which lies beside the cells; expected another name")
    if cell in known:
        raise PACZeroError(f"cells: two of them would be called {cell!r}; expected different ones; name them")
    if wrong := settings.keys() & {"seed", "output_dir"}:
        raise PACZeroError(
            f"cell {cell!r}: it sets {', '.join(sorted(wrong))}; expected `seeds` and `output_dir` of the whole sweep"
        )


def _word(value: Any) -> str:
    """A value in the name of a cell: `1e-3` and `0.001` have one name."""
    return re.sub(r"[^\w.+-]+", "_", str(convert("grid", value, Any)))
