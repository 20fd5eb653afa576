from collections.abc import Callable
from dataclasses import replace

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Features, Value
from hypothesis import given
from hypothesis import strategies as st

from paczero.config import TaskConfig
from paczero.data.dataset import Dataset, make_dataset
from paczero.errors import PACZeroError

Make = Callable[[int], list[dict[str, str]]]


def small(rows: list[dict[str, object]], **task: object) -> Dataset:
    return make_dataset(rows, replace(TaskConfig(), **task), training=False)  # type: ignore[arg-type]


def test_a_pool_without_units(records: Make) -> None:
    pool = make_dataset(records(32), TaskConfig(), training=True)
    assert (len(pool), pool.units, pool.columns, pool.notes) == (32, 32, ("text",), ())
    np.testing.assert_array_equal(pool.labels, np.arange(32) % 2)
    np.testing.assert_array_equal(pool.unit_of_record, np.arange(32))
    assert pool.unit_names[:2] == ("1", "2")


@given(st.lists(st.text(min_size=1).map(str.strip).filter(bool), min_size=1, max_size=40))
def test_units_are_counted_by_first_appearance(names: list[str]) -> None:
    rows = [{"text": str(number), "label": "1", "who": f" {name} "} for number, name in enumerate(names)]
    pool = small(rows, unit_column="who")
    assert [pool.unit_names[unit] for unit in pool.unit_of_record] == names
    first = [names.index(name) for name in pool.unit_names]
    assert first == sorted(first)
    assert pool.units == len(set(names))


@pytest.mark.parametrize("value", ["1", " 1 ", 1, 1.0, "1.0", np.int64(1)])
def test_spellings_of_a_label(value: object) -> None:
    assert small([{"text": "a", "label": value}]).labels.tolist() == [1]


def test_labels_that_are_truth_values() -> None:
    rows = [{"text": "a", "label": True}, {"text": "b", "label": False}, {"text": "c", "label": "TRUE"}]
    assert small(rows, labels={"false": "bad", "true": "good"}).labels.tolist() == [1, 0, 1]


def test_the_order_of_the_configured_labels_counts() -> None:
    rows = [{"text": "a", "label": "pos"}, {"text": "b", "label": "neg"}]
    assert small(rows, labels={"pos": "great", "neg": "terrible"}).labels.tolist() == [0, 1]
    assert small(rows, labels={"neg": "terrible", "pos": "great"}).labels.tolist() == [1, 0]


def classes(names: list[str], labels: list[int]) -> Dataset:
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    return datasets.Dataset.from_dict({"text": [f"t{label}" for label in labels], "label": labels}, features=features)


def test_class_labels_go_by_name_or_by_number() -> None:
    data = classes(["neg", "pos"], [1, 0, 1])
    by_name = make_dataset(data, TaskConfig(labels={"neg": "bad", "pos": "good"}), training=False)
    by_number = make_dataset(data, TaskConfig(labels={"0": "bad", "1": "good"}), training=False)
    assert by_name.labels.tolist() == by_number.labels.tolist() == [1, 0, 1]


def test_classes_that_are_called_by_numbers() -> None:
    data = classes(["1", "2", "3"], [0, 2])
    stars = TaskConfig(labels={"1": "bad", "2": "fine", "3": "good"})
    assert make_dataset(data, stars, training=False).labels.tolist() == [0, 2]
    with pytest.raises(PACZeroError, match="may mean their names or their numbers"):
        make_dataset(data, TaskConfig(labels={"1": "bad", "2": "good"}), training=False)


def test_a_class_label_without_a_label() -> None:
    with pytest.raises(PACZeroError, match=r"record 2 .* has the label '-1'"):
        make_dataset(classes(["a", "b"], [0, -1]), TaskConfig(labels={"a": "x", "b": "y"}), training=False)


def test_the_hash_is_of_what_a_run_depends_on(records: Make) -> None:
    rows = records(4)
    base = small(rows).hash()
    assert small([row | {"other": "x"} for row in rows]).hash() == base
    assert small([row | {"text": f" {row['text']} "} for row in rows]).hash() == base
    changed = [
        small(rows[::-1]),
        small(rows[:3]),
        small([{**rows[0], "label": "1"}, *rows[1:]]),
        small([{**rows[0], "text": "other"}, *rows[1:]]),
        small([row | {"who": "same"} for row in rows], unit_column="who"),
        small(rows, labels={"1": "great", "0": "terrible"}),
    ]
    assert base not in {pool.hash() for pool in changed}


@pytest.mark.parametrize(
    ("row", "task", "message"),
    [
        ({"sentence": "a", "label": 1}, {}, r"\{text\} is no column of the data; its columns are 'sentence', 'label'"),
        ({"text": "a", "stars": 1}, {}, "task.label_column: .* has no column 'label'; its columns are 'text', 'stars'"),
        ({"text": "a", "label": 1}, {"unit_column": "who"}, "task.unit_column: .* has no column 'who'"),
        ({"text": "a", "label": 1, "who": " "}, {"unit_column": "who"}, "record 2 .* has nothing in column 'who'"),
        ({"text": "a", "label": 1, "who": None}, {"unit_column": "who"}, "record 2 .* has nothing in column 'who'"),
        ({"text": "a", "label": "meh"}, {}, "record 2 .* label 'meh' .* configured are '0', '1'; the column holds"),
        ({"text": "a", "label": None}, {}, "record 2 .* has no label in column 'label'"),
        ({"text": " ", "label": 1}, {}, "record 2 has no text in 'text'"),
        ({"text": None, "label": 1}, {}, "record 2 has no text in 'text'"),
        ({"text": ["a"], "label": 1}, {}, "column 'text' holds lists or structures"),
        ({"text": "a", "label": {"x": 1}}, {}, "column 'label' holds lists or structures"),
        ({"text": "a", "label": 1}, {"labels": {"1": "a", "1.0": "b"}}, "mean the same value twice"),
        ({"text": "a", "label": 1}, {"template": "It was {label}"}, "holds no text of the record"),
        ({"text": "a", "label": 1}, {"template": "{text.upper} {label}"}, "only plain names"),
    ],
)
def test_refusals(row: dict[str, object], task: dict[str, object], message: str) -> None:
    first = dict.fromkeys(row, "1")
    with pytest.raises(PACZeroError, match=message) as caught:
        small([first, row], **task)
    assert "\n" not in str(caught.value)


def test_too_few_units(records: Make) -> None:
    with pytest.raises(PACZeroError, match=r"31 units \(each record is one\); training needs 32 or more"):
        make_dataset(records(31), TaskConfig(), training=True)
    assert make_dataset(records(31), TaskConfig(), training=False).units == 31
    rows = [row | {"who": str(number % 10)} for number, row in enumerate(records(64))]
    with pytest.raises(PACZeroError, match=r"10 units .the different values of column 'who'"):
        make_dataset(rows, TaskConfig(unit_column="who"), training=True)


def test_a_wrong_label_column_shows_what_is_in_it(records: Make) -> None:
    with pytest.raises(PACZeroError, match=r"'Film 0' \(1\).* and 34 other values; .* name another column"):
        make_dataset(records(40), TaskConfig(label_column="text"), training=True)


def test_notes(records: Make) -> None:
    rows = [row | {"label": "1", "unit_id": "x", "title": "t"} for row in records(40)]
    rows[1]["text"] = rows[0]["text"]
    rows[2]["title"] = ""
    rows[3]["title"] = "other"
    pool = make_dataset(rows, TaskConfig(template="{title} {text} {label}"), training=True)
    assert pool.notes == (
        "1 of 40 records have an empty column beside a filled one",
        "no record has the label '0'",
        "1 texts belong to several units each, which are protected one by one and not together",
        "column 'unit_id' is not used: each record is a unit of its own (set task.unit_column to change it)",
    )
    dev = make_dataset(rows, TaskConfig(), training=False)
    assert dev.notes == ("no record has the label '0'",)
