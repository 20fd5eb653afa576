"""Changed lines break the chain; a file that cannot be read as a run's is refused in one line."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paczero.audit import recompute
from paczero.errors import IntegrityError, PACZeroError

from .journals import found

FILES = (
    *("private/journal.jsonl", "private/candidates.npz"),
    *("release/transcript.jsonl", "release/privacy.json", "config.yaml"),
)


def refused(run):
    with pytest.raises(PACZeroError) as error:
        recompute(run)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    return error.value


def test_a_changed_line_breaks_the_chain(run):
    path = run / "private/journal.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[6] = lines[6].replace(b'"nonfinite":0', b'"nonfinite":1')
    path.write_bytes(b"\n".join(lines))
    assert found(recompute(run)) == {(5, "chain")}


def test_a_changed_header_breaks_the_chain(run):
    path = run / "private/journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"base":"ab"', b'"base":"ac"', 1))
    assert {(None, "chain"), (None, "transcript")} <= found(recompute(run))


def test_a_missing_run_is_refused(tmp_path):
    assert "no such file" in str(refused(tmp_path / "nothing"))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data[:50],
        lambda data: data.replace(b'"t":3', b'"t": 3'),
        lambda data: data.replace(b'"q":[', b'"q":[true,', 1),
        lambda data: data.replace(b'"t":3', b'"t":"3"'),
        lambda data: data.replace(b'"output":null', b'"output":NaN', 1),
        lambda data: data.replace(b'"signs":["', b'"signs":["f', 1),
        lambda data: data.replace(b'"unanimous":[', b'"unanimous":[[],', 1),
        lambda data: data.replace(b"\n", b"\n" + b"[" * 5000 + b"\n", 1),
        lambda data: data.replace(b"\n", b"\n" + b"9" * 10**5 + b"\n", 1),
        lambda data: data + data.split(b"\n")[-2] + b"\n",
        lambda data: data.replace(b"\n", b"\n\xff\n", 1),
    ],
)
def test_a_broken_journal_is_refused_in_one_line(run, change):
    path = run / "private/journal.jsonl"
    path.write_bytes(change(path.read_bytes()))
    assert isinstance(refused(run), IntegrityError)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x" * 100, b"x" * 10**6])
def test_broken_candidates_are_refused(run, content):
    (run / "private/candidates.npz").write_bytes(content)
    assert isinstance(refused(run), IntegrityError)


def test_candidates_that_unpack_to_much_more_are_refused_before_they_are(run):
    np.savez_compressed(run / "private/candidates.npz", packed=np.zeros((10**6, 8), np.uint8), subsets=8)
    assert "unpacks to more" in str(refused(run))


@pytest.mark.parametrize(
    "arrays",
    [
        {"packed": np.zeros((40, 2), np.uint8), "subsets": 8},
        {"packed": np.zeros((40, 1), np.int8), "subsets": 8},
        {"packed": np.zeros((40, 1), np.uint8), "subsets": 4},
        {"packed": np.zeros((40, 1), np.uint8)},
        {"packed": np.array([{}]), "subsets": 8},
    ],
)
def test_candidates_of_another_shape_are_refused(run, arrays):
    np.savez(run / "private/candidates.npz", **arrays)
    assert isinstance(refused(run), IntegrityError)


@pytest.mark.parametrize(
    ("key", "value"),
    [("steps", 0), ("directions", "2"), ("budget", -1.0), ("subsets", 10**9), ("units", None), ("mechanism", "mi")],
)
def test_a_header_that_no_run_has_is_refused(run, key, value):
    path = run / "release/transcript.jsonl"
    first, rest = path.read_text().split("\n", 1)
    header = json.loads(first) | {key: value}
    path.write_text(json.dumps(header, sort_keys=True, separators=(",", ":")) + "\n" + rest)
    assert isinstance(refused(run), IntegrityError)


def test_a_mechanism_that_is_unknown_is_refused(run):
    path = run / "release/transcript.jsonl"
    path.write_text(path.read_text().replace('"name":"mi"', '"name":"magic"', 1))
    assert "magic" in str(refused(run))


@settings(max_examples=60)
@given(data=st.data())
def test_no_change_of_bytes_ends_in_a_traceback(honest, tmp_path_factory, data):
    run = tmp_path_factory.mktemp("fuzz") / "run"
    shutil.copytree(honest, run)
    name = data.draw(st.sampled_from(FILES))
    content = bytearray((run / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(content) - 1))
        content[index] = data.draw(st.sampled_from([*b'0129-.eE{}[]",:nul\n', data.draw(st.integers(0, 255))]))
    (run / name).write_bytes(content)
    try:
        audit = recompute(run)
    except PACZeroError as error:
        assert "\n" not in str(error)
    else:
        assert all("\n" not in str(finding) for finding in audit.findings)
