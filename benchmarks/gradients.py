"""What gradients reach on the matrix that `recipes/base/small.yaml` trains: AdamW, and DP-SGD by Opacus.

    python benchmarks/gradients.py --train train.tsv --test dev.tsv --records 1000 --seed 0

All that lies below the trained matrix never changes. It is computed once for each record, as PACZero does, so that the
seconds compare training alone. The LoRA, its scale, the prompt, the label words and the loss are those of the recipe.
Poisson samples, noise and the accountant (PRV, add or remove one record) are Opacus's; the clip is the median length of
gradients on the dev set. The dev set also chooses the epoch whose weights are scored.

Prints a line of JSON for each run of the grid. Needs `pip install opacus`.
"""

import argparse
import csv
import itertools
import json
import random
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from opacus import PrivacyEngine
from plain import resident
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

PROMPT = "{} It was"
WORDS = (" terrible", " great")
BATCH_RECORDS = 64  # of the passes that compute what never changes


class LastMatrix(nn.Module):
    """LoRA on the last down projection, and what follows it: the final norm and two rows of the head.

    Args:
        model: the base model.
        rows: token ids of the label words (C,).
        rank, alpha: of the LoRA.
    """

    def __init__(self, model: PreTrainedModel, rows: list[int], rank: int = 8, alpha: int = 16):
        super().__init__()
        projection = model.model.layers[-1].mlp.down_proj
        self.lora_A = nn.Linear(projection.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, projection.out_features, bias=False)
        nn.init.kaiming_uniform_(self.lora_A.weight, a=5**0.5)
        nn.init.zeros_(self.lora_B.weight)
        self.scale = alpha / rank
        self.epsilon = model.model.norm.variance_epsilon
        self.register_buffer("head", (model.lm_head.weight[rows] * model.model.norm.weight).detach().clone())

    def forward(self, inputs: Tensor, output: Tensor) -> Tensor:
        """Scores (B, C) from the matrix's input (B, I) and the layer's output without LoRA (B, D)."""
        hidden = output + self.scale * self.lora_B(self.lora_A(inputs))
        return hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.epsilon) @ self.head.T


@dataclass(frozen=True)
class Options:
    """Of one run: ε (0 for AdamW without privacy), δ, the clip, passes over the pool, the rate, the expected batch."""

    epsilon: float
    delta: float
    clip: float
    epochs: int
    learning_rate: float
    batch_size: int


def read(path: Path, seed: int | None = None) -> list[tuple[str, int]]:
    """(sentence, label) of a file of SST-2, in the order of a seed where it is given."""
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        rows = [(row["sentence"], int(row["label"])) for row in reader]
    if seed is not None:
        random.Random(seed).shuffle(rows)
    return rows


@torch.no_grad()
def frozen_part(model: PreTrainedModel, tokenizer, records: list[tuple[str, int]]) -> TensorDataset:
    """The input of the trained matrix and the last layer's output at each prompt's end, and the label."""
    tokens = [tokenizer(PROMPT.format(text.strip()))["input_ids"] for text, _ in records]
    order = sorted(range(len(records)), key=lambda index: len(tokens[index]))
    caught: dict[str, Tensor] = {}
    layer = model.model.layers[-1]
    hooks = [
        layer.mlp.down_proj.register_forward_pre_hook(lambda _, args: caught.__setitem__("inputs", args[0])),
        layer.register_forward_hook(
            lambda _, args, out: caught.__setitem__("output", out[0] if type(out) is tuple else out)
        ),
    ]
    inputs = torch.empty(len(records), layer.mlp.down_proj.in_features)
    output = torch.empty(len(records), layer.mlp.down_proj.out_features)
    for start in range(0, len(order), BATCH_RECORDS):
        chosen = order[start : start + BATCH_RECORDS]
        ends = torch.tensor([len(tokens[index]) - 1 for index in chosen])
        padded = torch.zeros(len(chosen), int(ends.max()) + 1, dtype=torch.int64)
        for row, index in enumerate(chosen):
            padded[row, : len(tokens[index])] = torch.tensor(tokens[index])
        model.model(padded, use_cache=False)  # causal: what lies on the right of an end changes nothing before it
        rows = torch.arange(len(chosen))
        inputs[chosen], output[chosen] = caught["inputs"][rows, ends], caught["output"][rows, ends]
    for hook in hooks:
        hook.remove()
    return TensorDataset(inputs, output, torch.tensor([label for _, label in records]))


@torch.inference_mode()
def scored(head: nn.Module, data: TensorDataset) -> tuple[float, float]:
    """Mean loss and accuracy."""
    inputs, output, labels = data.tensors
    scores = head(inputs, output)
    return float(nn.functional.cross_entropy(scores, labels)), float((scores.argmax(-1) == labels).double().mean())


def median_clip(head: nn.Module, data: TensorDataset) -> float:
    """The median length of the gradients of single public records before training, as PACZero's `clip: auto`."""
    norms = []
    for inputs, output, label in zip(*data.tensors, strict=True):
        loss = nn.functional.cross_entropy(head(inputs[None], output[None]), label[None])
        parts = torch.autograd.grad(loss, list(head.parameters()))
        norms.append(torch.cat([part.flatten() for part in parts]).norm())
    return float(torch.stack(norms).median())


def train(head: nn.Module, data: TensorDataset, dev: TensorDataset, options: Options) -> float | None:
    """Trains, and leaves the weights of the epoch with the least dev loss; returns the ε spent."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=options.learning_rate)
    loader: Iterable = DataLoader(data, batch_size=options.batch_size, shuffle=True)
    model, engine = head, None
    if options.epsilon:
        engine = PrivacyEngine(accountant="prv")
        model, optimizer, loader = engine.make_private_with_epsilon(
            module=head, optimizer=optimizer, data_loader=loader, epochs=options.epochs,
            target_epsilon=options.epsilon, target_delta=options.delta, max_grad_norm=options.clip,
        )  # fmt: skip
    best, kept = float("inf"), {}
    for _ in range(options.epochs):
        for inputs, output, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs, output), labels).backward()
            optimizer.step()
        loss, _ = scored(head, dev)
        if loss < best:
            best, kept = loss, {name: value.clone() for name, value in head.state_dict().items()}
    head.load_state_dict(kept)
    return None if engine is None else engine.get_epsilon(options.delta)


def main() -> None:
    """All runs of a grid on one pool; a line of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct")
    for name in ("train", "test"):
        parser.add_argument(f"--{name}", type=Path, required=True, help="a file of SST-2")
    parser.add_argument("--records", type=int, default=1000, help="of the pool, drawn by the seed from the train file")
    parser.add_argument("--dev", type=int, default=1000, help="records of the dev set, drawn behind the pool's")
    parser.add_argument(
        "--epsilon", type=float, nargs="*", default=[0, 1, 2, 8], help="of DP-SGD; 0: AdamW, no privacy"
    )
    parser.add_argument("--delta", type=float, default=1e-6)
    parser.add_argument("--learning_rate", type=float, nargs="*", default=[1e-2, 3e-2])
    parser.add_argument("--steps", type=int, nargs="*", default=[40, 160])
    parser.add_argument("--batch_size", type=int, nargs="*", help="expected (default: 256 and the whole pool)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    rows = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in WORDS]
    began = time.perf_counter()
    drawn = read(given.train, given.seed)[: given.records + given.dev]
    parts = drawn[: given.records], drawn[given.records :], read(given.test)
    pool, dev, test = (frozen_part(model, tokenizer, part) for part in parts)
    common = {"units": given.records, "seed": given.seed, "seconds_frozen": time.perf_counter() - began}
    sizes = given.batch_size or [256, given.records]
    for epsilon, size, steps, rate in itertools.product(given.epsilon, sizes, given.steps, given.learning_rate):
        epochs = max(1, round(steps * size / given.records))
        torch.manual_seed(given.seed)
        head, start = LastMatrix(model, rows), time.perf_counter()
        before = scored(head, test)[1]
        options = Options(epsilon, given.delta, median_clip(head, dev), epochs, rate, size)
        spent = train(head, pool, dev, options)
        seconds = time.perf_counter() - start
        figures = {"spent": spent, "before": before, "dev": scored(head, dev)[1], "test": scored(head, test)[1]}
        print(
            json.dumps(asdict(options) | common | figures | {"seconds": seconds, "peak": resident("VmHWM")}), flush=True
        )


if __name__ == "__main__":
    main()
