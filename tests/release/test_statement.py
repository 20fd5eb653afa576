"""The statement: facts in fields, a published shape, a seal that no change survives."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.registry import SPECS
from paczero.release import guarantee, wording
from paczero.release import statement as st

from ..written_runs import development, make_header

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "paczero" / "release" / "privacy-2.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(json.loads(SHIPPED.read_text(encoding="utf-8")))
FILES = {"transcript.jsonl": "cd" * 32, "README.md": "ab" * 32, "adapter/adapter_config.json": "ef" * 32}


def make(name: str = "zpl", **changes: Any) -> dict[str, Any]:
    header, facts = make_header(name, **changes), development(40).facts(10)
    hashes = {"weights_sha256": "0f" * 32, "steps_sha256": "f0" * 32}
    return st.statement(header, chosen_step=10, files=FILES, threshold=0.1, development=facts, **hashes)


@pytest.mark.parametrize("name", SPECS)
def test_it_states_facts_and_no_sentences(name: str) -> None:
    header, document = make_header(name), make(name)
    assert tuple(document) == st.KEYS
    assert (document["half"], document["pool"]) == (guarantee.half(header), guarantee.pool(header))
    assert document["wording"] == wording.NEWEST and document["base"] == header["base"]
    assert list(document["files"]) == sorted(FILES)
    assert document["development"]["served"] == pytest.approx(0.625)
    assert ". " not in json.dumps(document)


def test_what_is_stated_depends_on_the_header_only_through_public_keys() -> None:
    """No key in which something about the pool's steps could hide."""
    assert not {"spent", "q", "beta", "noise", "unanimous", "unanimity", "loss", "accuracy"} & set(make("mi"))


def test_the_schema_is_published_as_it_is_shipped() -> None:
    assert (ROOT / "docs" / "schemas" / SHIPPED.name).read_bytes() == SHIPPED.read_bytes()
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)
    assert set(VALIDATOR.schema["properties"]) == set(st.KEYS) == set(VALIDATOR.schema["required"])
    assert VALIDATOR.schema["properties"]["format"] == {"const": st.FORMAT}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("changes", [{}, {"test_seed": 3}])
def test_statements_have_its_shape(name: str, changes: dict[str, Any]) -> None:
    VALIDATOR.validate(make(name, **changes))
    VALIDATOR.validate(make(name, **changes) | {"development": None})


def test_other_shapes_are_refused() -> None:
    document = make()
    for key in st.KEYS:
        without = copy.deepcopy(document)
        del without[key]
        assert not VALIDATOR.is_valid(without), key
        assert not VALIDATOR.is_valid(document | {key: [[]]}), key
    for change in (
        {"more": 1},
        {"half": document["half"] | {"posterior_success": 0.4}},
        {"pool": {}},
        {"budget": -1},
        {"steps": 4.5},
        {"family": "other"},
        {"mechanism": {"name": "zpl"}},
        {"mechanism": {"name": "dp-sign", "clip": 25.0}},
        {"files": {}},
        {"sha256": "AB" * 32},
    ):
        assert not VALIDATOR.is_valid(document | change), change


def test_seal_and_round_trip(tmp_path: Path) -> None:
    document = make("mi")
    st.check(document)
    assert st.seal(document) == document
    path = tmp_path / st.NAME
    path.write_bytes(st.render(document))
    assert st.read(path) == document


@pytest.mark.parametrize("key", [key for key in st.KEYS if key != "format"])
def test_any_changed_value_is_refused(key: str) -> None:
    with pytest.raises(IntegrityError, match="sha256"):
        st.check(make("mi") | {key: 7})


def test_added_missing_and_foreign_are_refused() -> None:
    document = make()
    for broken in (document | {"more": 1}, {k: v for k, v in document.items() if k != "half"}, [], None):
        with pytest.raises(IntegrityError):
            st.check(broken)
    with pytest.raises(IntegrityError, match="format"):
        st.check(st.seal(document | {"format": "other/1"}))
    with pytest.raises(IntegrityError, match="number"):
        st.check(document | {"budget": math.nan})
    for version in (0, "2", 2.0, True, None):
        with pytest.raises(IntegrityError, match="wording"):
            st.check(st.seal(document | {"wording": version}))


def test_every_flipped_byte_of_the_file_is_refused(tmp_path: Path) -> None:
    data, path = st.render(make()), tmp_path / st.NAME
    for index in [*range(0, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :])
        with pytest.raises(IntegrityError) as caught:
            st.read(path)
        assert "\n" not in str(caught.value)
    for other in (b"", b"[" * 100_000, data + b"\n", json.dumps(json.loads(data)).encode(), b"\xff"):
        path.write_bytes(other)
        with pytest.raises(IntegrityError):
            st.read(path)
    with pytest.raises(IntegrityError, match="cannot be read"):
        st.read(tmp_path / "nothing")


def test_bad_arguments_name_what_is_wrong() -> None:
    header, given = make_header(), {"weights_sha256": "", "files": {}}
    with pytest.raises(PACZeroError, match="chosen_step: 41"):
        st.statement(header, chosen_step=41, **given)
    with pytest.raises(PACZeroError, match="budget"):
        st.statement({k: v for k, v in header.items() if k != "budget"}, chosen_step=0, **given)
    with pytest.raises(PACZeroError, match="laplace"):
        st.statement(header | {"mechanism": {"name": "laplace"}}, chosen_step=0, **given)
    with pytest.raises(PACZeroError, match="steps_run: 41"):
        st.statement(header, chosen_step=0, steps_run=41, **given)


def test_a_run_that_ended_early_says_so() -> None:
    early = {"chosen_step": 9, "weights_sha256": "", "files": {}}
    document = st.statement(make_header(), steps_run=9, **early)
    assert (document["steps"], document["steps_run"]) == (40, 9)
    with pytest.raises(PACZeroError, match="chosen_step: 9 was given; expected 0 to 8"):
        st.statement(make_header(), steps_run=8, **early)


def test_the_served_threshold_is_stated() -> None:
    given = {"chosen_step": 10, "weights_sha256": "", "files": {}}
    assert st.statement(make_header(), **given)["threshold"] == 0.0
    assert st.statement(make_header(), threshold=-0.25, **given)["threshold"] == -0.25
    for wrong in (math.nan, math.inf, "0.1", None, 1):
        with pytest.raises(PACZeroError, match="expected a finite number"):
            st.statement(make_header(), threshold=wrong, **given)
    with pytest.raises(PACZeroError, match="this run moves none"):
        st.statement(make_header(threshold="none"), threshold=0.1, **given)
