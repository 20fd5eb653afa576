"""Records of a dev or test set that share a unit or a text with the pool.

>>> from paczero.data.dataset import make_dataset
>>> task = TaskConfig(unit_column="who")
>>> pool = make_dataset([{"text": "a cough", "label": 1, "who": "p1"}], task, training=False)
>>> dev = make_dataset([{"text": "a cold", "label": 0, "who": "p1"}], task, training=False)
>>> overlap("dev set", pool, dev, task)
'dev set: 1 of 1 records shares a unit with the pool (the first is record 1)'

Dev and test records are not protected: they choose steps, clip and threshold without noise. A promise about who is in
the pool says nothing of a person who is in such a set too.
"""

import unicodedata

from paczero.config import PACZeroConfig, TaskConfig
from paczero.data.dataset import Dataset
from paczero.errors import PACZeroError
from paczero.mechanism.registry import spec_of


def overlap(what: str, pool: Dataset, other: Dataset, task: TaskConfig) -> str | None:
    """How many records of the other set share a unit or a text with the pool, as a sentence; None for none.

    Args:
        what: the other set, for the sentence.
        task: of both. Without a unit column the units are the records' numbers, which name no person.
    """
    units = set(pool.unit_names) if task.unit_column is not None else set()
    texts = {_text(pool, at) for at in range(len(pool))}
    unit = [other.unit_names[at] in units for at in other.unit_of_record.tolist()]
    text = [_text(other, at) in texts for at in range(len(other))]
    shared = [at for at, either in enumerate(zip(unit, text, strict=True), 1) if any(either)]
    if not shared:
        return None
    kinds = " or ".join(kind for kind, found in (("a unit", unit), ("a text", text)) if any(found))
    verb = "shares" if len(shared) == 1 else "share"
    return (
        f"{what}: {len(shared):,} of {len(other):,} records {verb} {kinds} with the pool (the first is record "
        f"{shared[0]:,})"
    )


def require_apart(args: PACZeroConfig, what: str, pool: Dataset, other: Dataset) -> str | None:
    """`overlap`, refused where the mechanism is a differentially private one.

    Raises:
        PACZeroError: records are shared, and the mechanism hides who is in the pool.
    """
    shared, mechanism = overlap(what, pool, other, args.task), args.mechanism.name
    if shared is not None and spec_of(mechanism).is_dp:
        raise PACZeroError(
            f"{shared}; {mechanism} hides who is in the pool, and this set is not protected; drop these records from "
            "one of the two; texts that a file has twice, from that file"
        )
    return shared


def _text(dataset: Dataset, number: int) -> tuple[str, ...]:
    """A record's text without differences in white space, case and forms of a character."""
    texts = (unicodedata.normalize("NFKC", dataset.rows[number].get(column, "")) for column in dataset.columns)
    return tuple(" ".join(text.casefold().split()) for text in texts)
