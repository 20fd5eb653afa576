"""Which runs a sweep has: cells × grid × seeds, each with all of its settings.

>>> [dict(point) for point in points({"max_steps": [10, 20], "seed": [0]})]
[{'max_steps': 10, 'seed': 0}, {'max_steps': 20, 'seed': 0}]
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from paczero.cli.parser import SettingsParser, settings_parser
from paczero.config import FREE_SETTINGS, RESUMABLE_SETTINGS
from paczero.config_io import RunSettings, like, load_settings, read_settings_file, recipes, settings_from
from paczero.errors import PACZeroError
from paczero.run_directory import RunDirectory, is_held

ASIDE = frozenset({"cells", "grid", "seeds", "jobs"})

_TAKEN = frozenset({"cache", "results"})  # names beside the cells


@dataclass(frozen=True)
class Sweep:
    """A sweep as it was asked for.

    Attributes:
        path: its file.
        flags: settings that hold for all runs, as flags.
        cells: name -> overrides, dotted key to value.
        seeds: of every cell.
        jobs: runs at once.
        root: where the cells' directories lie.
    """

    path: Path
    flags: tuple[str, ...]
    cells: Mapping[str, Mapping[str, Any]]
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
        return self.root / self.cell / f"seed-{self.seed}"

    @property
    def log(self) -> Path:
        return self.root / self.cell / f"seed-{self.seed}.log"

    @property
    def config(self) -> Path:
        return self.root / self.cell / f"seed-{self.seed}.yaml"


def reader() -> SettingsParser:
    """Reads a sweep's file: the settings of a run, and the sweep's own keys aside."""
    made = settings_parser("train", "")
    made.aside = ASIDE
    return made


def read_sweep(namespace: Namespace) -> Sweep:
    """The sweep of a parsed command line.

    Raises:
        PACZeroError: no such file, or one of its own keys holds what cannot be.
    """
    known, path = recipes(sweeps=True), Path(namespace.file)
    if not path.exists() and namespace.file in known:
        path = known[namespace.file]
    try:
        content = reader().read_overrides(read_settings_file(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PACZeroError(
            f"sweep: {namespace.file!r} cannot be read; expected a YAML file or one of {like(namespace.file, known)}"
        ) from error
    if not isinstance(content, dict):
        raise PACZeroError(
            f"{namespace.file}: a {type(content).__name__} was given; expected settings, and cells or a grid"
        )
    given = _flat(namespace.settings)
    cells = _cells(content)
    for key in sorted(given.keys() & {key for overrides in cells.values() for key in overrides}):
        raise PACZeroError(
            f"--{key}: {given[key]!r} was given; flags hold for all runs, and cells or grid of {namespace.file!r} set "
            "it themselves; change it there"
        )
    if "seed" in given and "seeds" in content:
        raise PACZeroError(f"--seed: {given['seed']} was given, and {namespace.file!r} has seeds; change them there")
    root = namespace.settings.get("output_dir") or content.get("output_dir")
    if not root:
        raise PACZeroError(f"output_dir: {namespace.file!r} names none; expected where the runs shall lie; add it")
    if not isinstance(root, str):
        raise PACZeroError(f"output_dir: {root!r} was given in {namespace.file!r}; expected one directory's name")
    return Sweep(
        path,
        tuple(as_flags(given)),
        cells,
        _list(content, "seeds", namespace.settings.get("seed", content.get("seed", 0)), int),
        _list(content, "jobs", 1, int)[0],
        Path(root),
    )


def plan(sweep: Sweep, *, only: Sequence[str] | None = None) -> list[Planned]:
    """Every run, seed by seed, so that each cell has a first result early.

    Raises:
        PACZeroError: settings that cannot work, with the cell's name; a cell in `only` that does not exist.
    """
    for asked in only or ():
        if not any(_is_of(name, asked) for name in sweep.cells):
            raise PACZeroError(f"--only: {asked!r} was given; expected one of {', '.join(sweep.cells)}")
    cells = {
        name: value for name, value in sweep.cells.items() if not only or any(_is_of(name, asked) for asked in only)
    }
    settings = reader()
    return [_planned(settings, sweep, name, cells[name], seed) for seed in sweep.seeds for name in cells]


def _planned(parser: SettingsParser, sweep: Sweep, cell: str, overrides: Mapping[str, Any], seed: int) -> Planned:
    cache = str(sweep.root / "cache")  # hidden states that all cells share; private like all of a run but release/
    try:
        given = parser.parse_args([f"--config={sweep.path}", *as_flags(overrides), *sweep.flags, f"--seed={seed}"])
        settings = settings_from(given)
    except PACZeroError as error:
        raise PACZeroError(f"cell {cell!r}: {error}") from error
    item = Planned(cell, seed, settings, sweep.root)
    place = settings.args.cache_dir or cache
    args = replace(settings.args, output_dir=str(item.directory), cache_dir=place)
    return replace(item, settings=replace(settings, args=args))


def _is_of(name: str, asked: str) -> bool:
    """Whether a cell is the one that was asked for, or one of its grid."""
    return name == asked or name.startswith(f"{asked},")


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


def _computed(settings: RunSettings) -> dict[str, Any]:
    """The settings that say what a run computes."""
    whole = asdict(settings)
    return whole | {"args": {name: value for name, value in whole["args"].items() if name not in FREE_SETTINGS}}


def given_anew(item: Planned) -> dict[str, Any]:
    """What an interrupted run goes on with that differs from how it was begun, dotted key to value."""
    begun, asked = (
        _flat({name: value for name, value in asdict(settings.args).items() if name in RESUMABLE_SETTINGS})
        for settings in (load_settings(RunDirectory(item.directory).config), item.settings)
    )
    return {key: value for key, value in asked.items() if value != begun[key]}


def points(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of a grid's values; one empty one where there is no grid."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def as_flags(overrides: Mapping[str, Any]) -> list[str]:
    """Settings as flags of `paczero train`."""
    return [
        f"--{key}={value if isinstance(value, str) else json.dumps(value, default=str)}"
        for key, value in overrides.items()
    ]


def _cells(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    named, grid = content.get("cells") or {"": {}}, content.get("grid") or {}
    if not isinstance(grid, dict) or [] in grid.values():
        raise PACZeroError(f"grid: {grid!r} was given; expected settings, each with the values that it takes")
    grid = {key: value if isinstance(value, list) else [value] for key, value in grid.items()}
    if not isinstance(named, dict) or not all(isinstance(value or {}, dict) for value in named.values()):
        raise PACZeroError("cells: expected a name for each, and under it its settings")
    cells: dict[str, dict[str, Any]] = {}
    for name, overrides in named.items():
        for point in points(grid):
            said = [name] if name else []
            said += [f"{key.rpartition('.')[2]}={_word(value)}" for key, value in point.items()]
            called = ",".join(said) or "all"
            if not re.fullmatch(r"[\w.,=+-]+", called) or called.startswith("."):
                raise PACZeroError(f"cells: {called!r} was given; expected a name of letters, digits and . , = + - _")
            if called in _TAKEN:
                raise PACZeroError(f"cells: {called!r} was given, which lies beside the cells; expected another name")
            if called in cells:
                raise PACZeroError(f"cells: two of them would be called {called!r}; expected different ones; name them")
            cells[called] = _flat(overrides or {}) | point
            if wrong := cells[called].keys() & {"seed", "output_dir"}:
                raise PACZeroError(
                    f"cell {called!r}: it sets {', '.join(sorted(wrong))}; expected `seeds` and `output_dir` of the "
                    "whole sweep"
                )
    return cells


def _word(value: Any) -> str:
    return re.sub(r"[^\w.+-]+", "_", str(value))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted keys; `peft` and the labels are values."""
    result: dict[str, Any] = {}
    for name, value in tree.items():
        key = prefix + name
        whole = not isinstance(value, dict) or key in ("peft", "task.labels")
        result |= {key: value} if whole else _flat(value, f"{key}.")
    return result


def _list(content: Mapping[str, Any], key: str, default: Any, kind: type) -> list[Any]:
    value = content.get(key, default)
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(type(item) is kind for item in listed) or len(set(listed)) < len(listed):
        raise PACZeroError(f"{key}: {value!r} was given; expected different whole numbers")
    return listed
