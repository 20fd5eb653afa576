"""`kill -9` at any moment, then resume: what is released is bit for bit what an uninterrupted run releases."""

import itertools
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Order = Callable[..., dict[str, Any]]
LORA = {"r": 2, "target_modules": ["q_proj", "v_proj"], "layers_to_transform": [2]}
# Together they have all state of a run: posterior, budget, average, drift, best weights, threshold.
RUNS: dict[str, dict[str, Any]] = {
    "adapter": {
        "peft": LORA,
        "mechanism": {"name": "zpl", "subsets": 8, "family": "balanced", "pilots": 2},
        "ema_decay": 0.5,
        "metric_for_best_model": "loss",
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
        "metric_for_best_model": "accuracy",
    },
}


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Order]:
    """Sends an order to the zygote; a child that fails makes the test fail."""
    log = tmp_path_factory.mktemp("zygote") / "log"
    command = [sys.executable, str(Path(__file__).with_name("zygote.py")), str(log)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None

    def send(
        settings: dict[str, Any], *, delay: float | None = None, event: int | None = None, seed: int = 0, **more: Any
    ) -> Any:
        line = json.dumps({"settings": settings, "delay": delay, "event": event, "seed": seed, **more})
        process.stdin.write(line + "\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        answer = process.stdout.readline()  # type: ignore[union-attr]
        assert answer, "the zygote ended"
        answer = json.loads(answer)
        assert answer["status"] in (0, 2, -9), log.read_text()[-3000:]
        return answer | {"message": log.read_text().splitlines()[-1:] if answer["status"] == 2 else []}

    yield send
    process.stdin.close()
    process.stdout.close()
    assert process.wait(timeout=30) == 0


def left(run: Path) -> dict[str, bytes]:
    """Bytes of every file of the release and of its sources."""
    found = {str(path.relative_to(run)): path.read_bytes() for path in (run / "release").rglob("*") if path.is_file()}
    for name in ("config.yaml", "private/journal.jsonl", "private/transcript.jsonl"):
        found[name] = (run / name).read_bytes()
    if (run / "private" / "candidates.npz").exists():  # mechanisms with candidates
        found["private/candidates.npz"] = (run / "private" / "candidates.npz").read_bytes()
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
            "max_steps": 10,
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
    """20 kills: at a write that is left half done, in the middle of publishing, and by the processor's clock."""
    order(settings(kind, "whole"))
    expected, rng, kills = left(tmp_path / "whole"), random.Random(kind), 0
    torn = settings(kind, "torn")
    for attempt in range(15):  # every third one gets far, to where the release is written
        event = rng.randint(30, 90) if attempt % 3 == 2 else rng.randint(1, 12)
        if order(torn, event=event, seed=attempt)["status"] == 0:
            break
        kills += 1
    else:
        order(torn)
    assert left(tmp_path / "torn") == expected
    # Without plots, which take most of the time: a run that goes on needs less than a whole one.
    longest = order(settings(kind, "plain"), plain=True)["seconds"] / 2
    expected = left(tmp_path / "plain")
    for number in itertools.count():
        timed = settings(kind, f"timed{number}")
        while kills < 20 and order(timed, plain=True, delay=rng.uniform(0.0, longest))["status"] != 0:
            kills += 1
        if kills == 20:
            break
        assert left(Path(timed["output_dir"])) == expected
    order(timed, plain=True)
    assert left(Path(timed["output_dir"])) == expected


def events(order: Order, settings: dict[str, Any], log: Path) -> list[str]:
    """The kinds of all events of an undisturbed run, in order."""
    assert order(settings, log=str(log), plain=True)["status"] == 0
    return [line.split()[0] for line in log.read_text().splitlines()]


def short(settings: Callable[..., Any], name: str) -> dict[str, Any]:
    """A run of three steps."""
    return settings("adapter", name) | {
        "eval_dataset": None,
        "metric_for_best_model": None,
        "threshold": "none",
        "max_steps": 3,
    }


@pytest.mark.parametrize("how", ["full", "forbidden"])
def test_no_space_or_no_access_at_any_write(
    order: Order, settings: Callable[..., Any], tmp_path: Path, how: str
) -> None:
    """Each run ends in one line and loses nothing; once the fault is gone it ends like an undisturbed run."""
    kinds = events(order, short(settings, "whole"), tmp_path / "log")
    expected, messages = left(tmp_path / "whole"), []
    for event in range(1 if how == "full" else 2, len(kinds) + 1, 12):  # all of both: benchmarks/faults.py
        given = short(settings, f"{how}{event}")
        answer = order(given, event=event, how=how, plain=True)
        if answer["status"] == 2:
            messages += answer["message"]
        assert order(given, plain=True)["status"] == 0
        assert left(Path(given["output_dir"])) == expected, (event, kinds[event - 1])
    assert len(messages) >= len(kinds) // 24
    assert all(line and "Traceback" not in line for line in messages)


def test_directories_that_are_read_only(order: Order, settings: Callable[..., Any], tmp_path: Path) -> None:
    """By their modes, which hold for root too where it has no capabilities."""
    parent, given = tmp_path / "parent", short(settings, "parent/run")
    run = parent / "run"
    parent.mkdir(0o555)
    answer = order(given, plain=True, humble=True)
    assert answer["status"] == 2 and "cannot be made: Permission denied" in answer["message"][0]
    assert list(parent.iterdir()) == []
    parent.chmod(0o755)
    kinds = events(order, given, tmp_path / "log")
    expected = left(run)
    for folder, names in (("private", ("journal.jsonl", "transcript.jsonl", "lock")), (".", ())):
        shutil.rmtree(run)
        last = len(kinds) - 1 - kinds[::-1].index("write")  # the last line is written, the release not yet
        assert order(given, event=last + 1, plain=True)["status"] == -9
        paths = [run / folder, *(run / folder / name for name in names)]
        modes = {path: path.stat().st_mode for path in paths}
        for path in paths:
            path.chmod(0o500 if path.is_dir() else 0o400)
        answer = order(given, plain=True, humble=True)
        assert answer["status"] == 2 and "Permission denied" in answer["message"][0], answer
        for path, mode in modes.items():
            path.chmod(mode)
        assert order(given, plain=True)["status"] == 0
        assert left(run) == expected
