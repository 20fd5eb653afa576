"""Seals a release anew after its owner gave it a license.

    seal(Path("runs/demo/release"), license="apache-2.0")

Card and statement are made again from the same facts; nothing else in the release changes.
"""

import re
from pathlib import Path
from typing import Any

from paczero.errors import PACZeroError
from paczero.release import statement
from paczero.release.model_card import CARD
from paczero.release.verify.documents import expected_card
from paczero.release.verify.release import verify_release
from paczero.utils.io import write_whole


def seal(release: Path, license: str | None = None) -> dict[str, Any]:
    """Writes a license into card and statement, and the statement's hashes again.

    Args:
        release: a folder that agrees with itself; a license line that was added to its card is accepted.
        license: its name; by default, the one that was added to the card.

    Returns:
        The new statement.

    Raises:
        IntegrityError: the release does not agree with itself.
        PACZeroError: it is signed, is of version 1 or of a newer wording, or there is no license.
    """
    if (release / statement.SIGNATURE).exists():
        raise PACZeroError(
            f"{str(release)!r} is signed, and the signature is over the statement; remove {statement.SIGNATURE}, seal, "
            "then sign again"
        )
    verification = verify_release(release)
    document, header = verification.document, verification.transcript.header
    if document["format"] != statement.FORMAT or verification.card_unchecked is not None:
        raise PACZeroError(f"{str(release)!r} was written by another version, which has to seal it")
    text = (release / CARD).read_text(encoding="utf-8")
    front = text.partition("\n---\n")[0]
    if re.search(r"^license_(name|link): ", front, re.M):
        raise PACZeroError(f"{release / CARD}: states license_name or license_link; remove them, or leave it as it is")
    found = re.search(r"^license: (\S+)$", front, re.M)
    license = license or document["license"] or (found and found[1])
    if license is None:
        raise PACZeroError("--license: nothing was given; expected a name, such as apache-2.0")
    facts = {key: value for key, value in document.items() if key != "files"} | {"license": license}
    given = ("chosen_step", "weights_sha256", "steps_run", "steps_sha256", "threshold", "development", "license")
    files = dict(document["files"])
    made = statement.statement(
        header, files=files, version=document["wording"], **{key: facts[key] for key in given}
    )  # refuses what is no license before anything is written
    write_whole(release / CARD, expected_card(release, header, made, verification.task, made["wording"]))
    files[CARD] = statement.file_hash(release / CARD)
    made = statement.seal(made | {"files": files})
    write_whole(release / statement.NAME, statement.render(made))
    return made
