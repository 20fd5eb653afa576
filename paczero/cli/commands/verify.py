"""`paczero verify RELEASE`: checks a release that somebody else made, with nothing but its folder.

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
Checks everything that can be checked of a release: which files there are, every hash, every bit and step number, the
header's values, the statement against the transcript, the card and PEFT's settings against both, and the weights, which
are made again from the transcript. Exit code 1 means that something differs; one line names it.

A forger who changes everything consistently makes another release, as good as the first. Only a signature, or the base
model, tells it from the one that you were promised. The last line says which of them was there.

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
    """What was checked, a line each, and what the release promises, in the newest wording."""
    from paczero.release.wording import sentences

    width = max(len(name) for name, _ in verification.lines) + 2
    lines = [f"{name:<{width}}{text}" for name, text in verification.lines]
    return "\n".join([*lines, *sentences(verification.transcript.header)])


def _conclusion(verification: "Verification", with_base: bool) -> str:
    """What the folder was compared with, and what could still be forged."""
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
        text += " A forger who changed bits, weights, card, statement and hashes consistently would not be found out"
        text += " by that." if compared else "; a signature by a key that you know (--key) would tell."
    return text
