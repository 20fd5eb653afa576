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
from pathlib import Path
from typing import Any

from paczero.data.metrics import METRICS
from paczero.errors import PACZeroError
from paczero.release import guarantee, statement
from paczero.release import plots as figures
from paczero.release.model_card import CARD, settings
from paczero.release.wording import COMES_ABOUT, noun, three_sentences
from paczero.report.run_record import RunRecord, _mapping, load_run_record
from paczero.run_directory import RunDirectory
from paczero.utils.formatting import percent
from paczero.utils.io import write_whole
from paczero.utils.templates import template

_PICTURES = {
    "boundary.png": "What is released and what stays private",
    "unanimity.png": "How often the candidate halves agreed, over the steps",
    "development.png": "Accuracy on the development set, over the steps",
    "posterior.png": "How often a guess is right, at most, for a leak of so many nats",
    "released.png": "Every released value",
}


def write_report(run: RunDirectory) -> Path:
    """Writes RUN/report/: `index.html` and the figures.

    Returns:
        The path of `index.html`.

    Raises:
        PACZeroError: there is no run here, or the report cannot be written.
        IntegrityError: a file of the run is no file of a run any more.
    """
    facts = load_run_record(run)
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


def _draw(facts: RunRecord) -> dict[str, bytes]:
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
    if guarantee.kind_of(header).hides == "half":
        pictures["posterior.png"] = figures.posterior(header)
    if facts.y:
        pictures["released.png"] = figures.released(facts.y, header)
    return pictures


def render(run: RunDirectory, facts: RunRecord, pictures: Mapping[str, bytes]) -> str:
    """The page. Every text that comes from the run is escaped."""
    header = facts.header
    return template("index.html.j2", Path(__file__).parent / "templates").render(
        run=str(run.root),
        quoted=shlex.quote(str(run.root)),
        finished=run.finished,
        problem=facts.problem,
        header=header,
        verdict=guarantee.verdict(header) if header else None,
        kind=guarantee.kind_of(header) if header else None,
        comes_about=COMES_ABOUT.get(guarantee.mechanism_name(header)) if header else None,
        p=guarantee.rounded_up(guarantee.success(header)) if header else None,
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
    value = guarantee.epsilon(header) if header else None
    return None if value is None else guarantee.rounded_up(value, 3)


def _tiles(facts: RunRecord) -> list[list[tuple[str, str, str]]]:
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
    if facts.header and guarantee.kind_of(facts.header).has_budget and facts.spent:
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


def _happened(facts: RunRecord) -> list[str]:
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
    if facts.zero_derivatives:
        said.append(
            f"Along {facts.zero_derivatives:,} directions no record's loss changed at all; a larger μ may help."
        )
    return said


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names, which are the flags of `paczero train`."""
    if isinstance(value, Mapping) and value:
        return [row for key, inner in value.items() for row in _flat(inner, f"{prefix}.{key}" if prefix else str(key))]
    return [(prefix, "" if value is None else str(value))] if prefix else []
