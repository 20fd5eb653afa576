"""Records of a dev or test set that share a unit or a text with the pool: counted, or refused."""

from typing import Any

import pytest

from paczero.config import MechanismConfig, PACZeroConfig, TaskConfig
from paczero.data.dataset import Dataset, make_dataset
from paczero.data.overlap import overlap, require_apart
from paczero.errors import PACZeroError

BY_PATIENT = TaskConfig(unit_column="who")


def made(records: list[tuple[str, str]], task: TaskConfig = BY_PATIENT) -> Dataset:
    rows = [{"text": text, "who": who, "label": str(n % 2)} for n, (text, who) in enumerate(records)]
    return make_dataset(rows, task, training=False)


POOL = [("a cough", "p1"), ("a cold", "p1"), ("a fever", "p2"), ("a rash", "p3")]


@pytest.mark.parametrize(
    ("others", "task", "said"),
    [
        ([("new", "p9"), ("other", "p8")], BY_PATIENT, None),
        ([("new", "p9"), ("other", "p2")], BY_PATIENT, ("1 of 2 records shares a unit", 2)),
        ([("a rash", "p9"), ("new", "p8")], BY_PATIENT, ("1 of 2 records shares a text", 1)),
        ([("a  rash ", "p9"), ("x", "p1"), ("y", "p1")], BY_PATIENT, ("3 of 3 records share a unit or a text", 1)),
        ([("new", "p1"), ("other", "p2")], TaskConfig(), None),  # units are the records' numbers
        ([("a fever", "p1")], TaskConfig(), ("1 of 1 records shares a text", 1)),
        ([("A Ｆever", "p9")], BY_PATIENT, ("1 of 1 records shares a text", 1)),
    ],
)
def test_what_is_shared(others: list[tuple[str, str]], task: TaskConfig, said: tuple[str, int] | None) -> None:
    expected = said and f"dev set: {said[0]} with the pool (the first is record {said[1]})"
    assert overlap("dev set", made(POOL, task), made(others, task), task) == expected


def test_conversations_are_compared_whole() -> None:
    task = TaskConfig(kind="chat", messages_column="messages")

    def talk(*answers: str) -> Dataset:
        turns: list[dict[str, Any]] = [
            {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": answer}]}
            for answer in answers
        ]
        return make_dataset(turns, task, training=False)

    assert overlap("dev set", talk("Yes.", "No."), talk("Maybe."), task) is None
    assert overlap("dev set", talk("Yes.", "No."), talk("No."), task) is not None


def using(name: str) -> PACZeroConfig:
    return PACZeroConfig(
        task=BY_PATIENT,
        mechanism=MechanismConfig(
            name=name, epsilon=2.0 if "dp" in name else None, budget=0.3 if name == "mi" else None
        ),
    )


@pytest.mark.parametrize("name", ["dpzero", "dp-aggzo", "dp-sign"])
def test_differentially_private_mechanisms_refuse(name: str) -> None:
    others = made([("new", "p9"), ("other", "p2")])
    with pytest.raises(PACZeroError, match=rf"^dev set: 1 of 2 records shares .*{name}.*drop these records"):
        require_apart(using(name), "dev set", made(POOL), others)
    assert require_apart(using(name), "dev set", made(POOL), made([("new", "p9")])) is None


@pytest.mark.parametrize("name", ["zpl", "mi", "none", "full-sign"])
def test_other_mechanisms_count(name: str) -> None:
    found = require_apart(using(name), "test set", made(POOL), made([("other", "p2")]))
    assert found == overlap("test set", made(POOL), made([("other", "p2")]), BY_PATIENT)


@pytest.mark.parametrize(("one", "other", "same"), [("3", "3.0", True), ("3.0", " 3 ", True), ("0003", "3", False)])
def test_units_that_are_numbers(one: str, other: str, same: bool) -> None:
    """pandas writes 3.0 where a column of whole numbers has a gap."""
    found = overlap("dev set", made([("a", one)]), made([("b", other)]), BY_PATIENT)
    assert (found is not None) == same
