"""Releases of real runs of the tiny model and of version 1, and ways to change them."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paczero.errors import IntegrityError
from paczero.mechanism.transcript import Transcript
from paczero.release import statement
from paczero.release.verify.release import verify_release
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
        folder = tmp_path / "release"
        shutil.rmtree(folder, ignore_errors=True)
        return Path(shutil.copytree(releases[name], folder))

    return copy


WEIGHTS = "adapter/adapter_model.safetensors"

VERSION_1 = Path(__file__).parent / "fixtures" / "before-restructure"


@pytest.fixture
def old_release(tmp_path: Path) -> Callable[[str], Path]:
    """`old_release(name)` is a copy of a release of version 1."""
    return lambda name: Path(shutil.copytree(VERSION_1 / name, tmp_path / "release"))


def rehash(folder: Path, **changes: Any) -> None:
    """Writes the hashes of all files and other values into the statement, and its own hash."""
    document = json.loads((folder / statement.NAME).read_bytes()) | changes
    document["files"] = {name: statement.file_hash(folder / name) for name in statement.released_files(folder)}
    (folder / statement.NAME).write_bytes(statement.render(statement.seal(document)))


def reseal(folder: Path, **changes: Any) -> None:
    """Makes hashes and statement again from the header, as a skilled forger does."""
    transcript = Transcript.read(folder / "transcript.jsonl")
    old = json.loads((folder / statement.NAME).read_bytes())
    files = {name: statement.file_hash(folder / name) for name in statement.released_files(folder)}
    made = statement.statement(
        transcript.header,
        chosen_step=min(old["chosen_step"], len(transcript.y)),
        weights_sha256=old["weights_sha256"],
        files=files,
        steps_run=len(transcript.y),
        steps_sha256=transcript.chain(),
        license=old.get("license"),
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


def refused(folder: Path) -> str:
    """The one line in which `verify_release` refuses a release."""
    with pytest.raises(IntegrityError) as caught:
        verify_release(folder)
    text = str(caught.value)
    assert text and "\n" not in text and len(text) < 700
    return text


def changed(value: Any) -> list[Any]:
    """Other values that one could take for this one, and some that one could not."""
    return [other for other in _changed(value) if json.dumps(other) != json.dumps(value)]


def _changed(value: Any) -> list[Any]:
    if isinstance(value, bool) or value is None:
        return [not value, 1, "x"]
    if isinstance(value, int):
        return [value + 1, value - 1, -value or 7, float(value), 10**30, "1"]
    if isinstance(value, float):
        return [value / 2, value + 0.25, -1.0, str(value), 0]
    if isinstance(value, str):
        return [value + "x", "", value.upper() if value.upper() != value else "other", 3]
    if isinstance(value, list):
        return [value[:-1], [*value, *value[-1:]], list(reversed(value)) if len(value) > 1 else [None], {}]
    return [{}, None, [], value | {"more": 1}]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values within a document."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from leaves(inner, (*path, key))


def put(document: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


def get(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document
