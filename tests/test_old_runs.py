"""Run directories of paczero 0.1: they are not resumed, but their releases replay and verify.

`tests/fixtures/before-restructure` holds two runs of the same settings: one finished, one stopped after five of its
twelve steps.
"""

import json
import shutil
from pathlib import Path

import pytest

from paczero.cli.main import main

FIXTURE = Path(__file__).parent / "fixtures" / "before-restructure"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy as working directory, since the runs' settings name model and pool by relative paths."""
    place = Path(shutil.copytree(FIXTURE, tmp_path / "old"))
    for private in place.glob("*/private"):  # a checkout does not keep these modes
        private.chmod(0o700)
        for path in private.iterdir():
            path.chmod(0o600)
    monkeypatch.chdir(place)
    return place


def test_a_stopped_run_is_refused_in_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in (place / "stopped").rglob("*") if path.is_file()}
    assert main(["train", "--resume", "stopped"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "paczero 0.1 wrote it" in lines[0]
    assert all(path.read_bytes() == content for path, content in before.items()), "nothing of the run was touched"


def test_a_finished_run_replays_to_the_same_bits(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "finished", "--verify"]) == 0, capsys.readouterr().err
    summary = json.loads((place / "finished/summary.json").read_text())
    assert main(["eval", "finished", "--data", "dev.csv"]) == 0
    assert f"{100 * summary['dev_accuracy_after']:.1f} %" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["release-zpl-lora", "release-mi-full"])
def test_a_release_verifies(place: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", name, "--model", "model"]) == 0, capsys.readouterr().err
