"""Several processes leave the same bytes as one. A rank that is lost, differs or fails is named in one error."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .remains import left

Launch = Callable[..., Any]
LAST = {"r": 2, "target_modules": ["q_proj", "v_proj"], "layers_to_transform": [2]}
ZPL = {"name": "zpl", "subsets": 8}
# They differ in the fast paths and in the state of a run. Each has 3 to 7 micro-batches for up to 4 ranks.
CASES: dict[str, dict[str, Any]] = {
    "all layers, nothing cached": {"peft": {"r": 2, "target_modules": ["q_proj", "v_proj"]}, "mechanism": ZPL},
    "last layer, a part of the units": {
        "peft": LAST,
        "mechanism": ZPL,
        "units_per_step": 33,
        "metric_for_best_model": "loss",
    },
    "attention cached, pilots": {
        "peft": {"r": 2, "target_modules": ["o_proj", "down_proj"], "layers_to_transform": [2]},
        "mechanism": {"name": "zpl", "subsets": 8, "family": "balanced", "pilots": 2},
        "threshold": "median",
    },
    "a budget, two directions": {
        "peft": LAST,
        "mechanism": {"name": "mi", "subsets": 8, "budget": 0.4, "channel": "gaussian"},
        "directions": 2,
        "ema_decay": 0.5,
        "cache_bytes": 0,
    },
    "full, drifting": {"peft": None, "mechanism": ZPL, "restore": "arithmetic", "learning_rate": 1e-3},
    "a secret sample, often empty": {
        "peft": LAST,
        "mechanism": {"name": "dp-aggzo", "epsilon": 0.2, "sampling_prob": 0.03},
        "directions": 2,
    },
    "no privacy, more ranks than work": {"peft": LAST, "mechanism": {"name": "none"}, "batch_tokens": 4096},
}


@pytest.fixture
def cases(tiny_model_dir: Path, tiny_pool_csv: Path, tiny_dev_csv: Path, tmp_path: Path) -> Callable[[int], Any]:
    def make(size: int) -> list[dict[str, Any]]:
        shared = {
            "model": str(tiny_model_dir),
            "train_dataset": str(tiny_pool_csv),
            "eval_dataset": str(tiny_dev_csv),
            "max_steps": 3,
            "eval_steps": 2,
            "learning_rate": 0.05,
            "batch_tokens": 128,
            "test_seed": 11,
        }
        return [shared | case | {"output_dir": str(tmp_path / f"{name} {size}")} for name, case in CASES.items()]

    return make


def test_the_same_bytes_from_one_and_two_processes(
    launcher: Launch, cases: Callable[[int], Any], tmp_path: Path
) -> None:
    weights = set()
    for size in (1, 2):
        done = launcher("trained", size, cases=cases(size))
        assert done.status == [0] * size, done.err
        weights |= {json.dumps(result) for result in done.results}  # on every rank
        for name in CASES:
            assert left(tmp_path / f"{name} {size}") == left(tmp_path / f"{name} 1"), (name, size)
            assert not (tmp_path / f"{name} {size}" / "private" / "cache").exists()
    assert len(weights) == 1


@pytest.fixture(scope="module")
def arguments(tiny_model_dir: Path, tiny_pool_csv: Path, tiny_dev_csv: Path, tiny_test_csv: Path) -> Callable[..., Any]:
    """The arguments of `paczero train` for twelve steps."""

    def make(output: Path, *more: object) -> list[str]:
        data = ["--data.train", tiny_pool_csv, "--data.dev", tiny_dev_csv, "--data.test", tiny_test_csv]
        short = ["--max_steps", "12", "--eval_steps", "6", "--learning_rate", "0.05", "--mechanism.subsets", "8"]
        fixed = ["--test_seed", "5", "--batch_tokens", "128", "--engine.check_steps", "2"]
        peft = ["--peft.r", "2", "--peft.target_modules", "[q_proj, v_proj]", "--peft.layers_to_transform", "[2]"]
        given = ["train", "--model", tiny_model_dir, *data, *short, *fixed, *peft, "--output_dir", output, *more]
        return [str(argument) for argument in given]

    return make


def test_a_restarted_attempt_does_not_meet_the_alarms_of_the_one_before(launcher: Launch) -> None:
    """`torchrun --max_restarts` starts all ranks again on the same store."""
    done = launcher("fail_once", 2, attempts=2)
    assert (done.status, done.results) == ([0, 0], [[1.0, 1.0, 1.0]] * 2), done.err


@pytest.fixture(scope="module")
def whole(
    launcher: Launch, arguments: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The files of a run of one process."""
    run = tmp_path_factory.mktemp("whole") / "run"
    done = launcher("command", 1, arguments=[arguments(run)], diverge=None)
    assert done.status == [0], done.err
    return left(run)


def errors(done: Any) -> list[str]:
    return [line for text in done.err for line in text.splitlines() if "error" in line.lower()]


def resumed(launcher: Launch, run: Path, size: int) -> dict[str, bytes]:
    """The files of the run after it resumed and finished."""
    done = launcher("command", size, arguments=[["train", "--resume", str(run)]], diverge=None)
    assert done.status == [0] * size, done.err
    assert done.out[0].startswith("Finished") and not any(done.out[1:])
    return left(run)


@pytest.mark.parametrize(
    ("size", "rank", "number", "agent", "after"),
    [
        (3, 1, signal.SIGKILL, True, 2),
        (2, 0, signal.SIGKILL, True, 1),
        (2, 0, signal.SIGKILL, False, None),
        (2, 1, signal.SIGSTOP, True, None),
    ],
)
def test_a_lost_rank_ends_the_others_and_the_run_goes_on(
    launcher: Launch,
    arguments: Callable[..., Any],
    whole: dict[str, bytes],
    tmp_path: Path,
    size: int,
    rank: int,
    number: int,
    agent: bool,
    after: int | None,
) -> None:
    run = tmp_path / "the run"
    done = launcher(
        "command",
        size,
        arguments=[arguments(run, "--max_steps", 12)],
        diverge=None,
        agent=agent,
        patch={
            "paczero.distributed.heartbeat:HEARTBEAT_TIMEOUT": 3.0,
            "paczero.distributed.heartbeat:RESPONSE_TIMEOUT": 2.0,
        },
        strike=[rank, int(number), str(run / "private" / "journal.jsonl"), 3],
    )
    assert done.status == [-signal.SIGKILL if r == rank else 1 for r in range(size)], done.err
    (line,) = errors(done)
    assert re.search(rf"error: processes: rank {rank} of {size} \(process \d+ on \S+\) was lost", line), line
    assert f"go on with: paczero train --resume '{run}'" in line
    assert not (run / "release").exists()
    assert after is None or resumed(launcher, run, after) == whole


def test_weights_that_differ_end_the_run(launcher: Launch, arguments: Callable[..., Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = launcher("command", 3, arguments=[arguments(run)], diverge=4)
    assert done.status == [1, 1, 1]
    (line,) = errors(done)
    assert "weights: after step 6 those of rank 1 differ from the others'" in line and "--resume" in line
    lines = (run / "private" / "journal.jsonl").read_bytes().splitlines()
    assert len(lines) == 1 + 6
    resumed(launcher, run, 2)
    assert (run / "private" / "journal.jsonl").read_bytes().splitlines()[:7] == lines


def test_each_refusal_is_reported_once(
    launcher: Launch, arguments: Callable[..., Any], make_tiny_csv: Callable[..., Path], tmp_path: Path
) -> None:
    run, used = tmp_path / "run", tmp_path / "used"
    used.mkdir()
    (used / "mine.txt").write_text("mine")
    other = arguments(run, "--data.train", make_tiny_csv(tmp_path / "other.csv", 48, seed=9), "--seed", 3)
    for given, message, code in (
        ([arguments(run, "--mechanism.subsets", 7)], "mechanism.subsets: 7 was given", 2),
        ([arguments(run, "--model", tmp_path / "nowhere")], "cannot be loaded", 2),
        ([arguments(used)], "exists and is not an empty directory", 2),
        ([arguments(run), other], "rank 1: another pool, another set of settings, another transcript header", 1),
        ([["eval", str(run)]], "eval: a launcher started it as 2 processes", 2),
        ([["train", "--resume", str(run)]], "holds no run", 2),
    ):
        done = launcher("command", 2, arguments=given, diverge=None)
        assert done.status == [code, code], (given, done.err)
        (line,) = errors(done)
        assert line.startswith("paczero: error: ") and message in line
        assert not any(done.out) and "Traceback" not in "".join(done.err)
    assert not run.exists()


def test_two_launchers_and_a_rank_that_is_killed(
    arguments: Callable[..., Any], whole: dict[str, bytes], launcher: Launch, tmp_path: Path
) -> None:
    """As on two machines: torchrun twice with one rendezvous; the run resumes under another launcher."""
    run = tmp_path / "run"
    ended, said = _two_launchers(arguments(run), tmp_path, kill=run / "private" / "journal.jsonl")
    assert all(code != 0 for code in ended)
    lines = [line for line in said.splitlines() if line.startswith("paczero: error")]
    assert len(lines) == 1 and "rank 1 of 2" in lines[0] and "--resume" in lines[0], said
    assert resumed(launcher, run, 2) == whole


def _two_launchers(arguments: list[str], place: Path, kill: Path) -> tuple[list[int], str]:
    """Exit codes, and all output; once the file `kill` has three lines, rank 1 is killed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1"]
    launch += ["--master_addr=127.0.0.1", f"--master_port={port}"]
    with open(place / "said", "w") as said:
        launchers = [
            subprocess.Popen([*launch, f"--node_rank={rank}", "-m", "paczero", *arguments], stdout=said, stderr=said)
            for rank in range(2)
        ]
        while not (kill.exists() and len(kill.read_bytes().splitlines()) >= 3):
            assert all(process.poll() is None for process in launchers), (place / "said").read_text()
            time.sleep(0.02)
        os.kill(_children(launchers[1].pid)[0], signal.SIGKILL)
        return [process.wait(timeout=90) for process in launchers], (place / "said").read_text()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
