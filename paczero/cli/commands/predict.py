"""`paczero predict TARGET --input FILE --output FILE`: decides on records without labels, or answers them.

$ paczero predict runs/first/release --input tickets.csv --output decided.csv
$ head -100 tickets.csv | paczero predict runs/first --input - --output -
"""

import os
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

from paczero.cli.commands.eval import predicted, target_parser
from paczero.cli.parser import SettingsParser
from paczero.data.loading import Rows
from paczero.data.tables import KINDS, decode, read_table, render
from paczero.errors import PACZeroError
from paczero.inference.target import find_target
from paczero.utils.io import write_whole

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


def parser() -> SettingsParser:
    made = target_parser("predict", _ABOUT, usage="TARGET --input FILE --output FILE [OPTIONS]")
    made.add_argument(
        "--input",
        metavar="FILE",
        help="csv, tsv, jsonl, json, parquet, a hub name, or - for csv on standard input",
    )
    made.add_argument("--output", metavar="FILE", help=f"{', '.join(KINDS)}, or - for csv on standard output")
    made.add_argument("--force", action="store_true", help="replace the output where it exists")
    return made


def run(namespace: Namespace) -> int:
    for name in ("input", "output"):
        if not getattr(namespace, name):
            raise PACZeroError(f"--{name}: nothing was given; expected a file, or - for standard {name}")
    kind = _output_kind(namespace.output, force=namespace.force)
    target = find_target(namespace.target, namespace.settings)
    data = _standard_input() if namespace.input == "-" else namespace.input
    table = predicted(target, data)
    content = render(kind, table.columns, table.records)
    if namespace.output == "-":
        sys.stdout.write(content.decode())
        return 0
    write_whole(Path(namespace.output), content)
    counts = counted([record["prediction"] for record in table.records], answers=target.args.task.kind == "answer")
    print(f"{namespace.output} holds {len(table.records):,} records: {counts}")
    return 0


def counted(predictions: list[Any], *, answers: bool) -> str:
    """How often each label was decided, the six most frequent ones; or how many records were answered.

    >>> counted(["great", "terrible", "great"], answers=False), counted(["1973", ""], answers=True)
    ('2 × great, 1 × terrible', '1 answered, 1 with an empty answer')
    """
    if not answers:
        return ", ".join(f"{count:,} × {name}" for name, count in Counter(predictions).most_common(6))
    empty = predictions.count("")
    return f"{len(predictions) - empty:,} answered" + (f", {empty:,} with an empty answer" if empty else "")


def _output_kind(output: str, *, force: bool) -> str:
    """The kind of table; refuses a path that cannot be written before the model is loaded."""
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


def _standard_input() -> Rows:
    origin = "--input (standard input)"
    return Rows(read_table(decode(sys.stdin.buffer.read(), origin), ",", origin), origin)
