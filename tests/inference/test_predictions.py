"""Every column stays, decisions are those of `evaluate`, and labels are not read."""

import numpy as np
import pytest

from paczero.config import TaskConfig
from paczero.data.loading import Rows
from paczero.data.tables import render
from paczero.errors import PACZeroError
from paczero.inference import evaluate, predict
from paczero.inference.predictions import label_columns, unlabelled


@pytest.fixture
def texts(tiny_test_csv):
    return [line.rpartition(",")[0] for line in tiny_test_csv.read_text().splitlines()[1:]]


def test_columns_stay_and_decisions_are_those_of_evaluate(finished_once, texts, tiny_test_csv):
    rows = [{"id": number, "text": text, "label": "no label"} for number, text in enumerate(texts)]
    table = predict(finished_once / "release", rows)
    added = ("prediction", "probability 0", "probability 1")
    assert table.columns == ("id", "text", "label", *added) and not table.notes
    assert [int(record["id"]) for record in table.records] == list(range(24))
    expected = evaluate(finished_once, tiny_test_csv).table
    assert {name: [record[name] for record in table.records] for name in added} == {n: expected[n] for n in added}
    assert len(set(expected["prediction"])) == 2


def test_a_column_is_not_replaced(finished_once):
    with pytest.raises(PACZeroError, match="has a column 'prediction', which would be replaced"):
        predict(finished_once, [{"text": "fine", "prediction": "mine"}])


def test_probabilities_are_before_the_threshold():
    dataset = unlabelled(Rows([{"text": "fine"}] * 2, "new.csv"), TaskConfig())
    columns = label_columns(dataset, np.array([[0.0, np.log(3)], [0.0, 0.0]]), threshold=2.0)
    assert columns == {"prediction": ["0", "0"], "probability 0": [0.25, 0.5], "probability 1": [0.75, 0.5]}


def test_conversations_have_no_predictions():
    with pytest.raises(PACZeroError, match="'chat' was given"):
        unlabelled(Rows([{"messages": "x"}], "new.csv"), TaskConfig(kind="chat"))


def test_parquet_needs_one_type_a_column():
    with pytest.raises(PACZeroError, match="parquet cannot hold these columns"):
        render(".parquet", ["a"], [{"a": 1}, {"a": "x"}])
