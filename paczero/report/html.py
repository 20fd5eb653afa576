"""The owner's report on a run: one HTML page that needs no network, and its figures as PNG files beside it.

    write_report(RunDirectory(Path("runs/demo")))       # PosixPath('runs/demo/report/index.html')

The page may show what a release may not (which steps were unanimous, what was spent), so it is not to be published.
Metrics on the test set are taken from `summary.json` (`accuracy_before`, `accuracy_before_median`, `accuracy_after`,
`accuracy_none`, shares in [0, 1]; any may be missing).
"""

import base64
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paczero.config_io import dotted
from paczero.data.metrics import METRICS
from paczero.errors import PACZeroError
from paczero.mechanism.registry import spec_of
from paczero.release import guarantee, plots, wording
from paczero.release.model_card import CARD, noise, settings
from paczero.release.wording.labels import HOW_IT_WORKS, released_values
from paczero.report.run_record import RunRecord
from paczero.run_directory import RunDirectory
from paczero.utils.formatting import duration, percent
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
        IntegrityError: a file of the run cannot be read as one.
    """
    record = RunRecord.load(run)
    pictures = _draw(record)
    return write_page(run.report, render(run, record, pictures), pictures, _PICTURES)


def write_page(folder: Path, page: str, pictures: Mapping[str, bytes], titles: Mapping[str, str]) -> Path:
    """Writes `index.html` and the pictures into a folder of the owner, and deletes pictures of an earlier page.

    Args:
        titles: file name -> title of every picture that such a page may have.

    Returns:
        The path of `index.html`.

    Raises:
        PACZeroError: a file cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # the page shows the journal, so only the owner may enter
        for name in titles:
            if name in pictures:
                write_whole(folder / name, pictures[name])
            else:
                (folder / name).unlink(missing_ok=True)
        write_whole(folder / "index.html", page)
    except OSError as error:
        raise PACZeroError(f"{folder}: the report cannot be written: {error.strerror}") from error
    return folder / "index.html"


def embedded(pictures: Mapping[str, bytes], titles: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(file name, title, base64) of each picture, in the order of the titles."""
    return [(n, title, base64.b64encode(pictures[n]).decode()) for n, title in titles.items() if n in pictures]


def _draw(record: RunRecord) -> dict[str, bytes]:
    """File name -> PNG of every figure for which there is data."""
    header = record.header
    if header is None:
        return {}
    chosen = record.sealed["chosen_step"] if record.sealed else None
    pictures = plots.public(header, record.y, record.development, chosen) | {"boundary.png": plots.boundary(header)}
    steps = sorted(record.unanimous)
    if steps:
        shares, spent = [record.unanimous[step] for step in steps], [record.spent[step] for step in steps]
        pictures["unanimity.png"] = plots.unanimity(steps, shares, spent, header)
    return pictures


def render(run: RunDirectory, record: RunRecord, pictures: Mapping[str, bytes]) -> str:
    """The page. Every text that comes from the run is escaped."""
    card = run.release / CARD
    filters = {"thousands": "{:,}".format, "duration": duration}
    return template("index.html.j2", Path(__file__).parent / "templates", **filters).render(
        run=str(run.root),
        quoted=shlex.quote(str(run.root)),
        finished=run.finished,
        record=record,
        header=record.header,
        summary=record.summary,
        metric=METRICS[record.development.metric] if record.development else None,
        **(_promised(record.header) if record.header else {}),
        done=len(record.y),
        config=dotted(record.config),
        audit=_audit(run),
        card=card.read_text(encoding="utf-8", errors="replace") if run.finished and card.is_file() else None,
        pictures=embedded(pictures, _PICTURES),
    )


def _promised(header: Mapping[str, Any]) -> dict[str, Any]:
    spec, epsilon = spec_of(header["mechanism"]["name"]), guarantee.epsilon(header)
    bounds = {"a unit's half": guarantee.half(header), "membership": guarantee.pool(header)}
    success = {what: bound["posterior_success"] for what, bound in bounds.items()}
    return {
        "spec": spec,
        "verdict": guarantee.verdict(header),
        "total": guarantee.total_nats(header),
        "p": guarantee.rounded_up(guarantee.success(header)),
        "bounds": [(what, guarantee.rounded_up(p) if p < 1 else None) for what, p in success.items()],
        "epsilon": None if epsilon is None else guarantee.rounded_up(epsilon, 3),
        "sentences": wording.sentences(header),
        "promise": wording.promise(header),
        "limits": wording.limits(header),
        "how_it_works": HOW_IT_WORKS.get(spec.name),
        "settings": settings(header),
        "noise": noise(header) if spec.is_dp else None,
        "released_values": released_values(header),
    }


def _audit(run: RunDirectory) -> dict[str, Any] | None:
    """The audit's verdict and one sentence on each attack; None if the run was not audited."""
    path = run.report / "audit" / "audit.json"
    if not path.is_file():
        return None
    document = json.loads(path.read_text(encoding="utf-8"))
    attacks = (document.get("reruns") or {}).get("attacks") or []
    rows = (document.get("canaries") or {}).get("rows") or []
    reached = [
        f"{attack['title']}: right in {percent(attack['interval']['estimate'])} of {attack['trials']:,} re-runs, "
        f"allowed {percent(attack['bound'])}."
        for attack in attacks
    ]
    own = [f"{row['label']}: {row['meaning']}" for row in rows if row["label"] == rows[0]["label"]]
    return {"passed": document["passed"], "reached": reached, "membership": own}
