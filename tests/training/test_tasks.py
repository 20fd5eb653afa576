"""Whole runs of tasks with answers and conversations, from the command line on a tiny model."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from paczero.cli.main import main

from ..other_tasks import QUESTION, let_converse

LORA = ["--peft.r", "2", "--peft.target_modules", "[q_proj, v_proj]", "--peft.layers_to_transform", "[2]"]


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
    """The release scores as its owner's run did, and answers questions whose answers nobody knows."""
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
