"""What befalls a run from outside, through the command line: each ends in one line, loses nothing, goes on or refuses.

Kills, full disks and files that were changed have files of their own beside this one.
"""

import fcntl
import itertools
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paczero.cli.console import ProgressCallback
from paczero.engine.scorer import Scorer
from paczero.errors import PACZeroError
from paczero.optim.derivatives import Objective
from paczero.run_directory import RunDirectory

from .remains import left

Command = Callable[..., tuple[int, str, str]]
Refusal = Callable[..., str]
Arguments = Callable[..., list[str]]
MI = ("--mechanism.name", "mi", "--mechanism.budget", "0.4", "--cache_bytes", "0", "--batch_tokens", "256")


@pytest.fixture(scope="module")
def begin(arguments: Arguments) -> Arguments:
    """The arguments of a run of six steps with a budget, whose hidden states are in a file."""
    return lambda run, *more: arguments(run, *MI, *more)


@pytest.fixture(scope="module")
def whole(begin: Arguments, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What such a run leaves when nothing befalls it."""
    from paczero.cli.main import main

    run = tmp_path_factory.mktemp("whole") / "run"
    assert main(begin(run)) == 0
    return left(run)


def after(monkeypatch: pytest.MonkeyPatch, step: int, what: Callable[[], object]) -> None:
    """Something happens after that step, the first time that it is measured."""
    seen = ProgressCallback.on_step

    def on_step(self: ProgressCallback, event: Any) -> None:
        seen(self, event)
        if event.index == step and event.loss is not None:
            what()

    monkeypatch.setattr(ProgressCallback, "on_step", on_step)


def stop() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def stopped(refusal: Refusal, begin: Arguments, tmp_path: Path) -> Path:
    """A run of which three steps are done."""
    with pytest.MonkeyPatch.context() as patch:
        after(patch, 2, stop)
        refusal(*begin(tmp_path / "run"), code=130)
    return tmp_path / "run"


def remove(cache: Path) -> None:
    shutil.rmtree(cache)


def empty(cache: Path) -> None:
    for path in cache.iterdir():
        path.write_bytes(b"")


def shorten(cache: Path) -> None:
    for path in cache.iterdir():
        os.truncate(path, path.stat().st_size - 1)


def forget(cache: Path) -> None:
    for path in cache.glob("*.json"):
        path.unlink()


@pytest.mark.parametrize("harm", [remove, empty, shorten, forget])
def test_a_lost_cache_is_made_again(
    paczero: Command, stopped: Path, whole: dict[str, bytes], harm: Callable[[Path], None]
) -> None:
    assert any((stopped / "private" / "cache").iterdir())
    harm(stopped / "private" / "cache")
    assert paczero("train", "--resume", stopped)[0] == 0
    assert left(stopped) == whole


def test_a_cache_that_is_lost_while_it_is_used(
    paczero: Command, begin: Arguments, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mapping outlives the name."""
    after(monkeypatch, 1, lambda: shutil.rmtree(tmp_path / "run" / "private" / "cache"))
    assert paczero(*begin(tmp_path / "run"))[0] == 0
    assert left(tmp_path / "run") == whole


def test_nothing_depends_on_a_clock(
    paczero: Command, begin: Arguments, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them go back an hour at each look, from long ago."""
    hours = itertools.count(1)
    for name in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(time, name, lambda: 1000.0 - 3600.0 * next(hours))
    after(monkeypatch, 2, stop)
    assert paczero(*begin(tmp_path / "run"))[0] == 130
    monkeypatch.setattr(ProgressCallback, "on_step", lambda self, event: None)
    code, _, err = paczero("train", "--resume", tmp_path / "run")
    assert code == 0, err
    assert left(tmp_path / "run") == whole


MEMORY = [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError()]
MEMORY += [RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")]


@pytest.mark.parametrize("error", MEMORY)
def test_no_memory_in_a_pass_proposes_and_takes_nothing(
    paczero: Command,
    refusal: Refusal,
    begin: Arguments,
    whole: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    run, scores = tmp_path / "run", Scorer.scores

    def failing(self: Scorer, wanted: np.ndarray | None = None, **more: Any) -> np.ndarray:
        journal = run / "private" / "journal.jsonl"
        if journal.exists() and journal.read_bytes().count(b"\n") > 3:
            raise error
        return scores(self, wanted, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "scores", failing)
        line = refusal(*begin(run))
    assert f"go on where there is more: paczero train --resume {run}; or begin again with --batch_tokens 128" in line
    assert "--batch_tokens: given with --resume" in refusal("train", "--resume", run, "--batch_tokens", "128")
    assert paczero("train", "--resume", run)[0] == 0
    assert left(run) == whole


@pytest.fixture
def overflowing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """From the third step on one of the pool's losses is infinite on one side, or none is a number; how many."""
    measure = Objective.derivatives

    def derivatives(self: Objective, weights: Any, step: int, *more: Any) -> Any:
        losses = self.losses
        calls = itertools.count()

        def broken(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
            found = losses(scores, targets).copy()
            if request.param == "all":
                found[:] = np.nan
            elif next(calls) % 2:
                found[5] = np.inf
            return found

        if step < 2:
            return measure(self, weights, step, *more)
        self.losses = broken
        try:
            return measure(self, weights, step, *more)
        finally:
            self.losses = losses

    monkeypatch.setattr(Objective, "derivatives", derivatives)
    yield 1 if request.param == "one" else 48


def given(mechanism: str) -> tuple[str, ...]:
    return MI[:4] if mechanism == "mi" else ("--mechanism.name", mechanism)


@pytest.mark.parametrize(
    ("overflowing", "mechanism"),
    [("one", "mi"), ("one", "zpl"), ("all", "coin"), ("one", "none")],
    indirect=["overflowing"],
)
def test_losses_that_are_not_finite_are_said_and_the_run_ends(
    paczero: Command, arguments: Arguments, tmp_path: Path, overflowing: int, mechanism: str
) -> None:
    """They count as 0, which is as public as ever; the run that was stopped amid them ends like the other."""
    code, _, err = paczero(*arguments(tmp_path / "whole", *given(mechanism)))
    assert code == 0, err
    said = [line for line in err.splitlines() if "not finite" in line]
    assert said == [line for line in said if line.startswith(f"step 3: {overflowing} derivatives were not finite")]
    assert len(said) == 1 and "no record's loss changed" not in err and "Traceback" not in err
    with pytest.MonkeyPatch.context() as patch:
        after(patch, 3, stop)
        assert paczero(*arguments(tmp_path / "run", *given(mechanism)))[0] == 130
    assert paczero("train", "--resume", tmp_path / "run")[0] == 0
    assert left(tmp_path / "run") == left(tmp_path / "whole")
    assert paczero("verify", tmp_path / "run" / "release")[0] == 0


def test_a_second_training_is_refused_in_a_line(
    paczero: Command, refusal: Refusal, begin: Arguments, stopped: Path, whole: dict[str, bytes]
) -> None:
    with open(stopped / "private" / "lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as the process that trains
        assert "in use by another process; wait for it or stop it" in refusal("train", "--resume", stopped)
        assert "exists and is not an empty directory" in refusal(*begin(stopped))
    assert paczero("train", "--resume", stopped)[0] == 0
    assert left(stopped) == whole


def test_of_those_that_begin_at_once_one_wins(tmp_path: Path) -> None:
    """Eight processes, ten times; the winner's files are there, whole, and nothing beside them."""
    for attempt in range(10):
        run = RunDirectory(tmp_path / f"run {attempt}")
        ready, go = os.pipe()
        children = [_creating(run, ready, go, mark) for mark in range(8)]
        os.close(ready)
        os.close(go)  # all wait for this
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        assert sorted(codes) == [0] + [2] * 7
        assert run.config.read_text() == str(codes.index(0))
        assert run.secret.read_text() == str(codes.index(0))
    assert {path.name for path in tmp_path.iterdir()} == {f"run {attempt}" for attempt in range(10)}


def _creating(run: RunDirectory, ready: int, go: int, mark: int) -> int:
    """A child that makes the run: 0, or 2 where it was refused."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.close(go)
        os.read(ready, 1)

        def populate(staged: RunDirectory) -> None:
            staged.config.write_text(str(mark))
            staged.secret.write_text(str(mark))

        try:
            run.create(populate)
            code = 0
        except PACZeroError as error:
            code = 2 if "\n" not in str(error) else 3
    finally:
        os._exit(code)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_release_is_made(
    paczero: Command,
    refusal: Refusal,
    begin: Arguments,
    whole: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    run, rename = tmp_path / "run", os.rename

    def signalled(source: Any, target: Any) -> None:
        if Path(target) == run / "release":
            os.kill(os.getpid(), number)
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", signalled)
        line = refusal(*begin(run), code=130)
    assert line == f"stopped after 6 steps; go on with: paczero train --resume {run}"
    assert not (run / "release").exists()
    assert paczero("train", "--resume", run)[0] == 0
    assert left(run) == whole
