"""What the benchmarks of a step measure: the cases, records of stated lengths, and a run's parts over one model.

>>> case = CASES["lora-all"]
>>> bench = build(case, texts(), LENGTHS, str(MODEL), settings(case, steps=3))  # doctest: +SKIP

Texts are cut from the critics' snippets to `LENGTHS`, so that the figures mean the same everywhere.
"""

import argparse
import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase
from written import processor

from paczero.config import PACZeroConfig, TaskConfig
from paczero.data.encoding import EncodedDataset, context_length, prepare
from paczero.data.rotten_tomatoes import read_snippets
from paczero.errors import PACZeroError
from paczero.mechanism.journal import Journal
from paczero.mechanism.subsets import draw_subsets
from paczero.mechanism.transcript import Transcript
from paczero.models.adapters import attach, peft_config_from
from paczero.models.layers import find_layers, first_trained_layer
from paczero.models.loading import base_fingerprint, load
from paczero.optim.derivatives import Objective
from paczero.optim.parameters import PerturbedParameters
from paczero.training.factory import make_mechanism, make_objective, make_scorer, make_weights, mechanism_header
from paczero.training.loop import Loop, Observer, Schedule
from paczero.training.state import RunState, journal_header, transcript_header

MODEL = Path(__file__).resolve().parents[1] / "models" / "SmolLM2-135M-Instruct"
TASK = TaskConfig(template="{text} It was {label}", labels={"rotten": "terrible", "fresh": "great"})

# Tokens of a prompt ("… It was"): the 128 middle quantiles of SST-2's training sentences under SmolLM2's tokenizer, in
# random order. Mean 13.5 (14.5 with a label word), longest 51.
# fmt: off
LENGTHS = (
    40, 9, 20, 7, 33, 29, 11, 12, 10, 25, 16, 7, 12, 4, 5, 14, 5, 8, 5, 4, 17, 38, 23, 22, 17, 7, 7, 15, 8, 18, 20,
    6, 5, 16, 5, 6, 9, 15, 15, 4, 17, 5, 23, 6, 5, 11, 19, 28, 8, 4, 4, 6, 18, 9, 24, 5, 28, 12, 4, 14, 15, 7, 5,
    30, 6, 7, 6, 5, 4, 11, 11, 12, 6, 16, 9, 5, 14, 19, 14, 8, 3, 10, 11, 10, 8, 22, 6, 9, 8, 20, 31, 35, 7, 10, 5,
    44, 6, 36, 16, 8, 9, 5, 12, 7, 25, 6, 27, 21, 8, 13, 13, 4, 24, 21, 10, 51, 11, 26, 13, 10, 9, 6, 7, 9, 32, 7,
    13, 18,
)
# fmt: on


@dataclass(frozen=True)
class Case:
    """What trains.

    Attributes:
        what: in words.
        peft: keys of PEFT's LoraConfig; None for full tuning.
        last: the adapter is in so many of the last layers only.
        settings: what differs from the defaults of PACZeroConfig.
    """

    what: str
    peft: Mapping[str, Any] | None
    last: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


_LORA = {"r": 8, "target_modules": ["q_proj", "v_proj"]}
CASES = {
    "lora-all": Case("LoRA, r = 8, on q and v of all layers", _LORA),
    "lora-last2": Case("LoRA, r = 8, on q and v of the last two layers", _LORA, last=2),
    "full": Case("every parameter, restore: arithmetic", None, settings={"restore": "arithmetic"}),
}


@dataclass
class Bench:
    """A run's parts.

    Attributes:
        case: what trains.
        args: the settings.
        model: as users have it, wrapped by PEFT or plain.
        first_layer: the lowest layer that trains.
        records, objective, weights, membership: PACZero's parts.
        header: the transcript's.
    """

    case: Case
    args: PACZeroConfig
    model: nn.Module
    first_layer: int
    records: EncodedDataset
    objective: Objective
    weights: PerturbedParameters
    membership: np.ndarray
    header: dict[str, Any]

    @property
    def sequences(self) -> list[list[int]]:
        """Every record with its right label word, as tokens in the order of the data."""
        encoded = self.records.encoded
        return [
            [*prompt, *encoded.candidates[target]]
            for prompt, target in zip(encoded.prompts, encoded.targets.tolist(), strict=True)
        ]


_OPTIONS: dict[str, dict[str, Any]] = {
    "case": {"choices": sorted(CASES), "default": "lora-all", "help": "what trains (default lora-all)"},
    "pool": {"type": int, "default": 128, "help": "records (default 128; from 32 on)"},
    "threads": {"type": int, "help": "torch's threads (default: torch's own choice)"},
    "model": {"default": str(MODEL), "help": "model directory or hub id (default: the demo's model)"},
}


def options(description: str | None, *names: str) -> argparse.ArgumentParser:
    """A benchmark's parser, with those of the options that several have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in names:
        parser.add_argument(f"--{name}", **_OPTIONS[name])
    return parser


def settings(case: Case, *, steps: int) -> PACZeroConfig:
    """A run of so many steps. The rate is small, since the model is to stay a sound one whatever the directions say."""
    return PACZeroConfig(max_steps=steps, task=TASK, learning_rate=1e-5, mu=1e-3, **case.settings)


def lengths(pool: int) -> list[int]:
    """Tokens of the prompts of a pool of this size."""
    return list(itertools.islice(itertools.cycle(LENGTHS), pool))


def texts() -> list[tuple[str, str]]:
    """(text, label) pairs to cut records from."""
    return [(snippet.text, snippet.label) for snippet in read_snippets()]


def cut_texts(
    texts: Sequence[tuple[str, str]], lengths: Sequence[int], tokenizer: PreTrainedTokenizerBase
) -> list[dict[str, str]]:
    """Records whose prompts have these numbers of tokens, each cut from the next text that can be.

    Args:
        texts: (text, label) pairs; used once each.
        lengths: tokens of each prompt, in order.
        tokenizer: a fast one.

    Raises:
        PACZeroError: the texts are used up.
    """
    left = iter(texts)
    ending = TASK.template.replace("{text}", "").replace(" {label}", "")

    def tokens(text: str) -> int:
        return len(tokenizer(text + ending)["input_ids"])

    def cut(text: str, length: int) -> str | None:
        """The longest beginning of so many tokens; None where it has none of exactly that length."""
        keep = length - (tokens(text) - len(tokenizer(text)["input_ids"]))
        spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        for _, end in spans[max(keep - 1, 0) : keep + 1]:
            if text[:end].strip() == text[:end] and tokens(text[:end]) == length:
                return text[:end]
        return None

    rows: list[dict[str, str]] = []
    for length in lengths:
        found = next(((short, label) for text, label in left if (short := cut(text, length))), None)
        if found is None:
            raise PACZeroError(f"pool: the texts are used up at record {len(rows) + 1}; ask for a smaller one")
        rows.append({"text": found[0], "label": found[1]})
    return rows


def peft_settings(case: Case, layers: int) -> dict[str, Any] | None:
    """Keys of PEFT's LoraConfig for a model of so many layers; None for full tuning."""
    if case.peft is None or case.last is None:
        return None if case.peft is None else dict(case.peft)
    return {**case.peft, "layers_to_transform": list(range(layers - case.last, layers))}


def build(
    case: Case, texts: Sequence[tuple[str, str]], lengths: Sequence[int], model: str, args: PACZeroConfig
) -> Bench:
    """Loads the model, attaches what trains and puts a run's parts together."""
    base, tokenizer = load(model, dtype=args.dtype, device="cpu")
    identity = {"id": model, "sha256": base_fingerprint(base), "dtype": args.dtype}
    records = prepare(
        cut_texts(texts, lengths, tokenizer), TASK, tokenizer, context=context_length(base), training=True
    )
    peft = peft_settings(case, len(find_layers(base).layers))
    config = None if peft is None else peft_config_from(peft)
    wrapped, trained = attach(base, peft_config=config, seed=args.seed)
    weights = make_weights(trained, args)
    first = first_trained_layer(wrapped, list(trained))
    scorer = make_scorer(wrapped, records, args, first_layer=first, cache=None)
    membership = draw_subsets(records.dataset.units, args.mechanism.subsets, seed=args.seed)
    check_lengths(records.encoded.prompts, lengths)
    header = transcript_header(args, base=identity, peft=peft, weights=weights, units=records.dataset.units)
    objective = make_objective(scorer, records)
    return Bench(case, args, wrapped, first, records, objective, weights, membership, header)


def check_lengths(prompts: Sequence[Sequence[int]], lengths: Sequence[int]) -> None:
    """Refuses to measure other lengths than those asked for."""
    if [len(prompt) for prompt in prompts] != list(lengths):
        raise PACZeroError("pool: the prompts do not have the lengths asked for; the tokenizer cuts texts differently")


def train(bench: Bench, directory: Path, observers: Sequence[Observer]) -> None:
    """All steps that `args` asks for, by the real loop; journal and transcript lie in the directory."""
    args = bench.args
    expected = journal_header(args, bench.header, bench.records.dataset, None)
    Loop(
        bench.objective,
        bench.weights,
        RunState(
            make_mechanism(
                args,
                mechanism_header(args, bench.objective.units),
                bench.membership,
                directory / "secret.json",
                units=bench.objective.units,
            ),
            Journal.create(directory / "journal.jsonl", expected),
            Transcript.create(directory / "transcript.jsonl", bench.header),
        ),
        schedule=Schedule(steps=args.max_steps, directions=args.directions, rate=args.learning_rate_at, seed=args.seed),
        observers=list(observers),
    ).run()


def seconds(work: Callable[[], Any]) -> float:
    """How long some work takes, by the wall clock."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def where_and_when() -> dict[str, Any]:
    """What figures depend on beside the code: processor, torch, threads, date."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }
