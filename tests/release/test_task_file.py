"""`task.json` gives back the task as it was set, and refuses what no run wrote."""

import json
from pathlib import Path

import pytest

from paczero.config import TaskConfig
from paczero.errors import IntegrityError
from paczero.release import task_file

TASK = TaskConfig(
    template='{premise}\nIs "{claim}" true?\n{label}',
    label_column="answer",
    labels={"1": "Ja", "0": "Nein", "?": "Vielleicht"},
    unit_column="patient",
    too_long="truncate",
    max_length=90,
)


def test_it_comes_back_in_order_and_without_the_owners_unit_column(tmp_path: Path) -> None:
    task_file.write(tmp_path, TASK)
    found = task_file.read(tmp_path)
    assert found is not None and found.unit_column is None
    assert list(found.labels.items()) == list(TASK.labels.items())
    assert (found.template, found.label_column, found.too_long, found.max_length) == (
        TASK.template,
        "answer",
        "truncate",
        90,
    )
    assert "patient" not in (tmp_path / task_file.NAME).read_text()


def test_an_old_release_has_none(tmp_path: Path) -> None:
    assert task_file.read(tmp_path) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other/1"}, "format"),
        ({"colour": "red"}, "newer"),
        ({"template": "no end"}, "task.template"),
        ({"labels": None}, "no task"),
    ],
)
def test_what_no_run_wrote(tmp_path: Path, change: dict[str, object], message: str) -> None:
    task_file.write(tmp_path, TASK)
    path = tmp_path / task_file.NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(IntegrityError, match=message):
        task_file.read(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{", "\x80"])
def test_no_json(tmp_path: Path, content: str) -> None:
    (tmp_path / task_file.NAME).write_bytes(content.encode("latin-1"))
    with pytest.raises(IntegrityError, match=r"task\.json"):
        task_file.read(tmp_path)
