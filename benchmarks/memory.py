"""What memory training takes, against plain inference: peaks of two fresh processes, everything in them counted.

    python benchmarks/memory.py --case full

One process trains as users do, by `PACZeroTrainer`, from a csv file to the end of some steps; its peak is that at the
last step, and `peak_end` that after the release was written too. The other is `plain.py`: the same records and model
(loaded by the same call), torch and transformers. What PACZero imports beside them (PEFT, scipy, …) counts against it,
the logits of a padded batch against plain inference. The last line is JSON: bytes, and `memory_over_inference`.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from cases import CASES, TASK, cut_texts, lengths, options, peft_settings, settings, texts
from plain import resident
from transformers import AutoTokenizer

from paczero import PACZeroTrainer
from paczero.config import PACZeroConfig
from paczero.models.adapters import peft_config_from

HERE = Path(__file__).resolve().parent


@dataclass
class Peak:
    """An observer that remembers the peak at the last step."""

    bytes: int = 0

    def on_step(self, step: object) -> None:
        self.bytes = resident("VmHWM")

    def on_dev(self, result: object) -> None:
        """There is no dev set."""


def train(case_name: str, pool: Path, model: str, directory: Path, steps: int) -> dict[str, int]:
    """Trains in this process; peaks in bytes."""
    case, peak = CASES[case_name], Peak()
    layers = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
    peft = peft_settings(case, layers)
    args: PACZeroConfig = replace(settings(case, steps=steps), output_dir=str(directory / "run"))
    trainer = PACZeroTrainer(
        model=model,
        args=args,
        train_dataset=str(pool),
        peft_config=None if peft is None else peft_config_from(peft),
        observers=[peak],
    )
    loaded = resident("VmRSS")
    trainer.train()
    return {"loaded": loaded, "peak": peak.bytes, "peak_end": resident("VmHWM")}


def peaks(case: str, rows: list[dict[str, str]], sequences: list[list[int]], model: str, steps: int) -> dict[str, Any]:
    """Both processes' peaks.

    Args:
        case: name of the case.
        rows: records of the pool.
        sequences: their tokens, each with its right label word.
        model: directory.
        steps: to train.
    """
    with tempfile.TemporaryDirectory() as folder:
        pool, tokens = Path(folder) / "pool.csv", Path(folder) / "sequences.json"
        with open(pool, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, ["text", "label"])
            writer.writeheader()
            writer.writerows(rows)
        tokens.write_text(json.dumps(sequences), encoding="utf-8")
        common = ["--model", model, "--threads", str(torch.get_num_threads())]
        ours = _told("memory.py", "--case", case, "--train", str(pool), "--steps", str(steps), *common)
        plain = _told("plain.py", str(tokens), *common)
    return {
        "memory_over_inference": round(ours["peak"] / plain["peak"], 4),
        "memory_paczero": ours,
        "memory_inference": plain,
    }


def _told(script: str, *arguments: str) -> dict[str, int]:
    """The last line of a fresh process."""
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints both processes' peaks as a line of JSON."""
    parser = options(__doc__, "case", "pool", "threads", "model")
    parser.add_argument("--steps", type=int, default=3, help="steps to train (default 3)")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)  # the process that trains on this file
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    if arguments.train is not None:
        with tempfile.TemporaryDirectory() as folder:
            result = train(arguments.case, arguments.train, arguments.model, Path(folder), arguments.steps)
        print(json.dumps(result))
        return
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    rows = cut_texts(texts(), lengths(arguments.pool), tokenizer)
    sequences = [
        tokenizer(TASK.template.format(text=row["text"], label=TASK.labels[row["label"]]))["input_ids"] for row in rows
    ]
    print(json.dumps(peaks(arguments.case, rows, sequences, arguments.model, arguments.steps)))


if __name__ == "__main__":
    main()
