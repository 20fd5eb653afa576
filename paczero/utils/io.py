"""Canonical JSON lines on disk: what journal, transcript and secret have in common.

A file appears whole or not at all, a line is appended by one write and is on disk when the call returns, and what
is read back must be exactly what would be written.

>>> canonical({"t": 0, "y": [1, -1]})
b'{"t":0,"y":[1,-1]}'
>>> parse_line(b'{"t":0,"y":[1,-1]}', "line 2")
{'t': 0, 'y': [1, -1]}
"""

import contextlib
import errno
import importlib.metadata
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from paczero.errors import IntegrityError, PACZeroError


def canonical(value: object) -> bytes:
    """The one way in which a value is written: keys sorted, no spaces, ASCII, no NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def parse_line(line: bytes, where: str) -> dict[str, Any]:
    """Reads one canonical JSON object.

    Raises:
        IntegrityError: it is not JSON, no object, or not canonical (so duplicate keys, spaces and NaN are refused).
    """
    try:
        value = json.loads(line.decode("ascii"), parse_constant=_refuse_constant)
        same = canonical(value) == line
    except (ValueError, RecursionError):
        raise IntegrityError(f"{where}: not a line that was written by paczero; restore the file") from None
    if not isinstance(value, dict) or not same:
        raise IntegrityError(f"{where}: not a line in canonical form; restore the file")
    return value


def read_object(path: Path, *, limit: int | None = None) -> dict[str, Any]:
    """A JSON object from a file that may come from a stranger: no key twice, no NaN.

    Args:
        limit: the most bytes that are read.

    Raises:
        IntegrityError: it is none, or is longer.
    """
    try:
        if limit is not None and path.stat().st_size > limit:
            raise ValueError(f"it is larger than {limit} bytes")
        content = json.loads(path.read_bytes(), object_pairs_hook=_once, parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{path}: cannot be read as JSON: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise IntegrityError(f"{path}: is no JSON object; restore it")
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key stands twice")
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


@contextlib.contextmanager
def about(path: Path) -> Iterator[None]:
    """An error of the system within says which file it is about; of a write or an fsync it would not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def create_whole(path: Path, data: bytes, *, mode: int) -> None:
    """Creates a file that is complete and durable as soon as it can be seen. Never overwrites one.

    The mode is set whatever the umask is.

    Raises:
        PACZeroError: the file exists, or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)  # left by a process that was killed in the middle of this
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
        try:
            os.fchmod(descriptor, mode)
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _publish(temporary, path)
        sync_directory(path.parent)
    except FileExistsError:
        raise PACZeroError(f"{str(path)!r} exists already and is never overwritten; name another file") from None
    except OSError as error:
        raise PACZeroError(f"{str(path)!r} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):  # the refusal above is what matters
            temporary.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> None:
    """Gives a finished file its name, which must be free. A link cannot overwrite, a rename could."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        # A file system without links: the run's lock keeps other writers away between the look and the rename.
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.rename(temporary, path)


def append_line(path: Path, line: bytes, *, size: int) -> int:
    """Appends one line (without its newline) by a single write and waits until it is on disk.

    Args:
        size: bytes that the file has; another number means that another process wrote to it.

    Returns:
        The new size.

    Raises:
        IntegrityError: the file changed since it was opened.
        PACZeroError: no space is left or the file cannot be written; it is then as it was before.
    """
    data = line + b"\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    except OSError as error:
        raise PACZeroError(f"{str(path)!r} cannot be opened: {error.strerror}") from error
    try:
        if os.fstat(descriptor).st_size != size:
            raise IntegrityError(f"{str(path)!r} was changed by another program while the run was writing to it")
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, size)
            raise PACZeroError(
                f"{str(path)!r} cannot be written: {error.strerror}; make room, then go on with --resume"
            ) from error
    finally:
        os.close(descriptor)
    return size + len(data)


def regular(path: str, flags: int) -> int:
    """The `opener` of `open` for a regular file. Others are refused; a named pipe is not waited for.

    Raises:
        OSError: there is no such file, it cannot be read, or it is a pipe, a device or a socket.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", path)
    return descriptor


def read_lines(path: Path, *, limit: int) -> tuple[list[bytes], bytes]:
    """A file's complete lines (without newlines) and what follows the last newline.

    Args:
        limit: bytes; a larger file is refused before it is read.

    Raises:
        IntegrityError: the file is larger than anything paczero writes.
        PACZeroError: there is no such file, or it cannot be read.
    """
    try:
        with open(path, "rb", opener=regular) as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise PACZeroError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise IntegrityError(f"{str(path)!r} is longer than {limit} bytes, more than such a run can have written")
    *lines, tail = data.split(b"\n")
    return lines, tail


def cut(path: Path, size: int) -> None:
    """Shortens a file to `size` bytes, durably: a line that a killed process left half written goes."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        with about(path):
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Makes a new name in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with about(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def owners_directory(name: str, given: str) -> Path:
    """A directory that only its owner enters (0700), made where there was none.

    Args:
        name: the setting that names it, for the message.

    Raises:
        PACZeroError: it is no directory, cannot be made, or others may enter it.
    """
    path = Path(given).expanduser()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PACZeroError(f"{name}: {given!r} cannot be made: {error.strerror}; name another place") from error
    if path.stat().st_mode & 0o077:
        raise PACZeroError(
            f"{name}: {given!r} is open to others, and what goes there is the records' text in another form; name a "
            "directory of its own, which is made, or close it: chmod 700"
        )
    return path


def write_whole(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Writes a file so that it is seen complete or not at all, and is on disk when this returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    data = content.encode() if isinstance(content, str) else content
    descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode)
    try:
        try:
            with about(path):
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def make_durable(folder: Path) -> None:
    """Flushes a folder that is about to be published under its final name; every user may read its files."""
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with about(path):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def find_installed(distribution: str, name: str, install: str) -> Path:
    """A data file inside an installed package, which is looked up and never imported.

    Args:
        distribution: the package's name on the index.
        name: the file's name, without folders.
        install: the command that installs the package, for the error message.

    Raises:
        PACZeroError: the package is not installed, or the file is not in it.
    """
    try:
        files = importlib.metadata.distribution(distribution).files or []
    except importlib.metadata.PackageNotFoundError:
        raise PACZeroError(f"{distribution}: this package, which holds {name}, is not installed; {install}") from None
    for file in files:
        if file.name == name and (path := Path(str(file.locate()))).is_file():
            return path.resolve()
    raise PACZeroError(f"{distribution}: {name} is not in the installed version; {install}")
