"""Small runs under a test seed, whose bits, weights and charges must never change by accident.

`python tests/unchanged_runs.py` makes the runs and compares; with `--write` it replaces the fixture, which is right
only where a change of the arithmetic is meant.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

FIXTURE = Path(__file__).parent / "fixtures" / "before-restructure"
EXPECTED = FIXTURE / "runs.json"
LORA = {"r": 2, "target_modules": ["q_proj", "v_proj"]}
LAST = LORA | {"layers_to_transform": [2]}
COMMON = {"max_steps": 12, "eval_steps": 4, "learning_rate": 0.05, "batch_tokens": 256, "test_seed": 7}
# name -> PEFT settings (None: full tuning) and settings of the run.
RUNS: dict[str, tuple[dict[str, Any] | None, dict[str, Any]]] = {
    "zpl-lora": (LAST, {"mechanism": {"subsets": 8}, "metric_for_best_model": "loss"}),
    "zpl-paired-all-layers": (LORA, {"mechanism": {"subsets": 8, "family": "paired"}, "ema_decay": 0.5}),
    "mi-bit-balanced-full": (
        None,
        {
            "mechanism": {"name": "mi", "budget": 0.33, "subsets": 8, "family": "balanced", "pilots": 4},
            "train_layers": [-1],
            "directions": 2,
            "learning_rate": 0.003,
        },
    ),
    "mi-gaussian": (
        LAST,
        {
            "mechanism": {"name": "mi", "budget": 0.1, "subsets": 8, "channel": "gaussian", "allocation": "uniform"},
            "direction_law": "gaussian",
            "units_per_step": 32,
        },
    ),
    "half-sign-arithmetic": (
        None,
        {
            "mechanism": {"name": "half-sign", "subsets": 8},
            "restore": "arithmetic",
            "learning_rate": 0.003,
            "lr_scheduler_type": "constant",
        },
    ),
    "dp-sign": (LAST, {"mechanism": {"name": "dp-sign", "epsilon": 8.0}}),
    "dpzero-sampled": (LAST, {"mechanism": {"name": "dpzero", "epsilon": 8.0, "sampling_prob": 0.5}}),
    "dp-aggzo": (LAST, {"mechanism": {"name": "dp-aggzo", "epsilon": 8.0}, "directions": 3}),
    "none": (LAST, {"mechanism": {"name": "none"}, "learning_rate": 0.01}),
    "answers": (LAST, {"mechanism": {"subsets": 8}, "task": {"kind": "answer"}}),
    "answers-f1": (
        LAST,
        {
            "mechanism": {"subsets": 8},
            "max_steps": 3,
            "mu": 0.5,
            "task": {"kind": "answer", "objective": "f1", "max_new_tokens": 4},
        },
    ),
    "chat": (
        LAST,
        {"mechanism": {"subsets": 8}, "task": {"kind": "chat", "prompt_column": "text", "completion_column": "label"}},
    ),
    "skip-median": (LAST, {"mechanism": {"name": "skip", "subsets": 8}, "threshold": "median"}),
}


def make(name: str, output_dir: Path) -> dict[str, Any]:
    """Makes one run; returns what may not change: released values, charges, candidates, weights."""
    import torch
    from peft import LoraConfig

    from paczero import PACZeroConfig, PACZeroTrainer
    from paczero.config import MechanismConfig, TaskConfig

    torch.set_num_threads(1)
    peft, settings = RUNS[name]
    parts = {"mechanism": MechanismConfig(**settings["mechanism"]), "task": TaskConfig(**settings.get("task", {}))}
    result = PACZeroTrainer(
        model=str(FIXTURE / "model"),
        args=PACZeroConfig(output_dir=str(output_dir), **(COMMON | settings | parts)),
        train_dataset=str(FIXTURE / "pool.csv"),
        eval_dataset=str(FIXTURE / "dev.csv"),
        peft_config=None if peft is None else LoraConfig(**peft),
    ).train()
    journal = [json.loads(line) for line in (output_dir / "private/journal.jsonl").read_text().splitlines()]
    lines = (output_dir / "release/transcript.jsonl").read_text().splitlines()[1:]
    return {
        "y": [json.loads(line)["y"] for line in lines],
        "charges": [entry["beta"] for entry in journal[1:]],
        "signs": [entry["signs"] for entry in journal[1:]],
        "noise": [entry["noise"] for entry in journal[1:]],
        "candidates": journal[0]["header"]["candidates"],
        "chosen_step": result.chosen_step,
        "weights": result.statement["weights_sha256"],
    }


def main() -> int:
    """Makes all runs; compares them with the fixture, or writes it."""
    with tempfile.TemporaryDirectory() as place:
        found = {name: make(name, Path(place) / name) for name in RUNS}
    if "--write" in sys.argv[1:]:
        EXPECTED.write_text(json.dumps(found, indent=1) + "\n")
        return 0
    expected = json.loads(EXPECTED.read_text())
    changed = [f"{name}: {key}" for name in RUNS for key in found[name] if found[name][key] != expected[name][key]]
    print("\n".join(changed) or "unchanged")
    return bool(changed)


if __name__ == "__main__":
    sys.exit(main())
