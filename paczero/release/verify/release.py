"""Everything that can be checked of a release by somebody who has nothing but its folder.

>>> checked = check_release(Path("runs/demo/release"))          # doctest: +SKIP
>>> print(checked.lines[0])                                     # doctest: +SKIP
('folder', '9 files, all of them such as a release has')

Nothing in the folder is trusted: names before contents, sizes before reading, and every value before it is used.
Whatever is found to differ is one IntegrityError, whose message names it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.transcript import Transcript
from paczero.release import signing as signature
from paczero.release import statement
from paczero.release.verify.documents import check_adapter_config, check_card, check_figures, check_task
from paczero.release.verify.files import check_folder, check_pictures
from paczero.release.verify.header import check_header

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Checked:
    """A release that agrees with itself.

    Attributes:
        folder: where it lies.
        transcript: header and released values.
        document: the statement.
        signed: the signature, where there is one.
        replayed: whether the weights were made again from the transcript.
        lines: (what, what was found) of each check, for people.
    """

    folder: Path
    transcript: Transcript
    document: dict[str, Any]
    signed: signature.Signature | None
    replayed: bool
    lines: tuple[tuple[str, str], ...]


def check_release(
    folder: Path, *, key: Path | None = None, replay: bool = True, progress: Progress | None = None
) -> Checked:
    """Checks a released folder against itself.

    Args:
        folder: the release.
        key: the public key that must have signed it.
        replay: whether a LoRA adapter is made again from the transcript, which takes as long as its updates did.
        progress: called with (step, steps) during that.

    Raises:
        IntegrityError: something differs; the message names it.
        PACZeroError: a library or `key` cannot be used.
    """
    from paczero.release.verify import weights

    names = check_folder(folder)
    transcript = Transcript.read(folder / "transcript.jsonl")
    header = transcript.header
    check_header(header, str(folder / "transcript.jsonl"))
    document = checked_statement(folder, transcript)
    check_pictures(folder, names)
    task = check_task(folder)
    if header["peft"] is not None:
        check_adapter_config(folder, header)
    weights.check_model_config(folder)
    count = weights.check_weights(folder, header, document)
    check_card(folder, header, document, task)
    drawn = check_figures(folder, transcript)
    signed = signature.check(folder, document, key)
    why_not = weights.follows_without_base(header)
    if why_not is None and replay:
        steps = document["chosen_step"]
        weights.check_steps(transcript, document, None if progress is None else lambda step: progress(step + 1, steps))
    return Checked(
        folder,
        transcript,
        document,
        signed,
        replayed=why_not is None and replay,
        lines=_lines(names, document, header, count, drawn, why_not if replay else "it was not asked for"),
    )


def checked_statement(folder: Path, transcript: Transcript) -> dict[str, Any]:
    """The statement, once files, header and steps agree with it.

    Raises:
        IntegrityError: a file is missing, added or changed, a step is missing, or statement and transcript disagree.
    """
    try:
        document = statement.check_release(folder, transcript.header)
    except IntegrityError:
        raise
    except (KeyError, TypeError, PACZeroError) as error:  # whatever cannot be stated was not stated by a run
        raise IntegrityError(f"{folder}: statement or header is none that a run wrote: {error}") from error
    if document["steps_run"] != len(transcript.y):
        raise IntegrityError(
            f"{folder / 'transcript.jsonl'}: holds {len(transcript.y)} steps, but {statement.NAME} says that "
            f"{document['steps_run']} ran; restore the missing ones"
        )
    return document


def _lines(
    names: list[str], document: dict[str, Any], header: dict[str, Any], count: int, drawn: bool, why_not: str | None
) -> tuple[tuple[str, str], ...]:
    steps, chosen, k = document["steps_run"], document["chosen_step"], document["directions"]
    made = f"made again from the first {chosen:,} steps, bit for bit"
    promise = f"{header['mechanism']['name']}, p = {document['posterior_success']:.6g}"
    return (
        ("folder", f"{len(names)} files, all of them such as a release has"),
        ("hashes", f"{len(document['files'])} files are as {statement.NAME} has them"),
        ("transcript", f"{steps:,} of {document['steps']:,} steps, K = {k}: none missing, swapped or changed"),
        ("statement", f"follows from the transcript's header: {promise}"),
        ("texts", "model card, task and PEFT's settings say the same"),
        (
            "figures",
            "drawn again, the same bytes"
            if drawn
            else "pictures and nothing else; not drawn again, this library draws others",
        ),
        ("weights", f"{count} tensors, as header and statement have them"),
        ("replay", made if why_not is None else f"not made again: {why_not}"),
    )
