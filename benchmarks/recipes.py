"""What the paper's recipes would cost on a named GPU: the tables of recipes/README.md. An estimate; nothing is run.

    python benchmarks/recipes.py                            # both tables, for an A100
    python benchmarks/recipes.py --sst2 train.tsv --squad train.jsonl --tokenizer DIR     # lengths of your own files
    python benchmarks/recipes.py --twins --sst2 train.tsv --squad train.jsonl             # the small ones, timed here

Settings come from the recipes themselves, shapes from OPT's configurations (parameters on torch's meta device, which
holds no numbers). Counted are

- passes over the pool, dev and test sets: 2 operations a weight of the layers and position, and attention's products;
  a pass takes no less than its kernels take to be launched;
- greedy generation, token by token: each reads all weights once a batch;
- in full tuning the moves of all weights, 3 a direction and 1 update: the bytes that the engine's operations on each
  weight read and write, counted by running them here, over the memory's speed.

Memory is weights, adapters with their copies, one micro-batch's activations, and keys and values while generating.
"""

import argparse
import csv
import json
import math
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM

from paczero.cli.console import Live
from paczero.cli.parser import parser_for_train
from paczero.cli.preflight import seconds as with_evaluations
from paczero.cli.training import build_job
from paczero.config_io import RunSettings, build_settings, recipes
from paczero.engine.generation import BATCH_FACTOR
from paczero.experiments.sweep import plan, read_sweep
from paczero.optim.chunked import AxpyUpdate, chunks, torch_kernel
from paczero.optim.directions import direction_law
from paczero.utils.formatting import duration

# facebook/opt-1.3b and facebook/opt-6.7b as their config.json has them; the rest is OPTConfig's default.
SHAPES = {
    "facebook/opt-1.3b": {"hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32, "ffn_dim": 8192},
    "facebook/opt-6.7b": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "ffn_dim": 16384},
}
BYTES = {"float16": 2, "float32": 4}
SAMPLE = 3000  # records whose lengths are taken
# Views and the like: they touch no element.
FREE = ("view", "slice", "empty", "detach", "alias", "select", "unsqueeze", "expand", "unbind", "split", "lift")


@dataclass(frozen=True)
class Gpu:
    """A card and what is assumed to be reached of it.

    Attributes:
        name: as its maker calls it.
        operations: a second in float16, dense, at its peak.
        single: a second in float32, which the differentially private mechanisms need.
        used: share of that, in (0, 1].
        bytes: a second of its memory, at its peak.
        moved: share of that.
        launch: seconds that the kernels of one layer take at least.
    """

    name: str = "A100 80 GB"
    operations: float = 312e12
    single: float = 19.5e12
    used: float = 0.4
    bytes: float = 2.0e12
    moved: float = 0.6
    launch: float = 2e-4


@dataclass(frozen=True)
class Lengths:
    """Mean tokens. Of 3,000 training sentences and of 3,000 questions, by SmolLM2's tokenizer, </s> not counted.

    Attributes:
        sst2, squad: of a prompt.
        generated: until the longest answer of a batch has ended, 50 at most; assumed.
    """

    sst2: float = 13.3
    squad: float = 190.0
    generated: float = 30.0


@dataclass(frozen=True)
class Shape:
    """Of a model: all parameters, weights of its layers, width, layers."""

    parameters: int
    layered: int
    width: int
    layers: int


@dataclass(frozen=True)
class Estimate:
    """Passes over the pool, hours and bytes of one run."""

    passes: float
    hours: float
    memory: float


@cache
def shape(model: str) -> Shape:
    """Counts on the meta device."""
    config = OPTConfig(**SHAPES[model], word_embed_proj_dim=SHAPES[model]["hidden_size"])
    with torch.device("meta"):
        decoder = OPTForCausalLM(config)
    layered = sum(p.numel() for name, p in decoder.named_parameters() if ".layers." in name and p.dim() == 2)
    total = sum(p.numel() for p in decoder.parameters())
    return Shape(total, layered, config.hidden_size, config.num_hidden_layers)


class _Touched(TorchDispatchMode):
    """Bytes that operations read and write."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not any(free in str(func) for free in FREE):
            tensors = [value for value in (*args, out) if isinstance(value, torch.Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return out


@cache
def bytes_a_move(law: str, dtype: str = "float16") -> float:
    """What a move of one weight along a new direction reads and writes."""
    weights = {"w": torch.zeros(2**18, dtype=getattr(torch, dtype))}
    touched = _Touched()
    with touched:
        torch_kernel(AxpyUpdate(direction_law(law), 0, "direction", 0, [0], [1.0], 1e-3), list(chunks(weights)))
    return touched.bytes / 2**18


def estimate(settings: RunSettings, gpu: Gpu, lengths: Lengths) -> Estimate:
    """What a run of an OPT recipe takes."""
    args, model = settings.args, shape(settings.model)
    generates = args.task.kind == "answer"
    tokens = lengths.squad if generates else lengths.sst2
    width, speed = BYTES[args.dtype], gpu.operations if args.dtype == "float16" else gpu.single

    def seconds_of(records: float, *, generating: bool) -> float:
        """One pass over so many records."""
        positions = records * tokens
        # Causal attention meets half of the positions before, in two products.
        operations = positions * 2 * (model.layered + model.layers * model.width * tokens)
        batches = math.ceil(positions / (args.batch_tokens * (BATCH_FACTOR if generating else 1)))
        spent = max(operations / (speed * gpu.used), batches * model.layers * gpu.launch)
        read = max(width * model.parameters / (gpu.bytes * gpu.moved), model.layers * gpu.launch)
        return spent + (batches * lengths.generated * read if generating else 0)

    data, share, passes = settings.data, args.mechanism.sampling_prob or 1.0, 2 * args.directions * args.max_steps
    on_answers = generates and args.task.objective == "f1"
    seconds = passes * seconds_of((data.train_records or 0) * share, generating=on_answers)
    seconds += (args.max_steps // args.eval_steps + 1) * seconds_of(data.dev_records or 0, generating=generates)
    seconds += 2 * seconds_of(data.test_records or 0, generating=generates)
    trained = adapter(settings, model)
    if settings.peft is None:
        moves = 4 * args.directions * args.max_steps
        seconds += moves * model.parameters * bytes_a_move(args.direction_law, args.dtype) / (gpu.bytes * gpu.moved)
    memory = width * model.parameters + 8 * trained + args.batch_tokens * 12 * model.width * width
    if generates:
        memory += BATCH_FACTOR * args.batch_tokens * 2 * model.width * model.layers * width
    return Estimate(passes * share, seconds / 3600, memory)


def adapter(settings: RunSettings, model: Shape) -> int:
    """Parameters of LoRA on square projections; none in full tuning."""
    if settings.peft is None:
        return 0
    return settings.peft["r"] * 2 * model.width * len(settings.peft["target_modules"]) * model.layers


def stated(path: Path) -> tuple[str, str]:
    """From a recipe's comments: the paper's figure, and the settings that are MeZO's."""
    text = path.read_text(encoding="utf-8")
    figure = text.partition("\n")[0].partition("The paper has ")[2].rstrip(".").partition(" at ")[0]
    return ("" if "no figure" in figure else figure), ("η, T" if "these are MeZO's" in text else "")


def recipe_table(gpu: Gpu, lengths: Lengths) -> str:
    """One row a recipe of the paper."""
    lines = [
        "| recipe, below `paper/` | mechanism | η | clip | K | T | passes | GPU hours | memory | paper | of MeZO |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|---|---|",
    ]
    for name, path in recipes().items():
        if not name.startswith("paper/"):
            continue
        settings = build_settings(parser_for_train().parse_args(["--config", name]).settings)
        args, found, (figure, mezo) = settings.args, estimate(settings, gpu, lengths), stated(path)
        clip = "none" if args.mechanism.clip is None else f"{args.mechanism.clip:g}"
        cells = [
            f"[{name.removeprefix('paper/')}]({name}.yaml)",
            _mechanism(settings),
            f"{args.learning_rate:g}",
            clip,
            args.directions,
            f"{args.max_steps:,}",
            f"{found.passes:,.0f}",
            _hours(found.hours),
            f"{found.memory / 1e9:.0f} GB",
            figure,
            mezo,
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def sweep_table(gpu: Gpu, lengths: Lengths) -> str:
    """One row a sweep of the paper."""
    lines = ["| sweep, below `paper/sweeps/` | what | runs | GPU hours in all |", "|---|---|--:|--:|"]
    for name, path in recipes(sweeps=True).items():
        if not name.startswith("paper/"):
            continue
        planned = plan(read_sweep(name, {}))
        hours = sum(estimate(item.settings, gpu, lengths).hours for item in planned)
        what = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").partition(". ")[0].rstrip(".")
        lines.append(f"| [{path.stem}]({name}.yaml) | {what} | {len(planned)} | {_hours(hours)} |")
    return "\n".join(lines)


def twin_table(files: dict[str, Path]) -> str:
    """One row a small recipe, timed on this machine by the engine itself (`paczero doctor` says the same)."""
    lines = [
        "| recipe, below `small/` | mechanism | η | K | T | a step | in all | memory |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name in recipes():
        task = name.removeprefix("small/").partition("-")[0]
        if not name.startswith("small/") or task not in files:
            continue
        data = ["--data.train", str(files[task]), "--data.test", "null", "--data.test_records", "null"]
        settings = build_settings(parser_for_train().parse_args(["--config", name, *data]).settings)
        args = replace(settings.args, output_dir="runs/not-begun")
        with Live() as live:
            trainer = build_job(replace(settings, args=args), live=live).trainer
            found = trainer.estimate()
        cells = [
            f"[{name.removeprefix('small/')}]({name}.yaml)",
            _mechanism(settings),
            f"{args.learning_rate:g}",
            args.directions,
            f"{args.max_steps:,}",
            f"{1000 * found.step_seconds:.0f} ms",
            duration(with_evaluations(trainer, found)),
            f"{found.memory / 1e9:.1f} GB",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _mechanism(settings: RunSettings) -> str:
    mechanism = settings.args.mechanism
    if mechanism.budget:
        return f"{mechanism.name}, {mechanism.budget:g} nats"
    return mechanism.name if mechanism.epsilon is None else f"{mechanism.name}, ε {mechanism.epsilon:g}"


def _hours(hours: float) -> str:
    return f"{hours:.1f}" if hours < 10 else f"{hours:,.0f}"


def assumptions(gpu: Gpu, lengths: Lengths) -> str:
    """What the hours rest on, in words."""
    return (
        f"Estimated for one {gpu.name}, not measured: {gpu.operations / 1e12:.0f} TFLOP/s of float16 and "
        f"{gpu.single / 1e12:.1f} of float32 of which {100 * gpu.used:.0f} % are reached, "
        f"{gpu.bytes / 1e12:.1f} TB/s of memory of which {100 * gpu.moved:.0f} % are, "
        f"{1e3 * gpu.launch:g} ms at least a layer and pass; {lengths.sst2:g} tokens a prompt of SST-2, "
        f"{lengths.squad:g} of SQuAD, and {lengths.generated:g} generated until the longest answer of a batch has "
        f"ended. In full tuning a move reads and writes {bytes_a_move('gaussian'):,.0f} bytes a weight for the paper's "
        f"Gaussian directions, {bytes_a_move('rademacher'):,.0f} for Rademacher ones."
    )


def measured(path: Path, tokenizer: Any, task: str) -> float:
    """Mean tokens of the prompts of a file, of a sample that is the same each time."""
    with open(path, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t")) if task == "sst2" else [json.loads(line) for line in stream]
    if task == "sst2":
        texts = [f"{row['sentence'].strip()} It was" for row in rows]
    else:
        form = "Title: {title}\nContext: {context}\nQuestion: {question}\nAnswer:"
        texts = [form.format(**row) for row in rows]
    chosen = random.Random(0).sample(texts, min(SAMPLE, len(texts)))
    return sum(len(ids) for ids in tokenizer(chosen)["input_ids"]) / len(chosen)


def _sections(given: argparse.Namespace) -> Iterator[str]:
    files = {task: getattr(given, task) for task in ("sst2", "squad") if getattr(given, task) is not None}
    if given.twins:
        yield twin_table(files)
        return
    lengths = Lengths()
    if given.tokenizer is not None:
        tokenizer = AutoTokenizer.from_pretrained(given.tokenizer)
        lengths = replace(lengths, **{task: measured(path, tokenizer, task) for task, path in files.items()})
    gpu = Gpu(given.gpu, given.tflops * 1e12, given.single * 1e12, given.used, given.bandwidth * 1e12, given.moved)
    yield from (assumptions(gpu, lengths), recipe_table(gpu, lengths), sweep_table(gpu, lengths))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", default=Gpu.name, help="its name")
    parser.add_argument("--tflops", type=float, default=Gpu.operations / 1e12, help="dense float16 peak, TFLOP/s")
    parser.add_argument("--single", type=float, default=Gpu.single / 1e12, help="float32 peak, TFLOP/s")
    parser.add_argument("--used", type=float, default=Gpu.used, help="share of it that is reached")
    parser.add_argument("--bandwidth", type=float, default=Gpu.bytes / 1e12, help="memory's peak, TB/s")
    parser.add_argument("--moved", type=float, default=Gpu.moved, help="share of it that is reached")
    parser.add_argument("--sst2", type=Path, help="a tsv with the column `sentence` (for --twins also `label`)")
    parser.add_argument("--squad", type=Path, help="a jsonl with SQuAD's columns")
    parser.add_argument("--tokenizer", help="directory or hub id; takes the lengths from the files")
    parser.add_argument("--twins", action="store_true", help="time the small recipes on this machine instead")
    print("\n\n".join(_sections(parser.parse_args(argv))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
