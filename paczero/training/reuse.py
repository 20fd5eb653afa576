"""The secret of an earlier run, used again: what that run told about S*, and which run may use it next.

Budgets of several runs with one secret add up only if each run starts from the posterior that the one before ended
with: a run whose steps depend on earlier releases asks questions that a uniform posterior would price too low. So the
runs with one secret form a chain. The earlier run is finished, its journal is whole and gives the start, and its
directory then names the one run that goes on from it. A second one is refused, whether it comes later or at the same
time.
"""

import os
import secrets
from pathlib import Path

from paczero.config import PACZeroConfig
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.base import Release
from paczero.mechanism.journal import Journal
from paczero.mechanism.pac import SignMechanism
from paczero.mechanism.posterior import Posterior
from paczero.mechanism.randomness import Coins
from paczero.mechanism.registry import SPECS, spec_of
from paczero.mechanism.secret import EarlierRuns, SecretRecord, read_record
from paczero.mechanism.transcript import Transcript
from paczero.release.statement import checked_statement, file_hash
from paczero.run_directory import RunDirectory
from paczero.training.candidates import candidates_hash, read_candidates
from paczero.utils.io import canonical, create_whole, read_object


def run_of(secret: str | Path) -> RunDirectory:
    """The run that a secret file belongs to.

    Raises:
        PACZeroError: it is no RUN/private/secret.json.
    """
    run = RunDirectory(Path(secret).resolve().parent.parent)
    if not Path(secret).is_file():
        raise PACZeroError(f"secret: {str(secret)!r} is no file; expected private/secret.json of a finished run")
    if run.secret != Path(secret).resolve():
        raise PACZeroError(
            f"secret: {str(secret)!r} lies in no run; expected private/secret.json of a finished run, with its journal"
        )
    return run


def earlier_runs(secret: str | Path, args: PACZeroConfig) -> EarlierRuns:
    """What the run that owns a secret, and the runs before it, released about the secret.

    Args:
        args: of the run that uses the secret again.

    Raises:
        PACZeroError: the secret cannot be used again, or not by such a run.
        IntegrityError: a file of the earlier run is missing or was changed.
    """
    run, where = run_of(secret), f"secret: {str(secret)!r}"
    hiding = [spec.name for spec in SPECS.values() if spec.hides == "half"]
    if args.mechanism.name not in hiding:
        raise PACZeroError(
            f"secret: one was given with mechanism.name {args.mechanism.name!r}; expected {', '.join(hiding)}, which "
            "hide it; leave secret out"
        )
    if not run.finished:
        raise PACZeroError(f"{where}: its run is not finished; finish it first: paczero train --resume {run.root}")
    if run.reused.exists():
        _refuse_second(run)
    record, transcript = read_record(secret), Transcript.read(run.transcript)
    if record.secret_id is None:
        raise PACZeroError(f"{where} is of paczero 0.1, which gave secrets no secret_id; begin a run with a new secret")
    checked_statement(run.release, transcript, [run.transcript.name])
    header = transcript.header
    if header["mechanism"]["name"] not in hiding:
        raise PACZeroError(
            f"{where}: its run has mechanism.name {header['mechanism']['name']!r}, after which no bound holds for the "
            f"secret; expected {', '.join(hiding)}; begin a run with a new secret"
        )
    before = () if record.earlier is None else record.earlier.budgets
    if (header["secret_id"], header["prior_budgets"]) != (record.secret_id, list(before)):
        raise IntegrityError(f"{where}: the release of its run has another secret_id or prior_budgets; restore both")
    journal = Journal.open(run.journal)
    if [entry["y"] for entry in journal.entries] != [list(y) for y in transcript.y]:
        raise IntegrityError(f"{str(run.journal)!r}: its steps are not those of the run's transcript; restore it")
    return EarlierRuns(
        budgets=(*before, float(header["budget"])),
        log_weights=_last_posterior(run, transcript, journal, record).to_json(),
        pool=journal.header["pool"],
        candidates=journal.header["candidates"],
        run=os.path.relpath(run.root, Path(args.output_dir).resolve()),
        journal=file_hash(run.journal),
        claim=secrets.token_hex(16),
    )


def _last_posterior(run: RunDirectory, transcript: Transcript, journal: Journal, record: SecretRecord) -> Posterior:
    """The posterior that a finished run ended with, from its candidates and its whole journal."""
    header, membership = transcript.header, read_candidates(run.candidates)
    if candidates_hash(membership) != journal.header.get("candidates"):
        raise IntegrityError(f"{str(run.candidates)!r}: not the candidates of the run's journal; restore them")
    stated = header["mechanism"]
    mechanism = spec_of(stated["name"]).build(
        membership=membership,
        secret=run.secret,
        coins=Coins(header["test_seed"]),
        start=None if record.earlier is None else Posterior.from_json(record.earlier.log_weights),
        **{key: header[key] for key in ("steps", "directions", "budget")},
        **{key: stated.get(key) for key in ("clip", "channel", "allocation")},
    )
    assert isinstance(mechanism, SignMechanism)
    for entry in journal.entries:
        mechanism.restore(Release.from_journal(entry))
    return mechanism.posterior


def take_secret(run: RunDirectory, earlier: EarlierRuns, *, pool: str, candidates: str | None) -> None:
    """Makes a run the only one that goes on from the earlier run, before its first release.

    Args:
        pool, candidates: SHA-256 of those of the run.

    Raises:
        PACZeroError: pool or candidates are not those of the earlier run, or another run goes on from it.
        IntegrityError: the earlier run's journal was changed since this run read it.
    """
    for name, found, wanted in (("pool", pool, earlier.pool), ("candidates", candidates, earlier.candidates)):
        if found != wanted:
            raise PACZeroError(
                f"secret: the {name} of this run differ from the earlier run's; expected the same records, model, "
                "seed, mechanism.subsets, family and pilots; begin a run with a new secret"
            )
    before = RunDirectory((run.root.resolve() / earlier.run).resolve())
    with before.locked():
        if not before.finished or file_hash(before.journal) != earlier.journal:
            raise IntegrityError(
                f"{str(before.root)!r}: its journal changed after this run took its secret; restore it"
            )
        if not before.reused.exists():
            content = {"claim": earlier.claim, "run": str(run.root.resolve())}
            create_whole(before.reused, canonical(content) + b"\n", mode=0o600)
        elif read_object(before.reused).get("claim") != earlier.claim:
            _refuse_second(before)


def _refuse_second(run: RunDirectory) -> None:
    later = read_object(run.reused).get("run")
    raise PACZeroError(
        f"secret: that of {str(run.root)!r} is used again by {later!r} already; expected the secret of the last run, "
        "so that no release is left out: --secret RUN/private/secret.json of that one, or begin a run with a new secret"
    )
