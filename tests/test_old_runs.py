"""Run directories from before records were packed: they still resume, replay and score.

`tests/fixtures/before-packing` holds a model, a pool, and two runs of the same settings that version 0.1.0 wrote at a
time when records were padded and adapters ran beside their weights: one finished, one killed after five of its twelve
steps.
"""

import json
import shutil
from pathlib import Path

import pytest

from paczero.cli.main import main

FIXTURE = Path(__file__).parent / "fixtures" / "before-packing"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy in which one stands, since their settings name model and pool by relative paths."""
    place = Path(shutil.copytree(FIXTURE, tmp_path / "old"))
    for private in place.glob("*/private"):  # a checkout does not keep these modes
        private.chmod(0o700)
        for path in private.iterdir():
            path.chmod(0o600)
    monkeypatch.chdir(place)
    return place


def released(run: Path) -> list[str]:
    return (run / "release" / "transcript.jsonl").read_text().splitlines()


def test_a_stopped_one_goes_on(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun = (there / "stopped/private/transcript.jsonl").read_text().splitlines()
    assert len(begun) == 6, "a header and five steps"
    assert main(["train", "--resume", "stopped"]) == 0, capsys.readouterr().err
    lines = released(there / "stopped")
    assert lines[:6] == begun
    # Test coins, so the releases are those of the run that was never stopped, unless rounding turned a sign over.
    old = released(there / "finished")
    assert len(lines) == len(old) and sum(a == b for a, b in zip(lines, old, strict=True)) >= 11
    assert main(["replay", "stopped", "--verify"]) == 0


def test_a_finished_one_replays_to_the_same_bits(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "finished", "--verify"]) == 0, capsys.readouterr().err
    summary = json.loads((there / "finished/summary.json").read_text())
    assert main(["eval", "finished", "--data", "dev.csv"]) == 0
    assert f"{100 * summary['dev_accuracy_after']:.1f} %" in capsys.readouterr().out


def test_one_process_takes_as_many_threads_as_the_run_began_with(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    torch.set_num_threads(2)
    try:
        assert main(["train", "--resume", "stopped"]) == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)
    assert "1 thread, as this run began with" in capsys.readouterr().err


def test_another_pool_is_refused_before_anything_is_computed(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = there / "pool.csv"
    pool.write_text(pool.read_text().replace("film", "movie", 1))
    assert main(["train", "--resume", "stopped"]) == 1
    said = capsys.readouterr().err
    assert "pool" in said and "hidden states" not in said
    assert not list((there / "stopped/private").glob("cache/*"))
