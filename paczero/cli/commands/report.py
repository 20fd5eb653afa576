"""`paczero report RUN`: writes promise, figures and metrics of a run as one page.

paczero report runs/first --open
"""

import webbrowser
from argparse import Namespace
from pathlib import Path

from paczero.cli.parser import CommandParser, command_parser
from paczero.run_directory import RunDirectory

_ABOUT = """
Writes RUN/report/: the promise and its limits, the metrics and the figures, as one HTML page that needs no network,
with the figures beside it as PNG. It is for you alone: it shows what a release may not. Works on unfinished runs too.

  paczero report runs/first --open
"""


def parser() -> CommandParser:
    made: CommandParser = command_parser("report", _ABOUT, usage="RUN [--open]")
    made.add_argument("run", metavar="RUN", help="a directory that `paczero train` made")
    made.add_argument("--open", action="store_true", help="open it in the browser, where there is one")
    return made


def run(namespace: Namespace) -> int:
    from paczero.report.html import write_report

    page = write_report(RunDirectory(Path(namespace.run)))
    print(page)
    if namespace.open and not webbrowser.open(page.absolute().as_uri()):
        print("No browser was found here; open the page by hand.")
    return 0
