"""The step benchmark compares the same work: equal derivatives on both sides, lengths as asked for. No timing here."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

LENGTHS = [5, 12, 7, 30, 9, 5, 18, 6] * 5


@pytest.fixture(scope="module")
def step(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("step")


@pytest.mark.parametrize("case", ["lora-all", "lora-last2", "full"])
def test_both_ways_find_the_same_derivatives(step: ModuleType, make_bench: Callable, case: str, tmp_path: Path) -> None:
    bench = make_bench(case)
    before = bench.weights.fingerprint()
    found = step.compare(bench, step.usual_way(bench, tmp_path / "usual.jsonl"))
    assert found["derivative_rms"] > 1e-3
    assert found["max_derivative_difference"] < 1e-2 * max(1.0, found["derivative_rms"])
    assert bench.weights.fingerprint() == before


def test_a_wrong_reference_would_be_noticed(step: ModuleType, make_bench: Callable, tmp_path: Path) -> None:
    bench = make_bench("lora-all")
    usual = step.usual_way(bench, tmp_path / "usual.jsonl")
    usual.targets = 1 - usual.targets
    found = step.compare(bench, usual)
    assert found["max_derivative_difference"] > 0.1 * found["derivative_rms"]


def test_cases_train_what_they_say(make_bench: Callable) -> None:
    assert make_bench("lora-all").first_layer == 0
    last = make_bench("lora-last2")
    assert last.first_layer == 1 and all(".layers.1." in n or ".layers.2." in n for n in last.weights.parameters)
    full = make_bench("full")
    assert full.args.restore == "arithmetic" and full.weights.elements == sum(
        p.numel() for p in full.model.parameters()
    )


def test_lengths_and_positions(script: Callable, step: ModuleType, make_bench: Callable, tmp_path: Path) -> None:
    bench, cases = make_bench("lora-all"), script("cases")
    assert [len(prompt) for prompt in bench.records.encoded.prompts] == LENGTHS
    padded = sum(len(LENGTHS[a : a + 32]) * (max(LENGTHS[a : a + 32]) + 1) for a in range(0, len(LENGTHS), 32))
    assert step.usual_way(bench, tmp_path / "usual.jsonl").positions == 3 * 2 * padded
    assert len(cases.LENGTHS) == 128 and round(np.mean(cases.LENGTHS), 1) == 13.5 and max(cases.LENGTHS) == 51
    assert cases.lengths(130) == [*cases.LENGTHS, *cases.LENGTHS[:2]]


@pytest.mark.parametrize("case", ["lora-all", "full"])
def test_rounds_alternate_and_leave_the_weights_to_ours(
    script: Callable, step: ModuleType, make_bench: Callable, tmp_path: Path, case: str
) -> None:
    bench, train = make_bench(case), script("cases").train
    start = bench.weights.snapshot()
    usual = step.usual_way(bench, tmp_path / "usual.jsonl")
    rounds = step.Rounds(bench, step.sides(bench, usual, ["reference", "floor", "plain"], 2, 1))
    train(bench, tmp_path, [rounds])
    assert len(rounds.ours) == 2
    assert {name: len(side.took) for name, side in rounds.others.items()} == {"floor": 2, "plain": 2, "reference": 1}
    logged = [json.loads(line) for line in (tmp_path / "usual.jsonl").read_text().splitlines()]
    assert [line["t"] for line in logged] == [1] and abs(logged[0]["y"]) == 1
    both = bench.weights.fingerprint()
    bench.weights.load(start)
    (tmp_path / "alone").mkdir()
    train(bench, tmp_path / "alone", [])
    assert bench.weights.fingerprint() == both


def test_plain_inference_is_that_of_the_base_model(script: Callable, step: ModuleType, make_bench: Callable) -> None:
    bench = make_bench("lora-all")
    inner = script("plain").PlainInference(bench.model.get_base_model(), bench.sequences)
    with step.without_adapter(bench.model):
        assert not any(hasattr(module, "base_layer") for module in bench.model.modules())
        plain = inner.run()
    assert torch.equal(plain, inner.run())  # an adapter that has not moved adds nothing
    assert plain.shape[:2] == (8, 31) and len(inner.batches) == 2


def test_the_line_and_what_is_written(
    script: Callable, step: ModuleType, texts: list, tiny_model_dir: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(step, "texts", lambda: texts)
    monkeypatch.setattr(step, "lengths", lambda pool: LENGTHS[:pool])
    result = step.measure("full", 32, 1, str(tiny_model_dir), ["reference", "floor", "plain", "table"], 1)
    assert {"speedup_vs_reference", "over_floor", "over_plain_inference", "padding"} <= set(result)
    assert json.loads(json.dumps(result)) == result
    place = tmp_path / "performance.md"
    place.write_text("a\n<!-- begin: step full -->\nold\n<!-- end: step full -->\nz\n")
    script("written").put(place, "step full", step.written(result, "python benchmarks/step.py --case full"))
    text = place.read_text()
    assert "old" not in text and "| head |" in text and text.startswith("a\n") and text.endswith("\nz\n")
    with pytest.raises(Exception, match="no section 'other'"):
        script("written").put(place, "other", "")


def test_texts_that_run_out(script: Callable, texts: list, tiny_model_dir: Path) -> None:
    from transformers import AutoTokenizer

    from paczero.errors import PACZeroError

    with pytest.raises(PACZeroError, match="used up at record 3"):
        script("cases").cut_texts(texts[:2], [5, 5, 5], AutoTokenizer.from_pretrained(tiny_model_dir))
