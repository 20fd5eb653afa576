"""`paczero results DIR…`: the metrics of a sweep's runs as tables, plots and one JSON document.

$ paczero results runs/sst2
$ paczero results runs/sst2 runs/more --output docs --command "paczero sweep sst2.yaml --data.train train.tsv"
"""

import shlex
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import paczero
from paczero.cli.console import Live
from paczero.cli.parser import CommandParser, command_parser
from paczero.errors import PACZeroError
from paczero.utils.csv import csv_text
from paczero.utils.formatting import percent
from paczero.utils.io import write_whole

_ABOUT = """
Compares finished runs: those of a sweep in DIR/CELL/seed-SEED, of several sweeps, or single runs. Seeds of a cell are
averaged. Each cell is compared with the best one without privacy, paired by seed and by test record. The metrics on the
selection (dev) sets decide which cells are compared, never those on the test sets.

Writes results.json, and from it results.md, results.csv and plots. Publish them only where the records are public. Runs
that are not finished are left out and listed.

  paczero results runs/sst2
  paczero results runs/sst2 --output docs --command "paczero sweep sst2.yaml"
  paczero results runs/sst2 --choose learning_rate
  paczero results --from docs/results.json
"""


def parser() -> CommandParser:
    made: CommandParser = command_parser("results", _ABOUT, usage="DIR [DIR ...] [OPTIONS]")
    made.add_argument("directories", type=str, nargs="*", metavar="DIR", help="a sweep's directory, or a run")
    made.add_argument("--output", type=str, metavar="DIR", help="where the files go; DIR/results for one DIR")
    made.add_argument("--baseline", type=str, metavar="CELL", help="compare with this cell instead of the best `none`")
    made.add_argument("--private", type=str, metavar="CELL", help="take the gap to this cell instead of the best `zpl`")
    made.add_argument(
        "--choose",
        type=str,
        metavar="SETTING",
        help="of cells that differ in this setting alone keep the one that the selection sets prefer",
    )
    made.add_argument(
        "--command",
        type=str,
        action="append",
        metavar="TEXT",
        help="a command that made the runs, for the page; may be repeated",
    )
    made.add_argument("--from", type=str, metavar="FILE", help="make page, csv and plots again from a results.json")
    return made


def run(namespace: Namespace) -> int:
    from paczero.experiments.document import read

    source = getattr(namespace, "from")
    if source:
        for name in ("directories", "baseline", "private", "choose", "command"):
            if getattr(namespace, name):
                raise PACZeroError(
                    f"--from: {name} was given as well; a results.json holds all of that already; leave it"
                )
        document, folder = read(Path(source)), Path(namespace.output or Path(source).parent)
    else:
        document, folder = _compare(namespace), Path(namespace.output or Path(namespace.directories[0]) / "results")
    names = _write(document, folder)
    _show(document)
    print(f"\nWritten to {folder}: {', '.join(sorted(names))}")
    return 0


def _compare(namespace: Namespace) -> dict[str, Any]:
    from paczero.experiments.collect import collect
    from paczero.experiments.document import build, source, train_commands

    directories = namespace.directories
    if not directories:
        raise PACZeroError("DIR: nothing was given; expected a sweep's directory, a run, or --from results.json")
    if len(directories) > 1 and not namespace.output:
        raise PACZeroError(
            f"--output: nothing was given with {len(directories)} directories; expected where the files go"
        )
    command = ["paczero", "results", *directories]
    for name in ("choose", "output", "baseline", "private"):
        command += [f"--{name}", getattr(namespace, name)] if getattr(namespace, name) else []
    with Live() as live:
        live.show(f"reading the runs in {', '.join(directories)}")
        runs, left_out = collect([Path(name) for name in directories])
        live.show(f"comparing {len(runs):,} runs")
        return build(
            runs,
            left_out,
            commit=source(Path(paczero.__file__).parent, paczero.__version__),
            commands=[*(namespace.command or train_commands(runs)), shlex.join(command)],
            baseline=namespace.baseline,
            private=namespace.private,
            by_selection=namespace.choose,
        )


def _write(document: dict[str, Any], folder: Path) -> list[str]:
    """Writes all files and returns their names; removes a plot that no longer has data."""
    from paczero.experiments import plots, wording
    from paczero.experiments.document import render
    from paczero.experiments.page import page

    pictures = plots.draw(document)
    contents: dict[str, str | bytes] = {
        "results.json": render(document),
        "results.md": page(document, pictures),
        "results.csv": csv_text(wording.COLUMNS, wording.lines(document)),
        **pictures,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in plots.NAMES - pictures.keys():
            (folder / name).unlink(missing_ok=True)
        for name, content in contents.items():
            write_whole(folder / name, content)
    except OSError as error:
        raise PACZeroError(f"--output: {str(folder)!r} cannot be written: {error.strerror}") from error
    return list(contents)


def _show(document: dict[str, Any]) -> None:
    """Prints the table, the summary and the runs that are left out."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from paczero.data.metrics import METRICS
    from paczero.experiments import wording
    from paczero.experiments.page import summary

    share = METRICS[document["metric"]].share
    unit = "%" if share else "nats"
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("cell", overflow="fold")
    table.add_column("promise", overflow="fold")
    for head in ("seeds", f"test, {unit}", "to the baseline", f"dev, {unit}", "unanimous"):
        table.add_column(head, justify="right", no_wrap=True)
    for name in ("untuned", "untuned_median"):
        if known := document[name]:
            table.add_row(
                name.replace("_", ", "), "", str(len(known["seeds"])), wording.spread(known, share), "", "", ""
            )
    for cell in document["cells"]:
        table.add_row(
            Text(cell["cell"]),
            wording.promise(cell, short=True),
            str(len(cell["seeds"])),
            wording.spread(cell, share),
            Text(wording.against(cell, document)),
            wording.figure(cell["dev_mean"], share),
            "" if cell["unanimity"] is None else percent(cell["unanimity"], 0),
        )
    # In a file or a pipe a line is a row, however long.
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)
    print("\n" + summary(document).replace("**", "").replace("`", ""))
    for item in document["left_out"]:
        print(f"left out: {item['directory']}: {item['reason']}")
