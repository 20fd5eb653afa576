"""What a GPU makes of a step: tokens a second, memory, share of the card's peak, and whether its bits are the CPU's.

    python benchmarks/gpu.py --case lora --model 1.3b --peak-tflops 165
    python benchmarks/gpu.py --case full --model 6.7b --peak-tflops 165
    python benchmarks/gpu.py --case lora --device cpu --quick           # the program itself, on a tiny model

Models are random, built on the device from OPT's configurations in float16; prompts are random tokens of lengths like
SST-2's (13.5 on average). A step is two passes over the pool along one direction, the ZPL release over 128 candidates
and the update; journal and disk are left out. Figures are medians after a warm-up step. The last line is JSON:

    tokens_per_second   token positions through the model, both passes of a step counted, over the whole step's time
    peak_bytes          most that was allocated on the device (on a CPU: the process's resident set)
    share_of_peak       2 operations a token and weight of the decoder layers, over time and --peak-tflops
    replay_identical    weights that were moved along released bits on the CPU and on the device have the same hash:
                        LoRA and full tuning, both ways of restoring, float32 and float16, two Rademacher directions

Where there is no such device, one line says so, and the exit code is 2; it is 1 where the hashes differ.
"""

import argparse
import itertools
import json
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import LoraConfig
from torch import nn
from transformers import AutoModelForCausalLM, OPTConfig, PreTrainedModel

from paczero.data.batching import micro_batches
from paczero.data.completions import CandidateTree
from paczero.data.metrics import losses
from paczero.engine.packing import can_pack
from paczero.engine.scorer import Scorer
from paczero.errors import PACZeroError
from paczero.mechanism.base import Mechanism
from paczero.mechanism.pac import ZPL
from paczero.mechanism.randomness import Coins
from paczero.mechanism.subsets import draw_subsets
from paczero.models.adapters import attach
from paczero.models.layers import find_layers, first_trained_layer, plain
from paczero.models.loading import pick_device
from paczero.optim.derivatives import Objective
from paczero.optim.directions import direction_law
from paczero.optim.parameters import PerturbedParameters

# hidden size, layers, heads; the rest follows as in OPT (arXiv 2205.01068)
SIZES = {"tiny": (64, 3, 4), "1.3b": (2048, 24, 32), "6.7b": (4096, 32, 32)}
VOCABULARY = {"tiny": 512}
RATE, MU = 1e-3, 1e-3


@dataclass
class Bench:
    """One run's parts.

    Attributes:
        model: plain or with its adapter.
        weights, objective, mechanism: as in a run.
    """

    model: nn.Module
    weights: PerturbedParameters
    objective: Objective
    mechanism: Mechanism


def make_model(size: str, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """A random OPT on the device; no copy of it is made elsewhere."""
    hidden, layers, heads = SIZES[size]
    config = OPTConfig(
        vocab_size=VOCABULARY.get(size, 50272),
        hidden_size=hidden,
        word_embed_proj_dim=hidden,
        ffn_dim=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
    )
    torch.manual_seed(0)
    with device:
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa").eval()


def make_weights(model: nn.Module, case: str, restore: str, seed: int = 0) -> tuple[nn.Module, PerturbedParameters]:
    """What trains: LoRA on q and v of all layers, or everything."""
    peft = LoraConfig(r=8, target_modules=["q_proj", "v_proj"]) if case == "lora" else None
    wrapped, trained = attach(plain(model), peft_config=peft, seed=seed)
    law = direction_law("rademacher")
    return wrapped, PerturbedParameters(trained, law=law, seed=seed, mu=MU, restore=restore)


def build(case: str, size: str, device: torch.device, pool: int, batch_tokens: int) -> Bench:
    """Model, records and mechanism of a step."""
    base = make_model(size, device, torch.float16 if device.type != "cpu" else torch.float32)
    model, weights = make_weights(base, case, "copy" if case == "lora" else "arithmetic")
    chance = np.random.default_rng(0)
    lengths = np.minimum(4 + chance.geometric(1 / 10.5, pool), 64)  # mean 13.5
    vocabulary = base.config.vocab_size
    prompts = [chance.integers(4, vocabulary, length).tolist() for length in lengths]
    tree = CandidateTree([[4], [5]])
    packing = can_pack(base, int(lengths.max()))
    batches = micro_batches(prompts, tree, batch_tokens=batch_tokens, packing=packing)
    first = first_trained_layer(model, list(weights.parameters))
    objective = Objective(
        Scorer(model, batches, tree, first_layer=first), chance.integers(0, 2, pool), np.arange(pool), losses
    )
    membership = draw_subsets(pool, 128, seed=0)
    return Bench(model, weights, objective, ZPL(membership, clip=25.0, coins=Coins(7), directions=1))


def take_steps(bench: Bench, steps: int, device: torch.device) -> list[float]:
    """Seconds of each step."""
    seconds = []
    for step in range(steps):
        started = time.perf_counter()
        measured = bench.objective.derivatives(bench.weights, step, 1)
        release = bench.mechanism.release(
            step, measured.values, nonfinite=measured.nonfinite, unit_indices=measured.unit_indices
        )
        bench.weights.update(step, RATE, release.y)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
        print(f"step {step}: {seconds[-1]:.3f} s", flush=True)
    return seconds


def replays(device: torch.device, steps: int = 3) -> bool:
    """Whether the same released bits lead to the same weights on the CPU and on the device."""
    cases = itertools.product(("lora", "full"), ("copy", "arithmetic"), (torch.float32, torch.float16))
    for case, restore, dtype in cases:
        found = set()
        for where in (torch.device("cpu"), device):
            model = nn.Module.to(make_model("tiny", torch.device("cpu"), dtype), where)
            _, weights = make_weights(model, case, restore)
            for step in range(steps):
                for k in range(2):
                    weights.skip(step, k)
                weights.update(step, 0.01, [1, -1] if step % 2 else [1, 1])
            found.add(weights.fingerprint())
        if len(found) > 1:
            print(f"replay differs: {case}, {restore}, {dtype}", flush=True)
            return False
    return True


def measure(case: str, size: str, device: torch.device, pool: int, batch_tokens: int, repeats: int) -> dict[str, Any]:
    """The JSON line, but for the share of the peak."""
    identical = replays(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    bench = build(case, size, device, pool, batch_tokens)
    seconds = statistics.median(take_steps(bench, repeats + 1, device)[1:])
    positions = 2 * sum(batch.positions for batch in bench.objective.scorer.batches)
    layers = sum(p.numel() for p in find_layers(bench.model).layers.parameters())
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "case": case,
        "model": f"opt-{size}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "seconds": round(seconds, 4),
        "tokens_per_second": round(positions / seconds, 1),
        "tflops": round(2 * layers * positions / seconds / 1e12, 4),
        "peak_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident,
        "replay_identical": identical,
        "pool": pool,
        "batch_tokens": batch_tokens,
        "positions": positions,
        "parameters": sum(p.numel() for p in bench.model.parameters()),
        "trained": bench.weights.elements,
        "torch": torch.__version__,
    }


def main() -> int:
    """Prints steps as they come and the JSON line at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=("lora", "full"), default="lora", help="what trains (default lora)")
    parser.add_argument("--model", choices=sorted(SIZES), default="1.3b", help="which OPT (default 1.3b)")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default cuda)")
    parser.add_argument("--pool", type=int, default=1000, help="records (default 1000)")
    parser.add_argument("--batch_tokens", type=int, default=8192, help="positions of a micro-batch (default 8192)")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps (default 5)")
    parser.add_argument("--peak-tflops", type=float, help="of the card, for the type of the weights")
    parser.add_argument("--quick", action="store_true", help="a tiny model, 32 records, one timed step")
    given = parser.parse_args()
    try:
        device = pick_device(given.device)
    except PACZeroError:
        print(f"no GPU: there is no device {given.device!r} here; with --device cpu --quick the program itself runs")
        return 2
    size, pool, repeats = ("tiny", 32, 1) if given.quick else (given.model, given.pool, given.repeats)
    result = measure(given.case, size, device, pool, given.batch_tokens, repeats)
    share = None if given.peak_tflops is None else round(result["tflops"] / given.peak_tflops, 4)
    print(json.dumps(result | {"share_of_peak": share}))
    return 0 if result["replay_identical"] else 1


if __name__ == "__main__":
    sys.exit(main())
