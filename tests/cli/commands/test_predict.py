"""`paczero predict`: every kind of table, standard input and output; the file appears whole or not at all."""

import csv
import io
import json
import re
import sys
from types import SimpleNamespace

import pytest

from paczero.data.tables import KINDS


@pytest.fixture
def texts(tiny_test_csv):
    return [line.rpartition(",")[0] for line in tiny_test_csv.read_text().splitlines()[1:]]


@pytest.fixture
def unlabelled(tmp_path, texts):
    """A csv with a number and a text, without labels."""
    path = tmp_path / "new.csv"
    path.write_text("id,text\n" + "".join(f"{number:03},{text}\n" for number, text in enumerate(texts)))
    return path


def read(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table(paczero, finished_once, texts, tmp_path, kind):
    records = [{"id": number, "text": text, "tags": ["a", 1.5]} for number, text in enumerate(texts[:3])]
    source = tmp_path / "new.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records).replace('["a", 1.5]', '["a", "b"]'))
    out = tmp_path / f"out{kind}"
    code, printed, _ = paczero("predict", finished_once, "--input", source, "--output", out)
    assert code == 0 and re.fullmatch(rf"{out} holds 3 records: \d × [01](, \d × [01])?\n", printed)
    if kind == ".jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    elif kind == ".parquet":
        import pyarrow.parquet

        rows = pyarrow.parquet.read_table(out).to_pylist()
        again = tmp_path / "again.jsonl"
        renamed = ("--task.template", "{text} It was {label}")
        code, _, err = paczero("predict", finished_once, "--input", out, "--output", again, *renamed)
        assert code == 2 and "has a column 'prediction', which would be replaced" in err
    else:
        rows = read(out)
        assert rows[0]["tags"] == '["a", "b"]' and rows[2]["id"] == "2"
        return
    assert [row["id"] for row in rows] == [0, 1, 2] and rows[0]["tags"] == ["a", "b"]
    assert all(abs(row["probability 0"] + row["probability 1"] - 1) < 1e-5 for row in rows)


def test_from_standard_input_to_standard_output(paczero, finished_once, unlabelled, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(unlabelled.read_bytes())))
    code, out, _ = paczero("predict", finished_once, "--input", "-", "--output", "-")
    assert code == 0
    assert len(list(csv.DictReader(io.StringIO(out)))) == 24


def test_formulas_of_strangers_are_marked_and_numbers_are_not(paczero, finished_once, tmp_path):
    source, out = tmp_path / "new.csv", tmp_path / "out.csv"
    source.write_text('=id,text,value\n-1.5,=HYPERLINK(1),-2e3\n@x,"a, b",+\n')
    assert paczero("predict", finished_once, "--input", source, "--output", out)[0] == 0
    with open(out, newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header[:3] == ["'=id", "text", "value"]
    assert [row[:3] for row in rows] == [["-1.5", "'=HYPERLINK(1)", "-2e3"], ["'@x", "a, b", "'+"]]


def test_nothing_is_replaced_or_half_written(paczero, refusal, finished_once, unlabelled, tmp_path, monkeypatch):
    out = tmp_path / "out.csv"
    out.write_text("mine")
    given = ("predict", finished_once, "--input", unlabelled, "--output", out)
    assert "add --force" in refusal(*given)
    with monkeypatch.context() as patched:
        patched.setattr("paczero.engine.scorer.Scorer.scores", _interrupted)
        assert paczero(*given, "--force")[0] == 130
    assert out.read_text() == "mine" and len(list(tmp_path.glob("*out*"))) == 1
    assert paczero(*given, "--force")[0] == 0
    assert len(read(out)) == 24


def _interrupted(*_, **__):
    raise KeyboardInterrupt


def test_refusals(refusal, finished_once, unlabelled, tmp_path):
    given = ("predict", finished_once, "--input", unlabelled)
    assert "--output: nothing was given" in refusal(*given)
    assert "--input: nothing was given" in refusal("predict", finished_once, "--output", "x.csv")
    assert "no directory that exists" in refusal(*given, "--output", tmp_path / "no" / "x.csv")
    assert "expected a name that ends in" in refusal(*given, "--output", tmp_path / "x.xlsx")
    lacking = tmp_path / "lacking.csv"
    lacking.write_text("review\nfine\n")
    out = ("--output", tmp_path / "out.csv")
    message = refusal("predict", finished_once, "--input", lacking, *out)
    assert "{text} is no column of the data; its columns are 'review'" in message
    lacking.write_text("text,n\nfine,1\n ,2\n")
    assert "record 2 has no text" in refusal("predict", finished_once, "--input", lacking, *out)
    lacking.write_text("")
    assert "the file is empty" in refusal("predict", finished_once, "--input", lacking, *out)
    assert not (tmp_path / "out.csv").exists()
