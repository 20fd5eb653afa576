"""A trainer, `evaluate` and `paczero eval` give the same numbers; the untuned model is scored by the same function."""

import json

import numpy as np
import pytest

from paczero.inference import evaluate, find_target


def summary_of(run):
    return json.loads((run / "summary.json").read_text())


def test_trainer_function_and_command_agree(make_trainer, paczero, tiny_test_csv, tiny_pool_csv, tmp_path):
    trainer = make_trainer(tmp_path / "run", threshold="median")
    trainer.train()
    for data, seen in ((tiny_test_csv, []), (tiny_pool_csv, [])):
        ours = {name.removeprefix("eval_"): value for name, value in trainer.evaluate(str(data)).items()}
        release = tmp_path / "run" / "release"
        result = evaluate(release, data, progress=lambda what, done, total, seen=seen: seen.append((done, total)))
        assert {name: result.metrics[name] for name in ours} == pytest.approx(ours, rel=1e-6)
        assert (result.metrics["accuracy"], result.metrics["threshold"]) == (ours["accuracy"], ours["threshold"])
        assert seen[-1] == (result.metrics["records"],) * 2
        code, out, _ = paczero("eval", tmp_path / "run", "--data", data, "--json")
        assert code == 0 and json.loads(out) == result.metrics


def test_the_release_scores_as_the_summary_says(metrics, finished_once):
    summary, result = summary_of(finished_once), metrics(finished_once)  # the run's test set
    assert result["accuracy"] == summary["accuracy_after"] and result["threshold"] == summary["threshold"]
    assert result["loss"] == pytest.approx(summary["test_after"]["loss"], rel=1e-6)
    assert (result["records"], result["majority"], result["labels"]) == (24, 0.5, ["0", "1"])
    confusion = np.array(result["confusion"])
    assert confusion.sum(axis=1).tolist() == [12, 12]
    assert np.trace(confusion) / 24 == result["accuracy"]


def test_full_tuning_with_an_average_too(metrics, finished_full_once):
    assert metrics(finished_full_once)["accuracy"] == summary_of(finished_full_once)["accuracy_after"]


def test_the_base_model_scores_as_before(metrics, finished_once, tiny_dev_csv):
    summary = summary_of(finished_once)
    assert metrics(finished_once, base=True)["accuracy"] == summary["accuracy_before_median"]
    assert metrics(finished_once, tiny_dev_csv, base=True)["accuracy"] == summary["dev_accuracy_before"]


def test_the_threshold_is_the_released_one(metrics, refused, finished, finished_once):
    stated = json.loads((finished / "release" / "privacy.json").read_text())["threshold"]
    assert stated != 0 and find_target(finished_once / "release").threshold == stated
    assert f"more than {stated}" in (finished / "release" / "README.md").read_text()
    (finished / "private" / "diagnostics.jsonl").unlink()  # a release folder lacks it
    assert metrics(finished)["threshold"] == stated
    assert "no evaluation of the untuned model" in refused(finished, base=True)


def test_a_changed_threshold_is_refused(refused, finished):
    path = finished / "release" / "privacy.json"
    stated = json.loads(path.read_text())["threshold"]
    path.write_text(path.read_text().replace(f'"threshold": {stated}', '"threshold": 0.0'))
    assert "sha256" in refused(finished, code=1)


def test_records_that_are_cut_are_noted(finished_once):
    rows = [{"text": "the film is lovely " * 80, "label": "1"}, {"text": "the plot is awful", "label": "0"}]
    result = evaluate(finished_once, rows, settings={"task": {"too_long": "truncate"}})
    assert len(result.notes) == 1 and "1 of 2 records were cut" in result.notes[0]
    assert result.table["label"] == ["1", "0"] and result.table["text"] == [row["text"] for row in rows]
