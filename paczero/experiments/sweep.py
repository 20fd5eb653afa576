"""The runs of a sweep: cells × grid × seeds, each with all of its settings.

>>> [dict(point) for point in points({"max_steps": [10, 20], "seed": [0]})]
[{'max_steps': 10, 'seed': 0}, {'max_steps': 20, 'seed': 0}]
"""

import itertools
import re
import statistics
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
from paczero.data.metrics import METRICS
from paczero.errors import PACZeroError
from paczero.report.summary import Summary, read_summary, summary_path
from paczero.run_directory import RunDirectory, is_held

_KEYS = ("cells", "grid", "seeds", "jobs")  # of a sweep's file, beside the settings
_RESERVED = frozenset({"cache", "results"})  # names beside the cells' directories


@dataclass(frozen=True)
class Sweep:
    """A sweep, from its file and flags.

    Attributes:
        settings: of all runs, by dotted key.
        cells: name -> the settings of this cell alone.
        seeds: of every cell.
        jobs: runs at once.
        root: the folder of the cells.
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
        cell: name of the cell.
        seed: the run's seed.
        settings: all settings of the run.
    """

    cell: str
    seed: int
    settings: RunSettings

    @property
    def name(self) -> str:
        return f"{self.cell}/seed-{self.seed}"

    @property
    def directory(self) -> Path:
        return Path(self.settings.args.output_dir)

    @property
    def log(self) -> Path:
        return self.directory.with_name(f"seed-{self.seed}.log")

    @property
    def config(self) -> Path:
        return self.directory.with_name(f"seed-{self.seed}.yaml")


def read_sweep(name: str, flags: Mapping[str, Any]) -> Sweep:
    """Reads a sweep's file.

    Args:
        name: the path of the file, or the name of a recipe.
        flags: settings for all runs; they override the file's.

    Raises:
        PACZeroError: there is no such file, it has an unknown setting, or flags and cells set the same key.
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
        raise PACZeroError(f"output_dir: {name!r} names none; expected the folder of the runs; add it")
    seeds = convert("seeds", own.get("seeds", settings.get("seed", 0)), list[int])
    if not seeds or len(set(seeds)) < len(seeds):
        raise PACZeroError(f"seeds: {seeds} was given; expected different whole numbers")
    return Sweep(settings, cells, seeds, convert("jobs", own.get("jobs", 1), int), Path(settings["output_dir"]))


def plan(sweep: Sweep, *, only: Sequence[str] | None = None) -> list[Planned]:
    """All runs, seed by seed, so that each cell has a first result early.

    Raises:
        PACZeroError: settings of a cell cannot work, or a cell in `only` does not exist.
    """
    names = set() if only else set(sweep.cells)
    for requested in only or ():
        matching = {name for name in sweep.cells if name == requested or name.startswith(f"{requested},")}
        if not matching:
            raise PACZeroError(f"--only: {requested!r} was given; expected one of {', '.join(sweep.cells)}")
        names |= matching
    return [_planned(sweep, name, seed) for seed in sweep.seeds for name in sweep.cells if name in names]


def _planned(sweep: Sweep, cell: str, seed: int) -> Planned:
    settings = merge(sweep.settings, sweep.cells[cell])
    if settings.get("cache_dir") is None:  # hidden states that all cells share; private
        settings["cache_dir"] = str(sweep.root / "cache")
    settings |= {"seed": seed, "output_dir": str(sweep.root / cell / f"seed-{seed}")}
    try:
        return Planned(cell, seed, build_settings(settings))
    except PACZeroError as error:
        raise PACZeroError(f"cell {cell!r}: {error}") from error


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
    return "finished" if directory.finished and summary_path(directory).exists() else "interrupted"


def condition_of(item: Planned) -> str:
    """`state_of` for people: also `running`, and `failed` for a run that was started and left no directory."""
    directory = RunDirectory(item.directory)
    state = state_of(item)
    if is_held(item.log) or directory.busy:
        return "running"
    return "failed" if state == "new" and item.log.exists() else state


def _computed(settings: RunSettings) -> Settings:
    """The settings that say what a run computes."""
    return {key: value for key, value in flatten(settings).items() if key.partition(".")[0] not in FREE_SETTINGS}


def given_anew(item: Planned) -> Settings:
    """The settings of an interrupted run that may change when it goes on, and did."""
    begun = flatten(load_settings(RunDirectory(item.directory).config))
    return {
        key: value
        for key, value in flatten(item.settings).items()
        if key.partition(".")[0] in RESUMABLE_SETTINGS and value != begun[key]
    }


def points(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of a grid's values; a single empty one for an empty grid."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _cells(own: Mapping[str, Any]) -> dict[str, Settings]:
    """All cells of a sweep's file, with each point of its grid."""
    named, grid = ({} if is_null(own.get(key)) else own[key] for key in ("cells", "grid"))
    if not isinstance(grid, dict) or [] in grid.values():
        raise PACZeroError(f"grid: {grid!r} was given; expected settings, each with its values")
    if not isinstance(named, dict) or not all(isinstance(cell, dict) or is_null(cell) for cell in named.values()):
        raise PACZeroError(f"cells: {named!r} was given; expected names, each with its settings")
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


def summary_table(planned: Sequence[Planned]) -> str:
    """Mean and standard deviation of each cell's metric over its finished seeds, as Markdown.

    The metric is that of the test set, or of the dev set where a run has no test set; empty where it has neither.
    """
    cells: dict[str, list[Summary]] = {}
    for item in planned:
        run = RunDirectory(item.directory)
        if run.finished and summary_path(run).exists():
            cells.setdefault(item.cell, []).append(read_summary(run))
    lines = ["| cell | seeds | figure | of | unanimous | seconds |", "|---|---|---|---|---|---|"]
    for cell, summaries in cells.items():
        test = [s.test_after[s.metric] for s in summaries if s.test_after is not None]
        dev = [s.dev_after for s in summaries if s.dev_after is not None]
        sets = (("test", test), ("dev", dev))
        which, values = next(((name, known) for name, known in sets if len(known) == len(summaries)), ("", []))
        percent = bool(values) and METRICS[summaries[0].metric].share
        metric = f"{_spread(values, 100)} %" if percent else _spread(values, 1)
        agreed = _spread([s.unanimity for s in summaries if s.unanimity is not None], 1)
        seconds = statistics.mean(s.seconds for s in summaries)
        lines.append(f"| {cell} | {len(summaries)} | {metric} | {which} | {agreed} | {seconds:.0f} |")
    return "\n".join(lines)


def _spread(values: Sequence[float], scale: float) -> str:
    if not values:
        return ""
    mean = f"{scale * statistics.mean(values):.2f}"
    return f"{mean} ± {scale * statistics.stdev(values):.2f}" if len(values) > 1 else mean
