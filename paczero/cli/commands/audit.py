"""`paczero audit RUN`: attacks a run, and compares the success with the promise.

$ paczero audit runs/first
$ paczero audit runs/first --parts exact,controls
"""

import json
import webbrowser
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paczero.cli.console import Live, keep_quiet
from paczero.cli.parser import CommandParser, command_parser
from paczero.errors import PACZeroError
from paczero.run_directory import RunDirectory

if TYPE_CHECKING:
    from paczero.audit.report import Parts


PARTS = ("exact", "families", "exposure", "controls", "reruns", "canaries")

_ABOUT = """
Tests the promise: verifies the release, recomputes the run's journal by independent code, and repeats the procedure
hundreds of times on a small model with fresh secrets. It attacks these re-runs, compares each success with its bound,
and tests whether the released values follow their law. Deliberate leaks must be caught, or the audit fails. It also
attacks what most mechanisms do *not* promise: whether a record was in the pool. Of this run it names the units whose
absence would have changed most.

Writes RUN/report/audit/: a page that needs no network, audit.json and the plots. They are private to you. Exit code 1
means a release that does not verify, a finding in the journal, an attack above its bound, released values that do not
follow their law, or a leak that was not caught. Re-runs are kept in
RUN/private/audit/, so an interrupted audit can continue.

  paczero audit runs/first                              everything, some minutes
  paczero audit runs/first --parts exact,families,exposure     from the files alone, some seconds
  paczero audit runs/first --reruns 2000                narrower intervals
"""


def parser() -> CommandParser:
    made: CommandParser = command_parser("audit", _ABOUT, usage="RUN [OPTIONS]")
    made.add_argument("run", type=str, metavar="RUN", help="the directory of a run of `paczero train`")
    made.add_argument(
        "--parts", type=str, default=",".join(PARTS), metavar="LIST", help=f"which parts, of {', '.join(PARTS)}"
    )
    made.add_argument("--reruns", type=int, default=300, metavar="N", help="re-runs with fresh secrets, 40 or more")
    made.add_argument("--canary_runs", type=int, default=40, metavar="N", help="trainings of each canary attack")
    made.add_argument("--open", action="store_true", help="open the page in the browser")
    return made


def run(namespace: Namespace) -> int:
    requested = _requested(namespace.parts)
    if namespace.reruns < 40:
        raise PACZeroError(
            f"--reruns: {namespace.reruns} was given; expected 40 or more, or the intervals are too wide"
        )
    if namespace.canary_runs < 24:
        raise PACZeroError(f"--canary_runs: {namespace.canary_runs} was given; expected 24 or more")
    directory = RunDirectory(Path(namespace.run))
    if not directory.private.is_dir() and directory.release.is_dir():
        raise PACZeroError(f"{namespace.run!r} has no private/; an audit needs it; use `paczero verify` for a release")
    keep_quiet()
    with directory.locked(), Live() as live:
        header, document, page = _audit(directory, namespace, requested, live)
    print(_summary(document, header, page))
    if namespace.open and not webbrowser.open(page.absolute().as_uri()):
        print("No browser was found; open the page by hand.")
    return 0 if document["passed"] else 1


def _requested(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in PARTS]
    if unknown or not names:
        raise PACZeroError(f"--parts: {text!r} was given; expected some of {', '.join(PARTS)}, with commas between")
    return [name for name in PARTS if name in names]


def _audit(
    directory: RunDirectory, namespace: Namespace, requested: list[str], live: Live
) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """Runs the parts and writes the page. Returns header, document and the path of the page."""
    from paczero.audit import html, report
    from paczero.mechanism.transcript import Transcript

    header = Transcript.read(directory.transcript).header
    parts = _parts(directory, header, namespace, requested, live)
    document = json.loads(json.dumps(report.build(parts), allow_nan=False))
    return header, document, html.write(document, directory.report / "audit", header)


def _parts(
    directory: RunDirectory, header: dict[str, Any], namespace: Namespace, requested: list[str], live: Live
) -> "Parts":
    from paczero.audit import canaries, exposure, positive_controls, reruns, side_information, simulation
    from paczero.audit.journal.recompute import recompute
    from paczero.audit.report import Parts
    from paczero.mechanism.registry import spec_of
    from paczero.training.candidates import read_candidates

    def show(name: str, done: int, total: int) -> None:
        live.show(f"{name}: {done:,} of {total:,}" if total > 1 else name)

    live.show("release")
    found: dict[str, Any] = {"release": _release_fault(directory)}
    has_candidates = spec_of(header["mechanism"]["name"]).candidates
    if "exact" in requested:
        found["exact"] = recompute(directory.root, lambda done, total: show("journal", done, total))
    if "families" in requested and has_candidates:
        live.show("candidates")
        found["families"] = side_information.beside_random(read_candidates(directory.candidates), header["family"])
    if "exposure" in requested and has_candidates:
        live.show("margins")
        found["exposure"] = exposure.exposure(directory)
    if "controls" in requested:
        found["controls"] = positive_controls.controls(progress=show)
    if "reruns" in requested and (has_candidates or spec_of(header["mechanism"]["name"]).is_dp):
        args = simulation.settings_of(header)
        found["reruns"] = reruns.rerun(args, directory.private / "audit", runs=namespace.reruns, progress=show)
    if "canaries" in requested:
        chosen = canaries.own_and_references(header)
        found["canaries"] = canaries.canaries(chosen, runs=namespace.canary_runs, progress=show)
    return Parts(run=str(directory.root), **found)


def _release_fault(directory: RunDirectory) -> str:
    """Why the release does not verify; empty if it does."""
    from paczero.release.verify.release import verify_release

    if not directory.finished:
        return "none was published; finish the run by `paczero train --resume`"
    try:
        verify_release(directory.release)
    except PACZeroError as error:
        return str(error)
    return ""


def _summary(document: dict[str, Any], header: dict[str, Any], page: Path) -> str:
    """The terminal's summary: each success beside its bound."""
    from paczero.release.wording import sentences
    from paczero.utils.formatting import percent

    lines = [*sentences(header), ""]
    lines.append(f"{'release':<13}{'verified' if document['verified'] else 'DIFFERS'}")
    if document["exact"]:
        exact = document["exact"]
        lines.append(
            f"{'journal':<13}{exact['steps_run']:,} steps recomputed, {exact['findings_in_all']:,} findings; "
            f"{exact['information']:.6g} nats let through, {exact['charged']:.6g} charged"
        )
    for attack in (document["reruns"] or {}).get("attacks", []):
        interval = attack["interval"]
        lines.append(
            f"{'attack':<13}{attack['title']}: right in {percent(interval['estimate'])} "
            f"({percent(interval['low'])} to {percent(interval['high'])}), allowed {percent(attack['bound'])}"
        )
    for test in (document["reruns"] or {}).get("channel", []):
        lines.append(f"{'channel':<13}{test['name']}: {test['detail']}{', NOT AS STATED' if test['failed'] else ''}")
    if told := (document["reruns"] or {}).get("information"):
        lines.append(
            f"{'information':<13}{told['low']:.4f} nats or more about the secret half, {told['budget']:g} allowed"
        )
    for control in document["controls"]:
        what = "caught" if control["leaks"] else "not accused"
        lines.append(f"{'control':<13}{control['name']}: {what if control['caught'] else 'NOT ' + what}")
    for row in (document["canaries"] or {}).get("rows", []):
        lines.append(
            f"{'membership':<13}{row['label']}, {row['attack']}: AUC {row['auc']:.2f}, ε at least "
            f"{row['epsilon_low']:.2f} (these trials show {row['epsilon_most']:.2f} at most)"
            + (f", stated {row['stated_epsilon']:g}" if row["stated_epsilon"] is not None else ", nothing promised")
        )
    if exposed := document["exposure"]:
        lines.append(
            f"{'exposure':<13}{exposed['hanging']:,} of {exposed['unanimous']:,} unanimous releases hang on a single "
            f"unit; {exposed['exposed']:,} of {exposed['units']:,} units would have changed a release"
        )
    lines += [f"{'FAILED':<13}{failure}" for failure in document["failures"][:10]]
    return "\n".join([*lines, "", f"{'Passed' if document['passed'] else 'Failed'}: {page}"])
