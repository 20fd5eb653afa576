"""Answers and conversations: a run that was killed, or that several processes share, leaves the same bytes as one."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..other_tasks import QUESTION, conversations, let_converse, questions, write_lines
from .remains import left

Launch = Callable[..., Any]
ANSWER = ["--task.kind", "answer", "--task.template", QUESTION, "--task.label_column", "answers"]
ANSWER += ["--task.max_new_tokens", "6", "--metric_for_best_model", "f1"]
# Each with another family of candidates, which is made of what the task says of every record at the base model.
CASES: dict[str, list[str]] = {
    "likelihood": [*ANSWER, "--mechanism.family", "balanced", "--mechanism.pilots", "2", "--mu", "1e-3"],
    "f1": [*ANSWER, "--task.objective", "f1", "--mechanism.family", "paired", "--mu", "0.1"],
    "chat": [
        "--task.kind",
        "chat",
        "--task.messages_column",
        "messages",
        "--metric_for_best_model",
        "loss",
        "--mechanism.name",
        "mi",
    ],
}
CASES["chat"] += ["--mechanism.budget", "0.4"]


@pytest.fixture(scope="module")
def model(make_tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return let_converse(make_tiny_model(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def data(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Pool and dev set of each case, as flags."""
    place, flags = tmp_path_factory.mktemp("data"), {}
    for name in CASES:
        rows = [conversations(*size) if name == "chat" else questions(*size) for size in ((40, 1), (12, 2))]
        if name == "f1":  # what it would say itself: its F1 begins at 1 and moves
            rows = [said_by(model, part) for part in rows]
        paths = [
            write_lines(place / f"{name}-{part}.jsonl", own) for part, own in zip(("pool", "dev"), rows, strict=True)
        ]
        flags[name] = ["--data.train", str(paths[0]), "--data.dev", str(paths[1])]
    return flags


def said_by(model: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same questions with what the model answers as their answers."""
    from paczero import PACZeroConfig, PACZeroTrainer, TaskConfig

    task = TaskConfig(kind="answer", template=QUESTION, label_column="answers", max_new_tokens=6)
    pool = [*rows, *questions(40, 3)]  # training needs a pool of some size
    said = PACZeroTrainer(str(model), PACZeroConfig(task=task, train_layers=[2]), pool).predict(rows)
    return [row | {"answers": [text or "lovely"]} for row, text in zip(rows, said, strict=True)]


@pytest.fixture
def arguments(model: Path, data: dict[str, list[str]], tmp_path: Path) -> Callable[[str, str], list[str]]:
    """The arguments of a run of eight steps: a case, and what its directory is called."""

    def make(case: str, name: str) -> list[str]:
        short = ["--max_steps", "8", "--eval_steps", "4", "--learning_rate", "0.05", "--mechanism.subsets", "8"]
        fixed = ["--test_seed", "5", "--batch_tokens", "128", "--engine.check_steps", "2"]
        peft = ["--peft.r", "2", "--peft.target_modules", "[q_proj, v_proj]", "--peft.layers_to_transform", "[2]"]
        place = ["--output_dir", str(tmp_path / name)]
        return ["train", "--model", str(model), *data[case], *CASES[case], *short, *fixed, *peft, *place]

    return make


@pytest.mark.parametrize("case", CASES)
def test_killed_or_shared_it_leaves_the_same(
    launcher: Launch, arguments: Callable[[str, str], list[str]], tmp_path: Path, case: str
) -> None:
    def trained(name: str, size: int) -> dict[str, bytes]:
        done = launcher("command", size, arguments=[arguments(case, name)], diverge=None)
        assert done.status == [0] * size, done.err
        return left(tmp_path / name)

    whole = trained("whole", 1)
    assert measured(tmp_path / "whole"), "the records have a say in what is released"
    assert trained("shared", 3) == whole
    run = tmp_path / "killed"
    strike = [0, int(signal.SIGKILL), str(run / "private" / "journal.jsonl"), 4]
    done = launcher("command", 1, arguments=[arguments(case, run.name)], diverge=None, strike=strike)
    assert done.status == [-signal.SIGKILL] and not (run / "release").exists()
    done = launcher("command", 1, arguments=[["train", "--resume", str(run)]], diverge=None)
    assert done.status == [0], done.err
    assert left(run) == whole


def measured(run: Path) -> bool:
    """Whether the pool's loss moved from step to step."""
    rows = [json.loads(line) for line in (run / "private" / "diagnostics.jsonl").read_text().splitlines()]
    return len({row["loss"] for row in rows if row["kind"] == "step"}) > 1
