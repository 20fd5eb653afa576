"""A model whose weights exceed a limit on memory trains under it, to the same bits."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

MB = 2**20
LAYERS = 12
LIMIT = 190 * MB  # beyond what a process has after all imports
LORA = {"r": 2, "target_modules": ["q_proj", "v_proj"]}


def save_large_model(path: Path, tiny: Path) -> int:
    """A Llama of many layers, in float16 and in pieces as large models are, with the tiny one's tokenizer.

    Returns:
        Bytes of its weights in float32.
    """
    import torch

    config = LlamaConfig.from_pretrained(tiny)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 768, 2048, LAYERS
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 8, 4, 96
    config.initializer_range = 0.05
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    size = sum(parameter.numel() for parameter in model.parameters()) * 4
    model.half().save_pretrained(path, max_shard_size="32MB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / name).write_bytes((tiny / name).read_bytes())
    return size


def order(model: Path, out: Path, **changes: Any) -> dict[str, Any]:
    rows = [
        {"text": f"a {word} {n}", "label": label} for n in range(16) for word, label in (("dud", "0"), ("gem", "1"))
    ]
    args = {"output_dir": str(out), "max_steps": 2, "learning_rate": 0.01, "test_seed": 7, "restore": "arithmetic"}
    made = {"args": args, "model": str(model), "rows": rows, "peft": LORA, "limit": None}
    return made | {"engine": {"merge": False}} | changes


def results(orders: list[dict[str, Any]], place: Path) -> list[dict[str, Any]]:
    (place / "orders.json").write_text(json.dumps(orders))
    command = [sys.executable, str(Path(__file__).parents[1] / "limited.py"), str(place / "orders.json")]
    # The C library gives memory of more than 32 MiB back at once, and keeps less for later; weights of a model that is
    # really large are of the first kind, these are made so.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**21)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == len(orders), done.stderr[-3000:]
    return lines


def files_of(run: Path) -> dict[str, bytes]:
    """What was released and measured; the statement is left out, since it has a hash of each of these."""
    release = {p.name: p.read_bytes() for p in (run / "release" / "adapter").iterdir()}
    return release | {
        "transcript": (run / "release" / "transcript.jsonl").read_bytes(),
        "journal": (run / "private" / "journal.jsonl").read_bytes(),
    }


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and counts memory as Linux does")
def test_weights_beyond_the_limit_train_to_the_same_bits(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = tmp_path / "large"
    weights = save_large_model(model, tiny_model_dir)
    assert weights > 1.5 * LIMIT
    streamed = {"merge": False, "offload": "disk", "max_memory": 50 * MB}
    whole, fails, fits = results(
        [
            order(model, tmp_path / "whole"),
            order(model, tmp_path / "fails", limit=LIMIT),
            order(model, tmp_path / "fits", limit=LIMIT, engine=streamed),
        ],
        tmp_path,
    )
    assert "does not fit into memory" in fails["error"] and "--engine.offload disk" in fails["error"]
    assert "error" not in fits, fits
    assert fits["sha256"] == whole["sha256"]
    assert files_of(tmp_path / "fits") == files_of(tmp_path / "whole")
