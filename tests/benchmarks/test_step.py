"""The step benchmark compares the same work: equal derivatives on both sides, lengths as asked for. No timing here."""

import importlib.util
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from paczero.config import PACZeroConfig
from paczero.errors import PACZeroError

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
WORDS = ["film", "story", "plot", "acting", "ending", "music", "is", "wonderful", "lovely", "awful", "boring", "clumsy"]
LENGTHS = [5, 12, 7, 30, 9, 5, 18, 6] * 5


@pytest.fixture(scope="module")
def step() -> Iterator[ModuleType]:
    """The module, which finds `reference` beside itself as a script does."""
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("step_benchmark", FOLDER / "step.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(FOLDER))
        sys.modules.pop("step_benchmark", None)
        sys.modules.pop("reference", None)


def _texts(count: int) -> list[tuple[str, str]]:
    chance = random.Random(0)
    return [(" ".join(chance.choices(WORDS, k=40)), ("fresh", "rotten")[number % 2]) for number in range(count)]


@pytest.fixture
def bench(step: ModuleType, tiny_model_dir: Path, tmp_path: Path):
    args = PACZeroConfig(steps=3, task=step.TASK, mu=1e-2, test_seed=1)
    return step.build(step.CASES["lora-all"], _texts(200), LENGTHS, str(tiny_model_dir), args, tmp_path / "usual.jsonl")


def test_both_ways_find_the_same_derivatives(step: ModuleType, bench) -> None:
    found = step.compare(bench)
    assert found["derivative_rms"] > 1e-3
    assert found["max_derivative_difference"] < 1e-3 * max(1.0, found["derivative_rms"])


def test_a_wrong_reference_would_be_noticed(step: ModuleType, bench) -> None:
    bench.usual.targets = 1 - bench.usual.targets
    found = step.compare(bench)
    assert found["max_derivative_difference"] > 0.1 * found["derivative_rms"]


def test_lengths_and_positions(step: ModuleType, bench) -> None:
    prompts = bench.records.encoded.prompts
    assert [len(prompt) for prompt in prompts] == LENGTHS
    padded = sum(len(LENGTHS[a : a + 32]) * (max(LENGTHS[a : a + 32]) + 1) for a in range(0, len(LENGTHS), 32))
    assert bench.usual.positions == 3 * 2 * padded
    assert len(step.LENGTHS) == 128 and round(np.mean(step.LENGTHS), 1) == 13.5 and max(step.LENGTHS) == 51


def test_steps_of_both_alternate_and_leave_the_weights_to_ours(
    step: ModuleType, bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = bench.weights.snapshot()
    race = step.race(bench, tmp_path)
    assert len(race.ours) == len(race.theirs) == 3
    logged = [json.loads(line) for line in (tmp_path / "usual.jsonl").read_text().splitlines()]
    assert [line["t"] for line in logged] == [0, 1, 2] and all(abs(line["y"]) == 1 for line in logged)
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) == 4
    both = bench.weights.fingerprint()
    bench.weights.load(start)
    monkeypatch.setattr(bench.usual, "step", lambda index, rate: None)
    (tmp_path / "alone").mkdir()
    step.race(bench, tmp_path / "alone")
    assert bench.weights.fingerprint() == both


def test_texts_that_run_out(step: ModuleType, tiny_model_dir: Path) -> None:
    from transformers import AutoTokenizer

    with pytest.raises(PACZeroError, match="used up at record 3"):
        step.cut_texts(_texts(2), [5, 5, 5], AutoTokenizer.from_pretrained(tiny_model_dir))
