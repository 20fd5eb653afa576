"""`paczero eval`: the release as others load it scores as in training; nothing in a csv runs in a spreadsheet."""

import csv
import json

import numpy as np

from paczero.cli.training import served_threshold


def test_the_release_scores_as_the_summary_says(paczero, finished_once):
    summary = json.loads((finished_once / "summary.json").read_text())
    code, out, _ = paczero("eval", finished_once, "--json")  # the run's test set
    result = json.loads(out)
    assert code == 0
    assert result["accuracy"] == summary["accuracy_after"] and result["threshold"] == summary["threshold"]
    assert (result["records"], result["majority"], result["labels"]) == (24, 0.5, ["0", "1"])
    confusion = np.array(result["confusion"])
    assert confusion.sum(axis=1).tolist() == [12, 12]
    assert np.trace(confusion) / 24 == result["accuracy"]


def test_full_tuning_with_an_average_too(paczero, finished_full_once):
    summary = json.loads((finished_full_once / "summary.json").read_text())
    code, out, _ = paczero("eval", finished_full_once, "--json")
    assert code == 0
    assert json.loads(out)["accuracy"] == summary["accuracy_after"]


def test_the_base_model_scores_as_before(paczero, finished_once, tiny_dev_csv):
    summary = json.loads((finished_once / "summary.json").read_text())
    code, out, _ = paczero("eval", finished_once, "--base", "--json")
    assert code == 0
    assert json.loads(out)["accuracy"] == summary["accuracy_before_median"]
    _, out, _ = paczero("eval", finished_once, "--base", "--data", tiny_dev_csv, "--json")
    assert json.loads(out)["accuracy"] == summary["dev_accuracy_before"]


def test_a_table_for_people(paczero, finished_once, tiny_dev_csv):
    code, out, err = paczero("eval", finished_once, "--data", tiny_dev_csv)
    assert (code, err) == (0, "")
    assert "of 20 records, decided at" in out and "majority  50.0 %" in out
    assert out.splitlines()[-3].split() == ["label", "as", "0", "as", "1"]


def test_texts_of_ones_own(paczero, finished_once):
    code, out, _ = paczero("eval", finished_once, "--text", "the film is superb", "--text", "the plot is awful")
    assert code == 0
    assert [line.rpartition("%  ")[2] for line in out.splitlines()] == ["the film is superb", "the plot is awful"]
    code, out, _ = paczero("eval", finished_once, "--text", "the film is superb", "--json")
    assert set(json.loads(out)[0]) == {"text", "prediction", "probability"}


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


def test_an_unfinished_run(refusal, finished):
    (finished / "release" / "privacy.json").unlink()
    assert "not finished" in refusal("eval", finished)


def test_the_threshold_is_the_released_one(paczero, refusal, finished, finished_once):
    stated = json.loads((finished / "release" / "privacy.json").read_text())["threshold"]
    assert stated != 0 and served_threshold(finished_once / "release") == stated
    assert f"more than {stated}" in (finished / "release" / "README.md").read_text()
    (finished / "private" / "diagnostics.jsonl").unlink()  # the owner's; whoever has the release has not
    assert json.loads(paczero("eval", finished, "--json")[1])["threshold"] == stated
    assert "no evaluation of the untuned model" in refusal("eval", finished, "--base")


def test_a_changed_threshold_is_refused(refusal, finished):
    path = finished / "release" / "privacy.json"
    stated = json.loads(path.read_text())["threshold"]
    path.write_text(path.read_text().replace(f'"threshold": {stated}', '"threshold": 0.0'))
    assert "sha256" in refusal("eval", finished, code=1)
