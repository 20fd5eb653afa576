"""Prints what a run is, what it promises and what it costs, before it starts.

preflight(trainer, settings)
# Model      models/small: 134.5 M parameters, 15,360 of them train (peft, 1 of 30 layers runs in each step)
# Pool       600 units, 600 records of pool.csv; dev 400, test 1,000
# Mechanism  zpl, M = 128 candidates (balanced), budget 0 nats
# Promise    an attacker who sees the release and knows the pool is right about a unit's half …
# Engine     packing: records lie end to end, no padding
# Cost       300 steps, each 2 passes over 9,800 token positions (12 % padding); about 2 min 13 s, 620 MB for …
# Writes     runs/first (release/ may be published when it is finished; private/ never)
"""

import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from paczero.cli.console import warn
from paczero.config_io import RunSettings
from paczero.utils.formatting import duration, size

if TYPE_CHECKING:
    from paczero.config import PACZeroConfig
    from paczero.engine.cost import Cost
    from paczero.training.trainer import PACZeroTrainer


_WIDTH = 110


def preflight(
    trainer: "PACZeroTrainer", settings: RunSettings, notes: Sequence[str] = (), stream: TextIO | None = None
) -> None:
    """Prints it to standard error (or `stream`), with `notes` on the draw of the records; warnings after it."""
    from paczero.mechanism.registry import spec_of
    from paczero.release.guarantee import total_nats, verdict
    from paczero.release.wording import weak

    cost = trainer.estimate()
    rows = [
        *run_lines(trainer, settings, cost),
        *(("Engine", f"{name}: {text}") for name, text in engine_lines(trainer.args, cost)),
        ("Cost", f"{steps_line(trainer, cost)}; about {duration(seconds(trainer, cost))}, {memory_line(cost)}"),
        ("Writes", f"{settings.args.output_dir} (release/ may be published when it is finished; private/ never)"),
        *(("Note", note) for note in (*notes, *trainer.notes)),
    ]
    print(*(wrapped(f"{name:<10} ", text) for name, text in rows), sep="\n", file=stream or sys.stderr, flush=True)
    for sentence in weak(trainer.header):
        warn(sentence)
    kind = verdict(trainer.header)
    if kind == "void":
        warn("test_seed is set: secret, coins and noise can be computed by anyone; the report is marked VOID")
    elif kind == "nothing" and spec_of(trainer.header["mechanism"]["name"]).hides == "half":
        runs = " on one secret" if trainer.header["prior_budgets"] else ""
        warn(f"a budget of {total_nats(trainer.header):g} nats{runs} (ln 2 = 0.693 or more) promises nothing")


def run_lines(trainer: "PACZeroTrainer", settings: RunSettings, cost: "Cost") -> list[tuple[str, str]]:
    """What the run is and promises, a name and a sentence each."""
    return [
        ("Model", model_line(settings, cost)),
        ("Pool", _pool(trainer, settings)),
        ("Mechanism", _mechanism(trainer.header)),
        ("Promise", promise_line(trainer.header)),
    ]


def promise_line(header: Mapping[str, Any]) -> str:
    """What is promised, in one sentence."""
    from paczero.mechanism.registry import spec_of
    from paczero.release.guarantee import rounded_up, success, verdict
    from paczero.release.wording.labels import delta_in_words

    kind = verdict(header)
    if kind == "void":
        return "none: this run is for testing only (test_seed), its report is marked VOID"
    if kind == "nothing":
        fault = spec_of(header["mechanism"]["name"]).hides == "nothing"
        why = "trains on the pool as it is" if fault else "has too large a budget"
        why += ", with those of earlier runs on its secret" if header.get("prior_budgets") else ""
        return f"none: this run {why}, so take it that the release tells everything about the pool"
    p = rounded_up(success(header))
    if spec_of(header["mechanism"]["name"]).hides == "all":
        return "nothing is learned from any record: fair coins decide every step"
    if spec_of(header["mechanism"]["name"]).is_dp:
        return (
            f"(ε, δ)-differential privacy over the pool, ε = {header['mechanism']['epsilon']:g}, δ = "
            f"{delta_in_words(header)}: an attacker who sees the release is right about a unit being in the pool with "
            f"probability {p} at most (a coin: 0.5)"
        )
    prior = header.get("prior_budgets", [])
    average = ", on average over releases" if spec_of(header["mechanism"]["name"]).has_budget or any(prior) else ""
    average += f", earlier runs on this secret included ({' + '.join(map('{:g}'.format, prior))} nats)" if prior else ""
    return (
        f"an attacker who sees the release and knows the pool is right about a unit's half with probability {p} at "
        f"most (a coin: 0.5){average}; it does not hide who is in the pool"
    )


def model_line(settings: RunSettings, cost: "Cost") -> str:
    """Which model, and how much of it trains."""
    kind = "full tuning" if settings.peft is None else str(settings.peft.get("peft_type", "LORA"))
    layers = f"each step runs {cost.trained_layers} of {cost.layers} layers"
    return f"{settings.model}: {_count(cost.parameters)} parameters, {_count(cost.trained)} train ({kind}; {layers})"


def engine_lines(args: "PACZeroConfig", cost: "Cost") -> list[tuple[str, str]]:
    """The fast paths that are taken, and those that were switched off, a name and a sentence each."""
    from paczero.optim.kernels import describe

    engine = args.engine
    off = [name for name in ("packing", "prefix", "cache", "narrowing", "merge") if not getattr(engine, name)]
    lines = [*cost.paths.items(), *((name, f"switched off (engine.{name})") for name in off)]
    lines.append(("kernel", describe() if engine.kernel == "auto" else "plain torch (engine.kernel off)"))
    return lines


def steps_line(trainer: "PACZeroTrainer", cost: "Cost") -> str:
    """How many steps, and what each of them reads."""
    args = trainer.args
    part = "" if args.units_per_step is None else f" a part ({args.units_per_step:,} units) of"
    if args.mechanism.sampling_prob not in (None, 1.0):
        part = f" a secret sample ({100 * args.mechanism.sampling_prob:.3g} % of the units) of"
    return (
        f"{args.max_steps:,} steps, each {2 * args.directions} passes over{part} {cost.tokens:,} token positions"
        f"{f' ({100 * cost.padding:.0f} % padding)' if cost.padding else ''}"
    )


def memory_line(cost: "Cost") -> str:
    """How much memory, and what for."""
    return f"{size(cost.memory)} for weights and cached states"


def seconds(trainer: "PACZeroTrainer", cost: "Cost") -> float:
    """The estimate with the dev evaluations, each of which is one pass over the dev set."""
    if trainer.dev is None:
        return cost.seconds
    args = trainer.args
    share = float(trainer.dev.encoded.lengths.sum() / trainer.pool.encoded.lengths.sum())
    part = args.mechanism.sampling_prob or 1.0
    if args.units_per_step is not None:
        part = min(1.0, args.units_per_step / trainer.pool.dataset.units)
    one_pass = cost.step_seconds / (2 * args.directions * part)
    evaluations = args.max_steps // args.eval_steps + 2
    return cost.seconds + share * (cost.cache_seconds + evaluations * one_pass)


def _pool(trainer: "PACZeroTrainer", settings: RunSettings) -> str:
    pool = trainer.pool.dataset
    unit = f"units (by {settings.args.task.unit_column})" if settings.args.task.unit_column else "units, one a record"
    drawn = "" if settings.data.train_records is None else f", drawn by seed {settings.args.seed}"
    text = f"{pool.units:,} {unit}: {len(pool):,} records of {settings.data.train}{drawn}"
    if trainer.dev is not None:
        text += f"; dev set of {len(trainer.dev.dataset):,} (not protected)"
    return text


def _mechanism(header: Mapping[str, Any]) -> str:
    from paczero.mechanism.registry import spec_of
    from paczero.release.wording import mechanism_line

    mechanism, name = header["mechanism"], header["mechanism"]["name"]
    spec = spec_of(name)
    if spec.is_dp:
        noise = f"ε₀ = {mechanism['eps0']:g} a clip" if "eps0" in mechanism else f"σ = {mechanism['sigma']:g} clips"
        sample = "" if mechanism["sampling"] == 1 else f", secret samples at rate {mechanism['sampling']:g}"
        if "rho" in mechanism:
            noise = f"ρ = {mechanism['rho']:g} a unit, ε₀ from the dev set"
        return f"{mechanism_line(header)}, {noise}{sample}"
    if spec.hides != "half":
        return mechanism_line(header)
    text = f"{name}, M = {header['subsets']:,} candidates ({header['family']}), budget {header['budget']:g} nats"
    if spec.has_budget:
        text += f", channel {header['mechanism']['channel']}, {header['mechanism']['allocation']} allocation"
    return text


def wrapped(name: str, text: str) -> str:
    """The text beside its name, in lines that begin below each other."""
    return textwrap.fill(text, _WIDTH, initial_indent=name, subsequent_indent=" " * len(name), break_long_words=False)


def _count(number: int) -> str:
    return f"{number / 1e6:,.1f} M" if number >= 1_000_000 else f"{number:,}"
