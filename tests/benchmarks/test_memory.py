"""Peaks of memory are those of a process that trains as users do, and of one that infers as they do."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize("case", ["lora-last2", "full"])
def test_training_says_its_peaks(
    script: Callable, texts: list, tiny_model_dir: Path, tmp_path: Path, case: str
) -> None:
    pool = tmp_path / "pool.csv"
    with open(pool, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *texts[:40]])
    found = script("memory").train(case, pool, str(tiny_model_dir), tmp_path, steps=2)
    assert 0 < found["peak"] <= found["peak_end"] and 0 < found["loaded"] <= found["peak_end"]
    assert (tmp_path / "run" / "release" / "privacy.json").is_file()


def test_inference_says_its_peaks(
    script: Callable,
    tiny_model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    sequences = tmp_path / "sequences.json"
    sequences.write_text("[[5, 6, 7], [5, 6]]")
    monkeypatch.setattr(sys, "argv", ["plain.py", str(sequences), "--model", str(tiny_model_dir)])
    script("plain").main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 < found["loaded"] <= found["peak"] and found["peak_loading"] <= found["peak"]


def test_a_process_that_fails_is_told(script: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"plain.py ended with 2: .*--model"):
        script("memory")._told("plain.py", "nothing.json")
