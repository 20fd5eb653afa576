"""`privacy.json`: what a release promises, as facts in fields, sealed by a hash.

    document = statement(header, chosen_step=300, weights_sha256="ab…", files={"transcript.jsonl": "cd…"})
    document["half"]["posterior_success"], document["pool"]["posterior_success"]    # (0.5, 1.0)
    check(document)         # raises IntegrityError on any change

The facts follow from the transcript's header, which is public, and from the released files. The budget spent, the
unanimous steps and the losses on the pool depend on the pool's records and are left out. The document holds no
sentences: `wording` is the version of the templates that render them.

Releases of version 1 also hold the sentences of wording 1. They state p and ε once, for what the mechanism hides.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paczero.config import LICENSE
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.transcript import Transcript
from paczero.release import guarantee, wording
from paczero.release.model_card import CARD, without_license
from paczero.run_directory import RunDirectory
from paczero.utils import io

NAME = "privacy.json"

SIGNATURE = "signature.json"  # signs the statement, so the statement cannot hold its hash

FROM_THE_HUB = (".gitattributes", ".cache")  # what the Hugging Face Hub adds to a folder; no part of a release

FORMAT = "paczero-privacy/2"

KEYS = (
    *("format", "wording", "mechanism", "subsets", "family", "units", "budget", "secret_id", "prior_budgets"),
    *("half", "pool", "test_seed", "steps", "steps_run", "directions", "chosen_step", "threshold", "development"),
    *("license", "base"),
    *("weights_sha256", "steps_sha256", "files", "sha256"),
)

_OF_THE_HEADER = ("mechanism", "subsets", "family", "units", "budget", "test_seed", "steps", "directions", "base")

_VERSION_1 = "paczero-privacy/1"

_KEYS_1 = (
    *("format", "mechanism", "subsets", "family", "budget", "posterior_success", "epsilon", "steps", "steps_run"),
    *("directions", "units", "chosen_step", "threshold", "void", "weights_sha256", "promise", "not_promised"),
    *("files", "sha256"),
)

_MAXIMUM_BYTES = 16 * 1024**2  # far above any honest statement, so that a forged one cannot fill the memory


@dataclass(frozen=True)
class Development:
    """The task's metric on the development set, which is not protected, over the run.

    Attributes:
        steps: updates done at each evaluation, ascending.
        values: accuracy, F1 (shares in [0, 1]) or loss (nats), one an evaluation.
        untuned: the metric of the base model, its decision not moved.
        untuned_median: accuracy of the base model with its decision moved to the median of the scores.
        records: size of the development set.
        used_for: what the set decided, such as "the served step" or "the threshold".
        metric: a key of `paczero.data.metrics.METRICS`.
    """

    steps: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    untuned: float | None = None
    untuned_median: float | None = None
    records: int | None = None
    used_for: tuple[str, ...] = ()
    metric: str = "accuracy"

    def completed(self, header: Mapping[str, Any]) -> "Development":
        """Takes the untuned metric from the evaluation at step 0 if none was given.

        That evaluation decides as the run does: at the median of the scores, or with the decision not moved.
        """
        if self.untuned is not None or self.untuned_median is not None or 0 not in self.steps:
            return self
        start = self.values[self.steps.index(0)]
        return replace(self, untuned_median=start) if header["threshold"] == "median" else replace(self, untuned=start)

    def facts(self, chosen_step: int) -> dict[str, Any] | None:
        """What a release states: only finite metrics; None if nothing was measured."""
        if not self.steps and self.untuned is None:
            return None
        served = self.values[self.steps.index(chosen_step)] if chosen_step in self.steps else None
        values = {"served": served, "untuned": self.untuned, "untuned_median": self.untuned_median}
        finite = {name: v if v is not None and math.isfinite(v) else None for name, v in values.items()}
        return {"metric": self.metric, "records": self.records, "used_for": list(self.used_for), **finite}


def statement(
    header: Mapping[str, Any],
    *,
    chosen_step: int,
    weights_sha256: str,
    files: Mapping[str, str],
    steps_run: int | None = None,
    steps_sha256: str | None = None,
    license: str | None = None,
    threshold: float = 0.0,
    development: Mapping[str, Any] | None = None,
    version: int = wording.NEWEST,
) -> dict[str, Any]:
    """The content of `privacy.json`, sealed.

    Args:
        header: the transcript's header.
        chosen_step: updates of the served weights (0 to T).
        weights_sha256: fingerprint of the served weights.
        files: relative POSIX path -> SHA-256 of every other released file.
        steps_run: steps in the transcript, fewer than T if the run ended early; T by default.
        steps_sha256: the hash chain of the transcript; see `Transcript.chain`.
        license: as on the model card; None where the owner gave none.
        threshold: decision threshold of a binary task, as a difference of scores: a function of the served weights and
            the development set, which is not protected. 0.0 if it was not moved.
        development: metrics on the development set; see `Development.facts`.
        version: the wording of the model card.

    Raises:
        PACZeroError: a header key is missing, the mechanism is unknown, a step is out of range, or the header does not
            allow this threshold.
    """
    missing = [key for key in (*_OF_THE_HEADER, "threshold") if key not in header]
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
    if license is not None and not (isinstance(license, str) and re.fullmatch(LICENSE, license)):
        raise PACZeroError(f"license: {license!r} was given; expected a name such as apache-2.0")
    facts = {
        "format": FORMAT,
        "wording": version,
        "secret_id": header.get("secret_id"),  # runs of version 0.1 have none
        "prior_budgets": header.get("prior_budgets", []),
        "half": guarantee.half(header),
        "pool": guarantee.pool(header),
        "steps_run": steps_run,
        "chosen_step": chosen_step,
        "threshold": threshold,
        "development": development,
        "license": license,
        "weights_sha256": weights_sha256,
        "steps_sha256": steps_sha256,
        "files": {name: files[name] for name in sorted(files)},
    }
    return seal({key: facts[key] if key in facts else header[key] for key in KEYS[:-1]})


def _version_1(header: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of `document` in the form of version 1."""
    facts = {
        "format": _VERSION_1,
        "posterior_success": guarantee.success(header),
        "epsilon": guarantee.epsilon(header),
        "void": header["test_seed"] is not None,
        "promise": wording.promise(header, 1),
        "not_promised": wording.limits(header, 1),
    }
    return seal({key: facts[key] if key in facts else document[key] for key in _KEYS_1[:-1]})


def canonical(document: Mapping[str, Any]) -> bytes:
    """The bytes that are hashed: the document in canonical form, without `sha256`."""
    return io.canonical({key: value for key, value in document.items() if key != "sha256"})


def seal(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with `sha256` of its canonical form as the last key."""
    content = {key: value for key, value in document.items() if key != "sha256"}
    return {**content, "sha256": hashlib.sha256(canonical(content)).hexdigest()}


def render(document: Mapping[str, Any]) -> bytes:
    """The bytes of `privacy.json`: indented for people, one form only."""
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def check(document: Any) -> None:
    """Checks that a statement is whole and unchanged.

    Raises:
        IntegrityError: keys are missing or added, the format is another, or the hash differs.
    """
    if not isinstance(document, Mapping) or document.get("format") not in (FORMAT, _VERSION_1):
        raise IntegrityError(f"{NAME}: its format is not {FORMAT!r} or {_VERSION_1!r}; a newer paczero may read it")
    keys = KEYS if document["format"] == FORMAT else _KEYS_1
    if tuple(document) != keys:
        raise IntegrityError(f"{NAME}: its keys are not those of a statement; expected {', '.join(keys)}")
    if document["format"] == FORMAT and (type(document["wording"]) is not int or document["wording"] < 1):
        raise IntegrityError(f"{NAME}: wording {document['wording']!r}; expected a whole number of 1 or more")
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
    document = io.read_object(path, limit=_MAXIMUM_BYTES)
    check(document)
    if render(document) != path.read_bytes():
        raise IntegrityError(f"{path}: was changed after it was written (its white space or spelling differs)")
    return document


def wording_of(document: Mapping[str, Any], release: Path) -> int | None:
    """The wording of a release's card; None for the sentences before wording 1, which are not kept here."""
    if document["format"] == FORMAT:
        return int(document["wording"])
    return 1 if (release / "task.json").exists() else None


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def released_files(release: Path) -> list[str]:
    """Sorted relative POSIX paths of everything in a release but `privacy.json`, a signature and the Hub's files.

    Raises:
        IntegrityError: something in it is neither a file nor a directory (a link could point outside).
    """
    names = []
    for path in release.rglob("*"):
        name = path.relative_to(release).as_posix()
        if name.partition("/")[0] in FROM_THE_HUB:
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise IntegrityError(f"{path}: is a link or a special file; a release holds plain files only")
        if path.is_file() and name not in (NAME, SIGNATURE):
            names.append(name)
    return sorted(names)


def check_release(release: Path, header: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Checks a release's files against its statement, and the statement against the transcript's header if given.

    Returns:
        The statement.

    Raises:
        IntegrityError: a file is missing, added or changed, or the statement and the header differ.
    """
    document = read(release / NAME)
    names = released_files(release)
    if missing := document["files"].keys() - set(names):
        raise IntegrityError(f"{release}: {min(missing)!r} is missing ({len(missing)} such files)")
    _check_files(release, document, names)
    if header is not None:
        _check_facts(release / NAME, document, header)
    return document


def _check_files(release: Path, document: Mapping[str, Any], names: Iterable[str]) -> None:
    """Compares files with the hashes in the statement.

    Raises:
        IntegrityError: a file has another hash, or the statement has none for it.
    """
    stated = document["files"]
    if added := set(names) - stated.keys():
        raise IntegrityError(f"{release}: {min(added)!r} is not in the statement ({len(added)} such files)")
    for name in names:
        found = file_hash(release / name)
        if name == CARD and found != stated[name] and document.get("license") is None:
            found = hashlib.sha256(without_license((release / name).read_bytes())).hexdigest()
        if found != stated[name]:
            raise IntegrityError(f"{release / name}: does not agree with {NAME}; it was changed after it was released")


def _check_facts(path: Path, document: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """Compares every fact with the header, except hashes and those of the development set."""
    if ("secret_id" in header) != (document.get("wording", 1) > 1):
        raise IntegrityError(
            f"{path}: its transcript names a secret_id from wording 2 on, and not before; restore both"
        )
    free = ("chosen_step", "weights_sha256", "files", "steps_run", "threshold")
    expected = statement(
        header,
        **{key: document[key] for key in free},
        development=document.get("development"),
        steps_sha256=document.get("steps_sha256"),
        license=document.get("license"),
        version=document.get("wording", 1),
    )
    if document["format"] != FORMAT:
        expected = _version_1(header, expected)
    for key in expected:
        if key != "sha256" and canonical({key: expected[key]}) != canonical({key: document[key]}):  # 6 is not 6.0
            raise IntegrityError(f"{path}: {key} does not agree with the transcript's header")


def release_at(path: Path) -> Path | None:
    """The release that a path names: itself, the one that its weights lie in, or that of a finished run.

    Commands that check and commands that load use this function, so what is checked is what is loaded.

    Returns:
        Its folder; None if the path names none.

    Raises:
        PACZeroError: the path holds a release, and weights beside it that PEFT or transformers would load instead.
    """
    inner, parent = RunDirectory(path).release, path.absolute().parent
    if _is_release(path):
        return path
    if path.absolute().name in ("adapter", "model") and _is_release(parent):
        return parent
    if not _is_release(inner):
        return None
    for mark in ("adapter_config.json", "config.json"):
        if (path / mark).exists():
            raise PACZeroError(
                f"{str(path)!r} holds {mark} beside a release, so it is not clear which is meant; "
                f"give {str(inner)!r}, or move {mark} away"
            )
    return inner


def _is_release(folder: Path) -> bool:
    return (folder / NAME).exists() or (folder / "transcript.jsonl").exists()


def find_release(path: Path) -> Path:
    """The release that a path names; see `release_at`.

    Raises:
        PACZeroError: there is none, or it is not clear which is meant.
    """
    run = RunDirectory(path)
    if not path.is_dir():
        raise PACZeroError(f"{str(path)!r} is no directory; expected a run or its release/")
    if (folder := release_at(path)) is not None:
        return folder
    if run.private.is_dir():
        raise PACZeroError(f"{str(path)!r} is not finished and has no release; `paczero train --resume {path}`")
    raise PACZeroError(f"{str(path)!r} holds no release; expected {NAME} and transcript.jsonl in it")


def checked_statement(folder: Path, transcript: Transcript, names: Iterable[str] | None = None) -> dict[str, Any]:
    """The statement, if files, header and steps agree with it.

    Args:
        names: the files to compare, where it is not all of them: relative POSIX paths.

    Raises:
        IntegrityError: a file is missing, added or changed, a step is missing, or statement and transcript disagree.
    """
    try:
        if names is None:
            document = check_release(folder, transcript.header)
        else:
            document = read(folder / NAME)
            _check_files(folder, document, names)
            _check_facts(folder / NAME, document, transcript.header)
    except IntegrityError:
        raise
    except (
        KeyError,
        TypeError,
        AttributeError,
        PACZeroError,
    ) as error:  # no run writes a document that `statement` refuses
        raise IntegrityError(f"{folder}: statement or header is none that a run wrote: {error}") from error
    if document["steps_run"] != len(transcript.y):
        raise IntegrityError(
            f"{folder / 'transcript.jsonl'}: holds {len(transcript.y)} steps, but {NAME} says that "
            f"{document['steps_run']} ran; restore the missing ones"
        )
    if document["format"] == FORMAT and document["steps_sha256"] != transcript.chain():
        raise IntegrityError(
            f"{folder / 'transcript.jsonl'}: its steps do not have the hash chain that {NAME} states (steps_sha256)"
        )
    return document
