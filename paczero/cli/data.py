"""The records that a run's settings name, read and drawn.

>>> read_data(settings).train.origin                                             # doctest: +SKIP
"data 'train.tsv' (1,000 of 67,349 records, drawn by seed 0)"
"""

from typing import TYPE_CHECKING

from paczero.errors import PACZeroError

if TYPE_CHECKING:
    from paczero.cli.settings import RunSettings
    from paczero.records.draw import Splits


def read_data(settings: "RunSettings") -> "Splits":
    """Pool, dev set and test set of a run; a resumed one draws the same.

    Raises:
        PACZeroError: a file cannot be used, or holds too few records.
    """
    from paczero.records.draw import draw_splits
    from paczero.records.pool import load_rows

    data = settings.data
    if data.train is None:
        raise PACZeroError("data.train: none was given; expected the pool's file or hub name; add --data.train")
    return draw_splits(
        load_rows(data.train),
        None if data.dev is None else load_rows(data.dev),
        None if data.test is None else load_rows(data.test),
        seed=settings.args.seed,
        train_records=data.train_records,
        dev_records=data.dev_records,
        test_records=data.test_records,
        shots=data.shots,
        task=settings.args.task,
    )
