"""Settings are chosen by the selection set of the first seed, never by a test set; distances are paired."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ..experiments.conftest import write_run

RIGHT = {"full-sign": [True] * 9 + [False], "dp-sign": [True] * 7 + [False] * 3}


def sweep(root: Path, units: int, seeds: tuple[int, ...] = (0, 1)) -> Path:
    """The worse cell on the selection set is the better one on the test set."""
    for name in RIGHT:
        cell = f"{name}-2" if name == "dp-sign" else name
        for rate, dev, right in ((0.01, 0.8, RIGHT[name]), (0.02, 0.7, [True] * 10)):
            for seed in seeds if dev == 0.8 else seeds[:1]:
                path = root / str(units) / f"{cell},T=20,lr={rate:g}" / f"seed-{seed}"
                write_run(path, name, right=right, dev=dev, seed=seed, rate=rate, units=units)
    return root / str(units)


def test_tables_figure_and_document(
    script: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    roots = [str(sweep(tmp_path, units)) for units in (100, 400)]
    line = {"units": 100, "epsilon": 2.0, "delta": 1e-6, "clip": 0.5, "batch_size": 50, "seconds": 1.0, "peak": 1}
    lines = [
        line | {"seed": seed, "epochs": epochs, "learning_rate": 0.1, "dev": dev, "test": test}
        for epochs, dev, test in ((10, 0.7, 0.6), (40, 0.6, 0.9))
        for seed in (0, 1)
    ]
    (tmp_path / "lines").write_text("\n".join(map(json.dumps, lines)))
    output = tmp_path / "page"
    monkeypatch.setattr(
        "sys.argv", ["pool_size.py", *roots, "--gradients", str(tmp_path / "lines"), "--output", str(output)]
    )
    script("pool_size").main()
    document = json.loads((output / "results.json").read_text())
    assert [(gap["units"], gap["epsilon"]) for gap in document["dp_gap"]] == [(100, 2.0), (400, 2.0)]
    for gap in document["dp_gap"]:
        assert gap["points"] == pytest.approx(20.0) and gap["ci95"][0] <= 20.0 <= gap["ci95"][1]
    rows = {(row["cell"], row["units"]): row for row in document["rows"]}
    assert rows["dp-sign-2", 100]["learning_rate"] == 0.01 and rows["dp-sign-2", 100]["tried"] == 2
    assert rows["dp-sign-2", 100]["test"] == [70.0, 70.0] and rows["full-sign", 400]["mean"] == 90.0
    assert rows["dp-sgd-2", 100]["mean"] == 60.0 and rows["dp-sgd-2", 100]["steps"] == 20
    assert "| `dp-sign`, ε = 2 | 70.0 ± 0.0 (+20.0 [" in (output / "tables.md").read_text()
    assert (output / "accuracy.png").read_bytes().startswith(b"\x89PNG")
