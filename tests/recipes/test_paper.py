"""The paper's recipes are run for real: a random OPT of a tiny size learns three steps, interrupted, resumed, replayed.

The architecture is that of OPT-1.3B and OPT-6.7B (learned positions, biases, normalisation before each block, ReLU,
tied embeddings, a </s> before every text); only sizes, records and steps are smaller, and numbers are float32.
"""

import csv
import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from paczero.cli.commands.sweep import parser as parser_for_sweep
from paczero.cli.console import Live
from paczero.cli.parser import parser_for_train
from paczero.cli.training import build_job
from paczero.config_io import RunSettings, build_settings, recipes
from paczero.experiments.sweep import plan, read_sweep
from paczero.mechanism.registry import spec_of
from paczero.training.trainer import PACZeroTrainer

from ..cli.commands.test_train import control_c, interrupt_at
from ..conftest import THINGS, tiny_texts

SMALL = ["--data.train_records", "32", "--data.dev_records", "4", "--data.test_records", "4", "--test_seed", "3"]
# What a random model answers changes where its weights change by more than they are.
LOUD = {"sst2": [], "squad": ["--task.max_new_tokens", "6", "--mu", "1.0"]}
PAPER = [name for name in recipes() if name.startswith("paper/")]


def save_tiny_opt(path: Path, std: float = 0.02) -> Path:
    """A random OPT with a tokenizer like OPT's: bytes, special tokens at 0 to 3, </s> before a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    prompts = "It was terrible It was great Title: Context: Question: Answer: which film"
    tokenizer.train_from_iterator([f"{text} {prompts}" for text, _ in tiny_texts(64, 1)], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="</s>", eos_token="</s>", pad_token="<pad>", unk_token="</s>"
    )
    config = OPTConfig(
        vocab_size=len(fast),
        hidden_size=16,
        word_embed_proj_dim=16,
        ffn_dim=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        init_std=std,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = OPTForCausalLM(config)
    with torch.no_grad():  # it answers in words
        for token, number in fast.get_vocab().items():
            model.get_input_embeddings().weight[number] *= token.startswith("Ġ")
    model.save_pretrained(path)
    fast.save_pretrained(path)
    return path


def write_tables(place: Path) -> None:
    """SST-2 as GLUE's tsv has it and SQuAD as its jsonl has it: train and test."""
    for number, name in enumerate(("train", "test")):
        texts = tiny_texts(52, seed=number)
        with open(place / f"sst2-{name}.tsv", "w", newline="") as stream:
            csv.writer(stream, delimiter="\t").writerows([("sentence", "label"), *texts])
        with open(place / f"squad-{name}.jsonl", "w") as stream:
            for text, _ in texts:
                question = f"How is number {text.split()[3]}?"
                answers = [*THINGS, text.split()[-1]]
                row = {"title": text.split()[1], "context": text, "question": question, "answers": {"text": answers}}
                stream.write(json.dumps(row) + "\n")


@pytest.fixture(scope="module")
def opt(tmp_path_factory):
    """A model directory and the tables; for both tasks the arguments that put them in place of the recipe's."""
    place = tmp_path_factory.mktemp("opt")
    model = save_tiny_opt(place / "model")
    write_tables(place)

    def arguments(task: str) -> list[str]:
        end = {"sst2": "tsv", "squad": "jsonl"}[task]
        data = [f"--data.{part}={place / f'{task}-{part}.{end}'}" for part in ("train", "test")]
        return ["--model", str(model), "--device", "cpu", *data, *SMALL]

    return arguments


@pytest.fixture(scope="module")
def begun():
    """A run of these settings as it stands before its first step; those of one model and task share what they can."""
    trainers: dict[str, PACZeroTrainer] = {}

    def begin(settings: RunSettings) -> PACZeroTrainer:
        key = repr((settings.args.task, settings.args.dtype, settings.peft))
        if key not in trainers:
            with Live() as live:
                trainers[key] = build_job(settings, live=live).trainer
        return trainers[key].with_args(settings.args)

    return begin


def task_of(name: str) -> str:
    return name.removeprefix("paper/").partition("-")[0]


def goes_through(paczero, monkeypatch, given, run) -> list[dict]:
    """Trains, is interrupted, goes on and is verified; returns the transcript's lines."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1, control_c)
        code, _, err = paczero("train", *given, "--max_steps", "3", "--output_dir", run)
    assert code == 130 and "stopped after 2 steps; go on with: paczero train --resume" in err, err
    code, _, err = paczero("train", "--resume", run)
    assert code == 0, err
    code, out, err = paczero("replay", run, "--verify")
    assert code == 0, out + err
    return [json.loads(line) for line in (run / "release" / "transcript.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", PAPER)
def test_a_recipe_trains_is_interrupted_resumed_and_replayed(name, opt, paczero, tmp_path, monkeypatch):
    given = ("--config", name, *opt(task_of(name)), *LOUD[task_of(name)], "--dtype", "float32")
    header, *steps = goes_through(paczero, monkeypatch, given, tmp_path / "run")
    args = build_settings(parser_for_train().parse_args(["--config", name]).settings).args
    assert (header["mechanism"]["name"], header["direction_law"]) == (args.mechanism.name, "gaussian")
    assert [(line["t"], len(line["y"])) for line in steps] == [(t, args.directions) for t in range(3)]
    assert any(y for line in steps for y in line["y"])


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_recipe_runs_in_its_own_float16(tuning, opt, paczero, tmp_path, monkeypatch):
    given = ("--config", f"paper/sst2-opt-1.3b-{tuning}-zpl", *opt("sst2"))
    header, *steps = goes_through(paczero, monkeypatch, given, tmp_path / "run")
    assert {kind for _, kind, _ in header["parameters"]} == {"float32" if tuning == "lora" else "float16"}
    assert len(steps) == 3


@pytest.mark.parametrize("name", PAPER)
def test_a_recipe_starts_with_its_own_settings(name, opt, begun):
    """In its own type and for all of its steps, with weights as large as those of a trained model."""
    settings = build_settings(parser_for_train().parse_args(["--config", name, *opt(task_of(name))]).settings)
    trainer = begun(settings)
    half = not spec_of(trainer.args.mechanism.name).is_dp
    assert trainer.args.dtype == ("float16" if half else "float32") and trainer.args.max_steps >= 1000
    small = half and trainer.args.learning_rate / trainer.args.directions**0.5 < 4e-6  # of float16 weights of size 0.02
    assert any("unless what it releases is about" in note for note in trainer.notes) == ("-full-" in name and small)
    assert any("steps are so small" in note for note in trainer.notes) == name.endswith(("full-zpl", "full-mi"))


@pytest.mark.parametrize("name", [name for name in recipes(sweeps=True) if name.startswith("paper/")])
def test_a_sweep_s_cells_start_with_their_own_settings(name, opt, begun):
    """One of those that differ in nothing but how much they may tell, for finding the noise takes seconds."""
    seen = set()
    for item in plan(read_sweep(name, parser_for_sweep().parse_args([name, *opt("sst2")]).flags)):
        args = item.settings.args
        differs = asdict(args) | {"output_dir": "", "mechanism": asdict(args.mechanism) | {"budget": 0, "epsilon": 0}}
        if repr((differs, item.settings.peft)) not in seen:
            seen.add(repr((differs, item.settings.peft)))
            trainer = begun(item.settings)
            assert (trainer.header["steps"], trainer.header["directions"]) == (args.max_steps, args.directions)
    assert seen
