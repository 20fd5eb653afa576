"""The number S* of the secret subset, drawn by the operating system and kept in a file that only its owner can read.

>>> from pathlib import Path
>>> import tempfile
>>> path = Path(tempfile.mkdtemp()) / "secret.json"
>>> create_secret(path, subsets=4)
>>> open_secret(path)
Secret(redacted)
>>> open_secret(path).signs_of([1, 1, 1, 1])
1

The number is never an attribute of an object that lives longer than one release, is never printed and cannot be
pickled: a `Secret` answers only what the sign of its own candidate is. With a test seed the number is a function of the
seed; the file says so, and the report of such a run is void.

Paper: arXiv 2605.06505 (S* uniform over the M candidates).
"""

import hashlib
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from paczero.errors import IntegrityError, PACZeroError
from paczero.utils.io import canonical, create_whole, parse_line, regular

FORMAT = "paczero-secret/1"


class Secret:
    """S* of one run, able to say one thing: the sign of its own candidate.

    Attributes:
        subsets: M, how many candidates it was drawn from.
        test_seed: the seed that decided it, or None where the operating system did.
    """

    __slots__ = ("__index", "subsets", "test_seed")

    def __init__(self, index: int, *, subsets: int, test_seed: int | None = None) -> None:
        if not 0 <= index < subsets:
            raise IntegrityError(f"secret: does not name one of {subsets} candidates; restore the file")
        self.__index = index
        self.subsets = subsets
        self.test_seed = test_seed

    def signs_of(self, signs: np.ndarray | Sequence[int]) -> int:
        """The secret candidate's sign among `signs` (M,), each +1 or -1.

        Raises:
            IntegrityError: there are not M signs: the secret belongs to another run.
        """
        if len(signs) != self.subsets:
            raise IntegrityError(
                f"secret: drawn from {self.subsets} candidates, but this run has {len(signs)}; use the run's own secret"
            )
        return int(signs[self.__index])

    def __repr__(self) -> str:
        return "Secret(redacted)"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a secret does not give its state away")


def create_secret(path: Path | str, *, subsets: int, test_seed: int | None = None) -> None:
    """Draws S* uniformly from 0..M-1 and writes it (mode 0600, durable). An existing file is never overwritten.

    Args:
        path: the new file.
        subsets: M, even.
        test_seed: a hash of this decides instead of the operating system, for tests only.

    Raises:
        PACZeroError: M is odd or below 2, the file exists, or cannot be written.
    """
    if subsets < 2 or subsets % 2:
        raise PACZeroError(f"subsets: {subsets!r} was given; expected an even number of candidates, 2 or more")
    content: dict[str, Any] = {"format": FORMAT, "subsets": int(subsets)}
    if test_seed is None:
        content["index"] = secrets.randbelow(subsets)
    else:
        digest = hashlib.sha256(f"secret|{test_seed}|{subsets}".encode()).digest()
        content |= {"index": int.from_bytes(digest[:8], "big") % subsets, "test_seed": int(test_seed)}
    create_whole(Path(path), canonical(content) + b"\n", mode=0o600)


def open_secret(path: Path | str) -> Secret:
    """Reads a secret file.

    Raises:
        PACZeroError: it cannot be read, or others than its owner may read it.
        IntegrityError: it is not what `create_secret` writes.
    """
    where = f"secret {str(path)!r}"
    content = parse_line(_read_private(Path(path)).removesuffix(b"\n"), where)
    numbers = [content.get("index"), content.get("subsets"), content.get("test_seed", 0)]
    if (
        set(content) - {"test_seed"} != {"format", "index", "subsets"}
        or content["format"] != FORMAT
        or any(type(value) is not int for value in numbers)
    ):
        raise IntegrityError(f"{where}: not a {FORMAT} file; restore it")
    return Secret(content["index"], subsets=content["subsets"], test_seed=content.get("test_seed"))


def reuse_secret(source: Path | str, path: Path | str, *, subsets: int, test_seed: int | None = None) -> None:
    """Copies the secret of an earlier run into a new run. What both runs leak about it adds up.

    Args:
        source: the earlier run's file.
        path: the new file (mode 0600, durable).
        subsets: M of the new run.
        test_seed: of the new run. A secret from a test seed is public and serves test runs only. A real secret serves
            real runs only, since public test coins would reveal it.

    Raises:
        PACZeroError: the earlier run had another M, only one of the two runs has a test seed, or a file cannot be read
            or written.
        IntegrityError: the source is not what `create_secret` writes.
    """
    found = open_secret(source)
    if found.subsets != subsets:
        raise PACZeroError(
            f"secret: {str(source)!r} was drawn from {found.subsets} candidates, but mechanism.subsets is {subsets}; "
            "expected the same number"
        )
    if found.test_seed is not None and test_seed is None:
        raise PACZeroError(
            f"secret: {str(source)!r} comes from a test seed, so it is public and promises nothing; "
            "expected one of a run without test_seed"
        )
    if found.test_seed is None and test_seed is not None:
        raise PACZeroError(
            f"secret: {str(source)!r} is a real one, which a run with test coins would give away; leave test_seed out"
        )
    create_whole(Path(path), _read_private(Path(source)), mode=0o600)


def _read_private(path: Path) -> bytes:
    """A file that its owner alone may use."""
    try:
        with open(path, "rb", opener=regular) as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            data = stream.read()
    except OSError as error:
        raise PACZeroError(f"secret: {str(path)!r} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise PACZeroError(
            f"secret: {str(path)!r} has mode {mode:04o}, so others may read it; expected 0600; "
            "`chmod 600` it if no other user has read it"
        )
    return data
