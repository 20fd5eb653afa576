"""The owner's report on a run: one HTML page that needs no network, and its figures as PNG files beside it.

>>> write_report(RunDirectory(Path("runs/demo")))
PosixPath('runs/demo/report/index.html')

It may show what a release may not (which steps were unanimous, what was spent), so it is not to be published. It works
on a run at any moment of its life and only reads: a journal that a process is writing to is never touched. What was
measured on test data is taken from `summary.json` (`accuracy_before`, `accuracy_before_median`, `accuracy_after`,
`accuracy_none`, shares in [0, 1]; any may be missing).
"""

import base64
import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import yaml

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.files import read_lines
from paczero.records.metrics import METRICS
from paczero.report import figures, statement
from paczero.report.brief import three_sentences
from paczero.report.card import CARD, percent, settings
from paczero.report.figures import Development
from paczero.report.words import COMES_ABOUT, noun
from paczero.rundir import RunDirectory, write_whole

_LIMIT = 4 * 1024**3
# Of a line of journal, transcript or diagnostics: what holds numbers, and what lists of them.
_NUMBERS = frozenset({"t", "nonfinite", "still", "seconds", "spent", "accuracy", "loss", "f1", "exact_match"})
_LISTS = frozenset({"beta", "y", "unanimous"})
_PICTURES = {
    "boundary.png": "What is released and what stays private",
    "unanimity.png": "How often the candidate halves agreed, over the steps",
    "development.png": "Accuracy on the development set, over the steps",
    "posterior.png": "How often a guess is right, at most, for a leak of so many nats",
    "released.png": "Every released value",
}


@dataclass
class Facts:
    """What a run directory says about its run.

    Attributes:
        header: the transcript's header, None before there is one.
        y: the released values so far.
        unanimous: step -> share of its releases that were unanimous.
        spent: step -> nats spent up to and including it.
        seconds: step -> seconds.
        nonfinite: derivatives that were not finite, in all.
        still: directions along which no record's loss changed, in all.
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
    still: int = 0
    development: Development | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    sealed: dict[str, Any] | None = None
    problem: str | None = None


def write_report(run: RunDirectory) -> Path:
    """Writes RUN/report/: `index.html` and the figures.

    Returns:
        The path of `index.html`.

    Raises:
        PACZeroError: there is no run here, or the report cannot be written.
        IntegrityError: a file of the run is no file of a run any more.
    """
    facts = gather(run)
    pictures = _draw(facts)
    page = render(run, facts, pictures)
    try:
        run.report.mkdir(mode=0o700, exist_ok=True)  # the journal in pictures: the owner alone enters
        for name in _PICTURES:
            if name in pictures:
                write_whole(run.report / name, pictures[name])
            else:
                (run.report / name).unlink(missing_ok=True)
        write_whole(run.report / "index.html", page)
    except OSError as error:
        raise PACZeroError(f"{run.report}: the report cannot be written: {error.strerror}") from error
    return run.report / "index.html"


def gather(run: RunDirectory) -> Facts:
    """Reads all that is there; what is missing stays empty."""
    if not run.private.is_dir() and not run.release.is_dir():
        raise PACZeroError(f"{str(run.root)!r} holds no run: neither private/ nor release/ is there")
    facts = Facts()
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


def _read_steps(facts: Facts, journal: list[dict[str, Any]], diagnostics: list[dict[str, Any]]) -> None:
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
            facts.still += row.get("still") or 0
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


def _note_unanimous(facts: Facts, row: Mapping[str, Any]) -> None:
    flags = row.get("unanimous")
    if flags and (facts.header is None or statement.kind_of(facts.header).candidates):
        facts.unanimous[row["t"]] = sum(flags) / len(flags)


def _draw(facts: Facts) -> dict[str, bytes]:
    """File name -> PNG of every figure that there is data for."""
    header = facts.header
    if header is None:
        return {}
    pictures = {"boundary.png": figures.boundary(header)}
    steps = sorted(facts.unanimous)
    if steps:
        shares, spent = [facts.unanimous[step] for step in steps], [facts.spent.get(step, 0.0) for step in steps]
        pictures["unanimity.png"] = figures.unanimity(steps, shares, spent, header)
    if facts.development is not None and facts.development.steps:
        chosen = facts.sealed["chosen_step"] if facts.sealed else None
        pictures["development.png"] = figures.development(facts.development, header, chosen)
    if statement.kind_of(header).protects == "half":
        pictures["posterior.png"] = figures.posterior(header)
    if facts.y:
        pictures["released.png"] = figures.released(facts.y, header)
    return pictures


def render(run: RunDirectory, facts: Facts, pictures: Mapping[str, bytes]) -> str:
    """The page. Every text that comes from the run is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    header = facts.header
    return environment.get_template("index.html.j2").render(
        run=str(run.root),
        quoted=shlex.quote(str(run.root)),
        finished=run.finished,
        problem=facts.problem,
        header=header,
        verdict=statement.verdict(header) if header else None,
        kind=statement.kind_of(header) if header else None,
        comes_about=COMES_ABOUT.get(statement.mechanism_name(header)) if header else None,
        p=statement.rounded_up(statement.success(header)) if header else None,
        epsilon=_epsilon(header),
        brief=three_sentences(header) if header else (),
        promise=statement.promise(header).strip() if header else None,
        not_promised=statement.not_promised(header) if header else [],
        done=len(facts.y),
        tiles=_tiles(facts),
        happened=_happened(facts),
        settings=settings(header) if header else [],
        config=_flat(facts.config),
        sealed=facts.sealed,
        audit=_audit(run),
        card=_card(run),
        pictures=[
            (name, _PICTURES[name], base64.b64encode(pictures[name]).decode()) for name in _PICTURES if name in pictures
        ],
    )


def _audit(run: RunDirectory) -> dict[str, Any] | None:
    """What attacks on this run have reached, where it was audited: whether it passed, and a sentence each."""
    document = _mapping(run.report / "audit" / "audit.json", json.loads)
    if not document:
        return None
    attacks = (document.get("reruns") or {}).get("attacks") or []
    rows = (document.get("canaries") or {}).get("rows") or []
    reached = [
        f"{attack['title']}: right in {100 * attack['interval']['estimate']:.1f} % of {attack['trials']:,} re-runs, "
        f"allowed {100 * attack['bound']:.1f} %."
        for attack in attacks
    ]
    own = [f"{row['label']}: {row['meaning']}" for row in rows if row["label"] == rows[0]["label"]]
    return {"passed": bool(document.get("passed")), "reached": reached, "membership": own}


def _card(run: RunDirectory) -> str | None:
    """The released model card as it was written."""
    path = run.release / CARD
    return path.read_text(encoding="utf-8", errors="replace") if run.finished and path.is_file() else None


def _epsilon(header: Mapping[str, Any] | None) -> str | None:
    value = statement.epsilon(header) if header else None
    return None if value is None else statement.rounded_up(value, 3)


def _tiles(facts: Facts) -> list[list[tuple[str, str, str]]]:
    """Value, label and note of the figures at the top, accuracies and the run's own; only what is known."""
    known, own = [], []
    for key, label, note in (
        ("accuracy_before", "untuned", "the base model as it is"),
        ("accuracy_before_median", "untuned, median", "decision moved to the median score"),
        ("accuracy_after", "after training", "the served weights"),
        ("accuracy_none", "without privacy", "mechanism none, a learning rate of its own"),
    ):
        value = _number(facts.summary.get(key))
        if value is not None:
            known.append((percent(value), label, note))
    if facts.unanimous:
        share = sum(facts.unanimous.values()) / len(facts.unanimous)
        own.append((f"{100 * share:.0f} %", "unanimous", "releases on which all candidates agreed"))
    if facts.header and facts.header["mechanism"]["name"] == "mi" and facts.spent:
        spent = facts.spent[max(facts.spent)]
        own.append((f"{spent:.3g} nats", "spent", f"of a budget of {facts.header['budget']:g}"))
    seconds = _number(facts.summary.get("seconds")) or sum(facts.seconds.values())
    if seconds:
        own.append((_duration(seconds), "training time", f"{len(facts.y):,} steps"))
    return [row for row in (known, own) if row]


def _number(value: Any) -> float | None:
    fine = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if fine else None


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _happened(facts: Facts) -> list[str]:
    """What happened, in sentences, from what is known."""
    header = facts.header
    if header is None:
        return ["The run was prepared; no step has been taken."]
    said = [
        f"{header['base']['id']} took {len(facts.y):,} of {header['steps']:,} steps on a pool of {header['units']:,} "
        f"units. All that training took from the pool are {len(facts.y) * header['directions']:,} {noun(header)}."
    ]
    after = _number(facts.summary.get("accuracy_after"))
    before = [_number(facts.summary.get(key)) for key in ("accuracy_before", "accuracy_before_median")]
    known = [value for value in before if value is not None]
    if after is not None and known:
        points = 100 * (after - max(known))
        said.append(
            f"Its accuracy on the test set is {percent(after)}, {abs(points):.1f} points "
            f"{'above' if points >= 0 else 'below'} {'the better of ' if len(known) > 1 else ''}the untuned "
            f"model{'’s two figures' if len(known) > 1 else ''} ({percent(max(known))})."
        )
    elif facts.development is not None and facts.development.steps:
        dev = facts.development
        first, last = (METRICS[dev.metric].shown(value) for value in (dev.values[0], dev.values[-1]))
        said.append(
            f"On the development set, which is not protected, the {METRICS[dev.metric].title} went from "
            f"{first} (step {dev.steps[0]}) to {last} (step {dev.steps[-1]})."
        )
    if facts.nonfinite:
        said.append(f"{facts.nonfinite:,} derivatives were not finite and counted as 0; a smaller μ may help.")
    if facts.still:
        said.append(f"Along {facts.still:,} directions no record's loss changed at all; a larger μ may help.")
    return said


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names, which are the flags of `paczero train`."""
    if isinstance(value, Mapping) and value:
        return [row for key, inner in value.items() for row in _flat(inner, f"{prefix}.{key}" if prefix else str(key))]
    return [(prefix, "" if value is None else str(value))] if prefix else []
