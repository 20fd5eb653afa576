"""`paczero seal RELEASE --license NAME`: adds a license to a release of yours.

paczero seal runs/first --license apache-2.0
"""

from argparse import Namespace
from pathlib import Path

from paczero.cli.console import keep_quiet
from paczero.cli.parser import CommandParser, command_parser

_ABOUT = """
Checks a release, writes a license into its model card and its statement, and seals both anew. A license line that you
added to the card by hand is taken where --license is left out. Seal before you sign: a signature is over the statement.

  paczero seal runs/first --license apache-2.0
"""


def parser() -> CommandParser:
    made: CommandParser = command_parser("seal", _ABOUT, usage="RELEASE [--license NAME]")
    made.add_argument("release", metavar="RELEASE", help="a finished run, or its release/")
    made.add_argument("--license", metavar="NAME", help="such as apache-2.0; it must agree with the base model's")
    return made


def run(namespace: Namespace) -> int:
    from paczero.release.sealing import seal
    from paczero.release.statement import find_release

    keep_quiet()
    folder = find_release(Path(namespace.release))
    print(f"{folder}: sealed with license {seal(folder, namespace.license)['license']}")
    return 0
