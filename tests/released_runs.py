"""Releases of real runs of the tiny model, and ways to change them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paczero.mechanism.transcript import Transcript
from paczero.release import statement
from paczero.utils.io import canonical

RUNS: dict[str, dict[str, Any]] = {
    "zpl": {"mechanism": {"family": "balanced", "pilots": 2}, "metric_for_best_model": "loss", "threshold": "median"},
    "mi": {"mechanism": {"name": "mi", "budget": 0.3}, "directions": 2, "ema_decay": 0.5},
    "none": {"mechanism": {"name": "none"}, "dev": None, "learning_rate": 1e-3},
    "dp-sign": {"mechanism": {"name": "dp-sign", "epsilon": 2.0}},
    "full": {"peft": None, "train_layers": [2], "restore": "arithmetic"},
}


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory, make_trainer: Callable[..., Any]) -> dict[str, Path]:
    """One finished run's release of each kind, with the operating system's coins; copy them."""
    root = tmp_path_factory.mktemp("releases")
    for name, settings in RUNS.items():
        make_trainer(root / name, test_seed=None, **settings).train()
    return {name: root / name / "release" for name in RUNS}


@pytest.fixture
def release(releases: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """`release(name)` is a copy, the test's own; each call gives a fresh one."""

    def copy(name: str = "zpl") -> Path:
        place = tmp_path / "release"
        shutil.rmtree(place, ignore_errors=True)
        return Path(shutil.copytree(releases[name], place))

    return copy


def reseal(folder: Path, **changes: Any) -> None:
    """Hashes and statement made again, as a forger would who knows how."""
    transcript = Transcript.read(folder / "transcript.jsonl")
    old = json.loads((folder / statement.NAME).read_bytes())
    files = {name: statement.file_hash(folder / name) for name in statement.released_files(folder)}
    made = statement.statement(
        transcript.header,
        chosen_step=min(old["chosen_step"], len(transcript.y)),
        weights_sha256=old["weights_sha256"],
        files=files,
        steps_run=len(transcript.y),
        threshold=old["threshold"],
        development=old["development"],
        version=old["wording"],
    )
    (folder / statement.NAME).write_bytes(statement.render(statement.seal(made | changes)))


def edit_header(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the transcript's first line and leaves the steps."""
    path = folder / "transcript.jsonl"
    first, _, rest = path.read_bytes().partition(b"\n")
    header = json.loads(first)
    change(header)
    path.write_bytes(canonical(header) + b"\n" + rest)


def edit_lines(folder: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Changes the transcript's lines, the header first."""
    path = folder / "transcript.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in change(path.read_bytes().split(b"\n")[:-1])))
