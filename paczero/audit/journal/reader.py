"""Reads a run's files with `json`, `hashlib` and numpy: bounded in size, typed, never repaired.

The code shares nothing with the code that writes the files. An unreadable file raises `IntegrityError`; `recompute`
finds values that are readable but wrong. Formats: docs/files.md.
"""

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shown  # short, whatever a file holds
from typing import Any, BinaryIO, NoReturn

import numpy as np

from paczero.audit.arrays import Bools
from paczero.errors import IntegrityError, PACZeroError

JOURNALS, TRANSCRIPT = ("paczero-journal/1", "paczero-journal/2"), "paczero-transcript/1"

PRIVATE = ("dpzero", "dp-aggzo", "dp-sign")  # differentially private over the pool

_LONGEST_HEADER = 16 * 1024**2  # bytes: names and shapes of some hundred thousand parameters

_LARGEST_DOCUMENT = 16 * 1024**2  # bytes of a statement

_MOST = {"steps": 10**8, "directions": 10**5, "subsets": 2**16, "units": 2**22}

_LISTS = ("y", "unanimous", "q", "beta", "noise")


@dataclass(frozen=True)
class Setting:
    """The settings in a transcript's header that the journal must follow.

    Attributes:
        header: the whole header.
        name: the mechanism.
        mechanism: its settings.
        budget: B in nats; None where nothing is promised.
        prior_budgets: those of earlier runs with the same secret, in order.
        steps: T.
        directions: K.
        subsets: M.
        units: N.
        void: whether the coins come from a test seed.
    """

    header: dict[str, Any]
    name: str
    mechanism: dict[str, Any]
    budget: float | None
    prior_budgets: tuple[float, ...]
    steps: int
    directions: int
    subsets: int
    units: int
    void: bool

    @property
    def digest(self) -> str:
        """SHA-256 of the header in canonical form, as the journal names it."""
        return hashlib.sha256(_canonical(self.header)).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One step of the journal; each tuple has K values, one a direction.

    Attributes:
        step: t, as written.
        chained: whether the line's chain matches this line and the one before.
        y: released values.
        unanimous, q, beta, noise: see `paczero.mechanism.base.Release`.
        signs: (M,) bool each, whether a candidate's sum is not negative; empty without candidates.
        output: the real numbers behind y, of the `gaussian` channel.
    """

    step: int
    chained: bool
    y: tuple[int | float, ...]
    unanimous: tuple[bool, ...]
    q: tuple[float, ...]
    beta: tuple[float, ...]
    noise: tuple[float, ...]
    signs: tuple[Bools, ...]
    output: tuple[float, ...] | None


def read_setting(path: Path) -> Setting:
    """The header of a transcript.

    Raises:
        IntegrityError: missing, too long, or a value that no run has.
    """
    with _opened(path) as stream:
        header = _object(stream.readline(_LONGEST_HEADER), f"{path} line 1")
    mechanism = header.get("mechanism")
    if header.get("format") != TRANSCRIPT or not isinstance(mechanism, dict):
        raise IntegrityError(f"{path} line 1: no header of a {TRANSCRIPT} file; restore it")
    sizes = {}
    for key, most in _MOST.items():
        value = header.get(key)
        if type(value) is not int or not 1 <= value <= most:
            raise IntegrityError(f"{path} line 1: {key} is {shown(value)}; expected a whole number from 1 to {most}")
        sizes[key] = value
    budget = header.get("budget")
    if budget is not None and (type(budget) not in (int, float) or not 0 <= budget <= 1e300):
        raise IntegrityError(
            f"{path} line 1: budget is {shown(budget)}; expected nats, or null where nothing is promised"
        )
    prior = header.get("prior_budgets", [])  # runs of version 0.1 have none
    if type(prior) is not list or any(type(value) is not float or not 0 <= value <= 1e300 for value in prior):
        raise IntegrityError(f"{path} line 1: prior_budgets is {shown(prior)}; expected a list of nats")
    _check_mechanism(header, f"{path} line 1")
    return Setting(
        header=header,
        name=str(mechanism.get("name")),
        mechanism=mechanism,
        budget=None if budget is None else float(budget),
        prior_budgets=tuple(prior),
        void=header.get("test_seed") is not None,
        **sizes,
    )


def _check_mechanism(header: dict[str, Any], where: str) -> None:
    """Refuses mechanism settings that are out of range, or required and missing."""
    mechanism = header["mechanism"]
    noise = "eps0" if "eps0" in mechanism else "sigma"
    needed = ("epsilon", "delta", "sampling", noise) if mechanism.get("name") in PRIVATE else ()
    if mechanism.get("individual", True) is not True or ("individual" in mechanism) != ("rho" in mechanism):
        raise IntegrityError(f"{where}: mechanism.individual and rho; expected true with a share, or neither")
    for key, least, most in (
        ("clip", 1e-300, 1e300),
        ("epsilon", 1e-12, 1e6),
        ("delta", 1e-300, 1.0),
        ("sampling", 1e-12, 1.0),
        ("sigma", 1e-6, 1e12),
        ("eps0", 1e-12, 1e3),
        ("rho", 1e-12, 1e12),
        ("posterior_success", 0.5, 1.0),
    ):
        value = mechanism.get(key)
        left_out = value is None and key not in needed
        if not left_out and (type(value) not in (int, float) or not least <= value <= most):
            raise IntegrityError(
                f"{where}: mechanism.{key} is {shown(value)}; expected a number from {least:g} to {most:g}"
            )
    for key, known in (("channel", ("bit", "gaussian")), ("allocation", ("adaptive", "uniform"))):
        if mechanism.get(key) not in (None, *known):
            raise IntegrityError(f"{where}: mechanism.{key} is {shown(mechanism[key])}; expected {' or '.join(known)}")
    if mechanism.get("name") == "mi" and header.get("budget") is None:
        raise IntegrityError(f"{where}: budget is missing; expected nats for 'mi'")


def journal_header(path: Path) -> tuple[dict[str, Any], bool]:
    """The journal's header: hashes of settings, pool, candidates, transcript header and base.

    Returns:
        The header, and whether the chain of the journal's first line matches the line.

    Raises:
        IntegrityError: missing, or of another format.
    """
    with _opened(path) as stream:
        content, chain = _unchained(stream.readline(_LONGEST_HEADER), "", f"{path} line 1")
    header = content.get("header")
    if content.get("format") not in JOURNALS or not isinstance(header, dict):
        raise IntegrityError(f"{path} line 1: no header of a {JOURNALS[-1]} file; restore it")
    return header, content.get("chain") == chain


def journal_entries(path: Path, setting: Setting, *, candidates: bool) -> Iterator[Entry]:
    """The steps of a journal, one at a time. A partial last line, which a killed run may leave, is skipped.

    Args:
        path: the journal.
        setting: the run's header.
        candidates: whether each direction has the signs of M candidates.

    Raises:
        IntegrityError: a line is too long, is no canonical JSON, or has values of a wrong form.
    """
    longest = 1000 + setting.directions * (200 + setting.subsets)
    with _opened(path) as stream:
        chain = str(_object(stream.readline(_LONGEST_HEADER), f"{path} line 1").get("chain"))
        for step in range(setting.steps + 1):
            line = stream.readline(longest)
            if not line or (not line.endswith(b"\n") and len(line) < longest):
                return
            if step == setting.steps:
                raise IntegrityError(f"{path}: it has more than the run's {setting.steps} steps; restore the file")
            where = f"{path} line {step + 2}"
            content, chained = _unchained(line, chain, where)
            chain = str(content.pop("chain", ""))
            yield _entry(content, chained == chain, setting, candidates, where)


def transcript_steps(path: Path, setting: Setting) -> Iterator[tuple[Any, Any]]:
    """(t, y) of each step line of a transcript, as written.

    Raises:
        IntegrityError: a line is too long or no canonical JSON with these keys, or there are more than T steps.
    """
    longest = 64 + 32 * setting.directions
    with _opened(path) as stream:
        stream.readline(_LONGEST_HEADER)
        for number in range(setting.steps + 1):
            line = stream.readline(longest)
            if not line:
                return
            where = f"{path} line {number + 2}"
            content = _object(line, where)
            if number == setting.steps or set(content) != {"t", "y"} or not isinstance(content["y"], list):
                raise IntegrityError(f"{where}: no step of this run; restore the file")
            yield content["t"], content["y"]


def read_candidates(path: Path, setting: Setting) -> Bools:
    """Which unit is in which candidate, (N, M) bool, from `candidates.npz`.

    Raises:
        IntegrityError: missing, damaged, or of another pool or M.
    """
    shape = setting.units, -(-setting.subsets // 8)
    room = math.prod(shape)
    try:
        if path.stat().st_size > room + 2**16:
            raise IntegrityError(
                f"{path}: larger than the candidates of {setting.units} units can be; restore the file"
            )
        data = io.BytesIO(path.read_bytes())
        with zipfile.ZipFile(data) as archive:
            if any(member.file_size > room + 2**12 for member in archive.infolist()):
                raise IntegrityError(f"{path}: it unpacks to more than its candidates can be; restore the file")
        data.seek(0)
        with np.load(data, allow_pickle=False) as arrays:
            packed, subsets = arrays["packed"], int(arrays["subsets"])
    except IntegrityError:
        raise
    except Exception as error:  # zipfile and numpy raise many kinds for damaged files
        raise IntegrityError(f"{path}: cannot be read ({type(error).__name__}); restore the file") from error
    if packed.shape != shape or packed.dtype != np.uint8:
        raise IntegrityError(f"{path}: {packed.dtype} of shape {packed.shape}; expected uint8 of {shape}")
    if subsets != setting.subsets:
        raise IntegrityError(f"{path}: {subsets} candidates, but the header says {setting.subsets}; restore the file")
    return np.unpackbits(packed, axis=1, count=subsets).astype(np.bool_)


def candidates_digest(membership: Bools) -> str:
    """SHA-256 of the candidates, as the journal names it."""
    return hashlib.sha256(np.packbits(membership).tobytes()).hexdigest()


def read_document(path: Path) -> dict[str, Any]:
    """A JSON object, such as `privacy.json`.

    Raises:
        IntegrityError: missing, too large, or no JSON object.
    """
    with _opened(path) as stream:
        data = stream.read(_LARGEST_DOCUMENT + 1)
    try:
        value = json.loads(data) if len(data) <= _LARGEST_DOCUMENT else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise IntegrityError(f"{path}: no JSON object of up to {_LARGEST_DOCUMENT} bytes; restore the file")
    return value


def _opened(path: Path) -> BinaryIO:
    try:
        if not path.is_file():
            raise PACZeroError(f"{path}: there is no such file; expected a run that `paczero train` made")
        return open(path, "rb")
    except OSError as error:
        raise PACZeroError(f"{path}: cannot be read: {error.strerror}") from error


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def _object(line: bytes, where: str) -> dict[str, Any]:
    """One line of canonical JSON."""
    try:
        value = json.loads(line[:-1].decode("ascii"), parse_constant=_refused) if line.endswith(b"\n") else None
        if isinstance(value, dict) and _canonical(value) == line[:-1]:
            return value
    except (ValueError, RecursionError):
        pass
    raise IntegrityError(f"{where}: no line that a run writes (canonical JSON); restore the file")


def _refused(name: str) -> NoReturn:
    raise ValueError(name)


def _unchained(line: bytes, previous: str, where: str) -> tuple[dict[str, Any], str]:
    """A line's content, and the chain that it must have."""
    content = _object(line, where)
    rest = {key: value for key, value in content.items() if key != "chain"}
    return content, hashlib.sha256(previous.encode() + _canonical(rest)).hexdigest()


def _entry(content: dict[str, Any], chained: bool, setting: Setting, candidates: bool, where: str) -> Entry:
    if set(content) != {"t", "nonfinite", "output", "signs", *_LISTS}:
        raise IntegrityError(f"{where}: its keys are not those of a step; restore the file")
    lists = {name: content[name] for name in (*_LISTS, "signs")}
    if content["output"] is not None:
        lists["output"] = content["output"]
    for name, values in lists.items():
        size = 0 if name == "signs" and not candidates else setting.directions
        if not isinstance(values, list) or len(values) != size:
            raise IntegrityError(f"{where}: {name} must be a list of {size} values; restore the file")
    whole = type(content["t"]) is int and type(content["nonfinite"]) is int
    if not whole or not all(type(flag) is bool for flag in content["unanimous"]):
        raise IntegrityError(f"{where}: a value has a type that no run writes; restore the file")
    return Entry(
        step=content["t"],
        chained=chained,
        y=tuple(content["y"]) if _floats(content["y"], where, whole=True) else (),
        unanimous=tuple(content["unanimous"]),
        q=_floats(content["q"], where),
        beta=_floats(content["beta"], where, most=1e100),
        noise=_floats([math.inf if value == "inf" else value for value in content["noise"]], where, infinite=True),
        signs=tuple(_signs(text, setting.subsets, where) for text in content["signs"]),
        output=None if content["output"] is None else _floats(content["output"], where),
    )


def _floats(
    values: list[Any], where: str, *, most: float = 1e300, infinite: bool = False, whole: bool = False
) -> tuple[float, ...]:
    """Checks the type and size of numbers: floats, and integers too if `whole`."""
    kinds = (int, float) if whole else (float,)
    for value in values:
        if type(value) not in kinds or not (abs(value) <= most or (infinite and value == math.inf)):
            raise IntegrityError(f"{where}: {shown(value)} is no number that a run writes here; restore the file")
    return tuple(map(float, values))


def _signs(text: Any, subsets: int, where: str) -> Bools:
    """The signs of M candidates, packed eight to a byte, in hex."""
    try:
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8))
    except (TypeError, ValueError):
        bits = np.empty(0, dtype=np.uint8)
    if bits.size != -(-subsets // 8) * 8 or bits[subsets:].any():
        raise IntegrityError(f"{where}: no signs of {subsets} candidates; restore the file")
    return bits[:subsets].astype(np.bool_)
