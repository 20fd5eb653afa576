"""Checks the start of a run whose secret earlier runs used: their budgets, and the posterior that the last one left.

The journal's header states what the run took over. The earlier run's own files confirm it, or the run does not pass.
"""

from collections.abc import Callable
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from paczero.audit.journal.consistency import Note
from paczero.audit.journal.information import Number, mp
from paczero.audit.journal.reader import Setting, journal_header, read_setting
from paczero.audit.journal.result import ExactAudit
from paczero.errors import IntegrityError
from paczero.run_directory import RunDirectory

_SAME = 1e-9  # relative, of a candidate's probability

_NIL = 1e-290  # probabilities below it lose digits


def start_of(run: RunDirectory, setting: Setting) -> list[Number] | None:
    """The (M,) probabilities that a run starts from, as its journal states them; None for a secret of its own.

    Raises:
        IntegrityError: they are no probabilities of M candidates.
    """
    earlier = _stated(run)
    if earlier is None:
        return None
    logs = earlier.get("log_weights")
    values: list[Any] = logs if isinstance(logs, list) else []
    fine = all(value is None or (type(value) is float and -1e300 <= value <= 0) for value in values)
    start = [mp.mpf(0) if value is None else mp.exp(value) for value in values] if fine else []
    if len(start) != setting.subsets or abs(mp.fsum(start) - 1) > _SAME:
        raise IntegrityError(f"{run.journal}: earlier.log_weights is no posterior of {setting.subsets} candidates")
    return start


def check_earlier(
    run: RunDirectory, setting: Setting, note: Note, recompute: Callable[[Path], ExactAudit]
) -> ExactAudit | None:
    """Recomputes the run before this one with the same secret, and compares what it left with what this run took over.

    Args:
        run: the run's directory.
        setting: its header.
        note: receives the findings.
        recompute: gives the figures of another run.
    """
    earlier = _stated(run)
    budgets = [] if earlier is None else earlier.get("budgets")
    if budgets != list(setting.prior_budgets):
        note(None, None, "earlier runs", f"the journal has budgets {shown(budgets)}", repr(list(setting.prior_budgets)))
    if earlier is None or not setting.prior_budgets:
        return None
    before = RunDirectory((run.root.resolve() / str(earlier.get("run"))).resolve())
    if not before.journal.is_file():
        note(None, None, "earlier runs", f"{before.root} is not there", "the run that used the secret before")
        return None
    header, own = read_setting(before.transcript), journal_header(run.journal)[0]
    then = journal_header(before.journal)[0]
    for what, found, expected in (
        ("secret_id", header.header.get("secret_id"), setting.header.get("secret_id")),
        ("budgets", [*header.prior_budgets, header.budget], list(setting.prior_budgets)),
        ("pool", then.get("pool"), own.get("pool")),
        ("candidates", then.get("candidates"), own.get("candidates")),
    ):
        if found != expected or found is None:
            note(None, None, "earlier runs", f"{what} {shown(found)} in {before.root}", shown(expected))
            return None  # the chain of budgets becomes shorter with each run, so this ends
    told = recompute(before.root)
    if not told.passed:
        note(None, None, "earlier runs", f"{before.root} does not pass: {told.findings[0]}", "a run that passes")
    for number, (found, expected) in enumerate(zip(start_of(run, setting) or (), told.posterior, strict=True)):
        if abs(found - expected) > _SAME * expected + _NIL:
            note(
                None,
                None,
                "earlier runs",
                f"candidate {number} starts with {mp.nstr(found, 17)}",
                f"{expected!r}, as left",
            )
            break
    return told


def _stated(run: RunDirectory) -> dict[str, Any] | None:
    found = journal_header(run.journal)[0].get("earlier")
    if found is not None and not isinstance(found, dict):
        raise IntegrityError(f"{run.journal}: earlier is {shown(found)}; expected what a run writes")
    return found
