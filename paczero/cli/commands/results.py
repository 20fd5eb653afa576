"""`paczero results DIR…`: what the runs of a sweep have reached, as tables, figures and one JSON document.

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
from paczero.utils.io import write_whole

NAMES = ("results.json", "results.md", "results.csv")

_ABOUT = """
Compares finished runs: those that `paczero sweep` left in DIR/CELL/seed-SEED, of several such directories, or single
runs. Seeds of a cell are averaged, cells are compared with the best one without privacy, paired by seed and by test
record. Which cells are compared is decided by their figures on the selection (dev) sets, never on the test sets.

Writes results.json, and from it results.md, results.csv and figures. They are yours: publish them where the records are
public. Runs that are not finished are left out and listed.

  paczero results runs/sst2
  paczero results runs/sst2 --output docs --command "paczero sweep sst2.yaml"
  paczero results runs/sst2 --choose learning_rate
  paczero results --from docs/results.json
"""


def parser() -> CommandParser:
    made: CommandParser = command_parser("results", _ABOUT, usage="DIR [DIR ...] [OPTIONS]")
    made.add_argument("directories", type=str, nargs="*", metavar="DIR", help="a sweep's directory, or a run")
    made.add_argument(
        "--output", type=str, metavar="DIR", help="where the files go; DIR/results where one DIR was given"
    )
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
        help="a command that made the runs, to be written down; may be repeated",
    )
    made.add_argument("--from", type=str, metavar="FILE", help="make page, csv and figures again from a results.json")
    return made


def run(namespace: Namespace) -> int:
    from paczero.experiments.document import read

    if getattr(namespace, "from"):
        _nothing_beside_from(namespace)
        source = Path(getattr(namespace, "from"))
        document, folder = read(source), Path(namespace.output or source.parent)
    else:
        with Live() as live:
            document, folder = _document(namespace, live)
    _write(document, folder)
    _show(document)
    print(f"\nWritten to {folder}: {', '.join(sorted(path.name for path in folder.iterdir() if _ours(path)))}")
    return 0


def _nothing_beside_from(namespace: Namespace) -> None:
    for name in ("directories", "baseline", "private", "choose", "command"):
        if getattr(namespace, name):
            raise PACZeroError(f"--from: {name} was given as well; a results.json holds all of that already; leave it")


def _document(namespace: Namespace, live: Live) -> tuple[dict[str, Any], Path]:
    from paczero.experiments.collect import collect
    from paczero.experiments.document import build, source

    given = namespace.directories
    if not given:
        raise PACZeroError("DIR: nothing was given; expected a sweep's directory, a run, or --from results.json")
    if len(given) > 1 and not namespace.output:
        raise PACZeroError(f"--output: nothing was given with {len(given)} directories; expected where the files go")
    live.show(f"reading the runs in {', '.join(given)}")
    runs, left_out = collect([Path(name) for name in given])
    if not runs:
        raise PACZeroError(
            f"{given[0]!r}: none of its runs ({len(left_out)}) can be compared; the first: {left_out[0].reason}"
        )
    live.show(f"comparing {len(runs):,} runs")
    commands = namespace.command or _commands(runs)
    document = build(
        runs,
        left_out,
        commit=source(Path(paczero.__file__).parent, paczero.__version__),
        commands=[*commands, _own_command(namespace)],
        baseline=namespace.baseline,
        private=namespace.private,
        by_selection=namespace.choose,
    )
    return document, Path(namespace.output or Path(given[0]) / "results")


def _commands(runs: list[Any]) -> list[str]:
    """The commands that repeat each run from its own settings, where `--command` names none."""
    made = [f"paczero train --config {shlex.quote(f'{run.directory}/config.yaml')} --output_dir NEW" for run in runs]
    return [made[0], *([f"# … and so for each of the {len(made)} runs"] if len(made) > 1 else [])]


def _own_command(namespace: Namespace) -> str:
    words = ["paczero", "results", *namespace.directories]
    for name in ("choose", "output", "baseline", "private"):
        words += [f"--{name}", getattr(namespace, name)] if getattr(namespace, name) else []
    return shlex.join(words)


def _write(document: dict[str, Any], folder: Path) -> None:
    """Writes all files; removes a figure that no longer has data."""
    from paczero.experiments import plots, wording
    from paczero.experiments.document import render
    from paczero.experiments.page import page

    pictures = plots.draw(document)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in plots.NAMES:
            if name not in pictures:
                (folder / name).unlink(missing_ok=True)
        texts = {
            "results.json": render(document),
            "results.md": page(document, pictures),
            "results.csv": csv_text(*wording.lines(document)),
        }
        contents: dict[str, str | bytes] = {**texts, **pictures}
        for name, content in contents.items():
            write_whole(folder / name, content)
    except OSError as error:
        raise PACZeroError(f"--output: {str(folder)!r} cannot be written: {error.strerror}") from error


def _ours(path: Path) -> bool:
    from paczero.experiments import plots

    return path.name in NAMES or path.name in plots.NAMES


def _show(document: dict[str, Any]) -> None:
    """The table and the sentence, on the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from paczero.data.metrics import METRICS
    from paczero.experiments import wording
    from paczero.experiments.page import summary

    metric = METRICS[document["metric"]]
    unit = "%" if metric.share else "nats"
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    drawn.add_column("cell", overflow="fold")
    drawn.add_column("promise", overflow="fold")
    for head in ("seeds", f"test, {unit}", "to the baseline", f"dev, {unit}", "unanimous"):
        drawn.add_column(head, justify="right", no_wrap=True)
    for name in ("untuned", "untuned_median"):
        if known := document[name]:
            said = wording.spread(known["mean"], known["sd"], metric.share)
            drawn.add_row(name.replace("_", ", "), "", str(len(known["seeds"])), said, "", "", "")
    for cell in document["cells"]:
        drawn.add_row(
            Text(cell["cell"]),
            wording.short_promise(cell),
            str(len(cell["seeds"])),
            wording.spread(cell["mean"], cell["sd"], metric.share),
            Text(wording.against(cell, document)),
            wording.figure(cell["dev_mean"], metric.share),
            "" if cell["unanimity"] is None else f"{100 * cell['unanimity']:.0f} %",
        )
    # In a file or a pipe a line is a row, however long.
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(drawn)
    print("\n" + summary(document).replace("**", "").replace("`", ""))
    for item in document["left_out"]:
        print(f"left out: {item['directory']}: {item['reason']}")
