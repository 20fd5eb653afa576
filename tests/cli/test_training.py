"""Whole runs from the command line: records drawn from one file, tasks with answers, conversations."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from paczero.cli.main import main
from paczero.cli.parser import settings_parser
from paczero.config_io import build_settings, load_settings
from paczero.data.splits import read_splits
from paczero.report.summary import write_decisions
from paczero.run_directory import RunDirectory

from ..other_tasks import QUESTION, let_converse

LORA = ["--peft.r", "2", "--peft.target_modules", "[q_proj, v_proj]", "--peft.layers_to_transform", "[2]"]
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
    splits = read_splits(without.data, without.args)
    assert [len(part or ()) for part in (splits.train, splits.dev, splits.test)] == [40, 8, 12]
    texts = [row["text"] for part in (splits.train, splits.dev, splits.test) for row in part or ()]
    assert len(set(texts)) == 60
    none = replace(without, data=replace(without.data, test_records=None))
    assert read_splits(none.data, none.args).test is None


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


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    place = tmp_path_factory.mktemp("answers")

    def make(name: str, count: int) -> Path:
        path = place / f"{name}.jsonl"
        rows = (
            {"context": f"the film {name} {n} is lovely", "question": "film", "answers": ["lovely", f"the film {n}"]}
            for n in range(count)
        )
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return make


@pytest.mark.parametrize("objective", ["likelihood", "f1"])
def test_a_run_of_answers(answers, tiny_model_dir: Path, tmp_path: Path, objective: str, capsys) -> None:
    run = tmp_path / "run"
    data = ["--data.train", answers("pool", 36), "--data.dev", answers("dev", 8), "--data.test", answers("test", 9)]
    task = ["--task.kind", "answer", "--task.template", QUESTION, "--task.label_column", "answers"]
    more = [
        "--task.objective",
        objective,
        "--task.max_new_tokens",
        "4",
        "--metric_for_best_model",
        "f1",
        "--test_seed",
        "5",
    ]
    short = ["--max_steps", "3", "--eval_steps", "2", "--learning_rate", "0.05", "--mechanism.subsets", "8"]
    given = ["train", "--model", tiny_model_dir, *data, *task, *more, *short, *LORA, "--output_dir", run]
    assert main([str(part) for part in given]) == 0, capsys.readouterr().err
    assert main(["replay", str(run), "--verify"]) == 0, capsys.readouterr().err
    summary = json.loads((run / "summary.json").read_text())
    assert summary["metric"] == "f1" and summary["accuracy_after"] is None
    rows = list(csv.DictReader((run / "decisions.csv").read_text().splitlines()))
    assert len(rows) == 9 and set(rows[0]) == {"number", "target", "prediction", "f1", "exact_match", "loss"}
    for name in ("f1", "exact_match", "loss"):
        mean = sum(float(row[name]) for row in rows) / len(rows)
        assert summary["test_after"][name] == pytest.approx(mean)
    _used_by_others(run / "release", data[-1], rows, summary["test_after"], tmp_path, capsys)


def _used_by_others(release: Path, test: Path, decided: list, figures: dict, tmp_path: Path, capsys) -> None:
    """The release scores as its owner's run did, and answers questions without known answers."""
    capsys.readouterr()
    table, out = tmp_path / "judged.csv", tmp_path / "answered.jsonl"
    assert main(["eval", str(release), "--data", str(test), "--json", "--predictions", str(table)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == pytest.approx(figures | {"records": 9}, abs=1e-4)
    texts = [row["prediction"] for row in decided]
    assert [row["prediction"] for row in csv.DictReader(table.read_text().splitlines())] == texts
    asked = tmp_path / "asked.jsonl"
    rows = [json.loads(line) for line in test.read_text().splitlines()]
    asked.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "answers"}) + "\n" for row in rows))
    assert main(["predict", str(release), "--input", str(asked), "--output", str(out)]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    empty = texts.count("")
    assert said.startswith(f"{out} holds 9 records: {9 - empty} answered") and ("empty" in said) == bool(empty)
    assert [json.loads(line)["prediction"] for line in out.read_text().splitlines()] == [
        text.removeprefix("'") for text in texts
    ]
    assert main(["eval", str(release), "--data", str(test), "--task.labels", "{0: great, 1: terrible}"]) == 2
    assert "task.labels" in capsys.readouterr().err
    assert main(["eval", str(release), "--text", "the film"]) == 2
    assert "put the records into a file" in capsys.readouterr().err


def test_a_run_of_conversations(make_tiny_model, tmp_path: Path, capsys) -> None:
    model = make_tiny_model(tmp_path / "model")
    path = tmp_path / "chat.jsonl"
    rows = ({"prompt": f"how is film {n}?", "completion": "it is lovely"} for n in range(36))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["train", "--model", model, "--data.train", path, "--data.test", path, "--task.kind", "chat", *LORA]
    given += [
        "--max_steps",
        "2",
        "--learning_rate",
        "0.05",
        "--mechanism.subsets",
        "8",
        "--output_dir",
        tmp_path / "run",
    ]
    assert main([str(part) for part in given]) == 2
    assert "no chat template" in capsys.readouterr().err
    let_converse(model)
    assert main([str(part) for part in given]) == 0, capsys.readouterr().err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["metric"] == "loss" and summary["test_after"]["loss"] > 0
    release = str(tmp_path / "run" / "release")
    assert main(["eval", release, "--data", str(path)]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert f"loss         {summary['test_after']['loss']:.4f} nats a token" in said and "perplexity" in said
    assert main(["predict", release, "--input", str(path), "--output", str(tmp_path / "out.csv")]) == 2
    assert "task.kind: 'chat' was given" in capsys.readouterr().err


def test_shared_records_are_counted_at_the_start_and_in_the_summary(paczero, arguments, tmp_path, tiny_pool_csv):
    """Every second record of the test set, and all of the dev set, stand in the pool."""
    rows = tiny_pool_csv.read_text().splitlines()
    test = tmp_path / "test.csv"
    test.write_text("\n".join([*rows[:4], "a new text of this kind,0", "another one,1"]) + "\n")
    shared = ["--data.dev", tiny_pool_csv, "--data.test", test]
    code, out, err = paczero(*arguments(tmp_path / "run", *shared))
    assert code == 0, err
    said = [
        "dev set: 48 of 48 records share a text with the pool (the first is record 1)",
        "test set: 3 of 5 records share a text with the pool (the first is record 1)",
    ]
    for sentence in said:
        assert sentence in " ".join(err.split())
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["shared"] == said
    assert "; ".join(said) in out


def test_a_run_that_diverges_ends_early_in_one_line(paczero, refusal, arguments, tmp_path):
    run = tmp_path / "run"
    diverging = ["--learning_rate", "1e30", "--max_steps", "24", "--threshold", "median"]
    code, out, err = paczero(*arguments(run, *diverging))
    line = err.splitlines()[-1]
    assert (code, out) == (2, "") and line.startswith("paczero: error: training: no derivative of step 2 is finite")
    assert "ends after 1 of 24 steps" in line and "smaller learning_rate (here 1e+30)" in line
    assert not (run / "release").exists()
    assert refusal("train", "--resume", run) == line.removeprefix("paczero: error: ")


@pytest.mark.parametrize("which", ["dev", "test"])
def test_shared_records_are_refused_where_the_pool_is_protected(refusal, arguments, tmp_path, tiny_pool_csv, which):
    private = ["--mechanism.name", "dp-sign", "--mechanism.epsilon", "2"]
    line = refusal(*arguments(tmp_path / "run", f"--data.{which}", tiny_pool_csv, *private))
    assert line.startswith(f"{which} set: 48 of 48 records share a text with the pool") and "drop these records" in line
    assert not (tmp_path / "run").exists()


def test_a_promise_that_promises_little_is_warned_of_and_on_the_card(paczero, arguments, tmp_path):
    private = ["--mechanism.name", "dp-sign", "--mechanism.epsilon", "2", "--mechanism.delta", "0.1"]
    short = ["--max_steps", "2", "--data.test", "null", "--test_seed", "null"]
    code, _, err = paczero(*arguments(tmp_path / "run", *private, *short))
    assert code == 0, err
    said = "δ = 0.1 is 1/N or more (N = 48 units)"
    assert sum(line.startswith(f"paczero: warning: {said}") for line in err.splitlines()) == 1
    assert f"> **Attention.** {said}" in (tmp_path / "run" / "release" / "README.md").read_text()
    code, out, err = paczero("doctor", *arguments(tmp_path / "other", *private, *short)[1:])
    assert code == 0 and said in " ".join(out.split()), err
