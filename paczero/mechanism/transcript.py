"""The transcript: everything that a run releases about its pool, and all that a replay needs. Public.

>>> import tempfile
>>> from pathlib import Path
>>> path = Path(tempfile.mkdtemp()) / "transcript.jsonl"
>>> header = {"format": FORMAT, "mechanism": {"name": "zpl"}, "directions": 2, "steps": 10}
>>> Transcript.create(path, header).append(0, (1, -1))
>>> Transcript.read(path).y
[(1, -1)]

Line 1 is the header, which the caller gives; this module uses its keys `format`, `mechanism`, `directions` and `steps`.
Then comes one line a step, with `t` and `y` and nothing else. Every line is canonical JSON, so a released value has one
form only. Values are the integers +1 and -1 (and 0 where the mechanism may release it), or finite floats of a
real-valued mechanism, which read back bit for bit.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.registry import SPECS, MechanismSpec, spec_of
from paczero.utils.io import append_line, canonical, create_whole, cut, parse_line, read_lines

FORMAT = "paczero-transcript/1"
_LARGEST_HEADER = 16 * 1024**2  # bytes: names and shapes of some hundred thousand parameters
_LARGEST_STEP, _LARGEST_VALUE = 64, 28  # bytes of a step's line, for each value more
_MOST_STEPS, _MOST_DIRECTIONS = 10**8, 10**5


class Transcript:
    """A header and the released values of each step. Use `create`, `read` or `resume`.

    Attributes:
        path: the file.
        header: the dictionary of line 1.
        y: one tuple of K values a step, in order.
    """

    def __init__(self, path: Path, header: dict[str, Any], y: list[tuple[Any, ...]], size: int | None) -> None:
        self.path = path
        self.header = header
        self.y = y
        self._size = size  # None: read only
        self._spec, self._directions, self._steps = _shape(header, f"transcript {str(path)!r}")

    @classmethod
    def create(cls, path: Path | str, header: Mapping[str, Any]) -> "Transcript":
        """Writes a new transcript that holds its header only.

        Raises:
            PACZeroError: the file exists, cannot be written, or the header lacks one of the keys used here.
        """
        path = Path(path)
        line = canonical(dict(header))
        transcript = cls(path, parse_line(line, f"transcript {str(path)!r} line 1"), [], len(line) + 1)
        create_whole(path, line + b"\n", mode=0o644)
        return transcript

    @classmethod
    def read(cls, path: Path | str) -> "Transcript":
        """Reads a finished transcript. Reading stops at the first error and is bounded in size.

        Raises:
            PACZeroError: there is no such file, or it cannot be read.
            IntegrityError: a gap; a swapped, repeated, changed or incomplete line; a value that is no release.
        """
        path, where = Path(path), f"transcript {str(path)!r}"
        try:
            with open(path, "rb") as stream:
                first = stream.readline(_LARGEST_HEADER)
        except OSError as error:
            raise PACZeroError(f"{where} cannot be read: {error.strerror}") from error
        if not first.endswith(b"\n"):
            raise IntegrityError(f"{where}: its header is missing or incomplete; restore the file")
        transcript = cls(path, parse_line(first[:-1], f"{where} line 1"), [], None)
        longest = _LARGEST_STEP + _LARGEST_VALUE * transcript._directions
        lines, tail = read_lines(path, limit=len(first) + longest * transcript._steps)
        if tail:
            raise IntegrityError(f"{where}: its last line is incomplete; restore the file")
        for step, line in enumerate(lines[1:]):
            at = f"{where} line {step + 2}"
            if len(line) > longest:
                raise IntegrityError(f"{at}: longer than a step can be; restore the file")
            entry = parse_line(line, at)
            transcript._check(entry, at)
            transcript.y.append(tuple(entry["y"]))
        return transcript

    @classmethod
    def resume(cls, path: Path | str, header: Mapping[str, Any], y: Sequence[Sequence[int | float]]) -> "Transcript":
        """Opens the transcript of an interrupted run and appends what the journal has beyond it.

        Args:
            header: what the header must be.
            y: the released values of every step in the journal.

        Raises:
            IntegrityError: the transcript has more steps than the journal, another header or other values.
            PACZeroError: it cannot be written.
        """
        path = Path(path)
        if not path.exists():
            cls.create(path, header)
        lines = [canonical(dict(header)), *(_line(step, values) for step, values in enumerate(y))]
        whole, data = b"\n".join([*lines, b""]), path.read_bytes()
        size = data.rfind(b"\n") + 1
        if size < len(data):  # an incomplete line, which a killed process left
            cut(path, size)
            data = data[:size]
        if not whole.startswith(data):
            raise IntegrityError(f"transcript {str(path)!r}: it is not what the journal holds; restore both")
        if data != whole:
            append_line(path, whole[size:-1], size=size)
        return cls(path, parse_line(lines[0], f"transcript {str(path)!r} line 1"), [*map(tuple, y)], len(whole))

    def append(self, step: int, y: Sequence[int | float]) -> None:
        """Writes the next step's values (K,) by one write and returns when they are on disk.

        Raises:
            IntegrityError: another step is next, K differs, or a value is no release of this mechanism.
            PACZeroError: the transcript was opened by `read`, or no space is left (the file is then as it was).
        """
        if self._size is None:
            raise PACZeroError(f"transcript {str(self.path)!r}: it was opened for reading and cannot be continued")
        where = f"transcript {str(self.path)!r} step {step}"
        self._check({"t": step, "y": list(y)}, where)
        self._size = append_line(self.path, _line(step, y), size=self._size)
        self.y.append(tuple(y))

    def chain(self) -> str:
        """SHA-256 (hex) that binds the header and every step in order, those after the served one too.

        h_0 is the hash of the header's line; h_t is the hash of h_{t-1} (32 bytes) and the line of step t - 1. The
        statement holds the last one.
        """
        digest = hashlib.sha256(canonical(self.header) + b"\n").digest()
        for step, values in enumerate(self.y):
            digest = hashlib.sha256(digest + _line(step, values) + b"\n").digest()
        return digest.hex()

    def _check(self, entry: dict[str, Any], where: str) -> None:
        """Refuses a step that is not the next one, or whose values are not K releases of the mechanism."""
        step = len(self.y)
        if set(entry) != {"t", "y"}:
            raise IntegrityError(f"{where}: keys {sorted(entry)}; expected 't' and 'y' only")
        if step >= self._steps:
            raise IntegrityError(f"{where}: the run has {self._steps} steps only")
        found, values = entry["t"], entry["y"]
        if type(found) is not int or found != step:
            raise IntegrityError(f"{where}: step {found!r} where step {step} must stand (missing, repeated or swapped)")
        if not isinstance(values, list) or len(values) != self._directions:
            raise IntegrityError(f"{where}: y must hold {self._directions} values, one a direction")
        possible = (1, -1, 0) if self._spec.zero else (1, -1)
        for value in values:
            real = type(value) is float and math.isfinite(value)
            if not (real if self._spec.real else type(value) is int and value in possible):
                expected = "a finite float" if self._spec.real else f"one of {possible}"
                raise IntegrityError(f"{where}: {value!r} is no release; expected {expected}")


def _line(step: int, y: Sequence[int | float]) -> bytes:
    return canonical({"t": step, "y": list(y)})


def _shape(header: Mapping[str, Any], where: str) -> tuple[MechanismSpec, int, int]:
    """Which mechanism, K and T, from a header."""
    if header.get("format") != FORMAT:
        raise IntegrityError(f"{where}: format {header.get('format')!r}; expected {FORMAT!r}")
    mechanism = header.get("mechanism")
    name = mechanism.get("name") if isinstance(mechanism, dict) else None
    if not isinstance(name, str) or name not in SPECS:
        raise IntegrityError(f"{where}: mechanism {name!r} is unknown to this version")
    sizes = []
    for key, most in (("directions", _MOST_DIRECTIONS), ("steps", _MOST_STEPS)):
        value = header.get(key)
        if type(value) is not int or not 1 <= value <= most:
            raise IntegrityError(f"{where}: {key} {value!r}; expected an integer from 1 to {most}")
        sizes.append(value)
    return spec_of(name), sizes[0], sizes[1]
