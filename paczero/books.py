"""What the first rank alone has of a run: the directory's first content, who releases and writes, who watches.

Nothing here is called on another rank, so neither the secret nor the journal can leave this one.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from transformers import PreTrainedTokenizerBase, TrainerCallback

from paczero import assembly
from paczero.config import PACZeroConfig
from paczero.mechanism.journal import Journal
from paczero.mechanism.secret import create_secret, reuse_secret
from paczero.mechanism.transcript import Transcript
from paczero.mechanisms import make_mechanism
from paczero.observers import Callbacks, Diagnostics, Trackers
from paczero.records.pool import Pool
from paczero.rundir import RunDirectory, write_whole
from paczero.zeroth.trainer import Books, Observer


def populate(
    staged: RunDirectory, args: PACZeroConfig, named: Mapping[str, Any], reused: str | Path | None = None
) -> None:
    """What a run directory holds from its first moment: settings and secret.

    Args:
        named: what config.yaml says beside the settings: model, data and peft.
        reused: the secret file of an earlier run to use again.
    """
    settings = asdict(args)
    settings["task"]["labels"] = dict(args.task.labels)
    text = yaml.safe_dump({**named, **settings}, sort_keys=False, allow_unicode=True, width=110)
    write_whole(staged.config, text)
    drawn: dict[str, Any] = {"subsets": args.mechanism.subsets, "test_seed": args.test_seed}
    if reused is None:
        create_secret(staged.secret, **drawn)
    else:
        reuse_secret(reused, staged.secret, **drawn)


def open_books(
    args: PACZeroConfig,
    run: RunDirectory,
    header: dict[str, Any],
    pool: Pool,
    dev: Pool | None,
    candidates: Callable[[], np.ndarray] | None,
) -> Books:
    """Mechanism, journal and transcript of a run, new or going on.

    Raises:
        IntegrityError: what is in the run's directory belongs to another run, or was changed.
    """
    membership = None if candidates is None else candidates()
    mechanism = make_mechanism(args, membership, run.secret, units=pool.units)
    expected = assembly.journal_header(args, header, pool, membership, dev)
    journal = Journal.open(run.journal, expected) if run.journal.exists() else Journal.create(run.journal, expected)
    transcript = Transcript.resume(run.staged_transcript, header, [entry["y"] for entry in journal.entries])
    return Books(mechanism, journal, transcript)


def check_books(args: PACZeroConfig, run: RunDirectory, header: dict[str, Any], pool: Pool, dev: Pool | None) -> None:
    """Refuses what cannot go on before any long work: all that can be compared without the candidates.

    Raises:
        IntegrityError: the journal in the run's directory belongs to another run, or was changed.
    """
    if run.journal.exists():
        candidates = Journal.open(run.journal).header.get("candidates")
        expected = assembly.journal_header(args, header, pool, None, dev)
        Journal.open(run.journal, expected | {"candidates": candidates})


@dataclass(frozen=True)
class Watchers:
    """Who watches a run.

    Attributes:
        diagnostics: the owner's file of figures; knows the dev evaluations of earlier starts.
        callbacks: transformers' callbacks, which may stop the run.
        all: these and all others.
    """

    diagnostics: Diagnostics
    callbacks: Callbacks
    all: list[Observer]

    @classmethod
    def begin(
        cls,
        until: contextlib.ExitStack,
        run: RunDirectory,
        args: PACZeroConfig,
        callbacks: Sequence[TrainerCallback | type[TrainerCallback]],
        observers: Sequence[Observer],
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
    ) -> "Watchers":
        """Files and trackers are open, and callbacks told of the training, until `until` is closed."""
        diagnostics = until.enter_context(contextlib.closing(Diagnostics(run.diagnostics)))
        called = Callbacks(callbacks, args, model, tokenizer)
        trackers = Trackers(args.report_to, run=run.root.name, directory=run.trackers, settings=asdict(args))
        until.enter_context(contextlib.closing(trackers))
        until.enter_context(called.training())
        return cls(diagnostics, called, [*observers, diagnostics, called, trackers])
