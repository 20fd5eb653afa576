import datetime
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from paczero.config import TaskConfig
from paczero.data.dataset import make_dataset
from paczero.data.loading import Rows, load_rows
from paczero.errors import PACZeroError

ROWS = [
    {"text": 'He said "no", twice,\nand left', "label": "1", "who": "NA"},
    {"text": " NULL ", "label": "0", "who": "01"},
    {"text": "tab\there é 世", "label": "1", "who": "n"},
]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def save(rows: list[dict[str, str]], path: Path) -> Path:
    frame = pandas.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix in (".csv", ".tsv"):
        frame.to_csv(path, index=False, sep="," if path.suffix == ".csv" else "\t")
    else:
        frame.to_json(path, orient="records", lines=path.suffix == ".jsonl", force_ascii=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_every_kind_of_file_gives_the_same_pool(suffix: str, tmp_path: Path) -> None:
    task = TaskConfig(unit_column="who")
    read = load_rows(str(save(ROWS, tmp_path / f"pool{suffix}")))
    assert list(read) == ROWS
    assert read.columns == ("text", "label", "who")
    assert make_dataset(read, task, training=False).hash() == make_dataset(ROWS, task, training=False).hash()


def test_objects_give_the_same_pool() -> None:
    task = TaskConfig()
    pools = [make_dataset(load_rows(source), task, training=False) for source in (Dataset.from_list(ROWS), ROWS)]
    pools.append(make_dataset(load_rows(pandas.DataFrame(ROWS)), task, training=False))
    assert len({pool.hash() for pool in pools}) == 1


def test_values_that_are_no_text() -> None:
    row = {
        "i": np.int64(3),
        "f": 1.0,
        "b": True,
        "n": None,
        "nan": float("nan"),
        "na": pandas.NA,
        "d": datetime.date(2002, 5, 1),
        "l": [1],
        7: "x",
    }
    rows = load_rows([row])
    assert rows[0] == {"i": "3", "f": "1.0", "b": "True", "n": "", "nan": "", "na": "", "d": "2002-05-01", "7": "x"}
    assert rows.nested == {"l": {0: [1]}}


def test_class_labels_become_their_names_and_nested_columns_are_left_out() -> None:
    features = Features(
        {"text": Value("string"), "label": ClassLabel(names=["neg", "pos"]), "tags": List(Value("int8"))}
    )
    data = Dataset.from_list([{"text": "a", "label": i, "tags": [1]} for i in (1, 0, None, -1)], features=features)
    rows = load_rows(data)
    assert [row["label"] for row in rows] == ["pos", "neg", "", "-1"]
    assert rows.class_names == {"label": ["neg", "pos"]}
    assert rows.nested == {"tags": {0: [1], 1: [1], 2: [1], 3: [1]}}


def test_rows_pass_through() -> None:
    rows = load_rows([{"text": "a"}])
    assert load_rows(rows) is rows


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert load_rows(write(tmp_path / "a.csv", b"\xef\xbb\xbftext,label\r\na,1\r\n")) == [{"text": "a", "label": "1"}]


def test_reading_a_file_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    load_rows(save(ROWS, tmp_path / "pool.csv"))
    assert sorted(os.listdir(tmp_path)) == ["pool.csv"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "the file is empty"),
        ("a.csv", "\n \n", "the file is empty"),
        ("a.csv", "text,label\n", "there is no record in it"),
        ("a.csv", "text;label\na;1\n", "semicolon"),
        ("a.csv", b"text,label\ncaf\xe9,1\n", "line 2 is not UTF-8"),
        ("a.xlsx", "x", "ends in '.xlsx'; expected .csv, .tsv"),
        ("a.jsonl", '{"text": "a"}\n\n{"text": \n', "line 3 is no JSON"),
        ("a.jsonl", '{"text": "a"}\n[1]\n', "line 2 holds a list; expected one object a line"),
        ("a.json", '[{"text": "a"},\n{"text"}]', "line 2 is no JSON"),
        ("a.json", '{"data": [{"text": "a"}]}', "holds one dict; expected a list"),
        ("a.json", '["a"]', "record 1 is a str; expected a mapping"),
        ("a.parquet", "text", "no whole parquet file"),
        ("a.parquet", "PAR1textPAR1", "no whole parquet file"),
    ],
)
def test_broken_files(name: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(PACZeroError, match=message) as caught:
        load_rows(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_object_and_lines_in_a_json(tmp_path: Path) -> None:
    assert load_rows(write(tmp_path / "a.json", '{"text": "a"}')) == [{"text": "a"}]
    assert len(load_rows(write(tmp_path / "b.json", '{"text": "a"}\n{"text": "b"}\n'))) == 2


def test_paths_that_are_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PACZeroError, match=r"this is a directory; expected a file .*name the file in it"):
        load_rows(str(tmp_path))
    with pytest.raises(PACZeroError, match="there is no such file; check the path"):
        load_rows(tmp_path / "none.csv")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PACZeroError, match=f"no such file in {str(tmp_path)!r}"):
        load_rows("none.csv")
    with pytest.raises(PACZeroError, match="'' was given; expected a file"):
        load_rows("")


def test_a_saved_dataset_says_how_to_load_it(tmp_path: Path) -> None:
    Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(PACZeroError, match="load_from_disk"):
        load_rows(tmp_path / "saved")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (DatasetDict({"train": Dataset.from_list(ROWS)}), r"splits 'train' was given; .* pass dataset\['train'\]"),
        (Dataset.from_list(ROWS).to_iterable_dataset(), "IterableDataset"),
        ({"text": ["a"]}, "Dataset.from_dict"),
        (["a"], "record 1 is a str"),
        ([], "there is no record in it"),
        (b"text", "a bytes was given"),
        (7, "a int was given; expected a datasets.Dataset"),
        (pandas.DataFrame([[1, 2]], columns=["a", "a"]), "has a column more than once"),
    ],
)
def test_objects_that_are_no_records(source: Any, message: str) -> None:
    with pytest.raises(PACZeroError, match=message):
        load_rows(source)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], list[tuple[object, ...]]]:
    """Puts an answer in the place of the hub's and keeps what was asked."""
    asked: list[tuple[object, ...]] = []

    def answer(result: object) -> list[tuple[object, ...]]:
        def load_dataset(name: str, config: str | None, split: str | None) -> object:
            asked.append((name, config, split))
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("datasets.load_dataset", load_dataset)
        return asked

    return answer


def test_hub_names(hub: Callable[[object], list[tuple[object, ...]]]) -> None:
    asked = hub(Dataset.from_list(ROWS))
    for name in ("imdb", "stanfordnlp/sst2:default@train[:10%]", "a/b@test"):
        assert len(load_rows(name)) == 3
    assert asked == [("imdb", None, None), ("stanfordnlp/sst2", "default", "train[:10%]"), ("a/b", None, "test")]


def test_a_hub_set_of_one_split_needs_no_name(hub: Callable[[object], list[tuple[object, ...]]]) -> None:
    data = Dataset.from_list(ROWS)
    hub(DatasetDict({"train": data}))
    assert len(load_rows("a/b")) == 3
    hub(DatasetDict({"train": data, "test": data}))
    with pytest.raises(PACZeroError, match="splits 'train', 'test'; name one: a/b@train"):
        load_rows("a/b")


def test_an_unreachable_hub_is_one_line(hub: Callable[[object], list[tuple[object, ...]]]) -> None:
    hub(ConnectionError("no route\nto host"))
    with pytest.raises(PACZeroError, match=r"no such file, and it cannot be loaded from the hub .*no route") as caught:
        load_rows("a/b")
    assert "\n" not in str(caught.value)


def test_parquet_with_a_column_twice(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(PACZeroError, match="column 'text' is there more than once"):
        load_rows(tmp_path / "a.parquet")


def test_numbers_with_gaps_in_parquet_stay_whole(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"label": pyarrow.array([1, None, 0])}), tmp_path / "a.parquet")
    assert [row["label"] for row in load_rows(tmp_path / "a.parquet")] == ["1", "", "0"]


def test_columns_are_those_of_all_records(tmp_path: Path) -> None:
    lines = [json.dumps({"text": "a"}), json.dumps({"label": 1, "text": "b"})]
    rows = load_rows(write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert isinstance(rows, Rows)
    assert rows.columns == ("text", "label")
