"""What a release promises and what it does not, as a sealed document (`privacy.json`) and in plain words.

>>> document = statement(header, chosen_step=300, weights_sha256="ab…", files={"transcript.jsonl": "cd…"})
>>> document["posterior_success"], document["void"]
(0.5, False)
>>> check(document)     # raises IntegrityError on any change

Everything is a function of the transcript's header, which is public: what was spent, which steps were unanimous and
the losses on the pool speak of the pool's records and have no place here. The bound is the one between mutual
information and posterior success, kl(p ‖ 1/2) ≤ I (paper: arXiv 2605.06505).

Design note, fail closed: a run that promises nothing (`none`, test coins, a budget of ln 2 nats or more) states
p = 1 and no ε, so that a program that reads the numbers alone is never told more than is true.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paczero.errors import IntegrityError, PACZeroError
from paczero.release.guarantee import epsilon, success, verdict
from paczero.release.wording import not_promised, promise

FORMAT = "paczero-privacy/1"

NAME = "privacy.json"

SIGNATURE = "signature.json"  # made over the statement, so the statement cannot know of it

KEYS = (
    "format",
    "mechanism",
    "subsets",
    "family",
    "budget",
    "posterior_success",
    "epsilon",
    "steps",
    "steps_run",
    "directions",
    "units",
    "chosen_step",
    "threshold",
    "void",
    "weights_sha256",
    "promise",
    "not_promised",
    "files",
    "sha256",
)

_MAXIMUM_BYTES = 16 * 1024**2  # far above any honest statement; a reader is not made to load a huge file


def statement(
    header: Mapping[str, Any],
    *,
    chosen_step: int,
    weights_sha256: str,
    files: Mapping[str, str],
    steps_run: int | None = None,
    threshold: float = 0.0,
) -> dict[str, Any]:
    """The content of `privacy.json`, sealed.

    Args:
        header: the transcript's header.
        chosen_step: how many updates the served weights have had (0 to T).
        weights_sha256: fingerprint of the served weights.
        files: relative POSIX path -> SHA-256 of every other released file.
        steps_run: how many steps the transcript holds, where a run ended before T; all T where left out.
        threshold: where the served binary decision lies, as a difference of scores; a function of the served weights
            and the development set, which is not protected. 0.0 where none was moved.

    Raises:
        PACZeroError: a header key is missing, the mechanism is unknown, a step is out of range or the threshold is
            none that the header allows.
    """
    needed = ("mechanism", "subsets", "family", "budget", "steps", "directions", "units", "threshold", "test_seed")
    missing = [key for key in needed if key not in header]
    if missing:
        raise PACZeroError(f"header: the keys {', '.join(missing)} are missing; expected a transcript's header")
    steps_run = header["steps"] if steps_run is None else steps_run
    if type(steps_run) is not int or not 0 <= steps_run <= header["steps"]:
        raise PACZeroError(f"steps_run: {steps_run} was given; expected 0 to {header['steps']} steps")
    if type(chosen_step) is not int or not 0 <= chosen_step <= steps_run:
        raise PACZeroError(f"chosen_step: {chosen_step} was given; expected 0 to {steps_run} updates")
    if not isinstance(threshold, float) or not math.isfinite(threshold):
        raise PACZeroError(f"threshold: {threshold!r} was given; expected a finite number (float)")
    if threshold and header["threshold"] == "none":
        raise PACZeroError(f"threshold: {threshold:g} was given; expected 0.0, for this run moves none")
    return seal(
        {
            "format": FORMAT,
            "mechanism": dict(header["mechanism"]),
            "subsets": header["subsets"],
            "family": header["family"],
            "budget": header["budget"],
            "posterior_success": success(header),
            "epsilon": epsilon(header),
            "steps": header["steps"],
            "steps_run": steps_run,
            "directions": header["directions"],
            "units": header["units"],
            "chosen_step": chosen_step,
            "threshold": threshold,
            "void": verdict(header) == "void",
            "weights_sha256": weights_sha256,
            "promise": promise(header).strip(),
            "not_promised": not_promised(header),
            "files": {name: files[name] for name in sorted(files)},
        }
    )


def canonical(document: Mapping[str, Any]) -> bytes:
    """The one byte form that is hashed: sorted keys, no white space, ASCII, finite numbers, without `sha256`."""
    content = {key: value for key, value in document.items() if key != "sha256"}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def seal(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with `sha256` of its canonical form as the last key."""
    content = {key: value for key, value in document.items() if key != "sha256"}
    return {**content, "sha256": hashlib.sha256(canonical(content)).hexdigest()}


def render(document: Mapping[str, Any]) -> bytes:
    """The bytes of `privacy.json`: indented for people, one form only."""
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def check(document: Any) -> None:
    """Whether a statement is whole and unchanged.

    Raises:
        IntegrityError: keys are missing or added, the format is another, the hash differs.
    """
    if not isinstance(document, Mapping) or tuple(document) != KEYS:
        raise IntegrityError(f"{NAME}: its keys are not those of a statement; expected {', '.join(KEYS)}")
    if document["format"] != FORMAT:
        raise IntegrityError(f"{NAME}: format {document['format']!r}; expected {FORMAT!r}")
    try:
        agrees = seal(document)["sha256"] == document["sha256"]
    except ValueError as error:
        raise IntegrityError(f"{NAME}: it holds a number that JSON has no form for: {error}") from error
    if not agrees:
        raise IntegrityError(f"{NAME}: sha256 does not agree with its content; it was changed after it was written")


def read(path: Path) -> dict[str, Any]:
    """A checked statement from its file.

    Raises:
        IntegrityError: missing, unreadable, or changed in any byte.
    """
    try:
        if path.stat().st_size > _MAXIMUM_BYTES:
            raise IntegrityError(f"{path}: larger than {_MAXIMUM_BYTES} bytes; no statement is")
        data = path.read_bytes()
        document = json.loads(data)
    except OSError as error:
        raise IntegrityError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, IntegrityError):
            raise
        raise IntegrityError(f"{path}: is no JSON: {' '.join(str(error).split())}") from error
    check(document)
    if render(document) != data:
        raise IntegrityError(f"{path}: was changed after it was written (its white space or spelling differs)")
    return document


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def released_files(release: Path) -> list[str]:
    """Sorted relative POSIX paths of everything in a release but `privacy.json` and a signature of it.

    Raises:
        IntegrityError: something in it is neither a file nor a directory (a link could point outside).
    """
    names = []
    for path in release.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise IntegrityError(f"{path}: is a link or a special file; a release holds plain files only")
        name = path.relative_to(release).as_posix()
        if path.is_file() and name not in (NAME, SIGNATURE):
            names.append(name)
    return sorted(names)


def check_release(release: Path, header: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Checks a release directory against its statement, and the statement against the transcript's header if given.

    Returns:
        The statement.

    Raises:
        IntegrityError: a file is missing, added or changed, or the statement says other than the header.
    """
    document = read(release / NAME)
    names, stated = released_files(release), document["files"]
    for problem, differing in (
        ("missing", set(stated) - set(names)),
        ("not in the statement", set(names) - set(stated)),
    ):
        if differing:
            raise IntegrityError(f"{release}: {min(differing)!r} is {problem} ({len(differing)} such files)")
    for name in names:
        if file_hash(release / name) != stated[name]:
            raise IntegrityError(f"{release / name}: does not agree with {NAME}; it was changed after it was released")
    if header is not None:
        expected = statement(
            header,
            chosen_step=document["chosen_step"],
            weights_sha256=document["weights_sha256"],
            files=stated,
            steps_run=document["steps_run"],
            threshold=document["threshold"],
        )
        for key in KEYS[:-1]:
            if canonical({key: expected[key]}) != canonical({key: document[key]}):  # 6 and 6.0 are two things
                raise IntegrityError(f"{release / NAME}: {key} does not agree with the transcript's header")
    return document
