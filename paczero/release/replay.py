"""Rebuilds the weights of a run from its initial values and its transcript, bit for bit.

    model, tokenizer, weights = replay_release("runs/demo", step=100)
    weights.fingerprint()

No data and no forward pass are needed. Directions, learning rates and perturbations are functions of the header; the
transcript holds the released values, which are all that depends on the pool (arXiv 2605.06505).
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from paczero.config import EngineConfig, learning_rate_at
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.transcript import Transcript
from paczero.models.adapters import attach, peft_config_from
from paczero.models.loading import base_fingerprint, load
from paczero.optim.directions import direction_law
from paczero.optim.parameters import PerturbedParameters, WeightEMA
from paczero.release.statement import checked_statement, find_release
from paczero.release.verify.header import check_header


def replay_release(
    release: str | Path,
    *,
    step: int | None = None,
    model: str | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[nn.Module, PreTrainedTokenizerBase, PerturbedParameters]:
    """The model of a release with the weights after `step` steps, rebuilt from the base model and the transcript.

    Args:
        release: the folder, or a finished run.
        step: number of updates; by default, that of the served weights.
        model: the base model's folder or id; by default, the one in the header.
        progress: called with a text for each stage.

    Raises:
        PACZeroError: there is no release, no such step, or the base model cannot be loaded.
        IntegrityError: a file differs from the statement, or the base model is another than the header's.
    """
    folder = find_release(Path(release))
    transcript = Transcript.read(folder / "transcript.jsonl")
    check_header(transcript.header, str(folder / "transcript.jsonl"))
    chosen = checked_statement(folder, transcript)["chosen_step"] if step is None else step
    if not 0 <= chosen <= len(transcript.y):
        raise PACZeroError(f"step: {step} was given; expected 0 to {len(transcript.y)}, the steps that ran")
    return rebuild_from(transcript, step=chosen, model=model, progress=progress)


def rebuild_from(
    transcript: Transcript, *, step: int, model: str | None, progress: Callable[[str], None]
) -> tuple[nn.Module, PreTrainedTokenizerBase, PerturbedParameters]:
    """Loads the base model and rebuilds the weights after `step` steps; arguments as in `replay_release`."""
    header = transcript.header
    # Rademacher directions are the same bits on any device; others need the kind that the run used.
    device = "cpu" if header["direction_law"] == "rademacher" else header["device_kind"]
    name = str(model or header["base"]["id"])
    progress(f"loading {name}")
    base, tokenizer = load(
        name,
        dtype=header["base"]["dtype"],
        device=device,
        engine=EngineConfig(offload="disk"),  # only updates are taken, so layers that do not fit may wait on disk
        keep=header["train_layers"] or (),
    )
    rebuilt, weights = rebuild(
        transcript, base, until=step, on_step=lambda done: progress(f"{done + 1:,} of {step:,} steps again")
    )
    return rebuilt, tokenizer, weights


def rebuild(
    transcript: Transcript, model: PreTrainedModel, *, until: int, on_step: Callable[[int], None] | None = None
) -> tuple[nn.Module, PerturbedParameters]:
    """Puts the weights that step `until` would serve into a loaded base model.

    Raises:
        IntegrityError: the base model or the initial adapter is another than the header's.
    """
    header, found = transcript.header, base_fingerprint(model)
    if found != header["base"]["sha256"]:
        raise IntegrityError(
            f"base model: its weights have the hash {found[:12]}…, but the run began with "
            f"{header['base']['sha256'][:12]}…; give the same model and dtype ({header['base']['id']}, "
            f"{header['base']['dtype']})"
        )
    config = None if header["peft"] is None else peft_config_from(header["peft"])
    wrapped, trained = attach(model, peft_config=config, train_layers=header["train_layers"], seed=header["seed"])
    return wrapped, replay_steps(trained, transcript, until=until, on_step=on_step)


def replay_steps(
    trained: Mapping[str, nn.Parameter],
    transcript: Transcript,
    *,
    until: int,
    on_step: Callable[[int], None] | None = None,
) -> PerturbedParameters:
    """Checks the initial adapter against the header, then applies `until` steps to it.

    Args:
        trained: canonical name -> parameter at its initial value, changed in place.

    Raises:
        IntegrityError: the initial adapter is another than the header's, or a step cannot be applied.
    """
    header = transcript.header
    law = direction_law(header["direction_law"])
    weights = PerturbedParameters(trained, law=law, seed=header["seed"], mu=header["mu"], restore=header["restore"])
    if header["adapter"] is not None and weights.fingerprint() != header["adapter"]["sha256"]:
        raise IntegrityError("transcript: the initial adapter does not have the hash in its header; it was changed")
    take_steps(weights, transcript, until=until, on_step=on_step)
    return weights


def take_steps(
    weights: PerturbedParameters, transcript: Transcript, *, until: int, on_step: Callable[[int], None] | None = None
) -> None:
    """Applies the first `until` steps of a transcript to the initial weights.

    Args:
        weights: at their initial values, changed in place. They end as the last iterate, or as the average of the
            iterates if the run keeps one.
        transcript: header and released values.
        until: number of steps, at most those released.
        on_step: called with each step's number after it.

    Raises:
        IntegrityError: header and weights differ, a step is missing, or a step does not have K values.
    """
    header, layout = transcript.header, weights.layout()
    own = {"direction_law": weights.law.name, "seed": weights.seed, "mu": weights.mu, "restore": weights.restore}
    for key, value in own.items():
        if header[key] != value:
            raise IntegrityError(f"transcript: its header says {key} {header[key]!r}; these weights have {value!r}")
    if header["parameters"] != layout:
        other = [entry for entry in layout if entry not in header["parameters"]] or header["parameters"]
        raise IntegrityError(f"transcript: its header and these weights differ in parameters, first in {other[:1]}")
    if not 0 <= until <= len(transcript.y):
        raise IntegrityError(f"transcript: {until} steps were requested; it holds {len(transcript.y)}")
    average = WeightEMA(weights, header["average"]) if header["average"] else None
    schedule, directions = header["schedule"], header["directions"]
    for step, y in enumerate(transcript.y[:until]):
        if len(y) != directions:
            raise IntegrityError(f"transcript: step {step} has {len(y)} values; its header says {directions}")
        for k in range(directions):
            weights.skip(step, k)
        weights.update(step, learning_rate_at(schedule["name"], schedule["learning_rate"], header["steps"], step), y)
        if average is not None:
            average.observe()
        if on_step is not None:
            on_step(step)
    if average is not None:
        weights.load(average.snapshot())
