"""Recomputes a run's journal from the files alone, by code that shares nothing with the code that wrote it.

    audit = recompute("runs/demo")
    audit.passed, audit.information, audit.success_bound
    # (True, 0.0, 0.5)

The candidates' signs and the released values determine, step by step: whether the step was unanimous, q, the
information that its noise lets through, the step's share of the budget, the charge, and the posterior; then the total
against the budget, and the p that it allows. Arithmetic has 50 digits. A value in the files that differs is a *finding*
of its step.

The audit fails if a charge is below the information of the noise (by more than 1e-12 of the step's share), if a share
or the budget is exceeded, or if any value does not follow from those before it. The posterior of one honest run is
reported only: p bounds the average over secrets and releases, and a single release may reveal more, especially if M is
small.

Where the secret was used by earlier runs, their journals are recomputed too: the last one must end with the posterior
that this run starts from.

The secret is not opened. The journal does not hold the pool or the derivatives, so the audit cannot check that the
signs come from the pool and the candidates from the seed: a training with the same settings checks that.
`paczero replay --verify` checks that the weights come from the releases.
"""

from collections.abc import Callable
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import numpy as np

from paczero.audit.arrays import Bools
from paczero.audit.journal.consistency import (
    NOTHING,
    check_candidates,
    check_noise,
    check_settings,
    check_statement,
    check_transcripts,
    promised,
)
from paczero.audit.journal.earlier import check_earlier, start_of
from paczero.audit.journal.reader import (
    PRIVATE,
    Setting,
    journal_entries,
    journal_header,
    read_candidates,
    read_setting,
)
from paczero.audit.journal.result import ExactAudit, ReleaseFigures
from paczero.audit.journal.step_checker import CONTESTED, PLAIN, StepChecker
from paczero.errors import PACZeroError
from paczero.run_directory import RunDirectory

Progress = Callable[[int, int], None]


def recompute(run: Path | str, progress: Progress | None = None) -> ExactAudit:
    """Recomputes a run's journal.

    Args:
        run: the directory that `paczero train` made; it may be unfinished, but must not be training now.
        progress: called after each step with the number of steps done and T.

    Returns:
        All figures and findings; `passed` if there are no findings.

    Raises:
        PACZeroError: there is no run, or its mechanism is unknown.
        IntegrityError: a file cannot be read as a run's.
    """
    directory = RunDirectory(Path(run))
    setting = read_setting(directory.transcript)
    if setting.name not in (*CONTESTED, *PLAIN):
        raise PACZeroError(
            f"mechanism: {shown(setting.name)} is unknown to this version; audit the run with the version that made it"
        )
    candidates, notes = setting.name in CONTESTED, _not_checked(setting)
    checker = StepChecker(setting, start_of(directory, setting))
    membership = _check_headers(directory, setting, candidates, checker)
    check_earlier(directory, setting, checker.note, recompute)
    releases: list[ReleaseFigures] = []
    released: list[tuple[Any, ...]] = []
    for entry in journal_entries(directory.journal, setting, candidates=candidates):
        releases.extend(checker.take(entry))
        released.append(entry.y)
        if progress is not None:
            progress(len(released), setting.steps)
    check_transcripts(directory, setting, released, checker.note)
    if directory.config.is_file():
        check_settings(directory.config, setting, checker.note)
    delta = check_noise(setting, checker.note, notes) if setting.name in PRIVATE else None
    stated = directory.release / "privacy.json"
    success = check_statement(stated, setting, len(released), checker.note) if stated.is_file() else None
    if not stated.is_file():
        notes.append("There is no statement yet: the run is not finished.")
    return _result(setting, checker, membership, releases, len(released), success, delta, notes)


def _check_headers(run: RunDirectory, setting: Setting, candidates: bool, checker: StepChecker) -> Bools | None:
    """Checks that header, journal and candidates belong together. Returns the candidates (N, M), if there are any."""
    header, chained = journal_header(run.journal)
    if not chained:
        checker.note(None, None, "chain", "the journal's first line was changed", "an unchanged line")
    if header.get("transcript") != setting.digest:
        checker.note(None, None, "transcript", "its header is not the one in the journal", "the same SHA-256")
    base = setting.header.get("base")
    if not isinstance(base, dict) or header.get("base") != base.get("sha256"):
        checker.note(None, None, "transcript", "its base model differs from the journal's", "the same SHA-256")
    if not candidates:
        return None
    membership = read_candidates(run.candidates, setting)
    check_candidates(membership, header.get("candidates"), checker.note)
    return membership


def _not_checked(setting: Setting) -> list[str]:
    notes = []
    if setting.void:
        notes.append("The run was made with a test seed: its coins are public, so nothing is promised.")
    if setting.name in NOTHING:
        notes.append(f"{setting.name!r} promises nothing, so there is no charge to compare.")
    if setting.name == "half-sign":
        notes.append("Its journal charges nothing; the information shown is what it lets through.")
    if setting.prior_budgets:
        prior = " + ".join(f"{nats:g}" for nats in setting.prior_budgets)
        notes.append(f"Earlier runs used the secret, with budgets of {prior} nats: p is that of all runs together.")
    return notes


def _result(
    setting: Setting,
    checker: StepChecker,
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
        posterior = checker.posterior.probabilities()
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
        charged=float(checker.spent),
        information=float(checker.information),
        success_bound=bound,
        success_stated=success,
        epsilon=private.get("epsilon"),
        delta=private.get("delta"),
        delta_found=delta,
        unanimous=checker.unanimous,
        contested=checker.contested,
        releases=tuple(releases),
        posterior=tuple(posterior.tolist()),
        unit_posterior=tuple(inside.tolist()),
        units_above_bound=int(np.count_nonzero(np.maximum(inside, 1 - inside) > bound + 1e-12)),
        findings=tuple(checker.findings),
        findings_in_all=checker.found,
        notes=tuple(notes),
    )
