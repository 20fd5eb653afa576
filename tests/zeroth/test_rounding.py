"""Runs that would train nothing for rounding are refused; smaller losses are said."""

import pytest
import torch
from torch import nn

from paczero.config import MechanismConfig, PACZeroConfig
from paczero.errors import PACZeroError
from paczero.zeroth.directions import RADEMACHER
from paczero.zeroth.rounding import check_moves
from paczero.zeroth.updates import Weights

# bfloat16 numbers just below 2^-4 are 2^-12 apart, so what is below 2^-13 = 1.2e-4 rounds away for these.
VALUE, LEAST = 0.06, 2**-13


def weights(dtype=torch.bfloat16):
    return Weights({"w": nn.Parameter(torch.full((300,), VALUE, dtype=dtype))}, law=RADEMACHER, seed=0, mu=1e-2)


def settings(**changed):
    return PACZeroConfig(**({"steps": 100, "learning_rate": 1e-3, "mu": 1e-2, "schedule": "linear"} | changed))


@pytest.mark.parametrize(("factor", "tail"), [(9.99, 10), (2.49, 40), (20.1, 4)])
def test_the_end_of_a_linear_schedule_that_rounds_away_is_said(factor, tail):
    given = settings(learning_rate=LEAST * factor)
    (note,) = check_moves(weights(), given)
    assert f"with the schedule 'linear' the last {tail} of 100 steps are so small" in note
    assert tail == sum(weights().lost_share(given.learning_rate_at(step)) == 1 for step in range(100))


def test_most_of_a_schedule_is_refused_with_its_share():
    with pytest.raises(PACZeroError, match=r"learning_rate: with the schedule 'linear' the last 66 of 100 steps"):
        check_moves(weights(), settings(learning_rate=LEAST * 1.5))


def test_a_first_step_or_mu_that_rounds_away_is_refused():
    with pytest.raises(PACZeroError, match=r"learning_rate: 0\.0001 rounds away for 100% of the trained weights"):
        check_moves(weights(), settings(learning_rate=1e-4))
    with pytest.raises(PACZeroError, match="mu: 1e-05 rounds away"):
        check_moves(weights(), settings(mu=1e-5))
    with pytest.raises(PACZeroError, match=r"learning_rate: 6\.25e-05"):  # K directions share a step
        check_moves(weights(), settings(learning_rate=1e-3, directions=16))


@pytest.mark.parametrize(
    "fine",
    [
        {"schedule": "constant"},
        {"learning_rate": 1e-6, "force": True},
        {"learning_rate": 1e-6, "mechanism": MechanismConfig(name="none", clip=None)},
    ],
)
def test_what_is_not_said(fine):
    assert check_moves(weights(), settings(**fine)) == []


def test_float32_loses_nothing():
    assert check_moves(weights(torch.float32), settings(steps=10_000)) == []


@pytest.mark.parametrize(("dtype", "mu", "said"), [("bfloat16", 1e-3, 1), ("float16", 1e-3, 1), ("float16", 1e-2, 0)])
def test_a_coarse_model_beside_float32_adapters_is_told_of(dtype, mu, said):
    notes = check_moves(weights(torch.float32), settings(dtype=dtype, mu=mu))
    assert [f"a model in {dtype} rounds on its way what μ = {mu:g}" in note for note in notes] == [True] * said
