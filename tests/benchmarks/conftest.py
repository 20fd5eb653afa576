"""Benchmarks are scripts that find one another beside themselves; here they are imported the same way."""

import importlib
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
WORDS = ["film", "story", "plot", "acting", "ending", "music", "is", "wonderful", "lovely", "awful", "boring", "clumsy"]
LENGTHS = [5, 12, 7, 30, 9, 5, 18, 6] * 5


@pytest.fixture(scope="session")
def script() -> Iterator[Callable[[str], ModuleType]]:
    """`script("step")`, the module."""
    names = [path.stem for path in FOLDER.glob("*.py")]
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(FOLDER))
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture(scope="session")
def texts() -> list[tuple[str, str]]:
    """(text, label) pairs to cut records from."""
    chance = random.Random(0)
    return [(" ".join(chance.choices(WORDS, k=40)), ("fresh", "rotten")[number % 2]) for number in range(200)]


@pytest.fixture
def make_bench(script: Callable[[str], ModuleType], texts: list[tuple[str, str]], tiny_model_dir: Path) -> Callable:
    """`make_bench("lora-all", steps=3)`: a case over the tiny model."""

    def make(name: str, steps: int = 3):
        cases = script("cases")
        case = cases.CASES[name]
        args = replace(cases.settings(case, steps=steps), test_seed=1)
        return cases.build(case, texts, LENGTHS, str(tiny_model_dir), args)

    return make
