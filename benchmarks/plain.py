"""Plain inference as users of transformers know it: what a step is measured against in time and in memory.

    python benchmarks/plain.py sequences.json --model models/SmolLM2-135M-Instruct

Two passes over the same records, each with its right label word, in the order of the data, in batches of 32 padded to
their longest on the right, with an attention mask; logits of the whole vocabulary at all positions, no gradient, no
cache of keys and values.

As a command it imports torch and transformers and nothing of PACZero, so that its peak of memory is a plain process's:
it reads the token sequences from a JSON file and ends with a line of JSON.
"""

import argparse
import json
import resource
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

BATCH_RECORDS = 32
PASSES = 2


class PlainInference:
    """Two passes over the records.

    Args:
        model: a transformers causal decoder in evaluation mode.
        sequences: tokens of each record with its label word, in the order of the data.
    """

    def __init__(self, model: PreTrainedModel, sequences: list[list[int]]):
        self.model = model
        self.batches = [
            _padded(sequences[start : start + BATCH_RECORDS], model.device)
            for start in range(0, len(sequences), BATCH_RECORDS)
        ]

    @property
    def positions(self) -> int:
        """Token positions of all passes, padding included."""
        return PASSES * sum(batch["input_ids"].numel() for batch in self.batches)

    @torch.inference_mode()
    def run(self) -> Tensor:
        """Takes the passes; the logits of the last batch (B, S, V)."""
        for _ in range(PASSES):
            for batch in self.batches:
                logits = None  # the batch's before must not lie beside the next one's
                logits = self.model(**batch, use_cache=False).logits
        return logits


def _padded(sequences: list[list[int]], device: torch.device) -> dict[str, Tensor]:
    input_ids = torch.zeros(len(sequences), max(map(len, sequences)), dtype=torch.int64)
    attention_mask = torch.zeros_like(input_ids)
    for row, tokens in enumerate(sequences):
        input_ids[row, : len(tokens)] = torch.tensor(tokens)
        attention_mask[row, : len(tokens)] = 1
    return {"input_ids": input_ids.to(device), "attention_mask": attention_mask.to(device)}


def resident(field: str) -> int:
    """Bytes of memory that this process holds (`VmRSS`) or has held at most (`VmHWM`)."""
    status = Path("/proc/self/status")
    if not status.exists():  # elsewhere than on Linux only the peak is known
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    [line] = [line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith(field)]
    return int(line.split()[1]) * 1024


def main() -> None:
    """Loads the model, runs, and says what memory it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences", type=Path, help="a JSON list of token sequences")
    parser.add_argument("--model", required=True, help="model directory or hub id")
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's own choice)")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    options = {"dtype": torch.float32, "attn_implementation": "sdpa"}
    model = AutoModelForCausalLM.from_pretrained(arguments.model, **options).eval()
    result: dict[str, Any] = {"loaded": resident("VmRSS"), "peak_loading": resident("VmHWM")}
    PlainInference(model, json.loads(arguments.sequences.read_text(encoding="utf-8"))).run()
    print(json.dumps(result | {"peak": resident("VmHWM")}))


if __name__ == "__main__":
    main()
