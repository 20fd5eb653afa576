"""From settings to the release object that they name, and to what the transcript's header says of it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from paczero.config import PACZeroConfig
from paczero.data.batching import MicroBatch, micro_batches
from paczero.data.encoding import EncodedDataset, context_length
from paczero.data.metrics import median_threshold
from paczero.distributed.base import SINGLE_PROCESS, ProcessGroup
from paczero.engine.hidden_cache import HiddenCache
from paczero.engine.packing import can_pack
from paczero.engine.scorer import Scorer
from paczero.errors import PACZeroError
from paczero.mechanism.accounting import calibrate, default_delta, success_of
from paczero.mechanism.base import Mechanism
from paczero.mechanism.individual import Share
from paczero.mechanism.posterior import Posterior
from paczero.mechanism.randomness import Coins, RandomStreams
from paczero.mechanism.registry import spec_of
from paczero.models.layers import plain
from paczero.optim.derivatives import Objective, ScoreSource
from paczero.optim.directions import direction_law
from paczero.optim.parameters import PerturbedParameters


def mechanism_header(args: PACZeroConfig, units: int) -> dict[str, Any]:
    """What a transcript says of the mechanism; public.

    Of a differentially private one also ε, δ, the sampling rate, the noise (ε₀, or σ in units of the clip), and p, how
    often a guess about membership is right at most. Noise and p are functions of the others, T and K. The clip is
    `auto` until the run has measured it. With individual accounting, p follows from ρ, the share of each unit, and ρ
    from ε and δ; ε₀ is that of derivatives as large as the clip until the run has measured them.
    """
    chosen, spec = args.mechanism, spec_of(args.mechanism.name)
    header: dict[str, Any] = {"name": chosen.name, "clip": chosen.clip}
    if spec.has_budget:
        header |= {"channel": chosen.channel, "allocation": chosen.allocation}
    if spec.noise is not None and chosen.epsilon is not None:
        delta = default_delta(units) if chosen.delta is None else chosen.delta
        rate = 1.0 if chosen.sampling_prob is None else chosen.sampling_prob
        header |= {"epsilon": chosen.epsilon, "delta": delta, "sampling": rate}
        if chosen.individual:
            share = Share.of(chosen.epsilon, delta=delta)
            header[spec.noise] = share.log_odds(args.max_steps * args.directions)
            return header | {"individual": True, "rho": share.rho, "posterior_success": share.success}
        run = {"steps": args.max_steps, "directions": args.directions, "sampling_prob": rate}
        noise = calibrate(chosen.name, chosen.epsilon, delta=delta, **run)
        header |= {spec.noise: noise, "posterior_success": success_of(chosen.name, noise, **run)}
    return header


def make_mechanism(
    args: PACZeroConfig,
    stated: Mapping[str, Any],
    membership: np.ndarray | None,
    secret: Path,
    *,
    units: int,
    start: Posterior | None = None,
) -> Mechanism:
    """The mechanism that the settings name.

    Args:
        stated: what `mechanism_header` gives, with the clip as a number.
        membership: the candidates (N, M), for mechanisms that use them.
        secret: the file of the secret's number, for mechanisms that read it.
        units: N.
        start: what earlier runs told about the secret, if it is used again.

    Raises:
        PACZeroError: something that the mechanism needs is absent or out of range.
    """
    return spec_of(args.mechanism.name).build(
        membership=membership,
        secret=secret,
        units=units,
        start=start,
        coins=Coins(args.test_seed),
        rng=RandomStreams(args.test_seed),
        steps=args.max_steps,
        directions=args.directions,
        clip=stated["clip"],
        budget=args.mechanism.budget,
        channel=args.mechanism.channel,
        allocation=args.mechanism.allocation,
        sigma=stated.get("sigma"),
        eps0=stated.get("eps0"),
        sampling_prob=stated.get("sampling"),
        rho=stated.get("rho"),
    )


def check_fit(args: PACZeroConfig, records: EncodedDataset) -> None:
    """Refuses settings that the pool cannot meet."""
    if args.units_per_step is not None and args.units_per_step > records.dataset.units:
        raise PACZeroError(
            f"units_per_step: {args.units_per_step} was given; expected at most {records.dataset.units}, the "
            "units of the pool, or nothing for the whole pool"
        )
    sampling = args.mechanism.sampling_prob
    if sampling is not None and sampling * records.dataset.units < 1:
        raise PACZeroError(
            f"mechanism.sampling_prob: {sampling!r} of {records.dataset.units} units is less than one unit a step; "
            "expected enough for one or more"
        )
    if args.threshold == "median":
        median_threshold(np.zeros((1, len(records.encoded.candidates))))


def make_batches(
    records: EncodedDataset, args: PACZeroConfig, model: nn.Module, *, isolated: bool = False
) -> list[MicroBatch]:
    """The fixed micro-batches of one set of records, packed where the model's attention allows it.

    Args:
        isolated: each record alone, so that what is computed of it is a function of that record.
    """
    longest = int(records.encoded.lengths.max()) + len(records.continuations)
    packing = args.engine.packing and can_pack(plain(model), longest)
    return micro_batches(
        records.encoded.prompts,
        records.continuations,
        batch_tokens=args.batch_tokens,
        packing=packing,
        prefix=args.engine.prefix,
        isolated=isolated,
        context=context_length(plain(model)),
    )


def make_scorer(
    model: nn.Module,
    records: EncodedDataset,
    args: PACZeroConfig,
    *,
    batches: list[MicroBatch] | None = None,
    first_layer: int,
    cache: Path | None,
    progress: Callable[[int, int], None] | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
    base: str = "",
) -> Scorer:
    """The scorer of one set of records, its hidden states cached below `first_layer`.

    Args:
        batches: the micro-batches of these records, where they are made already.
        cache: a private directory for hidden states, from where a run that goes on takes them again; memory only
            where left out.
        base: hash of the base model that they are of.
    """
    return Scorer(
        model,
        batches or make_batches(records, args, model),
        records.continuations,
        first_layer=first_layer,
        cache=HiddenCache(args.cache_bytes, cache, base),
        progress=progress,
        group=group,
        engine=args.engine,
    )


def make_objective(source: ScoreSource, records: EncodedDataset) -> Objective:
    """The pool's losses as a function of the weights, from its scores or from what is generated."""
    return Objective(source, records.encoded.targets, records.dataset.unit_of_record, records.task.losses)


def make_weights(
    trained: dict[str, nn.Parameter], args: PACZeroConfig, *, purpose: str = "direction"
) -> PerturbedParameters:
    """The trained weights under the run's law, seed and μ."""
    return PerturbedParameters(
        trained,
        law=direction_law(args.direction_law),
        seed=args.seed,
        mu=args.mu,
        restore=args.restore,
        purpose=purpose,
        kernel=args.engine.kernel,
    )
