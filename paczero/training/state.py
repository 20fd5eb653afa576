"""What the first rank alone has of a run: the directory's first content, who releases and writes, who watches.

Nothing here is called on another rank, so neither the secret nor the journal can leave this one.

What must be the same in all processes of a run, or they would not compute the same.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from paczero import __version__
from paczero.config import FREE_SETTINGS, PACZeroConfig
from paczero.data.batching import MicroBatch
from paczero.data.dataset import Dataset
from paczero.mechanism.journal import Journal
from paczero.mechanism.registry import spec_of
from paczero.mechanism.secret import create_secret, reuse_secret
from paczero.mechanism.transcript import FORMAT, Transcript
from paczero.models.adapters import ADAPTER_LAW
from paczero.optim.parameters import PerturbedParameters
from paczero.run_directory import RunDirectory
from paczero.training.factory import make_mechanism, mechanism_header
from paczero.training.loop import Books
from paczero.utils.io import canonical, write_whole


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
    pool: Dataset,
    dev: Dataset | None,
    candidates: Callable[[], np.ndarray] | None,
) -> Books:
    """Mechanism, journal and transcript of a run, new or going on.

    Raises:
        IntegrityError: what is in the run's directory belongs to another run, or was changed.
    """
    membership = None if candidates is None else candidates()
    mechanism = make_mechanism(args, membership, run.secret, units=pool.units)
    expected = journal_header(args, header, pool, membership, dev)
    journal = Journal.open(run.journal, expected) if run.journal.exists() else Journal.create(run.journal, expected)
    transcript = Transcript.resume(run.staged_transcript, header, [entry["y"] for entry in journal.entries])
    return Books(mechanism, journal, transcript)


def check_books(
    args: PACZeroConfig, run: RunDirectory, header: dict[str, Any], pool: Dataset, dev: Dataset | None
) -> None:
    """Refuses what cannot go on before any long work: all that can be compared without the candidates.

    Raises:
        IntegrityError: the journal in the run's directory belongs to another run, or was changed.
    """
    if run.journal.exists():
        candidates = Journal.open(run.journal).header.get("candidates")
        expected = journal_header(args, header, pool, None, dev)
        Journal.open(run.journal, expected | {"candidates": candidates})


def facts(
    args: PACZeroConfig, header: Mapping[str, Any], pool: Dataset, dev: Dataset | None, batches: Sequence[MicroBatch]
) -> dict[str, str]:
    """What it is in words -> its value in this process, for `ProcessGroup.agree`."""
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
    }


def journal_header(
    args: PACZeroConfig, header: dict[str, Any], pool: Dataset, membership: np.ndarray | None, dev: Dataset | None
) -> dict[str, Any]:
    """What must be the same when a run is resumed; private."""
    settings = _hashed(args)
    members = None if membership is None else hashlib.sha256(np.packbits(membership).tobytes()).hexdigest()
    return {
        "settings": hashlib.sha256(canonical(settings)).hexdigest(),
        "device_kind": header["device_kind"],
        "transcript": hashlib.sha256(canonical(header)).hexdigest(),
        "base": header["base"]["sha256"],
        "pool": pool.hash(),
        "dev": None if dev is None else dev.hash(),
        "candidates": members,
        "torch_threads": torch.get_num_threads(),
    }


# Settings that came after the first journals; where they have their default, a journal says nothing of them.
_LATER = {
    "task": ("kind", "objective", "max_new_tokens", "stop", "messages_column", "prompt_column", "completion_column"),
    "mechanism": ("epsilon", "delta", "sampling_prob"),
}


def _hashed(args: PACZeroConfig) -> dict[str, Any]:
    """The settings that a resumed run must share."""
    settings = {name: value for name, value in asdict(args).items() if name not in FREE_SETTINGS}
    for part, names in _LATER.items():
        plain = {f.name: f.default for f in fields(getattr(args, part))}
        for name in names:
            if settings[part][name] == plain[name]:
                del settings[part][name]
    return settings
