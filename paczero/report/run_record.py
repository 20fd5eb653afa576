"""Reads the files of a run directory, each once.

    record = RunRecord.load(RunDirectory(Path("runs/demo")))
    record.unanimous[0]     # the share of step 0's releases on which all candidates agreed

It reads a run in any state and writes nothing, so a journal in use by another process is never changed.
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
from paczero.mechanism.registry import spec_of
from paczero.release import statement
from paczero.release.statement import Development
from paczero.run_directory import RunDirectory
from paczero.utils.io import read_lines

_LIMIT = 4 * 1024**3


@dataclass
class RunRecord:
    """The contents of a run directory; fields without a file yet are empty.

    Attributes:
        header: the transcript's header, None before there is one.
        y: the released values so far.
        unanimous: step -> share of its releases that were unanimous.
        spent: step -> nats spent up to and including it.
        seconds: step -> seconds.
        nonfinite: derivatives that were not finite, in all.
        zero_derivatives: directions along which no record's loss changed, in all.
        development: metrics on the development set.
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

    @classmethod
    def load(cls, run: RunDirectory) -> "RunRecord":
        """Reads all that is there.

        Raises:
            PACZeroError: there is no run.
            IntegrityError: a file of the run cannot be read as one.
        """
        if not run.private.is_dir() and not run.release.is_dir():
            raise PACZeroError(f"{str(run.root)!r} holds no run: neither private/ nor release/ is there")
        record = cls()
        lines = json_lines(run.release / "transcript.jsonl" if run.finished else run.staged_transcript)
        if lines:
            record.header, record.y = lines[0], [row["y"] for row in lines[1:]]
        record.summary = _mapping(run.root / "summary.json", json.loads)
        record.config = _mapping(run.config, yaml.safe_load)
        record._read_steps(json_lines(run.journal), json_lines(run.diagnostics))
        if run.finished:
            try:
                record.sealed = statement.read(run.release / statement.NAME)
            except IntegrityError as error:  # shown on the page; the rest of the page is still useful
                record.problem = str(error)
        return record

    def _read_steps(self, journal: list[dict[str, Any]], diagnostics: list[dict[str, Any]]) -> None:
        """Steps from the journal, the rest from the diagnostics, where a resumed run may have written a row twice."""
        total = 0.0
        for row in journal:
            if "t" in row:
                total += math.fsum(row["beta"] or ())
                self._note_step(row, total)
        measured: dict[int, dict[str, Any]] = {}
        for row in diagnostics:
            if row.get("kind") == "dev":
                known = {key: value for key, value in row.items() if value is not None}
                measured[row["t"]] = measured.get(row["t"], {}) | known
            elif row.get("kind") == "step":
                self.zero_derivatives += row.get("zero_derivatives") or 0
                if row.get("seconds") is not None:
                    self.seconds[row["t"]] = row["seconds"]
                if not journal:
                    self._note_step(row, row.get("spent") or 0.0)
        if measured:
            metric = next((name for name in METRICS if any(name in row for row in measured.values())), "accuracy")
            steps = tuple(sorted(step for step in measured if metric in measured[step]))
            development = Development(steps, tuple(measured[step][metric] for step in steps), metric=metric)
            self.development = development.completed(self.header) if self.header else development

    def _note_step(self, row: Mapping[str, Any], spent: float) -> None:
        self.spent[row["t"]] = spent
        self.nonfinite += row.get("nonfinite") or 0
        flags = row.get("unanimous")
        if flags and (self.header is None or spec_of(self.header["mechanism"]["name"]).candidates):
            self.unanimous[row["t"]] = sum(flags) / len(flags)


def json_lines(path: Path) -> list[dict[str, Any]]:
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
        rows.append(row)
    return rows


def _mapping(path: Path, parse: Any) -> dict[str, Any]:
    try:
        value = parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise IntegrityError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    return value if isinstance(value, dict) else {}
