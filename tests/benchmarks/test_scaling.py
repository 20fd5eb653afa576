"""Scaling runs each point in a process of its own; exponents, tables and the mechanism's targets are what they say."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


def test_a_point_takes_real_steps(script: Callable) -> None:
    scaling = script("scaling")
    row = scaling.run(scaling.Point(records=40, subsets=8, length=3, vocabulary=120, steps=2), threads=1)
    assert 0 < row["release"] < row["step"]
    assert row["trained"] > 120 * 64 and row["bytes"] >= 0


def test_points_are_fresh_processes(script: Callable, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    scaling = script("scaling")
    measured = scaling.measure(["candidates"], quick=True, threads=1)
    assert measured["candidates"]["values"] == [2, 8, 32]
    assert len({row["bytes"] for row in measured["candidates"]["rows"]}) > 1
    assert json.loads(json.dumps(measured)) == measured
    text = scaling.tables(measured)
    assert text.count("\n| ") == 5 and "records 2,000" in text
    scaling.plot(measured, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "step" in capsys.readouterr().out


def test_exponents(script: Callable) -> None:
    values = [1, 10, 100, 1_000, 10_000, 100_000]
    exponent = script("scaling").exponent
    assert exponent(values, [3 * value for value in values]) == pytest.approx(1)
    assert exponent(values, [40 + 3 * value for value in values]) == pytest.approx(1)
    assert exponent(values, [5.0] * 6) == pytest.approx(0, abs=1e-12)
    assert exponent(values, [5.0, 4.9, 5.2, 5.0, 4.9, 5.1]) == pytest.approx(0, abs=0.01)
    assert exponent(values, [100 + value**2 for value in values]) == pytest.approx(2, abs=1e-2)


def test_targets_of_the_mechanism(script: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    mechanism = script("mechanism")
    small = mechanism.whole_life(50, 4)
    assert small["seconds"] > 0 and small["bytes"] > 2**20
    met, missed = mechanism.against((mechanism.Target(40, 4), mechanism.Target(40, 4, bytes=1)))
    assert met["met"] and not missed["met"] and missed["at_most"] == {"bytes": 1}
    assert [(t.units, t.subsets, t.seconds) for t in mechanism.TARGETS if np.isfinite(t.seconds)] == [
        (10_000, 128, 0.020),
        (1_000_000, 128, 2.0),
    ]
