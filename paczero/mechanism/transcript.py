"""The transcript: everything that a run releases about its pool, and all that a replay needs. Public.

>>> import tempfile
>>> from pathlib import Path
>>> place = Path(tempfile.mkdtemp()) / "transcript.jsonl"
>>> header = {"format": FORMAT, "mechanism": {"name": "zpl"}, "directions": 2, "steps": 10}
>>> Transcript.create(place, header).append(0, (1, -1))
>>> Transcript.read(place).y
[(1, -1)]

Line 1 is the header (the caller's; four of its keys are used here: `format`, `mechanism`, `directions`, `steps`), then
one line a step with `t` and `y` and nothing else. Every line is canonical JSON, so a released value has one form only.
Values are the integers +1 and -1 (and 0 where the mechanism may release it), or for real-valued mechanisms finite
floats that read back bit for bit.
"""

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
        self._kind, self._directions, self._steps = _shape(header, f"transcript {str(path)!r}")

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
        """Reads a finished transcript; reading stops at the first thing that is wrong and is bounded in size.

        Raises:
            PACZeroError: there is no such file, or it cannot be read.
            IntegrityError: a gap, a swapped, repeated or changed line, a value that is no release, or half a line.
        """
        header, y, tail = _load(Path(path))
        if tail:
            raise IntegrityError(f"transcript {str(path)!r}: its last line is incomplete; restore the file")
        return cls(Path(path), header, y, None)

    @classmethod
    def resume(cls, path: Path | str, header: Mapping[str, Any], y: Sequence[Sequence[int | float]]) -> "Transcript":
        """Opens the staged transcript of an interrupted run and brings it up to its journal.

        Args:
            header: what the header must be.
            y: the released values of every step in the journal.

        Raises:
            IntegrityError: the transcript has more steps than the journal, another header or other values.
            PACZeroError: it cannot be read or written.
        """
        path = Path(path)
        if not path.exists():
            transcript = cls.create(path, header)
        else:
            found, steps, tail = _load(path)
            if canonical(found) != canonical(dict(header)):
                raise IntegrityError(f"transcript {str(path)!r}: its header is another run's; restore the file")
            size = path.stat().st_size - len(tail)
            if tail:
                cut(path, size)
            transcript = cls(path, found, steps, size)
        known = len(transcript.y)
        if known > len(y):
            raise IntegrityError(
                f"transcript {str(path)!r}: {known} steps, but the journal holds {len(y)}; restore both"
            )
        for step, values in enumerate(y):
            if step >= known:
                transcript.append(step, values)
            elif _line(step, transcript.y[step]) != _line(step, values):
                raise IntegrityError(
                    f"transcript {str(path)!r}: step {step} is not what the journal holds; restore both"
                )
        return transcript

    def append(self, step: int, y: Sequence[int | float]) -> None:
        """Writes the next step's values (K,) by one write and returns when they are on disk.

        Raises:
            IntegrityError: another step is next, K differs, or a value is no release of this mechanism.
            PACZeroError: the transcript was opened by `read`, or no space is left (the file is then as it was).
        """
        if self._size is None:
            raise PACZeroError(f"transcript {str(self.path)!r}: it was opened for reading and cannot be continued")
        where = f"transcript {str(self.path)!r} step {step}"
        values = tuple(y)
        _check({"t": step, "y": list(values)}, len(self.y), self._kind, self._directions, where)
        if step >= self._steps:
            raise IntegrityError(f"{where}: the run has {self._steps} steps only")
        self._size = append_line(self.path, _line(step, values), size=self._size)
        self.y.append(values)


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


def _load(path: Path) -> tuple[dict[str, Any], list[tuple[Any, ...]], bytes]:
    """Header, values, and what follows the last newline."""
    where = f"transcript {str(path)!r}"
    try:
        with open(path, "rb") as stream:
            first = stream.readline(_LARGEST_HEADER)
    except OSError as error:
        raise PACZeroError(f"{where} cannot be read: {error.strerror}") from error
    if not first.endswith(b"\n"):
        raise IntegrityError(f"{where}: its header is missing or incomplete; restore the file")
    header = parse_line(first[:-1], f"{where} line 1")
    kind, directions, steps = _shape(header, where)
    longest = _LARGEST_STEP + _LARGEST_VALUE * directions
    lines, tail = read_lines(path, limit=len(first) + longest * steps)
    if len(lines) - 1 > steps:
        raise IntegrityError(f"{where}: {len(lines) - 1} steps, but the run has {steps}; restore the file")
    y = []
    for step, line in enumerate(lines[1:]):
        place = f"{where} line {step + 2}"
        if len(line) > longest:
            raise IntegrityError(f"{place}: longer than a step can be; restore the file")
        entry = parse_line(line, place)
        _check(entry, step, kind, directions, place)
        y.append(tuple(entry["y"]))
    return header, y, tail


def _check(entry: dict[str, Any], step: int, kind: MechanismSpec, directions: int, where: str) -> None:
    """Refuses a step that is not the next one, or whose values are not K releases of the mechanism."""
    if set(entry) != {"t", "y"}:
        raise IntegrityError(f"{where}: keys {sorted(entry)}; expected 't' and 'y' only")
    found, values = entry["t"], entry["y"]
    if type(found) is not int or found != step:
        raise IntegrityError(f"{where}: step {found!r} where step {step} must stand (missing, repeated or swapped)")
    if not isinstance(values, list) or len(values) != directions:
        raise IntegrityError(f"{where}: y must hold {directions} values, one a direction")
    for value in values:
        if kind.real:
            fine, expected = type(value) is float and math.isfinite(value), "a finite float"
        else:
            fine = type(value) is int and value in ((1, -1, 0) if kind.zero else (1, -1))
            expected = "+1, -1 or 0" if kind.zero else "+1 or -1"
        if not fine:
            raise IntegrityError(f"{where}: {value!r} is no release; expected {expected}")
