"""One pass with both signs at once, against two passes: is the frozen part of a LoRA layer worth sharing?

    python benchmarks/both_signs.py --threads 2

A frozen matrix is the same at θ + μz and θ − μz, so the records of both could go through it together, each half with
adapters of its own. What that saves is reading the matrix once instead of twice; what it costs is that adapters cannot
be added to the matrix beforehand. Four ways take turns on the same records, direction and weights:

    merged   two passes, adapters added to the matrices before each (what PACZero does in float32)
    beside   two passes, adapters beside the matrices
    together one pass over twice the rows, each half with its own adapters beside the matrices
    wide     two passes, merged, in micro-batches of twice the tokens: as many rows in a product as `together` has

The last line is JSON: seconds of each (medians), `together_over_merged`, above 1 where two passes are faster, and
`wide_over_merged`. The exit code is 1 where their derivatives differ by more than rounding.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from cases import CASES, Bench, build, lengths, options, settings, texts, where_and_when
from torch import Tensor, nn

from paczero.config import EngineConfig
from paczero.data.batching import MicroBatch, micro_batches
from paczero.data.metrics import losses
from paczero.engine.frozen_modules import ModuleSlot, replaced
from paczero.engine.scorer import Scorer

APART = EngineConfig(prefix=False, merge=False)
TOLERANCE_OF_LOSS = 5e-5  # as in step.py


class BothSigns(nn.Module):
    """A LoRA layer whose first half of positions has the adapter of +μ and whose second half that of −μ."""

    def __init__(self, adapted: Any):
        super().__init__()
        [name] = adapted.active_adapters
        self.base, self.scaling = adapted.base_layer, adapted.scaling[name]
        self.down, self.up = adapted.lora_A[name].weight, adapted.lora_B[name].weight
        self.sides: dict[int, tuple[Tensor, Tensor]] = {}

    def keep(self, side: int) -> None:
        """Takes the adapter as it stands as that of one side."""
        self.sides[side] = (self.down.detach().clone(), self.up.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        out = self.base(x)
        half = x.shape[1] // 2
        for side, where in ((1, slice(0, half)), (-1, slice(half, None))):
            down, up = self.sides[side]
            out[0, where].addmm_(x[0, where] @ down.T, up.T, alpha=self.scaling)
        return out


def doubled(batch: MicroBatch, records: int) -> MicroBatch:
    """Every row twice: record r for +μ, record R + r for −μ."""
    twice = batch.take(np.tile(np.arange(len(batch.records)), 2))
    return replace(twice, records=np.concatenate([batch.records, records + batch.records]))


def sites(model: nn.Module) -> list[ModuleSlot]:
    """Where LoRA layers hang."""
    return [
        ModuleSlot(parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if hasattr(child, "lora_A")
    ]


def ways(bench: Bench) -> dict[str, Callable[[], np.ndarray]]:
    """Name -> both sides' losses of all records at the first direction (2, R)."""
    records, model, weights = bench.records, bench.model, bench.weights
    prompts, tree, targets = records.encoded.prompts, records.continuations, records.encoded.targets
    count = len(prompts)
    batches = micro_batches(prompts, tree, batch_tokens=bench.args.batch_tokens, prefix=False)
    merged = Scorer(model, batches, tree, engine=EngineConfig(prefix=False))
    beside = Scorer(model, batches, tree, engine=APART)
    together = Scorer(model, [doubled(batch, count) for batch in batches], tree, engine=APART)
    wide_batches = micro_batches(prompts, tree, batch_tokens=2 * bench.args.batch_tokens, prefix=False)
    wide = Scorer(model, wide_batches, tree, engine=EngineConfig(prefix=False))
    where = sites(together.model)
    both = [BothSigns(site.module) for site in where]

    def two(scorer: Scorer) -> np.ndarray:
        return np.stack([losses(scorer.scores(), targets) for _ in weights.perturb(0, 0)])

    def one() -> np.ndarray:
        for side in weights.perturb(0, 0):
            for layer in both:
                layer.keep(side)
        with replaced(where, both):
            scores = together.scores()
        return losses(scores, np.tile(targets, 2)).reshape(2, -1)

    return {"merged": lambda: two(merged), "beside": lambda: two(beside), "together": one, "wide": lambda: two(wide)}


def measure(pool: int, repeats: int, model: str) -> dict[str, Any]:
    """The JSON line."""
    case = CASES["lora-all"]
    bench = build(case, texts(), lengths(pool), model, settings(case, steps=1))
    rows = ways(bench)
    found = {name: work() for name, work in rows.items()}  # also warms up
    derivatives = {name: (up - down) / (2 * bench.args.mu) for name, (up, down) in found.items()}
    spent: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(repeats):
        for name, work in rows.items():
            started = time.perf_counter()
            work()
            spent[name].append(time.perf_counter() - started)
            print(f"{name:>9} {spent[name][-1]:8.3f} s", flush=True)
    seconds = {name: statistics.median(times) for name, times in spent.items()}
    apart = max(float(np.abs(values - derivatives["beside"]).max()) for values in derivatives.values())
    return {
        "together_over_merged": round(seconds["together"] / seconds["merged"], 3),
        "together_over_beside": round(seconds["together"] / seconds["beside"], 3),
        "wide_over_merged": round(seconds["wide"] / seconds["merged"], 3),
        **{f"seconds_{name}": round(value, 4) for name, value in seconds.items()},
        "max_derivative_difference": apart,
        "derivative_tolerance": TOLERANCE_OF_LOSS / bench.args.mu,
        "pool": pool,
        "repeats": repeats,
        **where_and_when(),
    }


def main() -> int:
    """Prints each turn as it comes and the JSON line at the end."""
    parser = options(__doc__, "pool", "threads", "model")
    parser.add_argument("--repeats", type=int, default=5, help="timed turns of each way (default 5)")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    result = measure(arguments.pool, arguments.repeats, arguments.model)
    print(json.dumps(result))
    return 0 if result["max_derivative_difference"] <= result["derivative_tolerance"] else 1


if __name__ == "__main__":
    sys.exit(main())
