"""`paczero match`: a table for people, rows for programs."""

import json

import pytest

from paczero.cli.main import main
from paczero.mechanism.registry import SPECS


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["match", "--success", "0.55", "--steps", "100", "--units", "500"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("N = 500 units, δ = 4e-06, T = 100 steps")
    rows = {line.split()[0]: line for line in lines[3 : 3 + len(SPECS)]}
    assert list(rows) == list(SPECS)
    assert "0.00500836" in rows["mi"] and "--mechanism.budget 0.00500836" in rows["mi"]
    assert "no bound" in rows["none"] and "who is in the pool" in rows["dp-sign"] and "0.2006" in rows["dp-sign"]
    assert max(map(len, lines)) <= 130


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["match", "--nats", "0.33", "--steps", "20", "--directions", "4", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["mi"]["nats"] == 0.33 and rows["dp-aggzo"]["settings"]["directions"] == 4
    assert rows["dpzero"]["settings"]["directions"] == 1


def test_refusals_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for given in ([], ["--success", "0.4"], ["--nats", "0.1", "--epsilon", "1"], ["--success", "much"]):
        assert main(["match", *given]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "expected" in said
