"""The floor counts the products that must be there, by hand on the tiny model; the watch leaves a step as it is."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

TOKENS, RECORDS = 460, 40  # of the pool in conftest.py
WIDTH, INNER, KEYS, RANK, VOCABULARY_ROWS = 32, 64, 16, 8, 2
MLP = 3 * WIDTH * INNER


@pytest.fixture(scope="module")
def floor(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("floor")


def counted(floor: ModuleType, bench: object) -> dict[str, int]:
    """Multiply-adds of one evaluation."""
    return {part: count // 2 for part, count in floor.Floor(bench).multiplications.items()}


def projections(rows: int, reads: int) -> int:
    """Query and output of the read positions, keys and values of all."""
    return reads * 2 * WIDTH * WIDTH + rows * 2 * WIDTH * KEYS


def test_full_tuning_needs_every_layer(floor: ModuleType, make_bench: Callable) -> None:
    bench = make_bench("full")
    lengths = [len(prompt) for prompt in bench.records.encoded.prompts]
    assert sum(lengths) == TOKENS
    found = counted(floor, bench)
    assert found["MLP: projections"] == (2 * TOKENS + RECORDS) * MLP
    assert found["attention: projections"] == 2 * projections(TOKENS, TOKENS) + projections(TOKENS, RECORDS)
    assert found["attention: the rest"] == 2 * WIDTH * (2 * sum(n * n for n in lengths) + TOKENS)
    assert found["head"] == RECORDS * WIDTH * VOCABULARY_ROWS
    assert "adapters" not in found


def test_lora_leaves_out_what_is_kept(floor: ModuleType, make_bench: Callable) -> None:
    found = counted(floor, make_bench("lora-last2"))
    assert found["MLP: projections"] == (TOKENS + RECORDS) * MLP
    # The first trained layer: no product with q, k or v, whose input never changes; o of all positions.
    assert found["attention: projections"] == TOKENS * WIDTH * WIDTH + projections(TOKENS, RECORDS)
    beside = TOKENS * RANK * (WIDTH + WIDTH) + TOKENS * RANK * (WIDTH + KEYS)
    merged = RANK * WIDTH * (WIDTH + KEYS)
    assert found["adapters"] == beside + merged


def test_products_run_on_real_weights(floor: ModuleType, make_bench: Callable) -> None:
    bench = make_bench("full")
    made = floor.Floor(bench)
    spent = made.run()
    assert set(spent) == set(made.multiplications) and all(seconds > 0 for seconds in spent.values())
    stored = {p.data_ptr() for p in bench.model.parameters()}
    whole = [call for call in made.calls if call.part == "MLP: projections"]
    assert len({call.right.data_ptr() for call in whole}) == 9 and {call.right.data_ptr() for call in whole} <= stored


def test_watched_steps_take_the_same_way(script: Callable, make_bench: Callable, tmp_path: Path) -> None:
    parts, train = script("parts"), script("cases").train
    bench = make_bench("lora-all", steps=5)
    start = bench.weights.snapshot()
    spent = parts.where_time_goes(bench, tmp_path)
    watched = bench.weights.fingerprint()
    bench.weights.load(start)
    (tmp_path / "alone").mkdir()
    train(bench, tmp_path / "alone", [])
    assert bench.weights.fingerprint() == watched
    assert spent.parts["MLP: projections"] > 0 and spent.parts["attention: projections"] > 0
    assert spent.parts["journal"] > 0 and spent.parts["head"] > 0 and spent.parts["losses"] > 0
    assert all(seconds >= 0 for seconds in spent.parts.values())
    assert list(spent.parts)[: len(parts.ORDER)] == list(parts.ORDER)
    hooks = torch.nn.modules.module
    assert not hooks._global_forward_hooks and not hooks._global_forward_pre_hooks
    for row in parts.table(spent, {"head": 1.0}).splitlines():
        assert row.count("|") == 6
