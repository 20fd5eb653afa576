"""The journal: written before the weights move, read back exactly or not at all."""

import json
import os

import pytest

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.journal import Journal
from paczero.utils import io as files

HEADER = {"seed": 0, "pool": "abc", "rate": 0.1, "nested": {"b": [1, 2], "a": None}}
ENTRIES = [{"t": t, "y": [1, -1], "q": 0.1 + t} for t in range(4)]


@pytest.fixture
def path(tmp_path):
    journal = Journal.create(tmp_path / "journal.jsonl", HEADER)
    for entry in ENTRIES:
        journal.append(entry)
    return tmp_path / "journal.jsonl"


def test_what_was_written_is_read_and_goes_on(path):
    journal = Journal.open(path, HEADER)
    assert journal.header == HEADER
    assert journal.entries == ENTRIES
    journal.append({"t": 4})
    assert Journal.open(path).entries == [*ENTRIES, {"t": 4}]
    assert path.stat().st_mode & 0o777 == 0o600


def test_each_line_is_one_write_and_then_synced(path, monkeypatch):
    calls, write, sync = [], os.write, os.fsync
    monkeypatch.setattr(os, "write", lambda fd, data: calls.append(bytes(data)) or write(fd, data))
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append("sync") or sync(fd))
    Journal.open(path).append({"t": 4})
    line, synced = calls
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert synced == "sync"


def test_a_file_cut_anywhere_loses_the_half_line_only(path):
    whole = path.read_bytes()
    header = whole.index(b"\n") + 1
    for size in range(header, len(whole)):
        path.write_bytes(whole[:size])
        kept = whole[:size].count(b"\n") - 1
        journal = Journal.open(path, HEADER)
        assert journal.entries == ENTRIES[:kept]
        assert path.read_bytes() == whole[: whole[:size].rindex(b"\n") + 1]
    for size in range(header):
        path.write_bytes(whole[:size])
        with pytest.raises(IntegrityError):
            Journal.open(path, HEADER)


def test_every_changed_byte_is_noticed(path):
    whole = path.read_bytes()
    for place in range(len(whole) - 1):
        if whole[place] == ord("\n"):
            continue
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(bytes(changed))
        with pytest.raises(IntegrityError) as caught:
            Journal.open(path, HEADER)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: lines[:2] + lines[3:],
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        lambda lines: [*lines[:2], lines[1], *lines[2:]],
        lambda lines: lines[1:],
        lambda lines: [*lines, b""],
        lambda lines: [*lines, b"null"],
        lambda lines: [*lines, b"[" * 100_000],
        lambda lines: [lines[0], lines[1].replace(b",", b", ", 1), *lines[2:]],
    ],
)
def test_gaps_swaps_repeats_and_garbage_are_refused(path, edit):
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join(edit(lines)) + b"\n")
    with pytest.raises(IntegrityError) as caught:
        Journal.open(path)
    assert "\n" not in str(caught.value)


def test_another_header_is_refused_by_the_keys_that_differ(path):
    with pytest.raises(IntegrityError, match="differs in new, pool, seed;"):
        Journal.open(path, {key: value for key, value in HEADER.items() if key != "seed"} | {"pool": "x", "new": None})


def test_steps_come_in_order(path):
    journal = Journal.open(path)
    for step in (3, 5, -1, True, 4.0, None):
        with pytest.raises(IntegrityError, match="step 4 must stand"):
            journal.append({"t": step})
    assert Journal.open(path).entries == ENTRIES


@pytest.mark.parametrize("failing", ["write", "short", "fsync"])
def test_no_space_leaves_the_file_as_it_was(path, monkeypatch, failing):
    journal, before = Journal.open(path), path.read_bytes()
    write = os.write

    def refuse(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if failing == "short":
            patch.setattr(files.os, "write", lambda fd, data: write(fd, data[:10]))
        else:
            patch.setattr(files.os, failing, refuse)
        with pytest.raises(PACZeroError, match=r"No space left on device; make room") as caught:
            journal.append({"t": 4})
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    journal.append({"t": 4})
    assert Journal.open(path).entries[-1] == {"t": 4}


def test_a_second_writer_is_noticed(path):
    first, second = Journal.open(path), Journal.open(path)
    first.append({"t": 4})
    with pytest.raises(IntegrityError, match="another program"):
        second.append({"t": 4})


def test_nothing_is_overwritten_and_absence_is_said(path, tmp_path):
    with pytest.raises(PACZeroError, match="never overwritten"):
        Journal.create(path, HEADER)
    assert Journal.open(path).entries == ENTRIES
    with pytest.raises(PACZeroError, match="No such file"):
        Journal.open(tmp_path / "none")
    with pytest.raises(PACZeroError, match="cannot be written"):
        Journal.create(tmp_path / "none" / "journal", HEADER)


def test_a_created_header_reads_as_json(tmp_path):
    journal = Journal.create(tmp_path / "journal", {"shape": (1, 2)})
    assert journal.header == {"shape": [1, 2]}
    assert Journal.open(tmp_path / "journal", {"shape": (1, 2)}).header == journal.header
    assert json.loads((tmp_path / "journal").read_text())["format"] == "paczero-journal/2"


def test_a_file_system_without_links_is_served(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", refuse)
    Journal.create(tmp_path / "journal", HEADER)
    assert os.listdir(tmp_path) == ["journal"]
    with pytest.raises(PACZeroError, match="never overwritten"):
        Journal.create(tmp_path / "journal", HEADER)


def test_a_file_of_absurd_size_is_not_read(path, monkeypatch):
    with pytest.raises(IntegrityError, match="longer than 10 bytes"):
        files.read_lines(path, limit=10)
