"""The numbers of a promise about the half and about the pool: on the safe side, none where nothing is promised."""

import math
from typing import Any

import pytest

from paczero.mechanism.bounds import epsilon_for_nats, posterior_success, success_for_epsilon
from paczero.mechanism.registry import SPECS
from paczero.release.guarantee import epsilon, half, pool, rounded_up, success, verdict

from ..written_runs import header_of_version_01, make_header

NOTHING = {"epsilon": None, "delta": None, "posterior_success": 1.0}
UNBOUNDED = {"nats": None, "posterior_success": 1.0, "equivalent_epsilon": None}
ZERO = {"nats": 0.0, "posterior_success": 0.5, "equivalent_epsilon": 0.0}


@pytest.mark.parametrize("name", SPECS)
def test_what_each_mechanism_promises(name: str) -> None:
    header = make_header(name)
    nats = {"mi": 0.33}.get(name, 0.0)
    bounded = {"nats": nats, "posterior_success": posterior_success(nats), "equivalent_epsilon": epsilon_for_nats(nats)}
    assert half(header) == (UNBOUNDED if name == "half-sign" else bounded)
    private = {"epsilon": 2.0, "delta": 600**-2.0, "posterior_success": 0.58871}
    everything = {"epsilon": 0.0, "delta": 0.0, "posterior_success": 0.5}
    assert pool(header) == (private if "dp" in name else everything if name == "coin" else NOTHING)


def test_zero_nats_of_plain_training_are_no_promise() -> None:
    """It never reads the secret half, so that is hidden; the run as a whole still promises nothing."""
    for name in ("none", "full-sign"):
        header = make_header(name)
        assert (half(header), success(header), epsilon(header), verdict(header)) == (ZERO, 1.0, None, "nothing")


@pytest.mark.parametrize("name", SPECS)
def test_a_test_seed_promises_nothing(name: str) -> None:
    header = make_header(name, test_seed=0)
    assert (half(header), pool(header)) == (UNBOUNDED, NOTHING)
    assert (verdict(header), success(header), epsilon(header)) == ("void", 1.0, None)


@pytest.mark.parametrize("budget", [math.log(2), 3.0])
def test_a_budget_that_bounds_nothing(budget: float) -> None:
    header = make_header("mi", budget=budget)
    assert half(header) == UNBOUNDED | {"nats": budget}
    assert (verdict(header), success(header), epsilon(header)) == ("nothing", 1.0, None)


def test_a_run_of_version_01_states_what_epsilon_and_delta_alone_allow() -> None:
    header = header_of_version_01("dp-sign")
    assert pool(header)["posterior_success"] == success_for_epsilon(2.0, 600**-2.0) > 0.88


def test_an_epsilon_that_bounds_nothing() -> None:
    mechanism = make_header("dp-sign")["mechanism"]
    header = make_header("dp-sign", mechanism=mechanism | {"epsilon": 50.0, "posterior_success": 1.0})
    assert pool(header) == NOTHING and verdict(header) == "nothing" and epsilon(header) is None


@pytest.mark.parametrize(("name", "changes"), [("zpl", {}), ("mi", {"budget": 0.001}), ("skip", {}), ("coin", {})])
def test_the_promise_is_kept(name: str, changes: dict[str, Any]) -> None:
    header = make_header(name, **changes)
    assert verdict(header) == "kept" and success(header) == posterior_success(header["budget"])


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (0.88188757, "0.8819"), (0.0, "0"), (1.0, "1"), (0.50002, "0.5001")]
)
def test_rounded_up(value: float, text: str) -> None:
    assert rounded_up(value) == text
