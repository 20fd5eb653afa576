"""The published schema of a statement: real statements of every mechanism have its shape, edited ones do not."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from paczero.mechanism.registry import SPECS
from paczero.release import statement

from ..written_runs import make_header

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "paczero" / "release" / "privacy-1.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(json.loads(SHIPPED.read_text(encoding="utf-8")))
FILES = {"README.md": "ab" * 32, "transcript.jsonl": "cd" * 32, "adapter/adapter_config.json": "ef" * 32}


def made(name: str = "zpl", **changes):
    header = make_header(name, **changes)
    return statement.statement(header, chosen_step=3, weights_sha256="0f" * 32, files=FILES, threshold=0.1)


def test_it_is_published_as_it_is_shipped_and_is_a_schema():
    assert (ROOT / "docs" / "schemas" / SHIPPED.name).read_bytes() == SHIPPED.read_bytes()
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)
    assert set(VALIDATOR.schema["properties"]) == set(statement.KEYS) == set(VALIDATOR.schema["required"])
    assert VALIDATOR.schema["properties"]["format"] == {"const": statement.FORMAT}


@pytest.mark.parametrize("name", list(SPECS))
@pytest.mark.parametrize("changes", [{}, {"test_seed": 3}])
def test_statements_have_its_shape(name, changes):
    VALIDATOR.validate(made(name, **changes))


def test_other_shapes_are_refused():
    document = made()
    for key in statement.KEYS:
        without = copy.deepcopy(document)
        del without[key]
        assert not VALIDATOR.is_valid(without), key
        assert not VALIDATOR.is_valid(document | {key: [[]]}), key
    for change in (
        {"more": 1},
        {"posterior_success": 0.4},
        {"budget": -1},
        {"steps": 4.5},
        {"family": "other"},
        {"mechanism": {"name": "zpl"}},
        {"mechanism": {"name": "dp-sign", "clip": 25.0}},
        {"files": {}},
        {"sha256": "AB" * 32},
    ):
        assert not VALIDATOR.is_valid(document | change), change
