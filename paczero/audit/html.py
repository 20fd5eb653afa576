"""The page of an audit, from its document alone: each bound beside the success of attacks.

    write(document, Path("runs/demo/report/audit"), header)
    # PosixPath('runs/demo/report/audit/index.html')

The page is for the owner: it shows figures of the journal. Every text of a run is escaped; the page loads nothing.
"""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paczero.audit import plots
from paczero.errors import PACZeroError
from paczero.release.wording import sentences
from paczero.report import html as report_page
from paczero.utils.formatting import percent
from paczero.utils.io import write_whole
from paczero.utils.templates import template


def write(document: Mapping[str, Any], folder: Path, header: Mapping[str, Any]) -> Path:
    """Writes `index.html`, `audit.json` and the plots into the folder.

    Returns:
        The path of `index.html`.

    Raises:
        PACZeroError: a file cannot be written.
    """
    pictures = plots.draw(document)
    path = report_page.write_page(folder, render(document, pictures, header), pictures, plots.TITLES)
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    try:
        write_whole(folder / "audit.json", f"{text}\n")
    except OSError as error:
        raise PACZeroError(f"{folder}: audit.json cannot be written: {error.strerror}") from error
    return path


def render(document: Mapping[str, Any], pictures: Mapping[str, bytes], header: Mapping[str, Any]) -> str:
    """The page as HTML."""
    templates = [Path(__file__).parent / "templates", Path(report_page.__file__).parent / "templates"]
    hidden, not_hidden, helps = sentences(header)
    exact, reruns = document["exact"], document["reruns"]
    return template("audit.html.j2", *templates).render(
        audit=document,
        quoted=shlex.quote(document["run"]),
        summary=summary(document),
        promise=hidden,
        unprotected=[not_hidden, *_pool_attacks(document), helps],
        confidence=percent(reruns["attacks"][0]["interval"]["confidence"], 3) if reruns and reruns["attacks"] else "",
        best_guesses=[max(p, 1 - p) for p in exact["unit_posterior"]] if exact else [],
        pictures=report_page.embedded(pictures, plots.TITLES),
    )


def summary(document: Mapping[str, Any]) -> str:
    """The parts that were done, in a sentence."""
    done = ["the release verified"] if document["verified"] else []
    if document["exact"]:
        exact = document["exact"]
        done.append(f"all {exact['steps_run']:,} steps of the journal recomputed")
    if document["reruns"]:
        count = len(document["reruns"]["attacks"])
        tests = len(document["reruns"]["channel"])
        done.append(
            f"{count} attacks on {document['reruns']['runs']:,} re-runs, none of them above its bound, and {tests} "
            "tests of the released values' law"
        )
    if document["controls"]:
        leaky = [control for control in document["controls"] if control["leaks"]]
        done.append(f"{len(leaky)} deliberate leaks, all of them caught")
    return f"Done: {'; '.join(done)}." if done else "No part that decides was requested."


def _pool_attacks(document: Mapping[str, Any]) -> list[str]:
    """The success of attacks on pool membership under the run's own mechanism."""
    canaries = document["canaries"]
    if not canaries:
        return []
    own = canaries["rows"][0]["label"]
    return [f"{own}: {row['meaning']}" for row in canaries["rows"] if row["label"] == own]
