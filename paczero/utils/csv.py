r"""Tables as csv that do no harm where they are opened; every csv that a command writes goes through here.

>>> harmless("=HYPERLINK(1)"), harmless("fine"), harmless("-1.5")
("'=HYPERLINK(1)", 'fine', '-1.5')
>>> csv_text(["text", "score"], [["+x", -1.5], ["a, b", None]])
'text,score\n\'+x,-1.5\n"a, b",\n'
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# A spreadsheet takes a cell that begins so for a formula; what a stranger wrote must not run there.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")  # does nothing but be a number, and must stay one


def harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe before what could be one, but for plain numbers."""
    return f"'{cell}" if cell.lstrip(" ").startswith(_FORMULA) and not _NUMBER.fullmatch(cell) else cell


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, delimiter: str = ",") -> str:
    """A table with a header line, each of whose cells is harmless.

    Args:
        columns: names, in order.
        rows: a value for each column; lists and structures become JSON, None an empty cell.
        delimiter: a tab instead of the comma, for tsv.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerow([harmless(name) for name in columns])
    writer.writerows([_cell(value) for value in row] for row in rows)
    return stream.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple | Mapping):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return harmless(value) if isinstance(value, str) else str(value)
