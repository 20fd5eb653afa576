"""Puts a run's parts together: from rows, a model and settings to what the loop needs.

Each function makes one part and knows nothing of the others' insides; `paczero.api` calls them in the order in which
data flows.
"""

import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from paczero.config import FREE_SETTINGS, PACZeroConfig, TaskConfig
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.files import canonical
from paczero.mechanism.kinds import KINDS
from paczero.mechanism.subsets import draw_subsets
from paczero.mechanism.transcript import FORMAT, Transcript
from paczero.mechanisms import mechanism_header
from paczero.pilots import pilot_derivatives
from paczero.records.batches import Continuations, MicroBatch, micro_batches
from paczero.records.pool import Pool, load_rows, make_pool
from paczero.records.scores import median_threshold
from paczero.records.tasks import Encoded, Task
from paczero.records.tasks.kinds import task_of
from paczero.rundir import write_whole
from paczero.zeroth import models
from paczero.zeroth.adapters import ADAPTER_LAW
from paczero.zeroth.derivatives import Objective, ScoreSource
from paczero.zeroth.directions import direction_law
from paczero.zeroth.forward import Scorer
from paczero.zeroth.hidden import HiddenCache
from paczero.zeroth.packing import can_pack
from paczero.zeroth.ranks import ALONE, Ranks
from paczero.zeroth.replay import replay
from paczero.zeroth.trainer import Schedule
from paczero.zeroth.updates import Average, Weights

BuildProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Records:
    """One set of records, read and encoded.

    Attributes:
        pool: rows, labels and units.
        encoded: their tokens.
        task: what they are asked and judged by.
    """

    pool: Pool
    encoded: Encoded
    task: Task

    @property
    def continuations(self) -> Continuations:
        """What may follow their prompts."""
        return self.encoded.continuations


def read_records(
    source: Any, task: TaskConfig, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, *, training: bool = False
) -> Records:
    """Reads, checks and encodes records; raises PACZeroError for whatever cannot be used."""
    return encode_records(read_pool(source, task, training=training), task, tokenizer, model)


def read_pool(source: Any, task: TaskConfig, *, training: bool = False) -> Pool:
    """Reads and checks records: all that can be said of them before a model is loaded."""
    return make_pool(load_rows(source), task, training=training)


def encode_records(pool: Pool, task: TaskConfig, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Records:
    """Prompts of a pool and what may follow them, as the model takes them."""
    kind = task_of(task)
    return Records(pool, kind.encode(pool, tokenizer, context=context_length(model)), kind)


def notes_on(pool: Records, dev: Records | None) -> list[str]:
    """What should be known about the records before hours are spent, a sentence each."""
    notes = [*pool.pool.notes, *cut_notes(pool)]
    if dev is not None:
        notes += [f"Dev set: {note}" for note in (*dev.pool.notes, *cut_notes(dev))]
        known = {tuple(prompt) for prompt in pool.encoded.prompts}
        shared = sum(tuple(prompt) in known for prompt in dev.encoded.prompts)
        if shared:
            notes.append(f"{shared} dev records are in the pool too; the dev set must be disjoint to mean anything.")
    return notes


def cut_notes(records: Records) -> list[str]:
    """Sentences on how many records were cut, and how."""
    encoded, task = records.encoded, records.task.config
    if not encoded.truncated:
        return []
    what = "completion" if task.kind == "chat" else "longest column"
    fit = "the model's context" if task.max_length is None else f"{task.max_length:,} tokens (task.max_length)"
    notes = [f"{encoded.truncated:,} of {len(encoded):,} records were cut at the end of their {what} to fit {fit}."]
    if task.kind == "answer":
        notes.append(f"{encoded.lost:,} of these no longer hold their answer.")
    return notes


def context_length(model: PreTrainedModel) -> int:
    """How many tokens the model takes."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31 - 1)


def check_fit(args: PACZeroConfig, records: Records) -> None:
    """Refuses settings that the pool cannot meet."""
    if args.units_per_step is not None and args.units_per_step > records.pool.units:
        raise PACZeroError(
            f"units_per_step: {args.units_per_step} was given; expected at most the pool's {records.pool.units} units, "
            "or nothing for the whole pool"
        )
    sampling = args.mechanism.sampling
    if sampling is not None and sampling * records.pool.units < 1:
        raise PACZeroError(
            f"mechanism.sampling: {sampling!r} of {records.pool.units} units is less than one unit a step; expected "
            "enough for one or more"
        )
    if args.threshold == "median":
        median_threshold(np.zeros((1, len(records.encoded.candidates))))


def make_batches(records: Records, args: PACZeroConfig, model: nn.Module) -> list[MicroBatch]:
    """The fixed micro-batches of one set of records, packed where the model's attention allows it."""
    longest = int(records.encoded.lengths.max()) + len(records.continuations)
    packing = args.engine.packing and can_pack(models.plain(model), longest)
    return micro_batches(
        records.encoded.prompts,
        records.continuations,
        batch_tokens=args.batch_tokens,
        packing=packing,
        prefix=args.engine.prefix,
    )


def make_scorer(
    model: nn.Module,
    records: Records,
    args: PACZeroConfig,
    *,
    first_layer: int,
    cache: Path | None,
    progress: Callable[[int, int], None] | None = None,
    ranks: Ranks = ALONE,
    base: str = "",
) -> Scorer:
    """The scorer of one set of records, its hidden states cached below `first_layer`.

    Args:
        cache: a private directory for hidden states, from where a run that goes on takes them again; memory only
            where left out.
        base: hash of the base model that they are of.
    """
    store = HiddenCache(args.cache_bytes, cache, base)
    batches = make_batches(records, args, model)
    return Scorer(
        model,
        batches,
        records.continuations,
        first_layer=first_layer,
        cache=store,
        progress=progress,
        ranks=ranks,
        engine=args.engine,
    )


def make_objective(source: ScoreSource, records: Records) -> Objective:
    """The pool's losses as a function of the weights, from its scores or from what is generated."""
    return Objective(source, records.encoded.targets, records.pool.unit_of_record, records.task.losses)


def make_weights(trained: dict[str, nn.Parameter], args: PACZeroConfig, *, purpose: str = "direction") -> Weights:
    """The trained weights under the run's law, seed and μ."""
    return Weights(
        trained,
        law=direction_law(args.direction_law),
        seed=args.seed,
        mu=args.mu,
        restore=args.restore,
        purpose=purpose,
        kernel=args.engine.kernel,
    )


def measured_candidates(
    args: PACZeroConfig,
    objective: Objective,
    weights: dict[str, nn.Parameter],
    records: Records,
    progress: BuildProgress,
    base: str = "",
) -> Callable[[], np.ndarray]:
    """What draws the candidate subsets (N, M) of the run's family, from public values and the base model.

    Measuring is done here, by all ranks together; drawing when it is called, by one. Features are the hidden states at
    the end of each prompt; `balanced` also measures pilot directions.
    """
    family, units = args.mechanism.family, objective.units
    draw = partial(draw_subsets, units, args.mechanism.subsets, seed=args.seed, family=family)
    if family == "random":
        return draw
    owners = records.pool.unit_of_record
    counts = np.bincount(owners, minlength=units)[:, None]
    per_record = objective.scorer.features()
    features = np.zeros((units, per_record.shape[1]))
    np.add.at(features, owners, per_record)
    labels = np.zeros(units, dtype=np.int64)
    labels[owners[::-1]] = records.encoded.targets[::-1]  # a unit's first record speaks for it
    pilots = None
    if family == "balanced":
        pilot = make_weights(weights, args, purpose="pilot")
        pilots = pilot_derivatives(args, objective, pilot, progress, base=base, pool=records.pool.hash())
    return partial(draw, features=features / counts, labels=labels, pilots=pilots)


def read_candidates(path: Path) -> np.ndarray:
    """The run's candidates (N, M) from `private/`.

    Raises:
        IntegrityError: the file was damaged.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            return np.unpackbits(stored["packed"], axis=1, count=int(stored["subsets"])).astype(bool)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise IntegrityError(f"candidates: {str(path)!r} cannot be read; delete it to draw them again") from error


def keep_candidates(path: Path, membership: np.ndarray) -> np.ndarray:
    """Writes the run's candidates to `private/`, from where a resumed run takes them; returns them."""
    stream = io.BytesIO()
    np.savez(stream, packed=np.packbits(membership, axis=1), subsets=membership.shape[1])
    write_whole(path, stream.getvalue(), mode=0o600)
    return membership


def make_schedule(args: PACZeroConfig) -> Schedule:
    """When things happen in the loop."""
    return Schedule(
        steps=args.steps,
        directions=args.directions,
        rate=args.learning_rate_at,
        seed=args.seed,
        units_per_step=args.units_per_step,
        eval_steps=args.eval_steps,
        select=args.select,
        sampled=args.mechanism.sampling not in (None, 1.0),
    )


def transcript_header(
    args: PACZeroConfig, *, base: dict[str, str], peft: dict[str, Any] | None, weights: Weights, units: int
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
        "schedule": {"name": args.schedule, "learning_rate": args.learning_rate},
        "directions": args.directions,
        "steps": args.steps,
        "restore": args.restore,
        "average": args.average,
        "seed": args.seed,
        "mechanism": mechanism_header(args, units),
        "subsets": chosen.subsets,
        "family": chosen.family,
        "pilots": chosen.pilots if chosen.family == "balanced" else None,
        "budget": KINDS[chosen.name].budget(chosen.budget),
        "units": units,
        "units_per_step": args.units_per_step,
        "threshold": args.threshold,
        "test_seed": args.test_seed,
    }


def journal_header(
    args: PACZeroConfig, header: dict[str, Any], pool: Pool, membership: np.ndarray | None, dev: Pool | None
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
    "mechanism": ("epsilon", "delta", "sampling"),
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


def rebuild(
    header: dict[str, Any],
    model: PreTrainedModel,
    transcript: Transcript,
    *,
    until: int,
    on_step: Callable[[int], None] | None = None,
) -> tuple[nn.Module, Weights]:
    """The weights that step `until` would serve, from the base model and the transcript alone, put in place.

    Raises:
        IntegrityError: the base model or the initial adapter is another than the header's.
    """
    found = models.base_fingerprint(model)
    if found != header["base"]["sha256"]:
        raise IntegrityError(
            f"base model: its weights have the hash {found[:12]}…, but the run began with "
            f"{header['base']['sha256'][:12]}…; give the same model and dtype ({header['base']['id']}, "
            f"{header['base']['dtype']})"
        )
    config = None if header["peft"] is None else models.peft_config_from(header["peft"])
    wrapped, trained = models.attach(
        model, peft_config=config, train_layers=header["train_layers"], seed=header["seed"]
    )
    weights = Weights(
        trained,
        law=direction_law(header["direction_law"]),
        seed=header["seed"],
        mu=header["mu"],
        restore=header["restore"],
    )
    if header["adapter"] is not None and weights.fingerprint() != header["adapter"]["sha256"]:
        raise IntegrityError("transcript: the initial adapter does not have the hash in its header; it was changed")
    take_steps(weights, transcript, until=until, on_step=on_step)
    return wrapped, weights


def take_steps(
    weights: Weights, transcript: Transcript, *, until: int, on_step: Callable[[int], None] | None = None
) -> None:
    """Moves weights at a run's start to what step `until` serves: the iterate, or the average of them if one is kept.

    Raises:
        IntegrityError: header and weights disagree, or the transcript has fewer steps.
    """
    decay = transcript.header["average"]
    average = Average(weights, decay) if decay else None
    replay(weights, transcript, until=until, average=average, on_step=on_step)
    if average is not None:
        weights.load(average.snapshot())
