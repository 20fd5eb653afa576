"""A header that a run can have written passes; a value of another type or range does not."""

import json
from pathlib import Path
from typing import Any

import pytest

from paczero.errors import IntegrityError
from paczero.release.verify.header import check_header

RELEASES = Path(__file__).parents[2] / "fixtures" / "before-restructure"


def header(name: str = "release-mi-full") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RELEASES / name / "transcript.jsonl").read_bytes().partition(b"\n")[0])
    return content


def test_a_budget_that_promises_nothing_is_a_runs_too() -> None:
    check_header(header() | {"budget": 0.8}, "transcript")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mu", 1),
        ("mu", -1.0),
        ("seed", True),
        ("steps", 10**9),
        ("units", 31),
        ("units_per_step", 10**6),
        ("parameters", []),
        ("parameters", [["a", "float32", [True]]]),
        ("train_layers", [0.5]),
        ("schedule", {"learning_rate": 0.1, "name": "cosine"}),
        ("base", {"dtype": "float32", "id": "x", "sha256": "g" * 64}),
        ("threshold", None),
    ],
)
def test_a_value_that_no_run_has(key: str, value: object) -> None:
    with pytest.raises(IntegrityError, match="transcript"):
        check_header(header() | {key: value}, "transcript")
