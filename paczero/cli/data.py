"""The records that a run's settings name, read and drawn.

>>> read_data(settings).train.origin                                             # doctest: +SKIP
"data 'train.tsv' (1,000 of 67,349 records, drawn by seed 0)"
"""

from typing import TYPE_CHECKING

from paczero.errors import PACZeroError

if TYPE_CHECKING:
    from paczero.config_io import RunSettings
    from paczero.data.loading import Rows
    from paczero.data.splits import Splits


def read_data(settings: "RunSettings") -> "Splits":
    """Pool, dev set and test set of a run; a resumed one draws the same.

    Raises:
        PACZeroError: a file cannot be used, or holds too few records.
    """
    from paczero.data.splits import draw_splits

    data = settings.data
    if data.train is None:
        raise PACZeroError("data.train: none was given; expected the pool's file or hub name; add --data.train")
    return draw_splits(
        _read("train", data.train),
        None if data.dev is None else _read("dev", data.dev, data.dev_records),
        None if data.test is None else _read("test", data.test, data.test_records),
        seed=settings.args.seed,
        train_records=data.train_records,
        dev_records=data.dev_records,
        test_records=data.test_records,
        shots=data.shots,
        task=settings.args.task,
    )


def _read(name: str, source: str, count: int | None = None) -> "Rows":
    """The records that `data.NAME` names, of which `count` are drawn.

    A refusal says which setting that is and how to do without: it may be a recipe that named something of the hub.
    """
    from paczero.data.loading import load_rows

    try:
        return load_rows(source)
    except PACZeroError as error:
        without = "goes without" if count is None else f"draws {count:,} records from data.train"
        otherwise = "" if name == "train" else f"; `--data.{name} null` {without}"
        raise PACZeroError(f"data.{name}: {str(error).removeprefix('data ')}{otherwise}") from error
