"""How long a whole training step takes, against the usual way, side by side in one run.

    python benchmarks/step.py
    python benchmarks/step.py --pool 128 --threads 2 --repeats 5 --model models/SmolLM2-135M-Instruct

A step is everything: directions, two passes over the pool, signs of all candidates, the ZPL release, journal and
transcript (in a temporary directory, each written through to the disk), the update. It is taken by the real loop,
`paczero.zeroth.trainer.Trainer`; after each, `reference.py` takes one of its own on the same model, weights, records
and threads, and the weights are put back. Figures are medians over the repeats, after one step of each to warm up.

First both are given the same direction and must find the same derivatives for all records; the exit code is 1 where
they do not. The last line is JSON: `speedup_vs_reference`, `token_ratio` (token positions of a step, padding included,
the reference's over ours), seconds and positions of each, and what else the figures depend on.

Texts are cut from the critics' snippets to `LENGTHS`, so that the figures mean the same everywhere.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reference import UsualWay
from transformers import PreTrainedTokenizerBase

from paczero import assembly
from paczero.config import PACZeroConfig, TaskConfig
from paczero.errors import PACZeroError
from paczero.mechanism.journal import Journal
from paczero.mechanism.subsets import draw_subsets
from paczero.mechanism.transcript import Transcript
from paczero.records.snippets import read_snippets
from paczero.zeroth import models
from paczero.zeroth.derivatives import Objective
from paczero.zeroth.trainer import Schedule, Step, Trainer
from paczero.zeroth.updates import Weights

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

# A loss is right to about 1e-5 here: float32 carries logits of about 20 to 2e-6, and thirty layers add up several such
# roundings, another way in batches of another shape. A derivative divides the difference of two by 2μ = 2e-3, which
# makes about 1e-2; that much is seen, and five times as much allowed. Derivatives themselves are of the order of 1, and
# a wrong position, mask, label or sign changes them by as much.
TOLERANCE_OF_LOSS = 5e-5


@dataclass(frozen=True)
class Case:
    """What trains.

    Attributes:
        what: in words.
        peft: keys of PEFT's LoraConfig; None for full tuning.
    """

    what: str
    peft: Mapping[str, Any] | None


CASES = {"lora-all": Case("LoRA, r = 8, on q and v of all layers", {"r": 8, "target_modules": ["q_proj", "v_proj"]})}


@dataclass
class Bench:
    """Both sides over one model.

    Attributes:
        args: settings of ours.
        records, objective, weights, membership: PACZero's parts.
        header: the transcript's.
        usual: the reference.
    """

    args: PACZeroConfig
    records: assembly.Records
    objective: Objective
    weights: Weights
    membership: np.ndarray
    header: dict[str, Any]
    usual: UsualWay


@dataclass
class Alternation:
    """Lets the reference take its step after each of ours; an observer of the loop.

    Attributes:
        ours, theirs: seconds of each step.
        our_work, their_work: the processor's seconds, all threads together; others on the machine disturb them less.
    """

    bench: Bench
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    our_work: list[float] = field(default_factory=list)
    their_work: list[float] = field(default_factory=list)
    _mark: float = field(default_factory=time.process_time)

    def on_step(self, step: Step) -> None:
        self.ours.append(step.seconds)
        self.our_work.append(time.process_time() - self._mark)
        before = self.bench.weights.snapshot()
        started, mark = time.perf_counter(), time.process_time()
        self.bench.usual.step(step.index, step.rate)
        self.theirs.append(time.perf_counter() - started)
        self.their_work.append(time.process_time() - mark)
        self.bench.weights.load(before)
        what = "warm-up" if step.index == 0 else f"step {step.index}"
        print(f"{what:>8}   paczero {self.ours[-1]:8.3f} s   reference {self.theirs[-1]:8.3f} s", flush=True)
        self._mark = time.process_time()

    def on_dev(self, result: object) -> None:
        """There is no dev set."""


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


def build(
    case: Case, texts: Sequence[tuple[str, str]], lengths: Sequence[int], model: str, args: PACZeroConfig, log: Path
) -> Bench:
    """Loads the model, attaches what trains and puts both sides together."""
    base, tokenizer = models.load(model, dtype=args.dtype, device="cpu")
    identity = {"id": model, "sha256": models.base_fingerprint(base), "dtype": args.dtype}
    records = assembly.read_records(cut_texts(texts, lengths, tokenizer), TASK, tokenizer, base, training=True)
    config = None if case.peft is None else models.peft_config_from(case.peft)
    wrapped, trained = models.attach(base, peft_config=config, seed=args.seed)
    weights = assembly.make_weights(trained, args)
    first = models.first_trained_layer(wrapped, list(trained))
    scorer = assembly.make_scorer(wrapped, records, args, first_layer=first, cache=None)
    membership = draw_subsets(records.pool.units, args.mechanism.subsets, seed=args.seed)
    encoded, clip = records.encoded, args.mechanism.clip
    check_lengths(encoded.prompts, lengths)
    usual = UsualWay(
        wrapped,
        trained,
        encoded.prompts,
        encoded.candidates,
        encoded.targets,
        membership,
        mu=args.mu,
        clip=clip if clip is not None else np.inf,
        seed=args.seed,
        log=log,
    )
    header = assembly.transcript_header(
        args, base=identity, peft=dict(case.peft or {}), weights=weights, units=records.pool.units
    )
    objective = assembly.make_objective(scorer, records)
    return Bench(args, records, objective, weights, membership, header, usual)


def check_lengths(prompts: Sequence[Sequence[int]], lengths: Sequence[int]) -> None:
    """Refuses to measure other lengths than those asked for."""
    if [len(prompt) for prompt in prompts] != list(lengths):
        raise PACZeroError("pool: the prompts do not have the lengths asked for; the tokenizer cuts texts differently")


def compare(bench: Bench) -> dict[str, float]:
    """Both sides' derivatives of all records along the same direction."""
    weights, args = bench.weights, bench.args
    ours = bench.objective.derivatives(weights, 0, 1).values[:, 0]
    sizes = {name: parameter.numel() for name, parameter in weights.parameters.items()}
    z = weights.law.draw_all(seed=weights.seed, step=0, k=0, sizes=sizes, purpose=weights.purpose)
    before = weights.snapshot()
    theirs = bench.usual.derivatives(bench.usual.given(z))
    weights.load(before)
    return {
        "max_derivative_difference": float(np.abs(ours - theirs).max()),
        "derivative_tolerance": TOLERANCE_OF_LOSS / args.mu,
        "derivative_rms": float(np.sqrt(np.mean(theirs**2))),
    }


def race(bench: Bench, directory: Path) -> Alternation:
    """Steps of both sides in turn, all that `args` asks for."""
    args = bench.args
    expected = assembly.journal_header(args, bench.header, bench.records.pool, bench.membership, None)
    alternation = Alternation(bench)
    Trainer(
        bench.objective,
        bench.weights,
        assembly.make_mechanism(args, bench.membership, directory / "secret.json"),
        journal=Journal.create(directory / "journal.jsonl", expected),
        transcript=Transcript.create(directory / "transcript.jsonl", bench.header),
        schedule=Schedule(steps=args.steps, directions=args.directions, rate=args.learning_rate_at, seed=args.seed),
        observers=[alternation],
    ).run()
    return alternation


def measure(name: str, pool: int, repeats: int, model: str) -> dict[str, Any]:
    """The JSON line of one case."""
    case = CASES[name]
    lengths = [LENGTHS[record % len(LENGTHS)] for record in range(pool)]
    texts = [(snippet.text, snippet.label) for snippet in read_snippets()]
    args = PACZeroConfig(steps=1 + repeats, task=TASK, learning_rate=1e-3, mu=1e-3)
    with tempfile.TemporaryDirectory() as directory:
        bench = build(case, texts, lengths, model, args, Path(directory) / "usual.jsonl")
        print(f"{name}: {case.what}; {pool} records, M = {args.mechanism.subsets}, {torch.get_num_threads()} threads")
        equality = compare(bench)
        print(
            "same direction: derivatives of {2:.3g} rms, at most {0:.2g} apart".format(*equality.values()), flush=True
        )
        times = race(bench, Path(directory))
    scorer, usual = bench.objective.scorer, bench.usual
    ours, theirs = statistics.median(times.ours[1:]), statistics.median(times.theirs[1:])
    return {
        "case": name,
        "speedup_vs_reference": round(theirs / ours, 3),
        "token_ratio": round(usual.positions / (2 * scorer.positions), 3),
        "seconds_paczero": round(ours, 4),
        "seconds_reference": round(theirs, 4),
        "tokens_paczero": 2 * scorer.positions,
        "tokens_reference": usual.positions,
        "padding": round(1 - scorer.tokens / scorer.positions, 4),
        "cpu_seconds_paczero": round(statistics.median(times.our_work[1:]), 4),
        "cpu_seconds_reference": round(statistics.median(times.their_work[1:]), 4),
        **equality,
        "threads": torch.get_num_threads(),
        "pool": pool,
        "subsets": args.mechanism.subsets,
        "micro_batches": len(scorer.batches),
        "repeats": repeats,
        "model": Path(model).name,
    }


def main() -> int:
    """Prints the steps as they come and the JSON line at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=sorted(CASES), default="lora-all", help="what trains (default lora-all)")
    parser.add_argument("--pool", type=int, default=128, help="records (default 128; from 32 on)")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of each side (default 5)")
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's own choice)")
    parser.add_argument("--model", default=str(MODEL), help="model directory or hub id (default: the demo's model)")
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error("--repeats: expected 1 or more")
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    try:
        result = measure(arguments.case, arguments.pool, arguments.repeats, arguments.model)
    except PACZeroError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 0 if result["max_derivative_difference"] <= result["derivative_tolerance"] else 1


if __name__ == "__main__":
    sys.exit(main())
