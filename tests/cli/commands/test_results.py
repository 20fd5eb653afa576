"""`paczero results` on a real sweep of short runs of the tiny model."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml

from paczero.cli.main import main


@pytest.fixture(scope="session")
def swept_once(arguments, tmp_path_factory) -> Path:
    """Two cells with two seeds: one run of a sweep, the others like it. It lasts for the session: only read it."""
    root = tmp_path_factory.mktemp("swept")
    flags = arguments(root / "unused")[1:]
    named = dict(zip((flag.removeprefix("--") for flag in flags[::2]), flags[1::2], strict=True))
    sweep = {
        "model": named["model"],
        "data": {name: named[f"data.{name}"] for name in ("train", "dev", "test")},
        "output_dir": str(root / "out"),
        "steps": 6,
        "eval_steps": 3,
        "learning_rate": 0.05,
        "mechanism": {"subsets": 8},
        "peft": {"r": 2, "target_modules": ["q_proj", "v_proj"], "layers_to_transform": [2]},
        "cells": {"random": None},
    }
    (root / "sweep.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    assert main(["sweep", str(root / "sweep.yaml")]) == 0
    # The others run in this process, without drawing.
    without = ["--mechanism.name", "none"]
    for cell, seed, more in (("none", 0, without), ("none", 1, without), ("random", 1, [])):
        config, run = root / "out" / "random" / "seed-0.yaml", root / "out" / cell / f"seed-{seed}"
        given = ["train", "--config", config, "--seed", seed, "--output_dir", run, *more]
        assert main([str(argument) for argument in given]) == 0
    return root / "out"


@pytest.fixture
def swept(swept_once, tmp_path) -> Path:
    root = Path(shutil.copytree(swept_once, tmp_path / "swept"))
    (root / "bad").mkdir()
    shutil.copy(root / "random" / "seed-0.yaml", root / "bad")  # as a run that fails before its start leaves it
    return root


def test_a_sweep_becomes_tables_and_figures(paczero, swept):
    code, out, err = paczero("results", swept, "--command", "paczero sweep sweep.yaml")
    assert code == 0, err
    made = swept / "results"
    names = {"results.json", "results.md", "results.csv", "utility.png", "cells.png", "unanimity.png"}
    assert {path.name for path in made.iterdir()} == names
    document = json.loads((made / "results.json").read_text())
    summaries = {
        cell: [json.loads((swept / cell / f"seed-{seed}" / "summary.json").read_text()) for seed in (0, 1)]
        for cell in ("none", "random")
    }
    cells = {cell["cell"]: cell for cell in document["cells"]}
    assert list(cells) == ["none", "random"]
    for name, row in cells.items():
        assert row["values"] == [summary["accuracy_after"] for summary in summaries[name]]
        assert row["dev_values"] == [summary["dev_after"] for summary in summaries[name]]
    gaps = [
        a["accuracy_after"] - b["accuracy_after"] for a, b in zip(summaries["none"], summaries["random"], strict=True)
    ]
    assert (document["baseline"], document["private"], document["random"]) == ("none", "random", "random")
    assert document["gap_points"] == pytest.approx(100 * sum(gaps) / 2)
    low, high = document["gap_ci95"]
    assert low <= document["gap_points"] <= high
    assert document["commands"] == ["paczero sweep sweep.yaml", f"paczero results {swept}"]
    assert [Path(item["directory"]).relative_to(swept).as_posix() for item in document["left_out"]] == ["bad/seed-0"]
    assert "never began" in document["left_out"][0]["reason"]
    assert "none" in out and "to agree costs" in out and "left out: " in out and "**" not in out
    rows = list(csv.DictReader((made / "results.csv").read_text().splitlines()))
    assert [(row["cell"], row["seed"]) for row in rows] == [(cell, seed) for cell in cells for seed in "01"]
    assert float(rows[0]["test"]) == summaries["none"][0]["accuracy_after"]


def test_page_and_figures_come_from_the_json_alone(paczero, swept, tmp_path):
    assert paczero("results", swept)[0] == 0
    made, again = swept / "results", tmp_path / "again"
    shutil.copy(made / "results.json", tmp_path / "kept.json")
    shutil.rmtree(swept / "none")
    code, out, err = paczero("results", "--from", tmp_path / "kept.json", "--output", again)
    assert code == 0, err
    assert {path.name for path in again.iterdir()} == {path.name for path in made.iterdir()}
    assert all((again / path.name).read_bytes() == path.read_bytes() for path in made.iterdir())
    assert str(again) in out


def test_one_run_and_several_directories(paczero, swept, tmp_path, refusal):
    assert paczero("results", swept / "none" / "seed-0", "--output", tmp_path / "one")[0] == 0
    document = json.loads((tmp_path / "one" / "results.json").read_text())
    assert [(cell["cell"], cell["seeds"], cell["sd"]) for cell in document["cells"]] == [("none", [0], None)]
    assert document["gap_points"] is None and "cannot be said" in (tmp_path / "one" / "results.md").read_text()
    both = [swept / "none", swept / "random"]
    assert "--output: nothing was given with 2 directories" in refusal("results", *both)
    assert paczero("results", *both, "--output", tmp_path / "both")[0] == 0
    document = json.loads((tmp_path / "both" / "results.json").read_text())
    assert [cell["cell"] for cell in document["cells"]] == ["none", "random"] and document["gap_points"] is not None


def test_cells_may_be_named(paczero, swept, refusal):
    assert paczero("results", swept, "--baseline", "none", "--private", "random")[0] == 0
    document = json.loads((swept / "results" / "results.json").read_text())
    assert (document["baseline"], document["private"]) == ("none", "random")
    assert document["commands"][-1].endswith("--baseline none --private random")
    assert "--private: 'none' was given, which is the baseline" in refusal("results", swept, "--private", "none")
    assert "--private: 'no' was given; expected one of none, random" in refusal("results", swept, "--private", "no")


def test_what_cannot_be_is_refused_in_one_line(refusal, swept, tmp_path):
    assert "nothing was given" in refusal("results")
    assert "is no directory" in refusal("results", tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    assert "holds no run" in refusal("results", tmp_path / "empty")
    assert "none of its runs (1) can be compared" in refusal("results", swept / "bad")
    assert "cannot be read" in refusal("results", "--from", tmp_path / "missing.json")
    (tmp_path / "other.json").write_text("{}")
    assert "is no paczero-results/1" in refusal("results", "--from", tmp_path / "other.json")
    assert "--from: directories was given as well" in refusal("results", swept, "--from", tmp_path / "other.json")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal("results", swept, "--output", tmp_path / "file")
