"""Pool, dev set and test set drawn from larger files by the run's public seed, as the field does it.

>>> rows = load_rows([{"text": f"film {n}", "label": n % 2} for n in range(100)])
>>> splits = draw_splits(rows, seed=0, train_records=40, dev_records=20)
>>> len(splits.train), len(splits.dev), splits.test
(40, 20, None)

MeZO (arXiv 2305.17333) and PACZero (arXiv 2605.06505) train on 1,000 records, choose on 500 and score 1,000; few-shot
runs train on k records a class. A draw is a function of seed, purpose and the record's number alone (an order by
SHA-256), so it is the same on every machine and with every version of any library.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from paczero.config import PACZeroConfig, TaskConfig
from paczero.config_io import DataConfig
from paczero.data.dataset import canonical_value
from paczero.data.loading import Rows, load_rows
from paczero.data.template import Template
from paczero.errors import PACZeroError
from paczero.mechanism.registry import spec_of

Key = tuple[str, ...]


@dataclass(frozen=True)
class Splits:
    """The drawn records.

    Attributes:
        train: the pool.
        dev: records for choosing, disjoint from the pool.
        test: records for the score.
        notes: remarks on the draw, a sentence each.
    """

    train: Rows
    dev: Rows | None
    test: Rows | None
    notes: tuple[str, ...] = ()


def read_splits(data: DataConfig, args: PACZeroConfig) -> Splits:
    """Reads the files that a run's settings name, and draws pool, dev set and test set from them.

    Args:
        data: the files and sizes.
        args: the run's seed, task and mechanism: whether the pool is protected follows from it.

    Raises:
        PACZeroError: no pool is named, a file cannot be used, or it holds too few records.
    """
    if data.train is None:
        raise PACZeroError("data.train: none was given; expected the pool's file or hub name; add --data.train")
    return draw_splits(
        _read("train", data.train),
        None if data.dev is None else _read("dev", data.dev, data.dev_records),
        None if data.test is None else _read("test", data.test, data.test_records),
        seed=args.seed,
        train_records=data.train_records,
        dev_records=data.dev_records,
        test_records=data.test_records,
        shots=data.shots,
        task=args.task,
        protected=spec_of(args.mechanism.name).is_dp,
    )


def _read(name: str, source: str, count: int | None = None) -> Rows:
    """Reads what `data.NAME` names; a refusal says which setting that is, and how to do without it."""
    try:
        return load_rows(source)
    except PACZeroError as error:
        without = "goes without" if count is None else f"draws {count:,} records from data.train"
        otherwise = "" if name == "train" else f"; `--data.{name} null` {without}"
        raise PACZeroError(f"data.{name}: {str(error).removeprefix('data ')}{otherwise}") from error


def draw_splits(
    train: Rows,
    dev: Rows | None = None,
    test: Rows | None = None,
    *,
    seed: int,
    train_records: int | None = None,
    dev_records: int | None = None,
    test_records: int | None = None,
    shots: int | None = None,
    task: TaskConfig | None = None,
    protected: bool = False,
) -> Splits:
    """Draws a run's records; the order of the file stays.

    All records of a unit go to one side. Sets have the sizes asked for, so that some records of a unit that was drawn
    may be in no set; a note counts them. A dev or test record with the text of a pool record, or one of another file
    with its unit, is passed over while other records are left.

    Args:
        train, dev, test: what `load_rows` gives.
        seed: the run's public seed.
        train_records: size of the pool; all of `train` (but dev and test records drawn from it) where left out.
        dev_records: size of the dev set, drawn from `dev`, or from what the pool leaves of `train`; all of `dev` where
            left out.
        test_records: size of the test set at most, drawn from `test`; without `test`, its size, drawn from what pool
            and dev set leave of `train`. All of `test` where left out.
        shots: k, records of each label in the pool, instead of `train_records`.
        task: says which columns hold text, label and unit.
        protected: no record is passed over: dev and test sets decide what is released, so which records they have must
            not follow from the texts and units of the pool.

    Raises:
        PACZeroError: there are too few records for the requested sizes.
    """
    task = task or TaskConfig()
    dev_given, test_given = dev is not None, test is not None
    spared = [count for rows, count in ((dev, dev_records), (test, test_records)) if rows is None and count]
    pool, rest = _draw_pool(train, seed, task, wanted=train_records, shots=shots, spared=spared)
    notes: list[str] = []
    taken = set() if protected else _keys_of(pool, task)
    if dev_records is not None:
        source, numbers = (train, rest) if dev is None else (dev, range(len(dev)))
        _require_enough("dev", dev_records, source, len(numbers), " beside the pool" if dev is None else "")
        chosen = _passing_over(source, _order(source, numbers, seed, "dev", task), dev_records, taken, task)
        rest = _others(train, rest, chosen, task) if dev is None else rest
        dev = _drawn(source, chosen, seed)
    if test_records is not None:
        taken |= set() if dev is None or protected else _keys_of(dev, task)
        if test is None:
            _require_enough("test", test_records, train, len(rest), " beside pool and dev set")
            chosen = _passing_over(train, _order(train, rest, seed, "test", task), test_records, taken, task)
            test, rest = _drawn(train, chosen, seed), _others(train, rest, chosen, task)
        elif len(test) < test_records:
            notes.append(f"Test set: {test.origin} has {len(test):,} records, all of which are scored.")
        elif len(test) > test_records:
            order = _order(test, range(len(test)), seed, "test", task)
            chosen = _passing_over(test, order, test_records, taken, task)
            test = _drawn(test, chosen, seed)
    unused = 0 if train_records is None and shots is None else len(rest)
    drawn = len(pool) + sum(len(rows or ()) for rows, given in ((dev, dev_given), (test, test_given)) if not given)
    if lost := len(train) - drawn - unused:
        notes.append(f"{lost:,} records are in no set, since all records of a unit go to one side.")
    return Splits(pool, dev, test, tuple(notes))


def _draw_pool(
    train: Rows, seed: int, task: TaskConfig, *, wanted: int | None, shots: int | None, spared: Sequence[int]
) -> tuple[Rows, list[int]]:
    """The pool, and the numbers of the other units' records: enough for sets of the sizes `spared` if it has none."""
    order = _order(train, range(len(train)), seed, "train", task)
    if shots is not None:
        chosen = _shots(train, order, shots, task)
    elif wanted is None:
        largest = max(Counter(_unit(train, number, task) for number in order).values())
        first = order[: sum(spared) + (largest - 1) * max(0, len(spared) - 1)]  # the last unit of a set may be cut
        chosen = _others(train, order, first, task) or order
    elif len(train) >= wanted:
        chosen = order[:wanted]
    else:
        raise PACZeroError(
            f"data.train_records: {wanted} was given; {train.origin} has {len(train):,} records; ask for fewer, or "
            "leave it out for all"
        )
    pool = _drawn(train, chosen, seed) if len(chosen) < len(train) else train
    return pool, _others(train, range(len(train)), chosen, task)


def _require_enough(what: str, wanted: int, source: Rows, left: int, beside: str) -> None:
    """Refuses a dev or test set that is larger than what it is drawn from."""
    if left < wanted:
        raise PACZeroError(
            f"data.{what}_records: {wanted} was given; {source.origin} has {left:,}{beside}; ask for fewer, or name "
            f"another file in data.{what}"
        )


def _shots(train: Rows, order: Sequence[int], shots: int, task: TaskConfig) -> list[int]:
    """The first k records of each label."""
    if task.label_column not in train.columns:
        raise PACZeroError(
            f"data.shots: {shots} was given, but {train.origin} has no column {task.label_column!r} of labels; name it "
            "in task.label_column"
        )
    classes: dict[str, list[int]] = {}
    for number in order:
        classes.setdefault(train[number].get(task.label_column, "").strip(), []).append(number)
    for label, numbers in sorted(classes.items()):
        if len(numbers) < shots:
            raise PACZeroError(
                f"data.shots: {shots} was given; {train.origin} has {len(numbers)} records of the label {label!r}; ask "
                "for fewer"
            )
    return [number for numbers in classes.values() for number in numbers[:shots]]


def _order(rows: Rows, numbers: Iterable[int], seed: int, purpose: str, task: TaskConfig) -> list[int]:
    """The numbers in the random order of this seed and purpose, those of a unit together, at the place of its first."""
    order = sorted(numbers, key=lambda number: hashlib.sha256(f"{seed} {purpose} {number}".encode()).digest())
    places: dict[str | int, int] = {}
    for place, number in enumerate(order):
        places.setdefault(_unit(rows, number, task), place)
    return sorted(order, key=lambda number: places[_unit(rows, number, task)])


def _others(rows: Rows, numbers: Iterable[int], chosen: Iterable[int], task: TaskConfig) -> list[int]:
    """Those of the numbers whose unit has no record among the chosen ones."""
    units = {_unit(rows, number, task) for number in chosen}
    return [number for number in numbers if _unit(rows, number, task) not in units]


def _unit(rows: Rows, number: int, task: TaskConfig) -> str | int:
    """The unit's name; a record without one is a unit of its own, by its number."""
    return (canonical_value(rows[number].get(task.unit_column, "")) if task.unit_column is not None else "") or number


def _passing_over(rows: Rows, order: Sequence[int], wanted: int, taken: set[Key], task: TaskConfig) -> list[int]:
    """The first records of the order that share no key with `taken`; where they are too few, also the others."""
    return sorted(order, key=lambda number: not taken.isdisjoint(_keys(rows, number, task)))[:wanted]


def _keys_of(rows: Rows, task: TaskConfig) -> set[Key]:
    return {key for number in range(len(rows)) for key in _keys(rows, number, task)}


def _keys(rows: Rows, number: int, task: TaskConfig) -> list[Key]:
    """What a record must not share with a record of another set: its text and its unit."""
    row = rows[number]
    columns = [column for column in _columns(task.template) if column in rows.columns]
    columns = columns or [column for column in rows.columns if column != task.unit_column]
    text = [row.get(column, "").strip() or repr(rows.nested.get(column, {}).get(number, "")) for column in columns]
    keys: list[Key] = [("text", *text)]
    if isinstance(unit := _unit(rows, number, task), str):
        keys.append(("unit", unit))
    return keys


@cache
def _columns(template: str) -> tuple[str, ...]:
    return Template.parse(template).columns


def _drawn(rows: Rows, numbers: Sequence[int], seed: int) -> Rows:
    origin = f"{rows.origin} ({len(numbers):,} of {len(rows):,} records, drawn by seed {seed})"
    return rows.select(sorted(numbers), origin)
