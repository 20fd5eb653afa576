"""`paczero eval`: its flags, its table for people, its csv; nothing in a csv runs in a spreadsheet."""

import csv
import json

import numpy as np
import pytest

from paczero.cli.commands.eval import looks_swapped
from paczero.inference import predict


def test_a_table_for_people(paczero, finished_once, tiny_dev_csv):
    code, out, _ = paczero("eval", finished_once, "--data", tiny_dev_csv)
    assert code == 0
    assert "of 20 records, decided at" in out and "majority  50.0 %" in out
    assert out.splitlines()[-3].split() == ["label", "as", "0", "as", "1"]


def test_texts_of_ones_own(paczero, finished_once):
    code, out, _ = paczero("eval", finished_once, "--text", "the film is superb", "--text", "the plot is awful")
    assert code == 0
    assert [line.rpartition("%  ")[2] for line in out.splitlines()] == ["the film is superb", "the plot is awful"]
    code, out, _ = paczero("eval", finished_once, "--text", "the film is superb", "--json")
    assert set(json.loads(out)[0]) == {"text", "prediction", "probability"}


def test_texts_for_the_base_model_and_into_a_csv(paczero, finished_once, tmp_path):
    texts = ["the film is superb", "the plot is awful"]
    given = [part for text in texts for part in ("--text", text)]
    probabilities = []
    for base in ([], ["--base"]):
        code, _, _ = paczero("eval", finished_once, *given, *base, "--predictions", tmp_path / "out.csv")
        assert code == 0
        rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
        expected = predict(finished_once, [{"text": text} for text in texts], base=bool(base)).records
        assert rows == [{name: str(value) for name, value in row.items()} for row in expected]
        probabilities.append([row["probability 1"] for row in rows])
    assert probabilities[0] != probabilities[1]


def test_predictions_are_harmless_in_a_spreadsheet(paczero, finished_once, tmp_path):
    texts = ["=HYPERLINK(1)", "+1-1", "-x", "@a", " =1", 'fine, "really"', "a\nb", "-1"]
    with open(tmp_path / "data.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([["text", "label"], *([text, "1"] for text in texts)])
    out = tmp_path / "out.csv"
    code, printed, _ = paczero("eval", finished_once, "--data", tmp_path / "data.csv", "--predictions", out, "--json")
    assert code == 0
    with open(out, newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["text", "label", "prediction", "probability 0", "probability 1"]
    assert [row[0].lstrip("'") for row in rows] == texts
    assert [row[0].startswith("'") for row in rows] == [True] * 5 + [False] * 3
    assert all(row[1] == "1" and abs(float(row[3]) + float(row[4]) - 1) < 1e-5 for row in rows)
    assert json.loads(printed)["accuracy"] == np.mean([row[1] == row[2] for row in rows])


def test_refusals(refusal, finished_once, tmp_path):
    assert "nothing.csv" in refusal("eval", finished_once, "--data", "nothing.csv")
    assert "holds no run" in refusal("eval", tmp_path)
    assert "given together" in refusal("eval", finished_once, "--data", "x.csv", "--text", "y")
    assert "--predictions" in refusal("eval", finished_once, "--predictions", tmp_path / "no" / "x.csv")


def test_flags_and_a_file_name_the_task(paczero, refusal, finished_once, tiny_model_dir, tiny_test_csv):
    adapter = finished_once / "release" / "adapter"
    run = paczero("eval", finished_once, "--json")[1]
    assert (
        paczero("eval", adapter, "--config", finished_once / "config.yaml", "--model", tiny_model_dir, "--json")[1]
        == run
    )
    task = ("--task.template", "{text} It was {label}", "--task.labels", "{0: terrible, 1: great}")
    assert paczero("eval", adapter, "--data", tiny_test_csv, *task, "--json")[1] == run
    base = paczero("eval", tiny_model_dir, "--data", tiny_test_csv, *task, "--json")[1]
    assert base != run and json.loads(base)["threshold"] == 0


def test_far_below_chance_is_remarked_on(paczero, finished_once, tiny_test_csv, tmp_path):
    right = json.loads(paczero("eval", finished_once, "--json")[1])
    turned = tmp_path / "turned.csv"
    text = tiny_test_csv.read_text().replace(",0\n", ",x\n").replace(",1\n", ",0\n").replace(",x\n", ",1\n")
    turned.write_text(text)
    _, out, err = paczero("eval", finished_once, "--data", turned, "--json")
    result = json.loads(out)
    assert result["accuracy"] == pytest.approx(1 - right["accuracy"])
    assert looks_swapped(result) == ("swapped" in err)
    assert looks_swapped(right | {"accuracy": 0.1}) and not looks_swapped(right | {"accuracy": 0.4})
