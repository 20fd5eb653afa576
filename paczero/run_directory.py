"""A run's directory: what lies where, who holds it, and how it comes into being whole.

    RUN/config.yaml   RUN/release/ (may be published)   RUN/report/ (the owner's)   RUN/private/ (never)

`release/` appears in one rename when the run is finished; until then everything is in `private/`.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from paczero.errors import PACZeroError
from paczero.utils.io import sync_directory


@dataclass(frozen=True)
class RunDirectory:
    """The paths of one run.

    Attributes:
        root: the directory given as `output_dir` or RUN.
    """

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def release(self) -> Path:
        return self.root / "release"

    @property
    def report(self) -> Path:
        return self.root / "report"

    @property
    def private(self) -> Path:
        return self.root / "private"

    @property
    def secret(self) -> Path:
        return self.private / "secret.json"

    @property
    def reused(self) -> Path:
        """Says which later run uses the secret of this one again."""
        return self.private / "reused.json"

    @property
    def journal(self) -> Path:
        return self.private / "journal.jsonl"

    @property
    def spent(self) -> Path:
        return self.private / "spent.npz"

    @property
    def staged_transcript(self) -> Path:
        return self.private / "transcript.jsonl"

    @property
    def transcript(self) -> Path:
        """The published one, or before that the staged one."""
        published = self.release / "transcript.jsonl"
        return published if published.is_file() else self.staged_transcript

    @property
    def diagnostics(self) -> Path:
        return self.private / "diagnostics.jsonl"

    @property
    def candidates(self) -> Path:
        return self.private / "candidates.npz"

    @property
    def cache(self) -> Path:
        return self.private / "cache"

    @property
    def trackers(self) -> Path:
        return self.private / "trackers"

    @property
    def staging(self) -> Path:
        return self.private / "release"

    @property
    def finished(self) -> bool:
        """Whether the release was published."""
        return (self.release / "privacy.json").is_file()

    @property
    def busy(self) -> bool:
        """Whether a process holds the run now."""
        return is_held(self.private / "lock")

    def create(self, populate: Callable[["RunDirectory"], None]) -> None:
        """Makes the directory with its private part (0700) and what `populate` puts there, all in one rename.

        Args:
            populate: writes configuration and secret into the run that it is handed, which lies beside the final place.

        Raises:
            PACZeroError: the directory holds files already, or cannot be made.
        """
        self.require_free()
        root = self.root.resolve()
        staged = RunDirectory(root.with_name(f".{root.name}.{os.getpid()}"))
        shutil.rmtree(staged.root, ignore_errors=True)  # a killed process of the same number left it
        try:
            staged.root.mkdir(parents=True)
            staged.private.mkdir(mode=0o700)
            staged.private.chmod(0o700)
            populate(staged)
            with held(staged.private / "lock"):  # a place without locks is refused before there is a run
                pass
            sync_directory(staged.root)
            os.rename(staged.root, root)
            sync_directory(root.parent)
        except OSError as error:
            raise PACZeroError(f"output_dir: {str(self.root)!r} cannot be made: {error.strerror}") from error
        finally:
            shutil.rmtree(staged.root, ignore_errors=True)

    def require_free(self) -> None:
        """Raises PACZeroError where the directory holds something already, or this process stands in it."""
        if self.root.exists() and not self.root.is_dir():
            raise PACZeroError(f"output_dir: {str(self.root)!r} is a file; expected a new directory; name another")
        if self.root.exists() and any(self.root.iterdir()):
            raise PACZeroError(
                f"output_dir: {str(self.root)!r} exists and is not an empty directory; name another, or go on with "
                f"the run in it by `paczero train --resume {self.root}`"
            )
        if self.root.resolve() == Path.cwd():
            raise PACZeroError(
                f"output_dir: {str(self.root)!r} is the current directory; name one in it, such as 'runs/mine'"
            )

    def require_run(self) -> None:
        """Raises PACZeroError where no run was begun here."""
        if not self.config.is_file() or not self.private.is_dir():
            raise PACZeroError(f"{str(self.root)!r} holds no run; expected a directory that `paczero train` made")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the run for this process; a second training in the same directory is refused.

        Raises:
            PACZeroError: there is no run here, or another process holds it.
        """
        self.require_run()
        with held(self.private / "lock") as free:
            if not free:
                raise PACZeroError(f"{str(self.root)!r} is in use by another process; wait for it or stop it")
            yield


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Holds a lock file while the context lasts, if no other process does; yields whether it holds it.

    Raises:
        PACZeroError: the file cannot be locked, as on a network disk whose lock service is down.
    """
    lock = FileLock(path, timeout=0, mode=0o600, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except OSError as error:
        raise _not_lockable(path, error) from error
    try:
        yield True
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a process has locked this file, which stays as it is; False where there is no file.

    Raises:
        PACZeroError: locks cannot be read there.
    """
    if not path.is_file():
        return False
    try:
        with _open_for_lock(path) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the file is closed
    except BlockingIOError:
        return True
    except OSError as error:
        raise _not_lockable(path, error) from error
    return False


@contextlib.contextmanager
def shared_log(path: Path) -> Iterator[BinaryIO]:
    """Opens a log to append to, with a lock that child processes inherit: `is_held` is true until the last one ends.

    Raises:
        PACZeroError: the file cannot be locked.
    """
    with path.open("a+b") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_SH)
        except OSError as error:
            raise _not_lockable(path, error) from error
        yield log


def _open_for_lock(path: Path) -> BinaryIO:
    """NFS locks a file exclusively only where it is open for writing; elsewhere a file that may be read is enough."""
    try:
        return path.open("r+b")
    except PermissionError:
        return path.open("rb")


def _not_lockable(path: Path, error: OSError) -> PACZeroError:
    return PACZeroError(f"{str(path)!r} cannot be locked: {error.strerror}; use a local disk")
