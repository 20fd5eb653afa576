"""A run's directory appears whole, belongs to its owner and to one process at a time."""

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from paczero.errors import PACZeroError
from paczero.run_directory import RunDirectory, held, is_held, shared_log
from paczero.utils.io import write_whole


def populate(run: RunDirectory) -> None:
    write_whole(run.config, "steps: 1\n")
    write_whole(run.secret, b"secret", mode=0o600)


def test_it_is_made_in_one_piece(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "some" / "where" / "run")
    before = os.umask(0)
    try:
        run.create(populate)
    finally:
        os.umask(before)
    assert run.config.read_text() == "steps: 1\n"
    assert stat.S_IMODE(run.private.stat().st_mode) == 0o700
    assert stat.S_IMODE(run.secret.stat().st_mode) == 0o600
    assert [path.name for path in run.root.parent.iterdir()] == ["run"]
    assert not run.finished


def test_nothing_is_left_where_it_fails(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")

    def failing(_: RunDirectory) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.create(failing)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_of_the_same_number_left(tmp_path: Path) -> None:
    """Numbers of processes come back, in containers soon."""
    run = RunDirectory(tmp_path / "run")
    (tmp_path / f".run.{os.getpid()}" / "private").mkdir(parents=True)
    run.create(populate)
    assert run.secret.read_bytes() == b"secret"


@pytest.mark.parametrize("name", ["run", "run/", "other/../run", "./run"])
def test_an_empty_directory_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    RunDirectory(Path(name)).create(populate)
    assert (tmp_path / "run" / "config.yaml").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "run"]


def test_the_current_directory_cannot_become_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be another directory afterwards than the one that the process stands in."""
    monkeypatch.chdir(tmp_path)
    for name in (".", str(tmp_path)):
        with pytest.raises(PACZeroError, match=r"output_dir: .* the current directory"):
            RunDirectory(Path(name)).create(populate)


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("x")
    (tmp_path / "file").write_text("x")
    for name, message in (
        ("run", "exists and is not an empty directory; name another"),
        ("file", "is a file; expected"),
    ):
        with pytest.raises(PACZeroError, match=message):
            RunDirectory(tmp_path / name).create(populate)
    assert (tmp_path / "run" / "precious").read_text() == (tmp_path / "file").read_text() == "x"
    with pytest.raises(PACZeroError, match=r"output_dir: .* cannot be made: Not a directory"):
        RunDirectory(tmp_path / "file" / "run").create(populate)


def test_one_process_holds_it(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(PACZeroError, match="holds no run"), run.locked():
        pass
    run.create(populate)
    with run.locked(), pytest.raises(PACZeroError, match="is in use by another process"), run.locked():
        pass
    with run.locked():
        assert stat.S_IMODE((run.private / "lock").stat().st_mode) == 0o600


def test_a_file_is_seen_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_asking_whether_a_file_is_held_leaves_it_as_it_is(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    assert not is_held(log) and not log.exists()
    log.write_text("what a run printed")
    log.chmod(0o444)
    assert not is_held(log)
    with open(log) as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)  # as a sweep's worker holds it
        assert is_held(log)
    assert not is_held(log)
    assert log.read_text() == "what a run printed" and stat.S_IMODE(log.stat().st_mode) == 0o444
    with held(tmp_path / "lock") as mine, held(tmp_path / "lock") as other:
        assert mine and not other and is_held(tmp_path / "lock")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EBADF, errno.ENOSYS])
def test_a_disk_without_locks_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    run = RunDirectory(tmp_path / "run")
    (tmp_path / "lock").touch()
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(PACZeroError, match="cannot be locked"), held(tmp_path / "lock"):
        pass
    with pytest.raises(PACZeroError, match="cannot be locked"):
        is_held(tmp_path / "lock")
    with pytest.raises(PACZeroError, match="cannot be locked"), shared_log(tmp_path / "log"):
        pass
    with pytest.raises(PACZeroError, match="cannot be locked"):
        run.create(populate)
    assert not run.root.exists(), "no secret is left in a place where no run can be"


def test_locks_have_descriptors_that_every_file_system_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS refuses an exclusive lock of a file that is open for reading only, and a shared one for writing only."""
    flock = fcntl.flock

    def strict(file: Any, operation: int) -> None:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR and not operation & fcntl.LOCK_UN:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", strict)
    with shared_log(tmp_path / "log") as log:
        assert is_held(tmp_path / "log") and log.write(b"started")
    assert not is_held(tmp_path / "log") and (tmp_path / "log").read_bytes() == b"started"
    with held(tmp_path / "lock") as mine:
        assert mine and is_held(tmp_path / "lock")
