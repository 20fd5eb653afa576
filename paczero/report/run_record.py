"""The owner's report on a run: one HTML page that needs no network, and its figures as PNG files beside it.

>>> write_report(RunDirectory(Path("runs/demo")))
PosixPath('runs/demo/report/index.html')

It may show what a release may not (which steps were unanimous, what was spent), so it is not to be published. It works
on a run at any moment of its life and only reads: a journal that a process is writing to is never touched. What was
measured on test data is taken from `summary.json` (`accuracy_before`, `accuracy_before_median`, `accuracy_after`,
`accuracy_none`, shares in [0, 1]; any may be missing).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from paczero.data.metrics import METRICS
from paczero.errors import IntegrityError, PACZeroError
from paczero.release import guarantee, statement
from paczero.release.model_card import settings
from paczero.release.plots import Development
from paczero.run_directory import RunDirectory
from paczero.utils.io import read_lines

_LIMIT = 4 * 1024**3

# Of a line of journal, transcript or diagnostics: what holds numbers, and what lists of them.
_NUMBERS = frozenset(
    {"t", "nonfinite", "zero_derivatives", "seconds", "spent", "accuracy", "loss", "f1", "exact_match"}
)

_LISTS = frozenset({"beta", "y", "unanimous"})


@dataclass
class RunRecord:
    """What a run directory says about its run.

    Attributes:
        header: the transcript's header, None before there is one.
        y: the released values so far.
        unanimous: step -> share of its releases that were unanimous.
        spent: step -> nats spent up to and including it.
        seconds: step -> seconds.
        nonfinite: derivatives that were not finite, in all.
        zero_derivatives: directions along which no record's loss changed, in all.
        development: the development set's figures.
        summary: `summary.json`.
        config: `config.yaml`.
        sealed: the checked statement of a finished run.
        problem: why the statement could not be accepted.
    """

    header: dict[str, Any] | None = None
    y: list[list[float]] = field(default_factory=list)
    unanimous: dict[int, float] = field(default_factory=dict)
    spent: dict[int, float] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    nonfinite: int = 0
    zero_derivatives: int = 0
    development: Development | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    sealed: dict[str, Any] | None = None
    problem: str | None = None


def load_run_record(run: RunDirectory) -> RunRecord:
    """Reads all that is there; what is missing stays empty."""
    if not run.private.is_dir() and not run.release.is_dir():
        raise PACZeroError(f"{str(run.root)!r} holds no run: neither private/ nor release/ is there")
    facts = RunRecord()
    transcript = run.release / "transcript.jsonl" if run.finished else run.staged_transcript
    lines = _lines(transcript)
    if lines:
        facts.header, facts.y = lines[0], [row["y"] for row in lines[1:] if isinstance(row.get("y"), list)]
        _check_header(facts.header, transcript)
    facts.summary = _mapping(run.root / "summary.json", json.loads)
    facts.config = _mapping(run.config, yaml.safe_load)
    _read_steps(facts, _lines(run.journal), _lines(run.diagnostics))
    if run.finished:
        try:
            facts.sealed = statement.read(run.release / statement.NAME)
        except IntegrityError as error:  # said on the page, where everything else can still be of use
            facts.problem = str(error)
    return facts


def _check_header(header: Mapping[str, Any], path: Path) -> None:
    try:
        statement.promise(header)
        settings(header)
    except (KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{path}: its header is not one of a run: {error!r}") from error


def _lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file without a half-written last line; empty where there is no file."""
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(read_lines(path, limit=_LIMIT)[0], start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise IntegrityError(f"{path} line {number}: is no JSON; restore the file") from error
        if not isinstance(row, dict):
            raise IntegrityError(f"{path} line {number}: is no JSON object; restore the file")
        _check_row(row, f"{path} line {number}")
        rows.append(row)
    return rows


def _check_row(row: Mapping[str, Any], where: str) -> None:
    """Refuses what is added up or drawn here where it is no number."""
    for key, value in row.items():
        numbers = value if key in _LISTS and isinstance(value, list) else [value] if key in _NUMBERS else []
        fine = all(isinstance(number, (int, float)) for number in numbers) and (
            key not in _LISTS or value is None or isinstance(value, list)
        )
        if not fine and value is not None:
            raise IntegrityError(f"{where}: {key} is {str(value)[:60]!r}, which no run writes; restore the file")


def _mapping(path: Path, parse: Any) -> dict[str, Any]:
    try:
        value = parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise IntegrityError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    return value if isinstance(value, dict) else {}


def _read_steps(facts: RunRecord, journal: list[dict[str, Any]], diagnostics: list[dict[str, Any]]) -> None:
    """Steps from the journal, the rest from the diagnostics; a resumed run may have written a row twice."""
    total = 0.0
    for row in journal:
        if isinstance(row.get("t"), int):
            total += math.fsum(row.get("beta") or ())
            facts.spent[row["t"]] = total
            facts.nonfinite += row.get("nonfinite") or 0
            _note_unanimous(facts, row)
    dev: dict[int, dict[str, Any]] = {}
    for row in diagnostics:
        if row.get("kind") == "dev":
            dev[row["t"]] = dev.get(row["t"], {}) | {key: value for key, value in row.items() if value is not None}
        elif row.get("kind") == "step":
            facts.zero_derivatives += row.get("zero_derivatives") or 0
            if row.get("seconds") is not None:
                facts.seconds[row["t"]] = row["seconds"]
            if not journal:
                facts.spent[row["t"]] = row.get("spent") or 0.0
                facts.nonfinite += row.get("nonfinite") or 0
                _note_unanimous(facts, row)
    if dev:
        metric = next((name for name in METRICS if any(name in row for row in dev.values())), "accuracy")
        steps = sorted(step for step in dev if metric in dev[step])
        facts.development = Development(
            steps=tuple(steps), values=tuple(dev[step][metric] for step in steps), metric=metric
        )
        if facts.header is not None:
            facts.development = facts.development.completed(facts.header)


def _note_unanimous(facts: RunRecord, row: Mapping[str, Any]) -> None:
    flags = row.get("unanimous")
    if flags and (facts.header is None or guarantee.kind_of(facts.header).candidates):
        facts.unanimous[row["t"]] = sum(flags) / len(flags)
