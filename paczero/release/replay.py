"""Rebuild the weights of a run from its start and its transcript, bit for bit.

>>> law = direction_law(header["direction_law"])
>>> weights = PerturbedParameters(parameters, law=law, seed=header["seed"], mu=header["mu"])
>>> replay(weights, transcript, until=1000)
>>> weights.fingerprint()

No data and no forward pass: directions, learning rates and the moves between the sides are functions of the header,
and the transcript has the rest (arXiv 2605.06505: only the released bits carry what the pool says).
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import PreTrainedModel

from paczero.config import learning_rate_at
from paczero.errors import IntegrityError
from paczero.mechanism.transcript import Transcript
from paczero.models.adapters import attach, peft_config_from
from paczero.models.loading import base_fingerprint
from paczero.optim.directions import direction_law
from paczero.optim.parameters import PerturbedParameters, WeightEMA

if TYPE_CHECKING:
    from paczero.mechanism.transcript import Transcript


def replay(
    weights: PerturbedParameters,
    transcript: "Transcript",
    *,
    until: int,
    average: WeightEMA | None = None,
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Apply the first `until` steps of the transcript to weights that stand at the run's start.

    Args:
        weights: at their initial values; moved in place.
        transcript: header and released values.
        until: how many steps, from 0 to those released.
        average: follows the iterates, where the served weights are wanted; without it the iterates only.
        on_step: called with each step's number when it is done.

    Raises:
        IntegrityError: the header and the weights disagree, a step is missing, or one has not K values.
    """
    header = transcript.header
    _compare(header, weights, average)
    if not 0 <= until <= len(transcript.y):
        raise IntegrityError(f"transcript: {until} steps were asked for; it holds {len(transcript.y)}")
    schedule, directions = _entry(header, "schedule"), _entry(header, "directions")
    name, learning_rate = _entry(schedule, "name"), _entry(schedule, "learning_rate")
    steps = _entry(header, "steps")
    for step in range(until):
        y = transcript.y[step]
        if len(y) != directions:
            raise IntegrityError(f"transcript: step {step} has {len(y)} values; its header says {directions}")
        for k in range(directions):
            weights.skip(step, k)
        weights.update(step, learning_rate_at(name, learning_rate, steps, step), y)
        if average is not None:
            average.observe()
        if on_step is not None:
            on_step(step)


def _entry(mapping: Mapping[str, Any], key: str) -> Any:
    if not isinstance(mapping, Mapping) or key not in mapping:
        raise IntegrityError(f"transcript: its header lacks {key!r}; expected one that `paczero train` wrote")
    return mapping[key]


def _compare(header: Mapping[str, Any], weights: PerturbedParameters, average: WeightEMA | None) -> None:
    ours = {"direction_law": weights.law.name, "seed": weights.seed, "mu": weights.mu, "restore": weights.restore}
    if average is not None:
        ours["average"] = average.decay
    for key, value in ours.items():
        if _entry(header, key) != value:
            raise IntegrityError(f"transcript: its header says {key} {header[key]!r}; these weights have {value!r}")
    recorded, layout = _entry(header, "parameters"), weights.layout()
    if recorded != layout:
        known = recorded if isinstance(recorded, list) else []
        odd = [entry for entry in layout if entry not in known] or [entry for entry in known if entry not in layout]
        raise IntegrityError(
            f"transcript: its header and these weights differ in parameters, first in {(odd or known)[:1]}"
        )


def rebuild(
    header: dict[str, Any],
    model: PreTrainedModel,
    transcript: Transcript,
    *,
    until: int,
    on_step: Callable[[int], None] | None = None,
) -> tuple[nn.Module, PerturbedParameters]:
    """The weights that step `until` would serve, from the base model and the transcript alone, put in place.

    Raises:
        IntegrityError: the base model or the initial adapter is another than the header's.
    """
    found = base_fingerprint(model)
    if found != header["base"]["sha256"]:
        raise IntegrityError(
            f"base model: its weights have the hash {found[:12]}…, but the run began with "
            f"{header['base']['sha256'][:12]}…; give the same model and dtype ({header['base']['id']}, "
            f"{header['base']['dtype']})"
        )
    config = None if header["peft"] is None else peft_config_from(header["peft"])
    wrapped, trained = attach(model, peft_config=config, train_layers=header["train_layers"], seed=header["seed"])
    weights = PerturbedParameters(
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
    weights: PerturbedParameters, transcript: Transcript, *, until: int, on_step: Callable[[int], None] | None = None
) -> None:
    """Moves weights at a run's start to what step `until` serves: the iterate, or the average of them if one is kept.

    Raises:
        IntegrityError: header and weights disagree, or the transcript has fewer steps.
    """
    decay = transcript.header["average"]
    average = WeightEMA(weights, decay) if decay else None
    replay(weights, transcript, until=until, average=average, on_step=on_step)
    if average is not None:
        weights.load(average.snapshot())
