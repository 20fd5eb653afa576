"""Resuming takes a run up where it was, or refuses in one line and leaves everything as it is."""

import fcntl
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paczero.errors import IntegrityError, PACZeroError

from ..interruptions import Stop, StopAt

MakeTrainer = Callable[..., Any]


MI = {"name": "mi", "budget": 0.5}


@pytest.fixture(scope="module")
def interrupted(make_trainer: MakeTrainer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which four of six steps are done; copy it."""
    run = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.raises(Stop):
        make_trainer(run, mechanism=MI, observers=[StopAt(3)]).train()
    return run


@pytest.fixture
def run(interrupted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(interrupted, tmp_path / "run"))


def released(run: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(run)): path.read_bytes() for path in (run / "release").rglob("*") if path.is_file()}
    return found | {"journal": (run / "private" / "journal.jsonl").read_bytes()}


@pytest.fixture(scope="module")
def whole(make_trainer: MakeTrainer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    run = tmp_path_factory.mktemp("whole") / "run"
    make_trainer(run, mechanism=MI).train()
    return released(run)


def test_a_new_process_goes_on(make_trainer: MakeTrainer, run: Path, whole: dict[str, bytes]) -> None:
    result = make_trainer(run, mechanism=MI).train(resume_from_checkpoint=True)
    assert released(run) == whole
    assert (result.steps, [row.done for row in result.dev]) == (6, [0, 2, 4, 6])


def test_the_same_trainer_goes_on(make_trainer: MakeTrainer, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """As in a notebook: its weights have moved, but the journal counts from the start."""
    trainer = make_trainer(tmp_path / "run", mechanism=MI, observers=[StopAt(2)])
    with pytest.raises(Stop):
        trainer.train()
    trainer.observers = []
    trainer.train(resume_from_checkpoint=True)
    assert released(tmp_path / "run") == whole


@pytest.mark.parametrize(
    "lost", ["journal.jsonl transcript.jsonl diagnostics.jsonl candidates.npz", "diagnostics.jsonl"]
)
def test_what_can_be_made_again(make_trainer: MakeTrainer, run: Path, whole: dict[str, bytes], lost: str) -> None:
    """Killed before the first step; and the diagnostics, which nothing depends on."""
    for name in lost.split():
        (run / "private" / name).unlink()
    make_trainer(run, mechanism=MI).train(resume_from_checkpoint=True)
    assert released(run) == whole


def edit_line(number: int, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        lines = path.read_bytes().splitlines()
        content = json.loads(lines[number])
        change(content)
        lines[number] = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
        path.write_bytes(b"\n".join(lines) + b"\n")

    return edit


def drop_line(number: int) -> Callable[[Path], None]:
    def drop(path: Path) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        del lines[number]
        path.write_bytes(b"".join(lines))

    return drop


def other_candidates(path: Path) -> None:
    with np.load(path) as stored:
        packed, subsets = stored["packed"], stored["subsets"]
    np.savez(path, packed=packed[::-1], subsets=subsets)


DAMAGE: list[tuple[str, Callable[[Path], Any], str]] = [
    ("journal.jsonl", edit_line(2, lambda line: line.update(y=[-line["y"][0]])), "line 3: it was changed"),
    ("journal.jsonl", edit_line(2, lambda line: line.update(nonfinite=1)), "line 3: it was changed"),
    ("journal.jsonl", edit_line(0, lambda line: line["header"].update(pool="00")), "line 1: it was changed"),
    ("journal.jsonl", drop_line(0), "journal"),
    ("journal.jsonl", drop_line(2), "line 3: it was changed, or a line before it is missing"),
    ("journal.jsonl", drop_line(4), "not what the journal"),
    ("journal.jsonl", lambda path: path.write_bytes(path.read_bytes() + b"{}\n"), "line 6"),
    ("journal.jsonl", lambda path: path.write_bytes(b""), "its header is missing"),
    ("journal.jsonl", Path.unlink, "not what the journal"),
    (
        "transcript.jsonl",
        lambda path: path.write_bytes(path.read_bytes() + b'{"t":4,"y":[1]}\n'),
        "not what the journal",
    ),
    (
        "transcript.jsonl",
        edit_line(2, lambda line: line.update(y=[-line["y"][0]])),
        "not what the journal",
    ),
    ("transcript.jsonl", edit_line(0, lambda line: line.update(seed=1)), "not what the journal"),
    ("transcript.jsonl", drop_line(2), "not what the journal"),
    ("candidates.npz", other_candidates, "differs in candidates"),
    ("candidates.npz", lambda path: path.write_bytes(path.read_bytes()[:100]), "candidates: .* cannot be read"),
    ("secret.json", Path.unlink, "secret: .* cannot be read"),
    ("secret.json", lambda path: path.chmod(0o644), "others may read it"),
    ("secret.json", edit_line(0, lambda line: line.update(subsets=16)), "drawn from 16 candidates"),
]


def contents(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGE)
def test_what_was_changed_is_refused(
    make_trainer: MakeTrainer, run: Path, name: str, damage: Callable[[Path], Any], message: str
) -> None:
    damage(run / "private" / name)
    before = contents(run)
    with pytest.raises(PACZeroError, match=message) as error:
        make_trainer(run, mechanism=MI).train(resume_from_checkpoint=True)
    assert "\n" not in str(error.value)
    assert not (run / "release").exists()
    assert before.items() <= contents(run).items()


def test_a_half_line_is_cut(make_trainer: MakeTrainer, run: Path, whole: dict[str, bytes]) -> None:
    for name in ("journal.jsonl", "transcript.jsonl", "diagnostics.jsonl"):
        path = run / "private" / name
        path.write_bytes(path.read_bytes() + path.read_bytes().splitlines()[-1][:-3])
    make_trainer(run, mechanism=MI).train(resume_from_checkpoint=True)
    assert released(run) == whole


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"learning_rate": 0.04}, "differs in settings, transcript"),
        ({"mechanism": {"name": "mi", "budget": 0.6}}, "differs in settings, transcript"),
        ({"mechanism": {"name": "mi", "budget": 0.5, "allocation": "uniform"}}, "differs in settings, transcript"),
        ({"mechanism": {"name": "zpl"}}, "differs in settings, transcript"),
        ({"test_seed": 8}, "differs in settings, transcript"),
        ({"seed": 1}, "differs in .*settings, transcript"),
        ({"eval_steps": 3}, "differs in settings"),
        ({"batch_tokens": 128}, "differs in settings"),
        ({"peft": {"r": 3, "target_modules": ["q_proj"], "layers_to_transform": [2]}}, "differs in transcript"),
        ({"peft": None, "train_layers": [2]}, "differs in settings, transcript"),
        ({"dev": None}, "differs in dev"),
    ],
)
def test_other_settings_are_refused(make_trainer: MakeTrainer, run: Path, changed: Any, message: str) -> None:
    with pytest.raises(IntegrityError, match=f"belongs to another run, which {message}"):
        make_trainer(run, **({"mechanism": MI} | changed)).train(resume_from_checkpoint=True)


def test_another_pool_dev_set_or_base(
    make_trainer: MakeTrainer,
    make_tiny_csv: Callable[..., Path],
    make_tiny_model: Callable[..., Path],
    tiny_pool_csv: Path,
    run: Path,
    tmp_path: Path,
) -> None:
    pool = tmp_path / "pool.csv"
    pool.write_text(tiny_pool_csv.read_text().replace("lovely", "superb", 1))
    others: list[tuple[dict[str, Any], str]] = [
        ({"pool": pool}, "differs in pool"),
        ({"dev": make_tiny_csv(tmp_path / "dev.csv", 20, seed=9)}, "differs in dev"),
        ({"model": str(make_tiny_model(tmp_path / "model", seed=9))}, "differs in base, transcript"),
    ]
    for changed, message in others:
        with pytest.raises(IntegrityError, match=message):
            make_trainer(run, mechanism=MI, **changed).train(resume_from_checkpoint=True)


def test_one_process_takes_the_number_of_threads_that_the_run_began_with(
    make_trainer: MakeTrainer, run: Path, whole: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(run, mechanism=MI)
    torch.set_num_threads(2)
    try:
        trainer.train(resume_from_checkpoint=True)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)
    assert "1 thread, as this run began with" in caplog.text
    assert released(run) == whole


def test_what_watches_a_run_may_change(make_trainer: MakeTrainer, run: Path, whole: dict[str, bytes]) -> None:
    moved = run.rename(run.with_name("elsewhere"))
    trainer = make_trainer(moved, mechanism=MI, cache_bytes=0, report_to=["tensorboard"], device="cpu")
    trainer.train(resume_from_checkpoint=True)
    assert released(moved) == whole


def test_one_training_at_a_time(make_trainer: MakeTrainer, run: Path) -> None:
    with open(run / "private" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(PACZeroError, match="is in use by another process"):
            make_trainer(run, mechanism=MI).train(resume_from_checkpoint=True)
    make_trainer(run, mechanism=MI).train(resume_from_checkpoint=True)
    with pytest.raises(PACZeroError, match="holds a finished run"):
        make_trainer(run, mechanism=MI).train(resume_from_checkpoint=True)
    with pytest.raises(PACZeroError, match="exists and is not an empty directory"):
        make_trainer(run, mechanism=MI).train()


def test_nothing_to_go_on_with(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(PACZeroError, match="holds no run"):
            make_trainer(place).train(resume_from_checkpoint=True)
