"""Drawing: the sizes asked for, disjoint sets, the same on every call, and no more repeats than there must be."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paczero.config import TaskConfig
from paczero.data.loading import Rows, load_rows
from paczero.data.splits import draw_splits
from paczero.errors import PACZeroError


def films(count: int, first: int = 0) -> Rows:
    return load_rows([{"text": f"film {n}", "label": str(n % 2)} for n in range(first, first + count)])


def texts(rows: Rows | None) -> list[str]:
    return [] if rows is None else [row["text"] for row in rows]


def test_the_field_s_convention() -> None:
    data, other = films(300), films(100, 1000)
    splits = draw_splits(data, test=other, seed=3, train_records=100, dev_records=50, test_records=60)
    assert (len(splits.train), len(splits.dev or []), len(splits.test or [])) == (100, 50, 60)
    assert not set(texts(splits.train)) & set(texts(splits.dev))
    assert splits.notes == ()
    for drawn, source in ((splits.train, data), (splits.dev, data), (splits.test, other)):
        places = [texts(source).index(text) for text in texts(drawn)]
        assert places == sorted(places), "the order of the file stays"
    assert splits.train.origin == "data (a list) (100 of 300 records, drawn by seed 3)"
    assert splits.train.columns == data.columns


def test_a_draw_is_a_function_of_the_seed_for_ever() -> None:
    first = texts(draw_splits(films(20), seed=0, train_records=6).train)
    assert first == ["film 4", "film 10", "film 14", "film 16", "film 17", "film 19"], "any other is another run"
    assert texts(draw_splits(films(20), seed=1, train_records=6).train) != first


def test_all_records_where_no_number_is_given() -> None:
    data, dev, test = films(40), films(9, 100), films(7, 200)
    splits = draw_splits(data, dev, test, seed=0)
    assert (splits.train, splits.dev, splits.test) == (data, dev, test) and splits.notes == ()
    rest = draw_splits(data, seed=0, dev_records=10)
    assert (len(rest.train), len(rest.dev or [])) == (30, 10)
    assert sorted(texts(rest.train) + texts(rest.dev)) == sorted(texts(data))


def test_a_larger_pool_holds_the_smaller_one_of_the_same_seed() -> None:
    small, large = (texts(draw_splits(films(200), seed=5, train_records=n).train) for n in (50, 90))
    assert set(small) < set(large)


def test_shots_are_counted_in_each_class() -> None:
    rows = load_rows([{"text": f"film {n}", "label": "abc"[n % 7 % 3]} for n in range(100)])
    drawn = draw_splits(rows, seed=0, shots=4, dev_records=10)
    assert sorted(row["label"] for row in drawn.train) == ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    assert not set(texts(drawn.train)) & set(texts(drawn.dev))


@given(st.integers(0, 5), st.integers(1, 12), st.integers(1, 12), st.integers(1, 6))
def test_repeats_are_taken_only_where_others_are_lacking(seed: int, train: int, dev: int, kinds: int) -> None:
    """24 records with `kinds` different texts: a dev record is of the pool only where no other is left."""
    rows = load_rows([{"text": f"film {n % kinds}", "label": "1"} for n in range(24)])
    splits = draw_splits(rows, seed=seed, train_records=train, dev_records=dev)
    pool = set(texts(splits.train))
    repeated = sum(text in pool for text in texts(splits.dev))
    fresh = sum(f"film {n % kinds}" not in pool for n in range(24))
    assert repeated == max(0, dev - fresh)


PATIENTS = TaskConfig(unit_column="who")


def notes_of_patients(sizes: list[int]) -> Rows:
    """Patient n has `sizes[n]` notes; those of all patients are mixed in the file."""
    visits = [(visit, who) for who, size in enumerate(sizes) for visit in range(size)]
    return load_rows([{"text": f"note {v} of {w}", "label": str(w % 2), "who": f"p{w}"} for v, w in sorted(visits)])


def patients(rows: Rows | None) -> set[str]:
    return {row["who"] for row in rows or []}


SIZES = st.lists(st.integers(1, 6), min_size=12, max_size=30)


@given(SIZES, st.integers(0, 3), st.integers(1, 8), st.integers(0, 8), st.sampled_from([None, 9]))
def test_no_unit_is_in_two_sets(sizes: list[int], seed: int, dev: int, test: int, train: int | None) -> None:
    """Whatever is drawn from one file, all records of a patient lie on one side."""
    asked = {"seed": seed, "train_records": train, "dev_records": dev, "test_records": test or None}
    rows = notes_of_patients(sizes)
    try:
        splits = draw_splits(rows, **asked, task=PATIENTS)
    except PACZeroError as error:
        assert " beside " in str(error), "only where the units do not suffice"
        assert len(rows) < (train or 1) + dev + test + 3 * max(sizes)
        return
    parts = [splits.train, splits.dev, splits.test]
    assert [len(part or []) for part in parts[1:]] == [dev, test]
    assert train is None or len(splits.train) == train
    sides = [patients(part) for part in parts]
    assert sum(map(len, sides)) == len(set().union(*sides))


def test_a_pool_that_is_what_remains_shares_no_patient_with_the_dev_set() -> None:
    """4,000 notes of 1,500 patients and 500 of them for the dev set: 448 were of the pool's patients."""
    splits = draw_splits(notes_of_patients([3] * 1000 + [2] * 500), seed=0, dev_records=500, task=PATIENTS)
    assert len(splits.dev or []) == 500 and len(splits.train) >= 3497
    assert not patients(splits.train) & patients(splits.dev)


def test_shots_take_no_part_of_a_patient_whose_rest_is_dev() -> None:
    splits = draw_splits(notes_of_patients([4] * 40), seed=0, shots=16, dev_records=40, task=PATIENTS)
    assert len(splits.train) == 32 and not patients(splits.train) & patients(splits.dev)


def test_records_left_out_by_the_units_are_counted() -> None:
    splits = draw_splits(notes_of_patients([4] * 20), seed=0, train_records=30, dev_records=6, task=PATIENTS)
    assert splits.notes == ("4 records are in no set, since all records of a unit go to one side.",)


def test_too_few_units_are_left() -> None:
    rows = notes_of_patients([20] * 4)
    with pytest.raises(PACZeroError, match=r"dev_records: 10 was given; data \(a list\) has 0 beside the pool"):
        draw_splits(rows, seed=0, train_records=61, dev_records=10, task=PATIENTS)


def test_the_test_set_passes_over_pool_and_dev_set_too() -> None:
    splits = draw_splits(films(100), None, films(100), seed=0, train_records=40, dev_records=30, test_records=30)
    assert not set(texts(splits.test)) & set(texts(splits.train) + texts(splits.dev))
    small = draw_splits(films(100), None, films(10, 500), seed=0, train_records=40, test_records=30)
    assert len(small.test or []) == 10
    assert small.notes == ("Test set: data (a list) has 10 records, all of which are scored.",)


@given(st.integers(0, 5), st.integers(1, 10), st.integers(0, 7), st.integers(1, 6))
def test_all_three_sets_from_one_file(seed: int, train: int, dev: int, test: int) -> None:
    data = films(24)
    asked = {"seed": seed, "dev_records": dev or None, "test_records": test}
    for pool, sized in ((train, {"train_records": train}), (24 - dev - test, {})):
        splits = draw_splits(data, **asked, **sized)
        parts = [texts(part) for part in (splits.train, splits.dev, splits.test)]
        assert [len(part) for part in parts] == [pool, dev, test]
        assert len({text for part in parts for text in part}) == pool + dev + test, "no record is in two sets"
    whole, alone = (draw_splits(data, **(asked | {"test_records": n}), train_records=train) for n in (test, None))
    assert (texts(alone.train), texts(alone.dev)) == (texts(whole.train), texts(whole.dev)), "nor does it move another"


def test_cells_that_hold_lists_go_along() -> None:
    rows = load_rows([{"question": f"q{n}", "answers": [str(n)], "label": "x"} for n in range(30)])
    task = TaskConfig(template="{question} {label}", label_column="label")
    drawn = draw_splits(rows, seed=0, train_records=7, task=task).train
    assert [drawn.nested["answers"][at] for at in range(7)] == [[row["question"][1:]] for row in drawn]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"train_records": 31}, r"data.train_records: 31 was given; data \(a list\) has 30 records; ask for fewer"),
        ({"train_records": 20, "dev_records": 11}, r"data.dev_records: 11 was given; data \(a list\) has 10 beside"),
        ({"train_records": 9, "dev_records": 9, "test_records": 13}, "has 12 beside pool and dev set; ask for fewer"),
        ({"dev_records": 30}, "has 0 beside the pool; ask for fewer, or name another file in data.dev"),
        ({"shots": 16}, "data.shots: 16 was given; .* has 15 records of the label '0'; ask for fewer"),
        ({"shots": 1, "task": TaskConfig(label_column="stars")}, "has no column 'stars' of labels"),
    ],
)
def test_too_few_records(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(PACZeroError, match=said):
        draw_splits(films(30), **({"seed": 0} | asked))
    with pytest.raises(PACZeroError, match=r"data.dev_records: 9 was given; data \(a list\) has 5; ask for fewer"):
        draw_splits(films(30), films(5), seed=0, dev_records=9)


def test_a_dev_set_does_not_follow_from_a_pool_that_is_protected() -> None:
    """A text of the pool stands in the dev file, or nowhere."""
    file = films(60, 500)

    def dev(text: str, protected: bool) -> list[str]:
        pool = load_rows([{"text": text, "label": "0"}, *({"text": f"mine {n}", "label": "0"} for n in range(39))])
        return texts(draw_splits(pool, file, seed=0, train_records=40, dev_records=50, protected=protected).dev)

    assert any(dev(text, False) != dev("nowhere", False) for text in texts(file)), "it is passed over"
    assert all(dev(text, True) == dev("nowhere", True) for text in texts(file))


def test_the_name_of_a_unit_as_a_number_of_any_kind() -> None:
    names = ("3", "3.0", " 3", *(str(n) for n in range(4, 12)))
    rows = load_rows([{"text": f"note {n}", "label": "0", "who": who} for n, who in enumerate(names)])
    for seed in range(8):
        splits = draw_splits(rows, seed=seed, train_records=5, dev_records=3, task=PATIENTS)
        sides = [{float(row["who"]) for row in side or []} for side in (splits.train, splits.dev)]
        assert not sides[0] & sides[1]
