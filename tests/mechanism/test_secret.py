"""The secret: drawn by the operating system, written once, readable by its owner, never shown."""

import copy
import json
import math
import os
import pickle
from pathlib import Path

import pytest

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism import secret as module
from paczero.mechanism.secret import (
    EarlierRuns,
    SecretRecord,
    create_secret,
    open_secret,
    read_record,
    reuse_secret,
)
from paczero.utils.io import canonical

SIGNS = [1, -1, 1, -1]


def write(path, content, mode=0o600):
    path.write_text(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_the_file_is_its_owners_whatever_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        create_secret(tmp_path / "secret.json", subsets=4)
    finally:
        os.umask(before)
    assert (tmp_path / "secret.json").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["secret.json"]


def test_an_existing_file_is_never_overwritten(tmp_path):
    path = tmp_path / "secret.json"
    create_secret(path, subsets=4)
    before = path.read_bytes()
    with pytest.raises(PACZeroError, match="never overwritten"):
        create_secret(path, subsets=4)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["secret.json"]


def test_what_a_killed_process_left_is_no_obstacle(tmp_path):
    (tmp_path / ".secret.json.new").write_text('{"form')
    create_secret(tmp_path / "secret.json", subsets=4)
    assert open_secret(tmp_path / "secret.json").subsets == 4


def test_the_operating_system_decides(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(module.secrets, "randbelow", lambda bound: asked.append(bound) or 2)
    monkeypatch.setattr(module.secrets, "token_hex", lambda size: asked.append(size) or "5e" * size)
    create_secret(tmp_path / "secret.json", subsets=128)
    assert asked == [128, 16]
    assert json.loads((tmp_path / "secret.json").read_text()) == {
        "format": "paczero-secret/2",
        "index": 2,
        "subsets": 128,
        "secret_id": "5e" * 16,
        "earlier": None,
    }


def test_a_test_seed_decides_and_says_so(tmp_path):
    indices = []
    for seed in (0, 0, 1, 2, 3, 4, 5, 6):
        path = tmp_path / f"{len(indices)}.json"
        create_secret(path, subsets=128, test_seed=seed)
        content = json.loads(path.read_text())
        assert content["test_seed"] == open_secret(path).test_seed == seed
        indices.append(content["index"])
    assert indices[0] == indices[1]
    assert len(set(indices)) > 4


def test_signs_are_all_it_tells(tmp_path):
    path = write(tmp_path / "s", '{"format":"paczero-secret/1","index":1,"subsets":4}\n')
    secret = open_secret(path)
    assert secret.signs_of(SIGNS) == -1
    for text in (repr(secret), str(secret), f"{secret}", f"{[secret]}"):
        assert "redacted" in text
        assert "1" not in text
    for leak in (lambda: pickle.dumps(secret), lambda: copy.copy(secret), lambda: copy.deepcopy(secret)):
        with pytest.raises(TypeError, match="cannot be pickled"):
            leak()
    with pytest.raises(TypeError):
        vars(secret)
    with pytest.raises(IntegrityError, match="4 candidates"):
        secret.signs_of([1, -1])


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o644])
def test_a_file_that_others_may_use_is_refused(tmp_path, mode):
    path = write(tmp_path / "s", '{"format":"paczero-secret/1","index":1,"subsets":4}\n', mode)
    with pytest.raises(PACZeroError, match="expected 0600"):
        open_secret(path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"format":"paczero-secret/1","index":4,"subsets":4}\n',
        '{"format":"paczero-secret/1","index":-1,"subsets":4}\n',
        '{"format":"paczero-secret/1","index":true,"subsets":4}\n',
        '{"format":"paczero-secret/1","index":1.0,"subsets":4}\n',
        '{"format":"paczero-secret/1","index":0,"subsets":0}\n',
        '{"format":"paczero-secret/2","index":1,"subsets":4}\n',
        '{"format":"paczero-secret/1","index":1,"subsets":4,"x":0}\n',
        '{"format":"paczero-secret/1","index":1,"index":2,"subsets":4}\n',
        '{"format":"paczero-secret/1","index":1}\n',
        "[1]\n",
        "1" * 5000 + "\n",
        '{"format":"paczero-secret/1","index":"é","subsets":4}\n',
    ],
)
def test_anything_else_is_refused(tmp_path, content):
    with pytest.raises(IntegrityError) as caught:
        open_secret(write(tmp_path / "s", content))
    assert "\n" not in str(caught.value)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "secret.json", 0o600)
    with pytest.raises(PACZeroError, match="is no regular file"):
        open_secret(tmp_path / "secret.json")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(PACZeroError, match="No such file"):
        open_secret(tmp_path / "none")


@pytest.mark.parametrize("subsets", [0, 1, 3, -2])
def test_an_odd_number_of_candidates_is_refused(tmp_path, subsets):
    with pytest.raises(PACZeroError, match="subsets"):
        create_secret(tmp_path / "s", subsets=subsets)
    assert not os.listdir(tmp_path)


def test_no_space_leaves_nothing(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    with pytest.raises(PACZeroError, match="No space left"):
        create_secret(tmp_path / "s", subsets=4)
    assert not os.listdir(tmp_path)


EARLIER = EarlierRuns(
    budgets=(0.1, 0.0),
    log_weights=(-math.log(2), None, -math.log(2), None),
    pool="a" * 64,
    candidates="b" * 64,
    run="../first",
    journal="c" * 64,
    claim="d" * 32,
)


def test_an_earlier_runs_secret_may_be_used_again_unseen(tmp_path):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    create_secret(first, subsets=4)
    reuse_secret(first, second, EARLIER, subsets=4)
    before, after = (json.loads(path.read_text()) for path in (first, second))
    assert after.pop("earlier") is not None and before.pop("earlier") is None
    assert after == before
    assert read_record(second) == SecretRecord(4, None, before["secret_id"], EARLIER)
    assert read_record(first).earlier is None
    assert second.stat().st_mode & 0o777 == 0o600
    with pytest.raises(PACZeroError, match="never overwritten"):
        reuse_secret(first, second, EARLIER, subsets=4)
    with pytest.raises(PACZeroError, match="4 candidates"):
        reuse_secret(first, tmp_path / "third.json", EARLIER, subsets=8)
    first.chmod(0o644)
    with pytest.raises(PACZeroError, match="expected 0600"):
        reuse_secret(first, tmp_path / "third.json", EARLIER, subsets=4)
    assert sorted(os.listdir(tmp_path)) == ["first.json", "second.json"]


@pytest.mark.parametrize(
    "change",
    [
        {"budgets": []},
        {"budgets": [-0.1, 0.0]},
        {"budgets": [1, 0.0]},
        {"log_weights": [0.0]},
        {"log_weights": [0.0, 0.0, None, None]},
        {"log_weights": [None] * 4},
        {"log_weights": [-0.1, None, 0.5, None]},
        {"pool": None},
        {"claim": 1},
        {"more": 0},
        {"run": ["x"]},
    ],
)
def test_what_no_run_says_of_earlier_runs_is_refused(tmp_path, change):
    create_secret(tmp_path / "first.json", subsets=4)
    reuse_secret(tmp_path / "first.json", tmp_path / "second.json", EARLIER, subsets=4)
    content = json.loads((tmp_path / "second.json").read_text())
    content["earlier"] |= change
    with pytest.raises(IntegrityError, match="earlier runs"):
        read_record(write(tmp_path / "s", canonical(content).decode() + "\n"))


def test_two_secrets_have_two_ids_and_none_follows_from_the_number(tmp_path):
    ids = set()
    for number in range(40):
        create_secret(tmp_path / f"{number}", subsets=2)
        ids.add(read_record(tmp_path / f"{number}").secret_id)
    assert len(ids) == 40 and {len(name) for name in ids} == {32}


def test_a_secret_of_version_01_is_read_but_not_used_again(tmp_path):
    path = write(tmp_path / "s", '{"format":"paczero-secret/1","index":1,"subsets":4}\n')
    assert read_record(path) == SecretRecord(4, None, None, None)
    with pytest.raises(PACZeroError, match=r"is of paczero 0\.1"):
        reuse_secret(path, tmp_path / "new.json", EARLIER, subsets=4)
    assert not (tmp_path / "new.json").exists()


def test_a_tests_secret_and_a_real_one_are_kept_apart(tmp_path):
    real, tested = tmp_path / "real.json", tmp_path / "tested.json"
    create_secret(real, subsets=4)
    create_secret(tested, subsets=4, test_seed=1)
    with pytest.raises(PACZeroError, match="from a test seed"):
        reuse_secret(tested, tmp_path / "new.json", EARLIER, subsets=4)
    with pytest.raises(PACZeroError, match="would give away"):
        reuse_secret(real, tmp_path / "new.json", EARLIER, subsets=4, test_seed=1)
    assert not (tmp_path / "new.json").exists()
    reuse_secret(tested, tmp_path / "new.json", EARLIER, subsets=4, test_seed=2)


def test_a_secret_does_not_give_its_state_away(tmp_path: Path) -> None:
    create_secret(tmp_path / "secret.json", subsets=8, test_seed=1)
    with pytest.raises(TypeError):
        module.open_secret(tmp_path / "secret.json").__getstate__()
