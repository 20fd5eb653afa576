"""`paczero predict TARGET --input FILE --output FILE`: what a model says of records that have no labels.

$ paczero predict runs/first/release --input tickets.csv --output decided.csv
$ head -100 tickets.csv | paczero predict runs/first --input - --output -
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from paczero.cli.console import Live, keep_quiet, warn
from paczero.cli.predictions import KINDS, added_columns, originals, predicted, render, told, unlabelled
from paczero.cli.released import load_target
from paczero.cli.target import TargetParser, find_target, target_parser
from paczero.errors import PACZeroError
from paczero.utils.io import write_whole

if TYPE_CHECKING:
    from paczero.data.loading import Rows


_ABOUT = """
Decides on records that have no labels. The output has all columns of the input, then `prediction` and the probability
of each label (before the decision threshold, where one was moved). It appears whole or not at all.

  paczero predict runs/first --input new.csv --output decided.csv
  paczero predict downloaded/release --model models/small --input new.jsonl --output decided.parquet
  paczero predict some-adapter --task.template "{text} It was {label}" --task.labels "{neg: terrible, pos: great}" \\
                  --input new.csv --output decided.csv
  cat new.csv | paczero predict runs/first --input - --output - | head

In a csv or tsv, texts that a spreadsheet would run as formulas get an apostrophe before them.
"""


def parser() -> TargetParser:
    made = target_parser("predict", _ABOUT, usage="TARGET --input FILE --output FILE [OPTIONS]")
    made.add_argument(
        "--input",
        type=str,
        metavar="FILE",
        help="csv, tsv, jsonl, json, parquet, a hub name, or - for csv on standard input",
    )
    made.add_argument("--output", type=str, metavar="FILE", help=f"{', '.join(KINDS)}, or - for csv on standard output")
    made.add_argument("--force", action="store_true", help="replace the output where it exists")
    return made


def run(namespace: Namespace) -> int:
    for name in ("input", "output"):
        if not namespace[name]:
            raise PACZeroError(f"--{name}: nothing was given; expected a file, or - for standard {name}")
    kind = _output_kind(namespace.output, force=namespace.force)
    target = find_target(namespace)
    rows = _rows(namespace.input)
    pool = unlabelled(rows, target.args.task)
    added = added_columns(pool)
    taken = [name for name in added if name in rows.columns]
    if taken:
        raise PACZeroError(f"--input: {rows.origin} has a column {taken[0]!r}, which would be replaced; rename it")
    keep_quiet()
    with Live() as live:
        live.show(f"loading {target.name}")
        model, tokenizer = load_target(target)
        answers, cut = predicted(
            target, model, tokenizer, pool, progress=lambda done, of: live.show(f"{done:,} of {of:,} records")
        )
    if cut:
        warn(f"{cut:,} of {len(rows):,} records were cut to fit")
    records = [{**own, **said} for own, said in zip(originals(namespace.input, rows), answers, strict=True)]
    content = render(kind, [*rows.columns, *added], records)
    if namespace.output == "-":
        sys.stdout.write(content.decode())
        return 0
    write_whole(Path(namespace.output), content)
    print(f"{namespace.output} holds {len(rows):,} records: {told(pool, answers)}")
    return 0


def _output_kind(output: str, *, force: bool) -> str:
    """The table's kind; refuses a place that cannot be written, before any long work."""
    if output == "-":
        return ".csv"
    path = Path(output)
    if path.suffix.lower() not in KINDS:
        raise PACZeroError(f"--output: {output!r} was given; expected a name that ends in {', '.join(KINDS)}, or -")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise PACZeroError(f"--output: {output!r} lies in no directory that exists; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PACZeroError(f"--output: {output!r} lies in a directory that takes no file from you; name another")
    if path.is_dir() or (path.exists() and not force):
        raise PACZeroError(f"--output: {output!r} exists; name another, or add --force to replace a file")
    return path.suffix.lower()


def _rows(source: str) -> "Rows":
    from paczero.data.loading import Rows, load_rows

    if source != "-":
        return load_rows(source)
    from paczero.data.tables import decode, read_table

    origin = "--input (standard input)"
    return Rows(read_table(decode(sys.stdin.buffer.read(), origin), ",", origin), origin)
