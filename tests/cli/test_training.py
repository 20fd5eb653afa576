"""A run that draws its records: what it is told, that it resumes with the same ones, and what it writes of its test."""

import csv
import json
from dataclasses import replace

import pytest

from paczero.cli.parser import settings_parser
from paczero.config_io import build_settings, load_settings
from paczero.data.splits import read_splits
from paczero.report.summary import write_decisions
from paczero.run_directory import RunDirectory

SIZES = ["--data.train_records", "40", "--data.dev_records", "8", "--data.test_records", "12"]


@pytest.fixture
def drawing(arguments, tmp_path, make_tiny_csv):
    """Arguments of a run that draws pool and dev set from one file."""
    source = make_tiny_csv(tmp_path / "all.csv", 60, 8)

    def make(*more):
        given = arguments(tmp_path / "run", "--data.train", source, *SIZES, *more)
        at = given.index("--data.dev")
        return given[:at] + given[at + 2 :]

    return make


def test_a_run_draws_says_so_and_goes_on_with_the_same(paczero, drawing, tmp_path):
    run = tmp_path / "run"
    code, _, err = paczero(*drawing("--metric_for_best_model", "accuracy", "--data.test", "null"))
    assert code == 0, err
    assert "40 records of" in err and "drawn by seed 0; dev set of 8" in err
    assert load_settings(run / "config.yaml").data.train_records == 40
    summary = json.loads((run / "summary.json").read_text())
    assert summary["test_records"] == 12 and len(summary["test_sha256"]) == 64
    (run / "summary.json").unlink()
    code, _, err = paczero("train", "--resume", run)
    assert code == 0, err
    assert json.loads((run / "summary.json").read_text())["test_sha256"] == summary["test_sha256"]
    code, out, err = paczero("eval", run, "--json")
    assert code == 0, err
    assert json.loads(out)["accuracy"] == summary["accuracy_after"] and json.loads(out)["records"] == 12


def test_decisions_are_those_of_the_summary(finished):
    with open(finished / "decisions.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    summary = json.loads((finished / "summary.json").read_text())
    assert [row["number"] for row in rows] == [str(n) for n in range(1, 25)]
    right = sum(row["target"] == row["decision"] for row in rows)
    assert right / 24 == pytest.approx(summary["accuracy_after"])
    above = [float(row["score 1"]) - float(row["score 0"]) > summary["threshold"] for row in rows]
    assert [str(int(one)) for one in above] == [row["decision"] for row in rows]


def test_a_stranger_s_text_is_no_formula(tmp_path):
    run = RunDirectory(tmp_path)
    write_decisions(run, {"target": ["a", "b"], "prediction": ["=1+1", "x, y"], "f1": [0.5, -1.0]})
    assert (tmp_path / "decisions.csv").read_text() == 'number,target,prediction,f1\n1,a,\'=1+1,0.5\n2,b,"x, y",-1.0\n'


def test_a_recipe_s_test_set_can_be_left_out(drawing):
    """Drawn from what pool and dev set leave; or none at all."""
    without = build_settings(settings_parser("train", "").parse_args(drawing("--data.test", "null")[1:]).settings)
    splits = read_splits(without.data, without.args.task, seed=without.args.seed)
    assert [len(part or ()) for part in (splits.train, splits.dev, splits.test)] == [40, 8, 12]
    texts = [row["text"] for part in (splits.train, splits.dev, splits.test) for row in part or ()]
    assert len(set(texts)) == 60
    none = replace(without, data=replace(without.data, test_records=None))
    assert read_splits(none.data, none.args.task, seed=none.args.seed).test is None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--data.train", "no.csv"], ["data.train: 'no.csv': there is no such file"]),
        (["--data.dev", "no.csv"], ["data.dev: 'no.csv'", "; `--data.dev null` draws 8 records from data.train"]),
        (
            ["--data.test", "some/hub:name@test"],
            ["data.test: 'some/hub:name@test': there", "; `--data.test null` draws 12 records from data.train"],
        ),
        (
            ["--data.test", "no.csv", "--data.test_records", "null"],
            ["data.test: 'no.csv'", "; `--data.test null` goes without"],
        ),
    ],
)
def test_a_source_that_cannot_be_read_is_named_by_its_setting(refusal, drawing, more, said):
    line = refusal(*drawing(*more))
    assert line.startswith(said[0]) and line.endswith(said[-1] if len(said) > 1 else "check the path"), line


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--data.shots", "4"], "data.shots: 4 was given with data.train_records 40; choose one of them"),
        (["--data.train_records", "0"], "data.train_records: 0 was given; expected 1 or more"),
        (["--data.train_records", "99"], "data.train_records: 99 was given"),
        (["--data.test", "null", "--data.train_records", "41"], "data.test_records: 12 was given; data "),
    ],
)
def test_refusals(refusal, drawing, more, said):
    assert said in refusal(*drawing(*more))
