"""What rank 0 alone has of a run: the directory's first content, the mechanism, the journal and the transcript.

No other rank calls anything here, so neither the secret nor the journal can leave rank 0.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from paczero import __version__
from paczero.config import FREE_SETTINGS, PACZeroConfig
from paczero.data.batching import MicroBatch
from paczero.data.dataset import Dataset
from paczero.errors import PACZeroError
from paczero.mechanism.base import Mechanism, Release
from paczero.mechanism.journal import Journal
from paczero.mechanism.posterior import Posterior
from paczero.mechanism.registry import spec_of
from paczero.mechanism.secret import EarlierRuns, create_secret, read_record, reuse_secret
from paczero.mechanism.spent import SpentFile
from paczero.mechanism.transcript import FORMAT, Transcript
from paczero.models.adapters import ADAPTER_LAW
from paczero.optim.derivatives import Derivatives
from paczero.optim.parameters import PerturbedParameters
from paczero.run_directory import RunDirectory
from paczero.training.candidates import candidates_hash
from paczero.training.factory import make_mechanism, mechanism_header
from paczero.training.reuse import take_secret
from paczero.utils.io import canonical, write_whole

_LOG = logging.getLogger(__name__)


def write_initial_files(
    staged: RunDirectory,
    args: PACZeroConfig,
    named: Mapping[str, Any],
    reused: tuple[str | Path, EarlierRuns] | None = None,
) -> None:
    """Writes what a run directory holds from its first moment: settings and secret.

    Args:
        named: what config.yaml says beside the settings: model, data and peft.
        reused: the secret file of an earlier run to use again, and what `earlier_runs` says of it.
    """
    settings = asdict(args)
    settings["task"]["labels"] = dict(args.task.labels)
    text = yaml.safe_dump({**named, **settings}, sort_keys=False, allow_unicode=True, width=110)
    write_whole(staged.config, text)
    drawn: dict[str, Any] = {"subsets": args.mechanism.subsets, "test_seed": args.test_seed}
    if reused is None:
        create_secret(staged.secret, **drawn)
    else:
        reuse_secret(reused[0], staged.secret, reused[1], **drawn)


def secret_facts(run: RunDirectory) -> dict[str, Any]:
    """What the transcript's header says of the run's secret: `secret_id` and `prior_budgets`.

    Raises:
        PACZeroError: the run is of paczero 0.1, whose secrets have no id.
    """
    record = read_record(run.secret)
    if record.secret_id is None:
        raise PACZeroError(f"{str(run.root)!r} was begun by paczero 0.1; go on with that version, or begin a new run")
    return {
        "secret_id": record.secret_id,
        "prior_budgets": [] if record.earlier is None else list(record.earlier.budgets),
    }


def _with_earlier(expected: Mapping[str, Any], earlier: EarlierRuns | None) -> dict[str, Any]:
    """The journal's header with what earlier runs told about the secret, from which an audit starts too."""
    return {**expected, "earlier": None if earlier is None else earlier.to_json()}


def open_journal(run: RunDirectory, expected: Mapping[str, Any], *, alone: bool) -> Journal | None:
    """Reads the journal of a run that goes on, before any long work; None for a run without one.

    Args:
        expected: what `journal_header` gives. The candidates are compared later, by `RunState.open`.
        alone: whether one process computes. It takes the number of threads that the run began with, since that
            number decides how sums are rounded.

    Raises:
        IntegrityError: the journal belongs to another run, or was changed.
    """
    if not run.journal.exists():
        return None
    journal, expected = Journal.open(run.journal), _with_earlier(expected, read_record(run.secret).earlier)
    threads = journal.header.get("torch_threads")
    if alone and type(threads) is int and 1 <= threads != torch.get_num_threads():
        _LOG.warning("%d thread%s, as this run began with", threads, "s" if threads > 1 else "")
        torch.set_num_threads(threads)
        expected = {**expected, "torch_threads": threads}
    journal.check({**expected, "candidates": journal.header.get("candidates")})
    return journal


@dataclass(frozen=True)
class RunState:
    """Who releases, and where a release is written.

    Attributes:
        mechanism: makes the releases.
        journal: the releases so far; a new one is on disk before the weights move.
        transcript: what may be published of them; it follows the journal line by line.
    """

    mechanism: Mechanism
    journal: Journal
    transcript: Transcript
    spent: SpentFile | None = None

    @classmethod
    def open(
        cls,
        run: RunDirectory,
        args: PACZeroConfig,
        header: dict[str, Any],
        expected: Mapping[str, Any],
        journal: Journal | None,
        membership: np.ndarray | None,
    ) -> "RunState":
        """Opens a run that begins or goes on.

        Args:
            header: the transcript's header.
            expected: what `journal_header` gives.
            journal: what `open_journal` gave.
            membership: the candidates (N, M), for mechanisms that use them.

        Raises:
            PACZeroError: the secret is used again, and cannot be by this run.
            IntegrityError: journal, candidates or transcript belong to another run, or were changed.
        """
        earlier = read_record(run.secret).earlier
        start = None if earlier is None else Posterior.from_json(earlier.log_weights)
        units, candidates = header["units"], None if membership is None else candidates_hash(membership)
        mechanism = make_mechanism(args, header["mechanism"], membership, run.secret, units=units, start=start)
        threads = torch.get_num_threads()
        expected = {**_with_earlier(expected, earlier), "candidates": candidates, "torch_threads": threads}
        if journal is None:
            if earlier is not None:
                take_secret(run, earlier, pool=expected["pool"], candidates=candidates)
            journal = Journal.create(run.journal, expected)
        else:
            journal.check(expected)
        spent = None if mechanism.unit_spent is None else SpentFile(run.spent, journal)
        if spent is not None and (kept := spent.read()) is not None:
            mechanism.restore_spent(kept)
        transcript = Transcript.resume(run.staged_transcript, header, [entry["y"] for entry in journal.entries])
        return cls(mechanism, journal, transcript, spent)

    def release(self, step: int, measured: Derivatives | None) -> Release:
        """Makes the release of a step and writes it to disk; takes it from the journal where nothing was measured."""
        if measured is None:
            release = Release.from_journal(self.journal.entries[step])
            self.mechanism.restore(release)
            return release
        before = self.mechanism.unit_spent
        release = self.mechanism.release(
            step, measured.values, nonfinite=measured.nonfinite, unit_indices=measured.unit_indices
        )
        after = self.mechanism.unit_spent
        if self.spent is not None and before is not None and after is not None:
            self.spent.write(before, after)
        self.journal.append(release.to_journal())
        self.transcript.append(step, release.y)
        return release


def transcript_header(
    args: PACZeroConfig, *, base: dict[str, str], peft: dict[str, Any] | None, weights: PerturbedParameters, units: int
) -> dict[str, Any]:
    """What a replay needs to know beside the base model; public."""
    chosen = args.mechanism
    started = {"law": ADAPTER_LAW, "seed": args.seed, "sha256": weights.fingerprint()}
    return {
        "format": FORMAT,
        "base": base,
        "peft": peft,
        "train_layers": args.train_layers,
        "adapter": started if peft is not None else None,
        "parameters": weights.layout(),
        "direction_law": args.direction_law,
        "device_kind": next(iter(weights.parameters.values())).device.type,
        "mu": args.mu,
        "schedule": {"name": args.lr_scheduler_type, "learning_rate": args.learning_rate},
        "directions": args.directions,
        "steps": args.max_steps,
        "restore": args.restore,
        "average": args.ema_decay,
        "seed": args.seed,
        "mechanism": mechanism_header(args, units),
        "subsets": chosen.subsets,
        "family": chosen.family,
        "pilots": chosen.pilots if chosen.family == "balanced" else None,
        "budget": spec_of(chosen.name).budget(chosen.budget),
        "units": units,
        "units_per_step": args.units_per_step,
        "threshold": args.threshold,
        "test_seed": args.test_seed,
        "secret_id": None,  # until the secret is drawn
        "prior_budgets": [],
    }


def journal_header(args: PACZeroConfig, header: dict[str, Any], pool: Dataset, dev: Dataset | None) -> dict[str, Any]:
    """What must be the same when a run is resumed, the candidates apart; private."""
    settings = {name: value for name, value in asdict(args).items() if name not in FREE_SETTINGS}
    return {
        "settings": hashlib.sha256(canonical(settings)).hexdigest(),
        "device_kind": header["device_kind"],
        "transcript": hashlib.sha256(canonical(header)).hexdigest(),
        "base": header["base"]["sha256"],
        "pool": pool.hash(),
        "dev": None if dev is None else dev.hash(),
        "torch_threads": torch.get_num_threads(),
    }


def run_identity(
    args: PACZeroConfig, header: Mapping[str, Any], pool: Dataset, dev: Dataset | None, batches: Sequence[MicroBatch]
) -> dict[str, str]:
    """What must be the same in all processes of a run, for `ProcessGroup.assert_equal`: name -> value here."""
    settings = {name: value for name, value in asdict(args).items() if name not in ("output_dir", "device")}
    partition = hashlib.sha256()
    for batch in batches:
        partition.update(batch.records.tobytes() + batch.input_ids.tobytes())
    return {
        "version of paczero": __version__,
        "version of torch": torch.__version__,
        "number of threads (OMP_NUM_THREADS)": str(torch.get_num_threads()),
        "base model": header["base"]["sha256"],
        "pool": pool.hash(),
        "dev set": "" if dev is None else dev.hash(),
        "set of settings": canonical(settings).decode(),
        "transcript header": canonical(dict(header)).decode(),
        "partition into micro-batches": partition.hexdigest(),
    }
