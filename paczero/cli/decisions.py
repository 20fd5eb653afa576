"""What a run's served weights made of each test record (`RUN/decisions.csv`); differences between runs are told by it.

>>> write_decisions(run, task.table(pool, encoded, found, 0.0))    # doctest: +SKIP
>>> (run.root / "decisions.csv").read_text().splitlines()[:2]      # doctest: +SKIP
['number,target,decision,score 0,score 1', '1,1,1,-9.2,-7.5']

The owner's, like the summary: not to be published. A task of another kind writes other columns by the same function:
`number`, `target`, `prediction`, `f1`, `exact_match` where it answers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from paczero.cli.cells import csv_text
from paczero.rundir import RunDirectory, write_whole

NAME = "decisions.csv"


def write_decisions(run: RunDirectory, columns: Mapping[str, Sequence[Any]]) -> None:
    """Writes one line a record; a column `number`, from 1, comes first.

    Args:
        columns: name -> one value a record, all of one length.
    """
    rows = ([number, *values] for number, values in enumerate(zip(*columns.values(), strict=True), 1))
    write_whole(run.root / NAME, csv_text(["number", *columns], rows))
