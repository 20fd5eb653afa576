"""`paczero match`: a table for people, rows for programs."""

import json

import pytest

from paczero.cli.main import main
from paczero.mechanism import matching
from paczero.mechanism.registry import SPECS


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["match", "--success", "0.55", "--steps", "100", "--units", "500"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("N = 500 units, δ = 1e-06, T = 100 steps")
    rows = {line.split()[0]: line for line in lines[3 : 3 + len(SPECS)]}
    assert list(rows) == list(SPECS)
    assert "0.00500836" in rows["mi"] and "mi         --mechanism.budget 0.00500836" in lines
    assert "no bound" in rows["none"] and "who is in the pool" in rows["dp-sign"] and "ε₀ 0.04992" in rows["dp-sign"]


def test_lines_have_at_most_110_columns_and_state_every_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("calibrate", "calibrate_success", "epsilon_of", "success_of"):  # samples take half a minute
        monkeypatch.setattr(matching, name, lambda *_, **__: 0.123456789012)
    assert main(["match", "--success", "0.55", "--units", "4321", "--steps", "50", "--sampling", "0.0123456"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 110
    flags = {line.split()[0]: line.split()[1:] for line in lines if " --mechanism" in line}
    assert list(flags) == ["mi", "dpzero", "dp-aggzo", "dp-sign"]
    delta = ["--mechanism.delta", "5.35589e-08"]
    for name in ("dpzero", "dp-aggzo", "dp-sign"):
        assert flags[name][2:] == [*delta, "--mechanism.sampling_prob", "0.0123456"]


def test_noise_for_a_guess_alone_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["match", "--nats", "0.33", "--steps", "20"]) == 0
    assert "Attention: the noise of this p has ε = 13" in capsys.readouterr().out
    assert main(["match", "--epsilon", "2", "--steps", "20"]) == 0
    assert "Attention" not in capsys.readouterr().out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["match", "--nats", "0.33", "--steps", "20", "--directions", "4", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["mi"]["nats"] == 0.33 and rows["dp-aggzo"]["settings"]["directions"] == 4
    assert rows["dpzero"]["settings"]["directions"] == 1


def test_refusals_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for given in ([], ["--success", "0.4"], ["--nats", "0.1", "--epsilon", "1"], ["--success", "much"]):
        assert main(["match", *given]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1 and "expected" in message


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--epsilon", "2", "--delta", "1e-3"], ["δ = 0.001 is 1/N or more (N = 1,000 units)"]),
        (["--success", "0.996"], ["the noise of this p has", "this p lets a guess be right nearly always"]),
        (["--epsilon", "2", "--delta", "1e-6"], []),
    ],
)
def test_promises_that_promise_little_are_warned_of(
    capsys: pytest.CaptureFixture[str], asked: list[str], said: list[str]
) -> None:
    assert main(["match", *asked, "--units", "1000", "--steps", "20"]) == 0
    found = capsys.readouterr().out.split("Attention: ")[1:]
    assert len(found) == len(said) and all(map(str.startswith, found, said)), found
