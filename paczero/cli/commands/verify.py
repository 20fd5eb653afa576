"""`paczero verify RELEASE`: checks a release that somebody else made, with nothing but its folder.

$ paczero verify downloaded/release
$ paczero verify downloaded/release --model models/base --key author.pub
"""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paczero.cli.checks import Release, noise_line, rebuild_release, released_folder, verify_weights
from paczero.cli.console import Live, keep_quiet
from paczero.cli.parser import CommandParser, command_parser

if TYPE_CHECKING:
    from paczero.release.verify.release import Checked


_ABOUT = """
Checks everything that can be checked of a release: which files there are, every hash, every bit and step number, the
header's values, the statement against the transcript, the card and PEFT's settings against both, and the weights, which
are made again from the transcript. Exit code 1 says that something differs, in one line that names it.

Whoever changes one thing in all places alike makes another release, which is as good as the first. Only a signature, or
the base model, tells it from the one that you were promised; the last line says which of them was there.

  paczero verify downloaded/release
  paczero verify downloaded/release --model models/base       the base model's hash too, and weights that begin from it
  paczero verify downloaded/release --key author.pub          signed by this key, or it is refused
"""


def parser() -> CommandParser:
    made: CommandParser = command_parser("verify", _ABOUT, usage="RELEASE [OPTIONS]")
    made.add_argument("release", type=str, metavar="RELEASE", help="a release's folder, or a finished run")
    made.add_argument("--model", type=str, metavar="DIR_OR_ID", help="the base model, to be compared as well")
    made.add_argument("--key", type=str, metavar="FILE", help="the Ed25519 public key that must have signed")
    return made


def run(namespace: Namespace) -> int:
    from paczero.release.verify.release import check_release

    folder = released_folder(Path(namespace.release))
    keep_quiet()
    with Live() as live:
        live.show(f"checking {folder}")
        checked = check_release(
            folder,
            key=None if namespace.key is None else Path(namespace.key),
            replay=namespace.model is None,  # with the base model everything is made again anyway
            progress=lambda step, steps: live.show(f"{step:,} of {steps:,} steps again"),
        )
        lines = list(checked.lines)
        if namespace.model is not None:
            lines[-1] = ("replay", _with_base(checked, namespace.model, live))
    lines += _noise(checked)
    width = max(len(name) for name, _ in lines) + 2
    print("\n".join(f"{name:<{width}}{text}" for name, text in lines))
    print(_conclusion(checked, namespace.model))
    return 0


def _with_base(checked: "Checked", model: str, live: Live) -> str:
    """Makes the weights again from the base model, and compares each released tensor."""
    release = Release(checked.folder, checked.transcript, checked.document)
    rebuilt, _, weights = rebuild_release(release, step=checked.document["chosen_step"], model=model, live=live)
    count = verify_weights(release, rebuilt, weights)
    return f"{count} tensors made again from the base model and the transcript, bit for bit"


def _noise(checked: "Checked") -> list[tuple[str, str]]:
    line = noise_line(checked.transcript.header)
    return [] if line is None else [("noise", line)]


def _conclusion(checked: "Checked", model: str | None) -> str:
    """Which of signature and base model there was, and what it takes to exclude a forgery without."""
    document: dict[str, Any] = checked.document
    had = []
    if checked.signed is not None:
        named = "the key that was named" if checked.signed.expected else "a key that nobody named; see --key"
        had.append(f"a signature by {checked.signed.fingerprint} ({named})")
    if model is not None:
        had.append("the base model, which has the stated hash")
    said = [
        f"Agrees with itself. Beside the folder there was {' and '.join(had) if had else 'nothing to compare with'}."
    ]
    if checked.signed is None or not checked.signed.expected:
        said.append(
            "Somebody who changed bits, weights, card, statement and hashes all alike would not be found out"
            + (" by that." if had else "; a signature by a key that you know (--key) would tell.")
        )
    if document["void"]:
        said.append("VOID: it was made with a test seed and promises nothing.")
    return " ".join(said)
