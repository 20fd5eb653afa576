"""The number S* of the secret subset, drawn by the operating system and kept in a file that only its owner can read.

>>> from pathlib import Path
>>> import tempfile
>>> path = Path(tempfile.mkdtemp()) / "secret.json"
>>> create_secret(path, subsets=4)
>>> open_secret(path)
Secret(redacted)
>>> open_secret(path).signs_of([1, 1, 1, 1])
1

The file also has a random public `secret_id`, which every release that used the secret states, and what earlier runs
released about the secret, where it is used again.

The number is never an attribute of an object that lives longer than one release, is never printed and cannot be
pickled: a `Secret` answers only what the sign of its own candidate is. With a test seed the number is a function of the
seed; the file says so, and the report of such a run is void.

Paper: arXiv 2605.06505 (S* uniform over the M candidates).
"""

import hashlib
import math
import os
import re
import secrets
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from paczero.errors import IntegrityError, PACZeroError
from paczero.utils.io import canonical, create_whole, parse_line, regular

FORMAT = "paczero-secret/2"
_VERSION_1 = "paczero-secret/1"  # of paczero 0.1: no secret_id, so it cannot be used again
_ID_BYTES = 16


@dataclass(frozen=True)
class EarlierRuns:
    """What earlier runs released about a secret that is used again. Private, though no part of it tells the number.

    Attributes:
        budgets: B of each run in order, nats.
        log_weights: (M,) the posterior that the last one ended with; None for a candidate that is excluded.
        pool, candidates: SHA-256 of both, which all runs with this secret share.
        run: path of the last one, from the directory of the run that uses the secret again.
        journal: SHA-256 of the last one's journal.
        claim: a random word, which the last one's directory holds once this run may release.
    """

    budgets: tuple[float, ...]
    log_weights: tuple[float | None, ...]
    pool: str
    candidates: str
    run: str
    journal: str
    claim: str

    def to_json(self) -> dict[str, Any]:
        """For canonical JSON."""
        return asdict(self) | {"budgets": list(self.budgets), "log_weights": list(self.log_weights)}


@dataclass(frozen=True)
class SecretRecord:
    """All that a secret file holds but the number.

    Attributes:
        subsets: M, how many candidates it was drawn from.
        test_seed: the seed that decided it, or None where the operating system did.
        secret_id: random and public; None in a file of paczero 0.1.
        earlier: None where no run used the secret before.
    """

    subsets: int
    test_seed: int | None
    secret_id: str | None
    earlier: EarlierRuns | None


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
    """Draws S* uniformly from 0..M-1, and a `secret_id`, and writes both (mode 0600, durable). Never overwrites a file.

    Args:
        path: the new file.
        subsets: M, even.
        test_seed: a hash of this decides instead of the operating system, for tests only.

    Raises:
        PACZeroError: M is odd or below 2, the file exists, or cannot be written.
    """
    if subsets < 2 or subsets % 2:
        raise PACZeroError(f"subsets: {subsets!r} was given; expected an even number of candidates, 2 or more")
    content: dict[str, Any] = {"format": FORMAT, "subsets": int(subsets), "earlier": None}
    if test_seed is None:
        content |= {"index": secrets.randbelow(subsets), "secret_id": secrets.token_hex(_ID_BYTES)}
    else:
        digest = hashlib.sha256(f"secret|{test_seed}|{subsets}".encode()).digest()
        content |= {"index": int.from_bytes(digest[:8], "big") % subsets, "test_seed": int(test_seed)}
        content["secret_id"] = hashlib.sha256(f"secret_id|{test_seed}".encode()).hexdigest()[: 2 * _ID_BYTES]
    create_whole(Path(path), canonical(content) + b"\n", mode=0o600)


def open_secret(path: Path | str) -> Secret:
    """Reads a secret file.

    Raises:
        PACZeroError: it cannot be read, or others than its owner may read it.
        IntegrityError: it is not what `create_secret` or `reuse_secret` writes.
    """
    content, record = _read(path)
    return Secret(content["index"], subsets=record.subsets, test_seed=record.test_seed)


def read_record(path: Path | str) -> SecretRecord:
    """Reads all of a secret file but the number; raises as `open_secret` does."""
    return _read(path)[1]


def reuse_secret(
    source: Path | str, path: Path | str, earlier: EarlierRuns, *, subsets: int, test_seed: int | None = None
) -> None:
    """Copies the secret of an earlier run into a new run, with what earlier runs released about it.

    Args:
        source: the earlier run's file.
        path: the new file (mode 0600, durable).
        earlier: the runs that used it, the owner of `source` included.
        subsets: M of the new run.
        test_seed: of the new run. A secret from a test seed is public and serves test runs only. A real secret serves
            real runs only, since public test coins would reveal it.

    Raises:
        PACZeroError: the earlier run had another M or is of paczero 0.1, only one of the two runs has a test seed, or
            a file cannot be read or written.
        IntegrityError: the source is not what `create_secret` or `reuse_secret` writes.
    """
    content, found = _read(source)
    where = f"secret: {str(source)!r}"
    if found.secret_id is None:
        raise PACZeroError(f"{where} is of paczero 0.1, which gave secrets no secret_id; begin a run with a new secret")
    if found.subsets != subsets:
        raise PACZeroError(
            f"{where} was drawn from {found.subsets} candidates, but mechanism.subsets is {subsets}; "
            "expected the same number"
        )
    if found.test_seed is not None and test_seed is None:
        raise PACZeroError(
            f"{where} comes from a test seed, so it is public and promises nothing; "
            "expected one of a run without test_seed"
        )
    if found.test_seed is None and test_seed is not None:
        raise PACZeroError(f"{where} is a real one, which a run with test coins would give away; leave test_seed out")
    create_whole(Path(path), canonical(content | {"earlier": earlier.to_json()}) + b"\n", mode=0o600)


def _read(path: Path | str) -> tuple[dict[str, Any], SecretRecord]:
    """A secret file's content, and all of it but the number."""
    where = f"secret {str(path)!r}"
    content = parse_line(_read_private(Path(path)).removesuffix(b"\n"), where)
    keys = {"format", "index", "subsets"}
    if content.get("format") == FORMAT:
        keys |= {"secret_id", "earlier"}
    numbers = [content.get("index"), content.get("subsets"), content.get("test_seed", 0)]
    if (
        set(content) - {"test_seed"} != keys
        or content["format"] not in (FORMAT, _VERSION_1)
        or any(type(value) is not int for value in numbers)
        or not 0 <= content["index"] < content["subsets"]
        or not re.fullmatch("[0-9a-f]{32}", str(content.get("secret_id", "0" * 32)))
    ):
        raise IntegrityError(f"{where}: not a {FORMAT} file that names one of its candidates; restore it")
    earlier = _earlier(content.get("earlier"), content["subsets"], where)
    return content, SecretRecord(content["subsets"], content.get("test_seed"), content.get("secret_id"), earlier)


def _earlier(content: Any, subsets: int, where: str) -> EarlierRuns | None:
    """What a secret file says of earlier runs."""
    if content is None:
        return None
    try:
        lists = {name: tuple(content[name]) for name in ("budgets", "log_weights")}
        found = EarlierRuns(**(content | lists))
        words = (found.pool, found.candidates, found.run, found.journal, found.claim)
        weights = [value for value in found.log_weights if value is not None]
        fine = (
            all(type(word) is str for word in words)
            and bool(found.budgets)
            and all(type(value) is float and 0 <= value < math.inf for value in found.budgets)
            and len(found.log_weights) == subsets
            and all(type(value) is float and value <= 0 for value in weights)
            and abs(math.fsum(map(math.exp, weights)) - 1) < 1e-9
        )
    except (KeyError, TypeError):
        fine = False
    if not fine:
        raise IntegrityError(f"{where}: what it says of earlier runs is none that a run writes; restore it")
    return found


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
