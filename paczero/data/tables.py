"""Tables of text, separated by commas or tabs, read strictly: a broken line is named, never guessed at.

>>> list(read_table("text,label\\nA fine film.,1\\n", ",", "data"))
[{'text': 'A fine film.', 'label': '1'}]

Quotes follow RFC 4180. Many tab-separated files quote nothing and have stray quotes in their text; where every line
has the header's number of tabs, each line is a record, and one stray quote makes them all text.
"""

import codecs
import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from paczero.data.template import listed
from paczero.errors import PACZeroError
from paczero.utils.csv import csv_text

KINDS = (".csv", ".tsv", ".jsonl", ".parquet")  # of a table that is written
_SIGNATURES = {b"PK\x03\x04": "an Excel or zip file", b"PAR1": "a parquet file", b"\x1f\x8b": "a gzip file"}

_LONGEST_FIELD = 2**30

_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


def decode(content: bytes, origin: str) -> str:
    """UTF-8 text, with or without a byte order mark; line ends become \\n.

    Raises:
        PACZeroError: another encoding (with the line) or no text at all.
    """
    for signature, kind in _SIGNATURES.items():
        if content.startswith(signature):
            raise PACZeroError(f"{origin}: this is {kind} under another name; rename it or save it as text in UTF-8")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise PACZeroError(f"{origin}: the text is in UTF-16; expected UTF-8; save it again as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PACZeroError(
            f"{origin}: line {line} is not UTF-8 (byte 0x{content[error.start]:02x}); save it as UTF-8 "
            "(where it is Latin-1: iconv -f latin1 -t utf-8)"
        ) from None
    if "\0" in text:
        raise PACZeroError(f"{origin}: line {text.count(chr(10), 0, text.index(chr(0))) + 1} has a zero byte; no text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_table(text: str, separator: str, origin: str) -> Iterator[dict[str, str]]:
    """Yields the records of a table whose first line names the columns; blank lines are skipped.

    Args:
        text: the whole table.
        separator: "," or a tab.
        origin: name of the table in messages.

    Raises:
        PACZeroError: another separator, a column twice, a line with more or fewer fields, a broken quote.
    """
    records = _records(text, separator, origin)
    _, header = next(records, (0, [""]))
    names = [name.strip() for name in header]
    _check_header(names, separator, origin)
    for line, fields in records:
        if len(fields) != len(names):
            raise PACZeroError(
                f"{origin}: the record that ends in line {line} has {len(fields)} fields, the header {len(names)}; "
                f'put "quotes" around a text with a {_NAMES[separator]} or a line end in it'
            )
        yield {name: value for name, value in zip(names, fields, strict=True) if name}


def _check_header(names: list[str], separator: str, origin: str) -> None:
    if len(names) == 1:
        for other in set(_NAMES) - {separator}:
            if other in names[0]:
                advice = "name it .tsv" if other == "\t" else f"save it with a {_NAMES[separator]} between the columns"
                raise PACZeroError(
                    f"{origin}: it has one column, {names[0]!r}, and looks separated by a {_NAMES[other]}; "
                    f"expected a {_NAMES[separator]}; {advice}"
                )
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise PACZeroError(f"{origin}: column {listed(twice)} is in the header more than once; rename one of them")


def _records(text: str, separator: str, origin: str) -> Iterator[tuple[int, list[str]]]:
    """Pairs of a line number and the fields of the record that ends there."""
    if separator == "\t":
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        if len({line.count("\t") for _, line in lines}) == 1:
            yield from zip((number for number, _ in lines), _tab_fields([line for _, line in lines]), strict=True)
            return
    before = csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield reader.line_num, fields
    except csv.Error as error:
        raise PACZeroError(
            f'{origin}: line {reader.line_num} is broken ({error}); write a quote inside a quoted text twice ("")'
        ) from None
    finally:
        csv.field_size_limit(before)


def _tab_fields(lines: list[str]) -> list[list[str]]:
    """The fields of each line. Quotes count where they enclose whole fields throughout; one that stands anywhere else
    means that the table quotes nothing (as SST-2's and GLUE's tables), so all of them are text."""
    try:
        quoted = list(csv.reader(lines, delimiter="\t", strict=True))
    except csv.Error:
        quoted = []
    plain = [line.split("\t") for line in lines]
    whole = list(map(len, quoted)) == list(map(len, plain))
    stray = any('"' in field and not _enclosed(field) for fields in plain for field in fields)
    return quoted if whole and not stray else plain


def _enclosed(field: str) -> bool:
    return len(field) > 1 and field[0] == field[-1] == '"'


def render(kind: str, columns: Sequence[str], records: Sequence[Mapping[str, Any]]) -> bytes:
    """A table as the bytes of a file.

    >>> render(".csv", ["text", "n"], [{"text": "=1+1", "n": 2}])
    b"text,n\\n'=1+1,2\\n"

    Args:
        kind: one of `KINDS`. In csv and tsv, a text that a spreadsheet would run gets an apostrophe before it, and
            lists and structures become JSON. In jsonl and parquet each value stays as it is.
        columns: in order.
        records: column -> value; a missing column is empty.

    Raises:
        PACZeroError: the values of a column have no common type, which parquet needs.
    """
    if kind in (".csv", ".tsv"):
        rows = ([record.get(name) for name in columns] for record in records)
        return csv_text(columns, rows, delimiter="," if kind == ".csv" else "\t").encode()
    if kind == ".jsonl":
        lines = ({name: record[name] for name in columns if name in record} for record in records)
        return "".join(json.dumps(line, ensure_ascii=False, default=str) + "\n" for line in lines).encode()
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        table = pyarrow.table({name: [record.get(name) for record in records] for name in columns})
    except pyarrow.ArrowException as error:
        reason = " ".join(str(error).split())[:200]
        raise PACZeroError(f"parquet cannot hold these columns ({reason}); choose .jsonl or .csv") from error
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    return bytes(sink.getvalue())
