"""A run's journal computed again, from the files alone and by code that shares nothing with what wrote it.

    audit = recompute("runs/demo")
    audit.passed, audit.information, audit.success_bound
    # (True, 0.0, 0.5)

From the candidates' signs and what was released follow, in arithmetic of 50 digits: whether a step was unanimous, q,
what the noise that was used lets through, what the step could have spent, the charge, and the posterior, step by step;
then the sum against the budget, and the p that this allows. Whatever the files say else is a *finding*, named by its
step.

What decides is privacy: a charge below the information of the noise (by more than 1e-12 of the step's share), a share
or the budget passed, or any value that does not follow from those before. What the posterior of one honest run says of
a unit is reported only: p bounds the average over secrets and releases, and one release may say more, the more often
the smaller M is.

The secret is not opened. Pool and derivatives are not in the journal: that the signs are those of the pool, and the
candidates those of the seed, is for a training with the same settings to tell; that the weights are those of the
releases, for `paczero replay --verify`.
"""

from collections.abc import Callable
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import numpy as np

from paczero.audit.arrays import Bools
from paczero.audit.journal.consistency import (
    check_candidates,
    check_noise,
    check_settings,
    check_statement,
    check_transcripts,
    promised,
)
from paczero.audit.journal.reader import (
    PRIVATE,
    Setting,
    chained_header,
    journal_entries,
    journal_header,
    read_candidates,
    read_setting,
)
from paczero.audit.journal.result import ExactAudit, ReleaseFigures
from paczero.audit.journal.steps import StepChecker, asks_candidates
from paczero.errors import PACZeroError
from paczero.run_directory import RunDirectory

Progress = Callable[[int, int], None]


def recompute(run: Path | str, progress: Progress | None = None) -> ExactAudit:
    """Computes a run's journal again.

    Args:
        run: the directory that `paczero train` made; the run need not be finished, but must not be training meanwhile.
        progress: called after each step with the number of steps done and T.

    Returns:
        All figures, and what does not follow; `passed` where everything does.

    Raises:
        PACZeroError: there is no run there, or its mechanism is unknown.
        IntegrityError: a file is damaged so that it cannot be read as a run's.
    """
    directory = RunDirectory(Path(run))
    setting = _setting(directory)
    candidates = asks_candidates(setting.name)
    if candidates is None:
        raise PACZeroError(
            f"mechanism: {shown(setting.name)} is unknown to this version; audit it with the one that made it"
        )
    recount, notes = StepChecker(setting), _not_checked(setting)
    membership = _check_headers(directory, setting, candidates, recount)
    releases: list[ReleaseFigures] = []
    released: list[tuple[Any, ...]] = []
    for entry in journal_entries(directory.journal, setting, candidates=candidates):
        releases.extend(recount.take(entry))
        released.append(entry.y)
        if progress is not None:
            progress(len(released), setting.steps)
    check_transcripts(directory, setting, released, recount.note)
    if directory.config.is_file():
        check_settings(directory.config, setting, recount.note)
    delta = check_noise(setting, recount.note, notes) if setting.name in PRIVATE else None
    stated = directory.release / "privacy.json"
    success = check_statement(stated, setting, len(released), recount.note) if stated.is_file() else None
    if not stated.is_file():
        notes.append("There is no statement yet: the run is not finished.")
    return _result(setting, recount, membership, releases, len(released), success, delta, notes)


def _setting(run: RunDirectory) -> Setting:
    """The header of the transcript, published or staged."""
    return read_setting(run.transcript)


def _check_headers(run: RunDirectory, setting: Setting, candidates: bool, recount: StepChecker) -> Bools | None:
    """That header, journal and candidates belong together. Returns the candidates (N, M), where there are any."""
    header = journal_header(run.journal)
    if not chained_header(run.journal):
        recount.note(None, None, "chain", "the journal's first line was changed", "an unchanged line")
    if header.get("transcript") != setting.digest:
        recount.note(None, None, "transcript", "its header is not the one that the journal names", "SHA-256 alike")
    base = setting.header.get("base")
    if not isinstance(base, dict) or header.get("base") != base.get("sha256"):
        recount.note(None, None, "transcript", "it names another base model than the journal", "the same SHA-256")
    if not candidates:
        return None
    membership = read_candidates(run.candidates, setting)
    check_candidates(membership, header.get("candidates"), recount.note)
    return membership


def _not_checked(setting: Setting) -> list[str]:
    notes = []
    if setting.void:
        notes.append("The run was made with a test seed: its coins are known, so nothing is promised.")
    if setting.name in ("none", "full-sign", "half-sign"):
        notes.append(f"{setting.name!r} promises nothing, so there is no charge to compare.")
    if setting.name == "half-sign":
        notes.append("Its journal charges nothing; the information that is shown is what it really let through.")
    return notes


def _result(
    setting: Setting,
    recount: StepChecker,
    membership: Bools | None,
    releases: list[ReleaseFigures],
    steps_run: int,
    success: float | None,
    delta: float | None,
    notes: list[str],
) -> ExactAudit:
    bound = float(promised(setting))
    posterior, inside = np.empty(0), np.empty(0)
    if membership is not None:
        posterior = recount.posterior.probabilities()
        inside = np.clip(membership @ posterior, 0, 1)  # the sum of all may round to more than 1
    private = setting.mechanism if setting.name in PRIVATE else {}
    return ExactAudit(
        mechanism=setting.name,
        void=setting.void,
        steps=setting.steps,
        steps_run=steps_run,
        directions=setting.directions,
        subsets=len(posterior),
        units=setting.units,
        budget=setting.budget,
        charged=float(recount.spent),
        information=float(recount.information),
        success_bound=bound,
        success_stated=success,
        epsilon=private.get("epsilon"),
        delta=private.get("delta"),
        delta_found=delta,
        unanimous=recount.unanimous,
        contested=recount.contested,
        releases=tuple(releases),
        posterior=tuple(posterior.tolist()),
        unit_posterior=tuple(inside.tolist()),
        units_above_bound=int(np.count_nonzero(np.maximum(inside, 1 - inside) > bound + 1e-12)),
        findings=tuple(recount.findings),
        findings_in_all=recount.found,
        notes=tuple(notes),
    )
