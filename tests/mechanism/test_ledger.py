"""Budget: allowances, refusals, and an exact sum that never passes it."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paczero.errors import PACZeroError
from paczero.mechanism import Ledger


def test_uniform_allowance_is_the_same_at_every_step() -> None:
    ledger = Ledger(0.33, 1000, "uniform")
    assert ledger.allowance(0) == pytest.approx(0.33 / 1000, rel=1e-14)
    ledger.charge(ledger.allowance(0) / 3)
    assert ledger.allowance(1) == ledger.allowance(0) == ledger.allowance(999)


def test_adaptive_allowance_passes_on_what_was_left() -> None:
    ledger = Ledger(1.0, 4)
    assert ledger.allocation == "adaptive"
    assert ledger.allowance(0) == pytest.approx(0.25, rel=1e-14)
    assert ledger.allowance(1) == pytest.approx(1 / 3, rel=1e-14)  # step 0 was unanimous
    ledger.charge(0.1)
    assert ledger.allowance(2) == pytest.approx(0.45, rel=1e-14)
    assert ledger.allowance(3) == pytest.approx(0.9, rel=1e-14)
    assert ledger.spent == 0.1


@given(
    st.floats(0, 5),
    st.integers(1, 40),
    st.integers(1, 7),
    st.sampled_from(["adaptive", "uniform"]),
    st.randoms(use_true_random=False),
)
def test_the_exact_sum_never_passes_the_budget(budget, steps, directions, allocation, random) -> None:
    ledger, charges = Ledger(budget, steps, allocation), []
    for step in range(steps):
        allowance = ledger.allowance(step) / directions
        assert 0 <= allowance <= budget
        for _ in range(directions):
            nats = allowance * random.choice([0.0, 1.0, 1.0, random.random()])
            ledger.charge(nats)
            charges.append(Fraction(nats))
    assert sum(charges) <= Fraction(budget)
    assert ledger.spent == float(sum(charges)) <= budget


@pytest.mark.parametrize("allocation", ["adaptive", "uniform"])
@pytest.mark.parametrize("directions", [1, 3, 7])
def test_full_allowances_are_all_accepted_and_use_up_the_budget(allocation: str, directions: int) -> None:
    ledger = Ledger(0.33, 997, allocation)
    for step in range(997):
        allowance = ledger.allowance(step) / directions
        for _ in range(directions):
            ledger.charge(allowance)
    assert 0.33 * (1 - 1e-12) < ledger.spent <= 0.33


def test_a_charge_beyond_the_budget_changes_nothing() -> None:
    ledger = Ledger(0.1, 10)
    ledger.charge(0.06)
    for nats in (0.05, math.inf, math.nextafter(0.1, 1)):
        with pytest.raises(PACZeroError, match="remain of the budget"):
            ledger.charge(nats)
    assert ledger.spent == 0.06
    ledger.charge(0.04)
    assert ledger.spent == pytest.approx(0.1)


def test_nothing_left_is_a_allowance_of_zero() -> None:
    assert Ledger(0.0, 3).allowance(2) == 0.0
    for allocation in ("adaptive", "uniform"):
        ledger = Ledger(0.5, 3, allocation)
        ledger.charge(0.5)
        assert ledger.allowance(1) == 0.0


@pytest.mark.parametrize("nats", [-1e-9, math.nan])
def test_only_amounts_can_be_charged(nats) -> None:
    ledger = Ledger(0.5, 3)
    with pytest.raises(PACZeroError):
        ledger.charge(nats)
    assert ledger.spent == 0.0


@pytest.mark.parametrize(
    "arguments",
    [(-0.1, 3), (math.nan, 3), (math.inf, 3), (0.1, 0), (0.1, 3, "generous")],
)
def test_impossible_ledgers_are_refused(arguments) -> None:
    with pytest.raises(PACZeroError, match="was given; expected"):
        Ledger(*arguments)


@pytest.mark.parametrize("step", [-1, 3])
def test_steps_outside_the_run_are_refused(step) -> None:
    with pytest.raises(PACZeroError, match="step"):
        Ledger(0.1, 3).allowance(step)
