"""Checks everything about a release that follows from its folder alone, and more with the base model.

    verification = verify_release(Path("runs/demo/release"))
    verification.lines[0]       # ('folder', '9 files, all of them such as a release has')

Nothing in the folder is trusted: names are checked before contents, sizes before reading, and every value before it is
used. The first difference raises one IntegrityError, whose message names it.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paczero.config import TaskConfig
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.transcript import Transcript
from paczero.release import signing, statement, task_file
from paczero.release.verify.documents import check_adapter_config, check_card, check_task
from paczero.release.verify.files import check_folder, check_pictures
from paczero.release.verify.header import check_header, check_noise
from paczero.release.verify.weights import (
    check_model_config,
    check_steps,
    check_weights,
    follows_without_base,
    weights_folder,
)
from paczero.release.verify.with_base import check_with_base


@dataclass(frozen=True)
class Verification:
    """A release that agrees with itself.

    Attributes:
        folder: its path.
        transcript: header and released values.
        document: the statement.
        task: the task in `task.json`; None if there is none.
        signed: the signature, or None.
        replayed: whether the weights were made again from the transcript.
        card_unchecked: why the model card was not checked; None if it was.
        lines: (subject, result) of each check, for people.
    """

    folder: Path
    transcript: Transcript
    document: dict[str, Any]
    task: TaskConfig | None
    signed: signing.Signature | None
    replayed: bool
    card_unchecked: str | None
    lines: tuple[tuple[str, str], ...]


def verify_release(
    folder: str | Path,
    *,
    key: Path | None = None,
    with_base: bool = False,
    model: str | None = None,
    replay: bool = True,
    progress: Callable[[str], None] = lambda text: None,
) -> Verification:
    """Checks a released folder against itself, and against the base model on request.

    Args:
        folder: the release, or a finished run.
        key: the public key that must have signed it.
        with_base: whether the weights are made again from the base model.
        model: the base model's folder or id; by default, the one in the header.
        replay: whether a LoRA adapter is made again from the transcript without the base model; this takes as long as
            the run's updates did.
        progress: called with a text for each stage.

    Raises:
        IntegrityError: something differs; the message names it.
        PACZeroError: there is no release, or the base model, a library or `key` cannot be used.
    """
    folder = statement.find_release(Path(folder))
    progress(f"checking {folder}")
    with _refused_in_a_line(folder):
        return _verified(folder, key=key, with_base=with_base, model=model, replay=replay, progress=progress)


# What a file of a form that no check foresees can raise in a library. Errors of the machine are not among them.
_UNFORESEEN = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@contextlib.contextmanager
def _refused_in_a_line(folder: Path) -> Iterator[None]:
    """Refuses a release whose check ends in an error that no check foresees."""
    try:
        yield
    except PACZeroError:
        raise
    except _UNFORESEEN as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise IntegrityError(f"{folder}: cannot be checked, so it does not pass ({reason})") from error


def _verified(
    folder: Path,
    *,
    key: Path | None,
    with_base: bool,
    model: str | None,
    replay: bool,
    progress: Callable[[str], None],
) -> Verification:
    """Does what `verify_release` says, in a release's folder."""
    names = check_folder(folder)
    transcript = Transcript.read(folder / "transcript.jsonl")
    header = transcript.header
    check_header(header, str(folder / "transcript.jsonl"))
    document = statement.checked_statement(folder, transcript)
    check_pictures(folder, names, len(transcript.y) * header["directions"])
    task = check_task(folder)
    if header["peft"] is not None:
        check_adapter_config(folder, header)
    check_model_config(folder)
    tensors = check_weights(folder, header, document)
    unchecked = check_card(folder, header, document, task)
    noise = check_noise(header)
    signed = signing.check(folder, document, key)
    replayed = True
    if with_base:
        compared = check_with_base(folder, transcript, document, model, progress)
        remade = f"{compared} tensors made again from the base model and the transcript, bit for bit"
    elif why_not := follows_without_base(header) if replay else "it was not requested":
        replayed, remade = False, f"not made again: {why_not}"
    else:
        chosen = document["chosen_step"]
        check_steps(transcript, document, lambda step: progress(f"{step + 1:,} of {chosen:,} steps again"))
        remade = f"made again from the first {chosen:,} steps, bit for bit"
    lines = (
        ("folder", f"{len(names)} files, all of them such as a release has{_of_the_hub(folder)}"),
        ("hashes", f"{len(document['files'])} files are as {statement.NAME} has them"),
        ("transcript", _steps(document)),
        ("statement", "its facts follow from the transcript's header"),
        ("texts", _texts(document, folder, unchecked)),
        ("weights", f"{tensors} tensors, as header and statement have them"),
        ("replay", remade),
        *([] if noise is None else [("noise", noise)]),
    )
    return Verification(folder, transcript, document, task, signed, replayed, unchecked, lines)


def check_served(folder: Path) -> tuple[Mapping[str, Any], dict[str, Any], TaskConfig | None]:
    """Checks what a command loads from a release: statement, header, task, and each file of the weights' folder.

    `verify_release` checks more: the other files, the card, the signature, and that the weights follow from the steps.

    Returns:
        Header, statement and task.

    Raises:
        IntegrityError: something differs; the message names it.
    """
    with _refused_in_a_line(folder):
        return _served(folder)


def _check_plain(folder: Path, weights: Path) -> None:
    """Refuses links and special files among what is loaded; in the Hub's cache each file is a link to its blobs."""
    root = folder.resolve()
    blobs = root.parent.parent / "blobs" if root.parent.name == "snapshots" else None
    stated = (folder / name for name in (statement.NAME, "transcript.jsonl", task_file.NAME))
    for path in (*stated, weights, *weights.rglob("*")):
        plain = path.resolve().parent == blobs if path.is_symlink() else path.is_dir() or path.is_file()
        if not plain and (path.is_symlink() or path.exists()):
            raise IntegrityError(f"{path}: is a link or a special file; a release holds plain files only")


def _served(folder: Path) -> tuple[Mapping[str, Any], dict[str, Any], TaskConfig | None]:
    weights = weights_folder(folder)
    _check_plain(folder, weights)
    transcript = Transcript.read(folder / "transcript.jsonl")
    header = transcript.header
    check_header(header, str(folder / "transcript.jsonl"))
    task = check_task(folder)
    names = ["transcript.jsonl", *([] if task is None else [task_file.NAME])]
    names += sorted(f"{weights.name}/{path.relative_to(weights).as_posix()}" for path in weights.iterdir())
    if task is None and task_file.NAME in statement.read(folder / statement.NAME)["files"]:
        raise IntegrityError(f"{folder / task_file.NAME}: is missing; restore it")
    document = statement.checked_statement(folder, transcript, names)
    if header["peft"] is not None:
        check_adapter_config(folder, header)
    check_model_config(folder)
    check_weights(folder, header, document)
    return header, document, task


def _of_the_hub(folder: Path) -> str:
    extra = [name for name in statement.FROM_THE_HUB if (folder / name).exists()]
    return f"; {' and '.join(extra)} of the Hub is no part of it" if extra else ""


def _steps(document: Mapping[str, Any]) -> str:
    run, chosen = document["steps_run"], document["chosen_step"]
    after = f"; the {run - chosen:,} after the served step are bound by their hash alone" if run > chosen else ""
    total, k = document["steps"], document["directions"]
    return f"{run:,} of {total:,} steps, K = {k}: none missing, swapped or changed{after}"


def _texts(document: Mapping[str, Any], folder: Path, unknown: str | None) -> str:
    if unknown is not None:
        return f"the model card was NOT checked: {unknown}; task and PEFT's settings were"
    partly = statement.wording_of(document, folder) == 1
    text = "model card, task and PEFT's settings say the same"
    return text + ("; of the task, only what a card of wording 1 shows" if partly else "")
