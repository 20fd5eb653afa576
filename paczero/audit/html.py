"""The page of an audit, from its document alone: each bound beside what attacks reached.

    write(document, Path("runs/demo/report/audit"), header)
    # PosixPath('runs/demo/report/audit/index.html')

For the owner: it speaks of the journal. Every text that comes from a run is escaped, and the page loads nothing.
"""

import base64
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paczero.audit import plots as figures
from paczero.errors import PACZeroError
from paczero.release.wording import sentences
from paczero.report import html as report_page
from paczero.utils.formatting import percent
from paczero.utils.io import write_whole
from paczero.utils.templates import template

NAME = "audit.json"


def write(document: Mapping[str, Any], folder: Path, header: Mapping[str, Any]) -> Path:
    """Writes `index.html`, `audit.json` and the figures into the folder.

    Returns:
        The path of `index.html`.

    Raises:
        PACZeroError: they cannot be written.
    """
    pictures = figures.draw(document)
    page = render(document, pictures, header)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in figures.TITLES:
            if name in pictures:
                write_whole(folder / name, pictures[name])
            else:
                (folder / name).unlink(missing_ok=True)
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        write_whole(folder / NAME, f"{text}\n")
        write_whole(folder / "index.html", page)
    except OSError as error:
        raise PACZeroError(f"{folder}: the audit's page cannot be written: {error.strerror}") from error
    return folder / "index.html"


def render(document: Mapping[str, Any], pictures: Mapping[str, bytes], header: Mapping[str, Any]) -> str:
    """The page as HTML."""
    templates = [Path(__file__).parent / "templates", Path(report_page.__file__).parent / "templates"]
    hidden, not_hidden, helps = sentences(header)
    exact, reruns, canaries = document["exact"], document["reruns"], document["canaries"]
    return template("audit.html.j2", *templates).render(
        audit=document,
        quoted=shlex.quote(document["run"]),
        summary=summary(document),
        promise=hidden,
        unprotected=[not_hidden, *_found_out(document), helps],
        confidence=percent(reruns["attacks"][0]["interval"]["confidence"], 3) if reruns else "",
        reruns_words=_reruns_words(reruns) if reruns else "",
        exact_words=_EXACT,
        exact_rows=_exact_rows(exact) if exact else [],
        canary_words=_canary_words(canaries) if canaries else "",
        family_words=_FAMILIES,
        pictures=[
            (name, title, base64.b64encode(pictures[name]).decode())
            for name, title in figures.TITLES.items()
            if name in pictures
        ],
    )


def summary(document: Mapping[str, Any]) -> str:
    """What was done, in a sentence."""
    done = []
    if document["exact"]:
        exact = document["exact"]
        done.append(f"all {exact['steps_run']:,} steps of the journal computed again")
    if document["reruns"]:
        count = len(document["reruns"]["attacks"])
        done.append(f"{count} attacks on {document['reruns']['runs']:,} re-runs, none of which passed its bound")
    if document["controls"]:
        leaky = [control for control in document["controls"] if control["leaks"]]
        done.append(f"{len(leaky)} leaks built on purpose, all of them caught")
    return f"Done: {'; '.join(done)}." if done else "Nothing that decides was asked for."


_EXACT = (
    "From the signs of all candidates and the released values alone, with 50 digits and by code that shares nothing "
    "with "
    "what wrote them: what each release could tell, what it was charged, the sum against the budget, and what somebody "
    "who saw everything now believes. The secret was not opened."
)

_FAMILIES = (
    "The promise is about somebody who knows nothing of who is in which half. Whoever knows the half of some units "
    "may infer "
    "that of others from the candidates alone, before anything is released. These chances are exact."
)


def _reruns_words(reruns: Mapping[str, Any]) -> str:
    budget = reruns["budget"]
    promised = "" if budget is None else f" with B = {budget:g} nats"
    return (
        f"The whole procedure, repeated {reruns['runs']:,} times on a small model with fresh secrets: mechanism "
        f"{reruns['mechanism']}{promised}, {reruns['subsets']} candidates of family {reruns['family']}, "
        f"{reruns['units']} units, {reruns['steps']} steps of {reruns['directions']}; all candidates agreed in "
        f"{percent(reruns['unanimity'])} of the releases. An attack fails the audit where even the lower end of its "
        "interval lies above what is allowed."
    )


def _canary_words(canaries: Mapping[str, Any]) -> str:
    return (
        f"Small models were trained on {canaries['base']} made-up records for {canaries['steps']} steps, with records "
        "put in or left out by the toss of a coin, and attacked. LiRA sees the final model. The insider knows "
        "everybody else in the pool and looks at every released value. These figures never decide whether the audit "
        "passes."
    )


def _found_out(document: Mapping[str, Any]) -> list[str]:
    """What attacks found out about pool membership under the run's own mechanism."""
    canaries = document["canaries"]
    if not canaries:
        return []
    own = canaries["rows"][0]["label"]
    return [f"{own}: {row['meaning']}" for row in canaries["rows"] if row["label"] == own]


def _exact_rows(exact: Mapping[str, Any]) -> list[tuple[str, str]]:
    budget = exact["budget"]
    rows = [
        ("Mechanism", exact["mechanism"] + (" (VOID: test coins)" if exact["void"] else "")),
        ("Steps, directions", f"{exact['steps_run']:,} of {exact['steps']:,}, K = {exact['directions']}"),
        ("Unanimous, contested", f"{exact['unanimous']:,}, {exact['contested']:,} releases"),
        ("Budget B", "none: nothing is promised" if budget is None else f"{budget:g} nats"),
        ("Charged, added up exactly", f"{exact['charged']:.12g} nats"),
        ("Let through by the noise", f"{exact['information']:.12g} nats"),
        ("Right guesses p that B allows", f"{exact['success_bound']:.10f}"),
        (
            "p in the statement",
            "no statement yet" if exact["success_stated"] is None else f"{exact['success_stated']:.10f}",
        ),
    ]
    if exact["delta_found"] is not None:
        rows.append(
            (
                "δ at ε, from σ anew",
                f"{exact['delta_found']:.4g} at ε = {exact['epsilon']:g} (stated {exact['delta']:.4g})",
            )
        )
    if exact["posterior"]:
        likeliest, units = max(exact["posterior"]), exact["unit_posterior"]
        best = [max(value, 1 - value) for value in units]
        rows += [
            (
                "Likeliest candidate now",
                f"probability {likeliest:.6f}; at the start 1/{exact['subsets']} = {1 / exact['subsets']:.6f}",
            ),
            (
                "A unit's half, best guess now",
                f"right with {min(best):.4f} to {max(best):.4f}, on average {sum(best) / len(best):.4f}",
            ),
            (
                "Units above p in this run",
                f"{exact['units_above_bound']:,} of {exact['units']:,}; reported only: p is an average over releases",
            ),
        ]
    found = exact["findings_in_all"]
    rows.append(("What does not follow", "nothing" if not found else f"{found:,} values"))
    return rows
