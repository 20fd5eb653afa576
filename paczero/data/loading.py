"""Reads files, `datasets` objects and hub names as rows of text.

>>> load_rows([{"text": "A fine film.", "label": 1}])[0]
{'text': 'A fine film.', 'label': '1'}

Files are read in place, and nothing is copied into a cache. Every cell keeps its text ("NA" is a word, "01" is not 1).
Numbers of typed sources become text, missing values become "". Only a hub name goes through `datasets.load_dataset`,
which keeps its download in the cache of `datasets`.
"""

import json
import math
import numbers
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paczero.data.tables import decode, read_table
from paczero.data.template import listed
from paczero.errors import PACZeroError

if TYPE_CHECKING:
    import datasets


KINDS = ".csv, .tsv, .jsonl, .json or .parquet"

_OTHER_FILES = (".txt", ".xls", ".xlsx", ".ods", ".gz", ".bz2", ".xz", ".zip", ".arrow", ".feather", ".pkl", ".pickle")

_HUB_NAME = re.compile(r"(?P<name>[\w.-]+(/[\w.-]+)?)(:(?P<config>[\w.+-]+))?(@(?P<split>[\w.+:%\[\]-]+))?")


class Rows(list[dict[str, str]]):
    """Records as text, and facts about their source.

    Attributes:
        origin: name of the source in messages.
        columns: names of all columns, in order of appearance.
        nested: cells that hold lists or structures, which the rows leave out: column -> number of the record -> cell.
        class_names: for columns that are a `ClassLabel`, the names; the rows hold the name, not its number.
    """

    def __init__(
        self, rows: Iterable[Mapping[str, Any]], origin: str, class_names: Mapping[str, Sequence[str]] | None = None
    ):
        self.origin = origin
        self.class_names = dict(class_names or {})
        self.nested: dict[str, dict[int, Any]] = {}
        seen: dict[str, None] = {}
        super().__init__()
        for number, row in enumerate(rows, 1):
            if not isinstance(row, Mapping):
                raise PACZeroError(
                    f"{origin}: record {number} is a {type(row).__name__}; expected a mapping of column names to values"
                )
            seen.update(dict.fromkeys(map(str, row)))
            self.append(self._record(row))
        self.columns = tuple(seen)
        if not self:
            raise PACZeroError(f"{origin}: there is no record in it; expected a header and at least one record")

    def select(self, numbers: Sequence[int], origin: str) -> "Rows":
        """The records of these numbers (from 0), in this order, under another origin; at least one."""
        chosen = Rows([self[number] for number in numbers], origin, self.class_names)
        chosen.columns = self.columns
        for column, cells in self.nested.items():
            chosen.nested[column] = {at: cells[number] for at, number in enumerate(numbers) if number in cells}
        return chosen

    def _record(self, row: Mapping[Any, Any]) -> dict[str, str]:
        record = {}
        for column, value in row.items():
            text = _text(value)
            if text is None:
                self.nested.setdefault(str(column), {})[len(self)] = value
            else:
                record[str(column)] = text
        return record


def load_rows(source: "str | Path | datasets.Dataset | Sequence[Mapping[str, Any]]") -> Rows:
    """Reads the records of a file, a `datasets.Dataset`, a pandas frame, a list of mappings or a hub name.

    Args:
        source: a file (csv, tsv, jsonl, json, parquet; text in UTF-8), an object, or `name[:config][@split]` of the
            hub; a file of that name goes first.

    Returns:
        Rows of text, at least one.

    Raises:
        PACZeroError: it is missing, empty, broken (with the line), in another encoding or of another kind.
    """
    if isinstance(source, Rows):
        return source
    if isinstance(source, Path):
        return Rows(*read_file(source.expanduser()))
    if isinstance(source, str):
        return _from_name(source)
    return _from_object(source)


def _from_name(source: str) -> Rows:
    if not source.strip():
        raise PACZeroError(f"data: {source!r} was given; expected a file ({KINDS}) or a hub name")
    path = Path(source).expanduser()
    return Rows(*read_file(path)) if is_file_name(source) or path.exists() else _from_hub(source)


def is_file_name(source: str) -> bool:
    """Whether a text can only name a file; any other names a dataset of the hub where no such file exists."""
    suffix = Path(source).suffix.lower()
    return suffix in {*_READERS, *_OTHER_FILES} or source.startswith((".", "/", "~")) or not _HUB_NAME.fullmatch(source)


def read_file(path: Path) -> tuple[Iterable[Mapping[str, Any]], str]:
    """The records of a file with their types in it, and the file's name in messages."""
    origin = f"data {str(path)!r}"
    if path.is_dir():
        saved = (path / "state.json").exists() or (path / "dataset_dict.json").exists()
        advice = "pass datasets.load_from_disk(…) of it from Python" if saved else "name the file in it"
        raise PACZeroError(f"{origin}: this is a directory; expected a file ({KINDS}); {advice}")
    if not path.exists():
        folder = "" if path.is_absolute() else f" in {str(Path.cwd())!r}"
        raise PACZeroError(f"{origin}: there is no such file{folder}; check the path")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise PACZeroError(f"{origin}: the name ends in {path.suffix!r}; expected {KINDS}; convert or rename it")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PACZeroError(f"{origin}: cannot be read: {error.strerror}; check its permissions") from error
    if not content.strip():
        raise PACZeroError(f"{origin}: the file is empty; expected a header and at least one record")
    return reader(content, origin), origin


def _table(separator: str, content: bytes, origin: str) -> Iterable[Mapping[str, Any]]:
    return read_table(decode(content, origin), separator, origin)


def _json_lines(content: bytes, origin: str) -> Iterable[Mapping[str, Any]]:
    rows = []
    for number, line in enumerate(decode(content, origin).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise PACZeroError(
                f"{origin}: line {number} is no JSON ({error.msg}, column {error.colno}); expected one object a line"
            ) from None
        if not isinstance(row, dict):
            raise PACZeroError(f"{origin}: line {number} holds a {type(row).__name__}; expected one object a line")
        rows.append(row)
    return rows


def _json(content: bytes, origin: str) -> Iterable[Mapping[str, Any]]:
    try:
        rows = json.loads(decode(content, origin))
    except json.JSONDecodeError as error:
        if not error.doc.lstrip().startswith("["):
            return _json_lines(content, origin)  # many tools write lines into a .json
        raise PACZeroError(
            f"{origin}: line {error.lineno} is no JSON ({error.msg}, column {error.colno}); expected a list of objects"
        ) from None
    if isinstance(rows, dict) and rows and not any(isinstance(value, list | dict) for value in rows.values()):
        return [rows]
    if not isinstance(rows, list):
        raise PACZeroError(
            f"{origin}: holds one {type(rows).__name__}; expected a list of objects, or one object a line"
        )
    return rows


def _parquet(content: bytes, origin: str) -> Iterable[Mapping[str, Any]]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        table = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content)).read()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise PACZeroError(f"{origin}: is no whole parquet file ({reason}); write it again") from error
    twice = {name for name in table.column_names if table.column_names.count(name) > 1}
    if twice:
        raise PACZeroError(f"{origin}: column {listed(sorted(twice))} is there more than once; rename one of them")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


_READERS: dict[str, Callable[[bytes, str], Iterable[Mapping[str, Any]]]] = {
    ".csv": partial(_table, ","),
    ".tsv": partial(_table, "\t"),
    ".tab": partial(_table, "\t"),
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".parquet": _parquet,
    ".pq": _parquet,
}


def _from_object(source: Any) -> Rows:
    datasets, pandas = sys.modules.get("datasets"), sys.modules.get("pandas")
    expected = "expected a datasets.Dataset, a list of mappings, a file or a hub name"
    if datasets is not None:
        if isinstance(source, datasets.Dataset):
            return _from_dataset(source, "data (a datasets.Dataset)")
        if isinstance(source, datasets.DatasetDict | datasets.IterableDatasetDict):
            first = next(iter(source), "train")
            raise PACZeroError(
                f"data: a DatasetDict with the splits {listed(source)} was given; expected one of them; "
                f"pass dataset[{first!r}]"
            )
        if isinstance(source, datasets.IterableDataset):
            raise PACZeroError(
                "data: an IterableDataset was given, whose length is unknown; the pool must be known whole; "
                "load it without streaming"
            )
    if pandas is not None and isinstance(source, pandas.DataFrame):
        if not source.columns.is_unique:
            raise PACZeroError("data: the pandas.DataFrame has a column more than once; rename one of them")
        return Rows(source.to_dict("records"), "data (a pandas.DataFrame)")
    if isinstance(source, Mapping):
        raise PACZeroError(f"data: a {type(source).__name__} was given; {expected}; use datasets.Dataset.from_dict(…)")
    if isinstance(source, Sequence) and not isinstance(source, bytes | bytearray):
        return Rows(source, f"data (a {type(source).__name__})")
    raise PACZeroError(f"data: a {type(source).__name__} was given; {expected}")


def _from_dataset(source: "datasets.Dataset", origin: str) -> Rows:
    from datasets import ClassLabel, Value

    def of_text(feature: Any) -> bool:
        """Whether a feature holds only text and numbers at any depth: images and sounds are not decoded."""
        if isinstance(feature, Mapping):
            return all(map(of_text, feature.values()))
        inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
        return isinstance(feature, ClassLabel | Value) if inner is None else of_text(inner)

    wanted = [name for name, feature in source.features.items() if of_text(feature)]
    names = {name: feature.names for name, feature in source.features.items() if isinstance(feature, ClassLabel)}
    plain = source.select_columns(wanted).with_format(None)

    def named(row: dict[str, Any]) -> dict[str, Any]:
        """Class numbers by their names; a number without a name (-1: not labelled) stays."""
        known = {
            column: values[row[column]]
            for column, values in names.items()
            if row[column] is not None and 0 <= row[column] < len(values)
        }
        return row | known

    rows = Rows((named(row) for row in plain), origin, names)
    rows.nested |= {name: {} for name in source.column_names if name not in wanted}
    return rows


def _from_hub(source: str) -> Rows:
    import datasets
    from huggingface_hub import HfApi, constants

    name, config, split = _HUB_NAME.fullmatch(source).group("name", "config", "split")  # type: ignore[union-attr]
    origin = f"data {source!r}"
    try:
        if not constants.HF_HUB_OFFLINE:
            HfApi().dataset_info(name, timeout=10)  # load_dataset alone tries for half a minute
        loaded = datasets.load_dataset(name, config, split=split)
    # The hub, the network, the cache and the format fail in dozens of ways; the user gets one line for each.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PACZeroError(
            f"{origin}: there is no such file, and it cannot be loaded from the hub "
            f"({type(error).__name__}: {reason}); check the name (name:config@split), or give a file ({KINDS}); what "
            "the cache holds is read with HF_HUB_OFFLINE=1"
        ) from error
    if isinstance(loaded, datasets.DatasetDict):
        if len(loaded) > 1:
            raise PACZeroError(f"{origin}: it has the splits {listed(loaded)}; name one: {source}@{next(iter(loaded))}")
        loaded = next(iter(loaded.values()))
    return _from_dataset(loaded, origin)


def _text(value: Any) -> str | None:
    """A cell as text: "" for a missing value, None for a list, a structure or bytes."""
    if isinstance(value, str):
        return value
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, numbers.Integral):  # bool too: "True", "False"
        return str(value if isinstance(value, bool) else int(value))
    if isinstance(value, numbers.Real):
        return "" if math.isnan(value) else repr(float(value))
    if isinstance(value, bytes | bytearray | Mapping | Iterable):
        return None
    return str(value)
