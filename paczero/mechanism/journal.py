"""The journal of a run: what each release was, on disk before the weights move. Private.

>>> import tempfile
>>> from pathlib import Path
>>> path = Path(tempfile.mkdtemp()) / "journal.jsonl"
>>> journal = Journal.create(path, {"seed": 0})
>>> journal.append({"t": 0, "y": [1]})
>>> Journal.open(path, {"seed": 0}).entries
[{'t': 0, 'y': [1]}]

A resumed run takes its bits from here and never draws a written one again. Line 1 is the header, each later line is one
step, numbered from 0 without a gap. Every line has a key `chain`: the SHA-256 over the chain of the line before and the
line's own canonical form. It detects a line that was changed, moved or left out. A killed process may leave an
incomplete line at the end. It is cut off, since the update that follows a line did not happen.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paczero.errors import IntegrityError, PACZeroError
from paczero.utils.io import append_line, canonical, create_whole, cut, parse_line, read_lines

FORMAT = "paczero-journal/2"
_EARLIER = "paczero-journal/1"  # of paczero 0.1
_LARGEST_FILE = 4 * 1024**3  # bytes: 100,000 steps of 64 directions and 1,024 candidates are 2.3 GB


class Journal:
    """An append-only file of releases. Use `create` or `open`.

    Attributes:
        path: the file.
        header: what the run is, as given to `create`.
        entries: one dictionary a step, in order, each with its number `t`.
        chain: of the last line.
        previous_chain: of the line before; empty where there is none.
    """

    def __init__(
        self, path: Path, header: dict[str, Any], entries: list[dict[str, Any]], chains: tuple[str, str], size: int
    ) -> None:
        self.path = path
        self.header = header
        self.entries = entries
        self.previous_chain, self.chain = chains
        self._size = size

    @classmethod
    def create(cls, path: Path | str, header: Mapping[str, Any]) -> "Journal":
        """Writes a new journal that holds its header only (mode 0600, durable).

        Raises:
            PACZeroError: the file exists, or cannot be written.
        """
        line, chain = _linked({"format": FORMAT, "header": dict(header)}, "")
        create_whole(Path(path), line + b"\n", mode=0o600)
        # Read back as JSON, so that a header compares alike whether it was just written or read.
        return cls(Path(path), parse_line(line, str(path))["header"], [], ("", chain), len(line) + 1)

    @classmethod
    def open(cls, path: Path | str, header: Mapping[str, Any] | None = None) -> "Journal":
        """Reads a journal and cuts an incomplete last line off the file.

        Args:
            header: what the header must be; any is accepted where left out.

        Raises:
            PACZeroError: there is no such file, or it cannot be read.
            IntegrityError: another header, a gap, or a changed line.
        """
        path = Path(path)
        lines, tail = read_lines(path, limit=_LARGEST_FILE)
        if not lines:
            raise IntegrityError(f"journal {str(path)!r}: its header is missing; restore the file")
        first, chain = _unlinked(lines[0], "", f"journal {str(path)!r} line 1")
        if first.get("format") == _EARLIER:
            raise PACZeroError(
                f"journal {str(path)!r}: paczero 0.1 wrote it ({_EARLIER}); this version verifies and replays its "
                "release, but resumes only runs of 0.2 and later; resume it with paczero 0.1"
            )
        if set(first) != {"format", "header"} or first["format"] != FORMAT or not isinstance(first["header"], dict):
            raise IntegrityError(f"journal {str(path)!r}: not a {FORMAT} file; restore it")
        entries, previous = [], ""
        for step, line in enumerate(lines[1:]):
            where = f"journal {str(path)!r} line {step + 2}"
            previous, (entry, chain) = chain, _unlinked(line, chain, where)
            _check_step(entry, step, where)
            entries.append(entry)
        size = sum(len(line) + 1 for line in lines)
        if tail:
            cut(path, size)
        journal = cls(path, first["header"], entries, (previous, chain), size)
        if header is not None:
            journal.check(header)
        return journal

    def check(self, header: Mapping[str, Any]) -> None:
        """Raises IntegrityError where the journal has another header, and names the keys that differ."""
        _compare(self.header, header, self.path)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Writes the next step's line by one write and returns when it is on disk.

        Raises:
            IntegrityError: `entry["t"]` is not the next step, or another process wrote to the file.
            PACZeroError: no space is left; the file is as it was before.
        """
        step = len(self.entries)
        _check_step(entry, step, f"journal {str(self.path)!r} step {step}")
        line, chain = _linked(dict(entry), self.chain)
        self._size = append_line(self.path, line, size=self._size)
        self.previous_chain, self.chain = self.chain, chain
        self.entries.append(dict(entry))


def _check_step(entry: Mapping[str, Any], step: int, where: str) -> None:
    found = entry.get("t")
    if type(found) is not int or found != step:
        raise IntegrityError(f"{where}: step {found!r} where step {step} must stand; restore the file")


def _linked(content: dict[str, Any], previous: str) -> tuple[bytes, str]:
    """A line with its chain, and the chain."""
    chain = hashlib.sha256(previous.encode() + canonical(content)).hexdigest()
    return canonical(content | {"chain": chain}), chain


def _unlinked(line: bytes, previous: str, where: str) -> tuple[dict[str, Any], str]:
    """A line's content, and its chain, which is checked."""
    content = parse_line(line, where)
    found = content.pop("chain", None)
    chain = hashlib.sha256(previous.encode() + canonical(content)).hexdigest()
    if found != chain:
        raise IntegrityError(f"{where}: it was changed, or a line before it is missing; restore the file")
    return content, chain


def _compare(found: dict[str, Any], expected: Mapping[str, Any], path: Path) -> None:
    """Raises IntegrityError, with the keys that differ, where the headers are not the same."""
    differing = [
        key
        for key in sorted(set(found) | set(expected))
        if (key in found) != (key in expected) or canonical(found.get(key)) != canonical(expected.get(key))
    ]
    if differing:
        what = ", ".join(_described(key, found, expected) for key in differing)
        raise IntegrityError(
            f"journal {str(path)!r}: it belongs to another run, which differs in {what}; resume with the settings, "
            "pool, model, device and number of threads (OMP_NUM_THREADS) that the run began with"
        )


def _described(key: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    then, now = found.get(key), expected.get(key)
    return f"{key} ({then} then, {now} now)" if isinstance(then, int) and isinstance(now, int) else key
