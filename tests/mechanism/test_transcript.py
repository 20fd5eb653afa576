"""The transcript: what is released, in one form only, or a refusal in one line."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.transcript import FORMAT, Transcript
from paczero.utils.io import canonical

HEADER = {"format": FORMAT, "mechanism": {"name": "zpl", "clip": 25.0}, "directions": 2, "steps": 5, "seed": 0}
REAL = HEADER | {"mechanism": {"name": "none"}}
STEPS = [(1, -1), (-1, -1), (1, 1)]


@pytest.fixture
def path(tmp_path):
    transcript = Transcript.create(tmp_path / "transcript.jsonl", HEADER)
    for step, y in enumerate(STEPS):
        transcript.append(step, y)
    return tmp_path / "transcript.jsonl"


def refused(call, match=None):
    with pytest.raises(IntegrityError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_it_is_lines_of_canonical_json(path):
    lines = path.read_bytes().split(b"\n")
    assert lines == [canonical(HEADER), *(canonical({"t": t, "y": list(y)}) for t, y in enumerate(STEPS)), b""]
    transcript = Transcript.read(path)
    assert transcript.header == HEADER
    assert transcript.y == STEPS
    with pytest.raises(PACZeroError, match="opened for reading"):
        transcript.append(3, (1, 1))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2))
@settings(deadline=None, max_examples=50)
def test_real_values_come_back_bit_for_bit(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("real") / "transcript"
    Transcript.create(path, REAL).append(0, values)
    (found,) = Transcript.read(path).y
    assert [value.hex() for value in found] == [value.hex() for value in values]


@pytest.mark.parametrize(
    "line",
    [
        '{"t":3,"y":[1,0]}',
        '{"t":3,"y":[1,2]}',
        '{"t":3,"y":[1,true]}',
        '{"t":3,"y":[1,1.0]}',
        '{"t":3,"y":[1,NaN]}',
        '{"t":3,"y":[1,"1"]}',
        '{"t":3,"y":[1,null]}',
        '{"t":3,"y":[1]}',
        '{"t":3,"y":[1,1,1]}',
        '{"t":3,"y":1}',
        '{"t":3}',
        '{"t":3,"y":[1,1],"q":0.5}',
        '{"t":4,"y":[1,1]}',
        '{"t":2,"y":[1,1]}',
        '{"t":-1,"y":[1,1]}',
        '{"t":true,"y":[1,1]}',
        '{"t":3.0,"y":[1,1]}',
        '{"t":3,"t":3,"y":[1,1]}',
        '{"y":[1,1],"t":3}',
        '{"t":3, "y":[1,1]}',
        '{"t":3,"y":[1,1]}\r',
        "",
        "null",
        "garbage",
        "[" * 200,
        '{"t":3,"y":[1,1]}' + " " * 300,
        "\x00" * 10,
        "é",
    ],
)
def test_what_is_no_step_is_refused(path, line):
    path.write_bytes(path.read_bytes() + line.encode() + b"\n")
    refused(lambda: Transcript.read(path))


@pytest.mark.parametrize("value", ["1", "NaN", "Infinity", "1e999", "true", "1.00", "1E5", "0.1000000000000000055511"])
def test_a_real_value_has_one_form_only(tmp_path, value):
    path = tmp_path / "transcript"
    path.write_bytes(canonical(REAL) + b'\n{"t":0,"y":[1.0,' + value.encode() + b"]}\n")
    refused(lambda: Transcript.read(path))


@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: [lines[0], lines[2], lines[1], lines[3]],
        lambda lines: [lines[0], lines[1], lines[3]],
        lambda lines: [lines[0], lines[1], lines[1], lines[2], lines[3]],
        lambda lines: [*lines, *(canonical({"t": t, "y": [1, 1]}) for t in range(3, 6))],
        lambda lines: lines[1:],
    ],
)
def test_gaps_swaps_repeats_and_too_many_are_refused(path, edit):
    path.write_bytes(b"\n".join(edit(path.read_bytes().splitlines())) + b"\n")
    refused(lambda: Transcript.read(path))


def test_every_changed_bit_of_a_step_but_another_release_is_refused(path):
    whole = path.read_bytes()
    for place in range(whole.index(b"\n") + 1, len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            path.write_bytes(bytes(changed))
            refused(lambda: Transcript.read(path))


def test_a_missing_newline_or_trailing_bytes_are_refused(path):
    whole = path.read_bytes()
    for content in (whole[:-1], whole + b"x", whole + b"\n", b"", canonical(HEADER)):
        path.write_bytes(content)
        refused(lambda: Transcript.read(path))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "paczero-transcript/2"},
        {"mechanism": "zpl"},
        {"mechanism": {"name": "other"}},
        {"mechanism": {"name": ["zpl"]}},
        {"directions": 0},
        {"directions": True},
        {"directions": 10**9},
        {"steps": 0},
        {"steps": "5"},
        {"steps": 10**12},
    ],
)
def test_a_header_that_means_nothing_is_refused(tmp_path, change):
    path = tmp_path / "transcript"
    refused(lambda: Transcript.create(path, HEADER | change))
    assert not path.exists()
    path.write_bytes(canonical(HEADER | change) + b"\n")
    refused(lambda: Transcript.read(path))


def test_reading_is_bounded_by_the_header(path):
    path.write_bytes(path.read_bytes() + b"x" * 10_000)
    refused(lambda: Transcript.read(path), "longer than")
    path.write_bytes(b'{"' + b"x" * (17 * 1024**2))
    refused(lambda: Transcript.read(path), "header")


def test_appending_checks_too(path, tmp_path):
    transcript = Transcript.resume(path, HEADER, STEPS)
    for step, y in ((2, (1, 1)), (4, (1, 1)), (3, (1,)), (3, (1, 0)), (3, (1.0, 1)), (3, (True, 1))):
        refused(lambda step=step, y=y: transcript.append(step, y))
    real = Transcript.create(tmp_path / "real", REAL)
    for value in (math.nan, math.inf, 1, True):
        refused(lambda value=value: real.append(0, (0.5, value)))
    transcript.append(3, (1, 1))
    transcript.append(4, (1, 1))
    refused(lambda: transcript.append(5, (1, 1)), "5 steps only")
    assert len(Transcript.read(path).y) == 5


def test_the_staged_one_follows_its_journal(path, tmp_path):
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(first, len(whole) + 1):
        path.write_bytes(whole[:size])
        assert Transcript.resume(path, HEADER, STEPS).y == STEPS
        assert path.read_bytes() == whole
    assert Transcript.resume(tmp_path / "new", HEADER, STEPS).y == STEPS
    assert (tmp_path / "new").read_bytes() == whole


def test_the_staged_one_never_runs_ahead_of_its_journal(path):
    refused(lambda: Transcript.resume(path, HEADER, STEPS[:2]), "not what the journal holds")
    refused(lambda: Transcript.resume(path, HEADER, [STEPS[1], *STEPS[1:]]), "not what the journal holds")
    refused(lambda: Transcript.resume(path, HEADER | {"seed": 1}, STEPS), "not what the journal holds")


def test_absence_is_said(tmp_path):
    with pytest.raises(PACZeroError, match="No such file"):
        Transcript.read(tmp_path / "none")
