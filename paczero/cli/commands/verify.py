"""`paczero verify RELEASE`: checks a release of any origin, from its folder alone.

paczero verify downloaded/release
paczero verify downloaded/release --model models/base --key author.pub
"""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from paczero.cli.console import Live, keep_quiet
from paczero.cli.parser import CommandParser, command_parser

if TYPE_CHECKING:
    from paczero.release.verify.release import Verification


_ABOUT = """
Checks everything about a release that can be checked: its file names, every hash, every bit and step number, the
header's values, the statement against the transcript, the card and PEFT's settings against both, and the weights, which
are made again from the transcript. Exit code 1 means that something differs; one line names it.

A forger who changes all files consistently makes another valid release. Only a signature or the base model can
distinguish it from the original. The last line says which of them was compared.

  paczero verify downloaded/release
  paczero verify downloaded/release --model models/base       the base model's hash too, and weights that begin from it
  paczero verify downloaded/release --key author.pub          signed by this key, or it is refused
"""


def parser() -> CommandParser:
    made: CommandParser = command_parser("verify", _ABOUT, usage="RELEASE [OPTIONS]")
    made.add_argument("release", metavar="RELEASE", help="a release's folder, or a finished run")
    made.add_argument("--model", metavar="DIR_OR_ID", help="the base model, to be compared as well")
    made.add_argument("--key", metavar="FILE", help="the Ed25519 public key that must have signed")
    return made


def run(namespace: Namespace) -> int:
    from paczero.release.verify.release import verify_release

    keep_quiet()
    with Live() as live:
        verification = verify_release(
            namespace.release,
            key=None if namespace.key is None else Path(namespace.key),
            with_base=namespace.model is not None,
            model=namespace.model,
            progress=live.show,
        )
    print(report(verification))
    print(_conclusion(verification, namespace.model is not None))
    return 0


def report(verification: "Verification") -> str:
    """One line for each check, and the release's promise in the newest wording."""
    from paczero.release.wording import sentences

    width = max(len(name) for name, _ in verification.lines) + 2
    lines = [f"{name:<{width}}{text}" for name, text in verification.lines]
    return "\n".join([*lines, *sentences(verification.transcript.header)])


def _conclusion(verification: "Verification", with_base: bool) -> str:
    """What the folder was compared with, and which forgery is still possible."""
    signed, compared = verification.signed, []
    if signed is not None:
        named = "the key that was named" if signed.expected else "a key that you did not name; see --key"
        compared.append(f"a signature by {signed.fingerprint} ({named})")
    if with_base:
        compared.append("the base model, which has the stated hash")
    agrees = "Agrees with itself."
    if verification.card_unchecked is not None:
        agrees = "The model card was NOT checked: do not rely on what it says. All else agrees with itself."
    text = f"{agrees} Beside the folder there was {' and '.join(compared) or 'nothing to compare with'}."
    if signed is None or not signed.expected:
        text += " This does not detect a forger who changed bits, weights, card, statement and hashes consistently"
        text += "." if compared else "; a signature by a key that you know (--key) does."
    return text
