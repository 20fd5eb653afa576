"""`paczero sign RELEASE --key KEY`: puts your signature into a release of yours.

paczero sign runs/first --key ~/.ssh/id_ed25519
"""

from argparse import Namespace
from pathlib import Path

from paczero.cli.console import Live, keep_quiet
from paczero.cli.parser import CommandParser, command_parser
from paczero.errors import PACZeroError

_ABOUT = """
Checks a release, then signs it: writes signature.json into it. Anyone with your public key can distinguish it from any
other release by `paczero verify RELEASE --key KEY.pub`. The key is one that `ssh-keygen -t ed25519` made, or Ed25519 in
PEM; its passphrase comes from PACZERO_KEY_PASSPHRASE, or from a prompt.

  paczero sign runs/first --key ~/.ssh/id_ed25519
"""


def parser() -> CommandParser:
    made: CommandParser = command_parser("sign", _ABOUT, usage="RELEASE --key FILE")
    made.add_argument("release", metavar="RELEASE", help="a finished run, or its release/")
    made.add_argument("--key", metavar="FILE", help="your private key")
    return made


def run(namespace: Namespace) -> int:
    from paczero.release import signing
    from paczero.release.statement import find_release
    from paczero.release.verify.release import verify_release

    if namespace.key is None:
        raise PACZeroError("--key: nothing was given; expected your private key, such as ~/.ssh/id_ed25519")
    folder = find_release(Path(namespace.release))
    if (folder / signing.NAME).exists():
        raise PACZeroError(f"{str(folder)!r} is signed already; remove {signing.NAME} from it to sign anew")
    keep_quiet()
    with Live() as live:
        verify_release(folder, progress=live.show)
    fingerprint = signing.sign(folder, Path(namespace.key).expanduser())
    print(f"{folder / signing.NAME}: signed by {fingerprint}")
    print(f"Anyone with your public key: paczero verify {folder} --key YOUR_KEY.pub")
    return 0
