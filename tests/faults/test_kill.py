"""`kill -9` at any moment, then resume: what is released is bit for bit what an uninterrupted run releases."""

import itertools
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Order = Callable[..., dict[str, Any]]
LORA = {"r": 2, "target_modules": ["q_proj", "v_proj"], "layers_to_transform": [2]}
# Between them: all that a run keeps from step to step (posterior, budget, average, drift, best weights, threshold).
RUNS: dict[str, dict[str, Any]] = {
    "adapter": {
        "peft": LORA,
        "mechanism": {"name": "zpl", "subsets": 8, "family": "balanced", "pilots": 2},
        "average": 0.5,
        "select": "loss",
        "threshold": "median",
    },
    "full": {
        "peft": None,
        "train_layers": [1, 2],
        "mechanism": {"name": "mi", "subsets": 8, "budget": 0.4, "channel": "gaussian"},
        "directions": 2,
        "restore": "arithmetic",
        "cache_bytes": 0,
        "units_per_step": 40,
        "select": "accuracy",
    },
}


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Order]:
    """Has the zygote do something; a child that fails fails the test."""
    log = tmp_path_factory.mktemp("zygote") / "log"
    command = [sys.executable, str(Path(__file__).with_name("zygote.py")), str(log)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None

    def send(settings: dict[str, Any], *, delay: float | None = None, event: int | None = None, seed: int = 0) -> Any:
        line = json.dumps({"settings": settings, "delay": delay, "event": event, "seed": seed})
        process.stdin.write(line + "\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        answer = process.stdout.readline()  # type: ignore[union-attr]
        assert answer, "the zygote ended"
        answer = json.loads(answer)
        assert answer["status"] in (0, -9), log.read_text()[-3000:]
        return answer

    yield send
    process.stdin.close()
    process.stdout.close()
    assert process.wait(timeout=30) == 0


def left(run: Path) -> dict[str, bytes]:
    """Every file of the release, and what the release was made from."""
    found = {str(path.relative_to(run)): path.read_bytes() for path in (run / "release").rglob("*") if path.is_file()}
    for name in ("config.yaml", "private/journal.jsonl", "private/transcript.jsonl", "private/candidates.npz"):
        found[name] = (run / name).read_bytes()
    found["config.yaml"] = found["config.yaml"].replace(run.name.encode(), b"RUN")
    return found


@pytest.fixture
def settings(tiny_model_dir: Path, tiny_pool_csv: Path, tiny_dev_csv: Path, tmp_path: Path) -> Callable[..., Any]:
    def make(kind: str, name: str) -> dict[str, Any]:
        shared = {
            "model": str(tiny_model_dir),
            "train_dataset": str(tiny_pool_csv),
            "eval_dataset": str(tiny_dev_csv),
            "output_dir": str(tmp_path / name),
            "steps": 10,
            "eval_steps": 3,
            "learning_rate": 0.05,
            "batch_tokens": 256,
            "test_seed": 11,
        }
        return shared | RUNS[kind]

    return make


@pytest.mark.parametrize("kind", list(RUNS))
def test_a_killed_run_ends_like_one_that_was_not(
    order: Order, settings: Callable[..., dict[str, Any]], tmp_path: Path, kind: str
) -> None:
    """At least 20 kills: at a write that is left half done, in the middle of publishing, and by the clock."""
    whole = order(settings(kind, "whole"))
    expected, chance, kills = left(tmp_path / "whole"), random.Random(kind), 0
    torn = settings(kind, "torn")
    for attempt in range(15):  # every third one gets far, to where the release is written
        event = chance.randint(30, 90) if attempt % 3 == 2 else chance.randint(1, 12)
        if order(torn, event=event, seed=attempt)["status"] == 0:
            break
        kills += 1
    else:
        order(torn)
    assert left(tmp_path / "torn") == expected
    for number in itertools.count():
        timed = settings(kind, f"timed{number}")
        while kills < 20 and order(timed, delay=chance.uniform(0.0, whole["seconds"]))["status"] != 0:
            kills += 1
        if kills == 20:
            break
    order(timed)
    assert left(Path(timed["output_dir"])) == expected
