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
from typing import Any, Literal

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.bounds import epsilon_for_nats, posterior_success

FORMAT = "paczero-privacy/1"
NAME = "privacy.json"
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

Verdict = Literal["kept", "nothing", "void"]


def verdict(header: Mapping[str, Any]) -> Verdict:
    """`kept`: the promise holds; `nothing`: the mechanism or its budget bounds nothing; `void`: test coins."""
    if header["test_seed"] is not None:
        return "void"
    return "nothing" if mechanism_name(header) == "none" or _bound(header) >= 1 else "kept"


def mechanism_name(header: Mapping[str, Any]) -> str:
    """`zpl`, `mi` or `none`.

    Raises:
        PACZeroError: another mechanism, of which nothing could truthfully be said.
    """
    name = header["mechanism"]["name"]
    if name not in ("zpl", "mi", "none"):
        raise PACZeroError(f"mechanism: {name!r} was given; expected zpl, mi or none, the ones that can be stated")
    return name


def success(header: Mapping[str, Any]) -> float:
    """p: how often, at most, a guess of one unit's half is right; 1.0 where nothing is promised."""
    return _bound(header) if verdict(header) == "kept" else 1.0


def epsilon(header: Mapping[str, Any]) -> float | None:
    """The ε with the same p (δ = 0), for comparison only; None where nothing is promised."""
    return float(epsilon_for_nats(header["budget"])) if verdict(header) == "kept" else None


def _bound(header: Mapping[str, Any]) -> float:
    return float(posterior_success(header["budget"]))


def rounded_up(value: float, digits: int = 4) -> str:
    """A bound in print: never smaller than it is (0.88187… -> "0.8819")."""
    scale = 10**digits
    text = f"{math.ceil(value * scale) / scale:.{digits}f}".rstrip("0")
    return text.rstrip(".")


def promise(header: Mapping[str, Any]) -> str:
    """What is promised, in words that need no cryptography; begins with VOID or "No privacy" where nothing is."""
    kind, name = verdict(header), mechanism_name(header)
    if kind == "void":
        return (
            f"VOID: nothing is promised. This run took its secret half, its coins and its noise from a test seed "
            f"({header['test_seed']}), so that anybody can compute them. It is for testing only."
        )
    if name == "none":
        return (
            "No privacy is promised. This run (mechanism none, MeZO) trains on the pool's mean derivative as it is, "
            "without noise. Take it that whatever the model learned about any record can be got out of it again."
        )
    if kind == "nothing":
        return (
            f"No privacy is promised. The budget of {header['budget']:g} nats is ln 2 = 0.693 or more, at which "
            "whoever sees this release may learn for certain which half of the pool was the secret one."
        )
    p = rounded_up(success(header))
    opening = (
        f"Of the pool of {header['units']:,} units (records, or people with all their records), one of M = "
        f"{header['subsets']:,} candidate halves was drawn as the secret. Take somebody who sees everything in this "
        "release, knows the whole pool, all candidate halves and the whole procedure, and has unlimited computing "
        "power. Asked of any one unit whether it was in the secret half, "
    )
    if name == "zpl":
        return opening + (
            f"they are right with probability at most p = {p}: no better than the toss of a coin. The secret half is "
            "never read in training, so what is released depends on it in no way (I(S*; Y) = 0 nats) and this holds "
            "for every release. "
        )
    return opening + (
        f"they are right with probability at most p = {p} (by the toss of a coin: 0.5), on average over the draw of "
        "the secret and over what the run could have released. It is not so for every release: a rare one may say "
        f"more. The whole run leaks at most B = {header['budget']:g} nats about the secret half, all "
        f"{header['steps']:,} steps together, whichever of them is served."
    )


def not_promised(header: Mapping[str, Any]) -> list[str]:
    """What is not promised, one matter an entry, complete for the mechanism of this header."""
    name = mechanism_name(header)
    if name == "none":
        return [
            "Nothing is hidden: neither which records were in the pool nor what they say.",
            "Every record of the pool influences the model, and the model may repeat what it learned from any of them.",
            "Records of a development set, where one was used to choose the served step, a threshold or a setting, "
            "are not protected either.",
            _HELP,
        ]
    kept = verdict(header) == "kept"
    entries = [
        ""
        if kept
        else "It hides nothing, not even which half of the pool was the secret one. What follows is not "
        "promised by the mechanism of this run at any budget, with any coins.",
        "It does not hide whether somebody is in the pool at all. At best it hides which half of the pool was the "
        "designated one. Drawing the pool secretly from a larger collection makes a blind guess worse and bounds "
        "nothing.",
        "Every record of the pool influences the model, in whichever half it is, and the model may repeat what it "
        "learned from any of them.",
        "It is not differential privacy. One record added to the pool can turn a step on which all candidate halves "
        f"agree into {'a' if name == 'zpl' else 'nearly a'} coin flip: whoever asks whether that record is in the pool "
        "may be right 3 times out of 4 from that one step, and there are many steps.",
        _AVERAGE if kept and name == "mi" else "",
        _company(header),
        "A person with several records is one unit only where a unit column (task.unit_column) says so. Otherwise "
        "each record goes its "
        "own way: of k records that are assigned independently, at least one is in the secret half with probability "
        "1 - 2^-k before anything is released.",
        _reuse(header),
        "Records of a development set, where one was used to choose the served step, a threshold or a setting, or "
        "where its accuracy is reported, are not protected.",
        "It speaks of the files of this release only. The rest of the run (private/, report/, logs) must stay with its "
        "owner: it says more.",
        _HELP,
    ]
    return [entry for entry in entries if entry]


_AVERAGE = "The probability is an average. For single releases, rare ones, a guess may be right more often."
_HELP = (
    "What helps where it must stay hidden that somebody is in the pool is another mechanism. It must be "
    "(ε, δ)-differentially private over the pool, which the mechanism of this run is not."
)


def _company(header: Mapping[str, Any]) -> str:
    """What knowledge of other units tells, which depends on how the candidates were drawn."""
    known = max(1, math.ceil(math.log2(header["subsets"])))
    family = header["family"]
    if family == "paired":
        how = (
            "In this family (paired) units go in pairs of which each candidate takes one: who knows the half of a "
            "unit knows that of its partner"
        )
    elif family == "balanced":
        how = (
            "In this family (balanced) the candidates are made to resemble each other and each comes with its "
            "complement, so that the halves of different units are not independent"
        )
    else:
        how = f"This family ({family}) draws each candidate by itself"
    return (
        f"Who already knows the half of some units may know that of others before anything is released. {how}, and "
        f"about log2 M = {known} known units are enough to tell which of the {header['subsets']:,} candidates it is."
        + (" The probability p is that of somebody who starts from 1/2." if verdict(header) == "kept" else "")
    )


def _reuse(header: Mapping[str, Any]) -> str:
    if not header["budget"]:
        return (
            "Where the same secret half is used in other runs, budgets add up. This run adds 0 nats, others what "
            "theirs allow."
        )
    return (
        "Where the same secret half is used in other runs, budgets add up. The probability then follows from their "
        f"sum, of which this run is {header['budget']:g} nats."
    )


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
    if not 0 <= steps_run <= header["steps"]:
        raise PACZeroError(f"steps_run: {steps_run} was given; expected 0 to {header['steps']} steps")
    if not 0 <= chosen_step <= steps_run:
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
    """Sorted relative POSIX paths of everything in a release but `privacy.json`.

    Raises:
        IntegrityError: something in it is neither a file nor a directory (a link could point outside).
    """
    names = []
    for path in release.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise IntegrityError(f"{path}: is a link or a special file; a release holds plain files only")
        name = path.relative_to(release).as_posix()
        if path.is_file() and name != NAME:
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
            if expected[key] != document[key]:
                raise IntegrityError(f"{release / NAME}: {key} does not agree with the transcript's header")
    return document
