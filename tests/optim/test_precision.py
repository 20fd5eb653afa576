"""Runs that would train nothing for rounding are refused; smaller losses are said."""

import math

import pytest
import torch
from torch import nn

from paczero.config import MechanismConfig, PACZeroConfig
from paczero.errors import PACZeroError
from paczero.optim.directions import GAUSSIAN, RADEMACHER
from paczero.optim.parameters import PerturbedParameters
from paczero.optim.precision import RoundingModel, check_update_precision

# bfloat16 numbers just below 2^-4 are 2^-12 apart, so what is below 2^-13 = 1.2e-4 rounds away for these.
VALUE, LEAST = 0.06, 2**-13


def weights(dtype=torch.bfloat16, law=RADEMACHER, value=None):
    value = torch.full((300,), VALUE) if value is None else value
    return PerturbedParameters({"w": nn.Parameter(value.to(dtype))}, law=law, seed=0, mu=1e-2)


def spread(size=0.02, count=400_000):
    """Weights as large as those of a language model."""
    return torch.randn(count, generator=torch.Generator().manual_seed(0)) * size


def settings(**changed):
    return PACZeroConfig(
        **({"max_steps": 100, "learning_rate": 1e-3, "mu": 1e-2, "lr_scheduler_type": "linear"} | changed)
    )


def test_half_distances():
    given = torch.tensor([0.0, 0.05, -0.05, 0.05, 1e-5])
    assert RoundingModel(weights(value=given)).halves == {2.0**-25: 1 / 4, 2.0**-13: 3 / 4}
    # Above a power of two the distance is larger than below it.
    assert RoundingModel(weights(value=torch.tensor([0.5]))).halves == {2.0**-9: 1}
    assert RoundingModel(weights(torch.float16, value=torch.tensor([1e-7, 2.0**-14]))).halves == {
        2.0**-25: 1
    }  # subnormal too
    assert RoundingModel(weights(value=torch.zeros(3))).lost_fraction(1e-9, normal=True) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_half_a_distance_is_where_a_weight_begins_to_move(dtype):
    for value in (0.7, 3e-3, 6e-5, -1.5):
        given = torch.tensor([value]).to(dtype).float()
        ((half, _),) = RoundingModel(weights(dtype, value=given)).halves.items()
        away = math.copysign(1, value)
        assert (given.double() + away * half * 0.99).to(dtype).float() == given
        assert (given.double() + away * half * 1.01).to(dtype).float() != given


def test_signs_move_a_weight_or_do_not():
    grain = RoundingModel(weights(value=torch.tensor([0.05, 0.05, 0.05, 1e-5])))
    assert grain.lost_fraction(1e-4, normal=False) == 3 / 4
    assert grain.lost_fraction(3e-4, normal=False) == 0
    assert grain.lost_fraction(0, normal=False) == grain.lost_fraction(0, normal=True) == 1


@pytest.mark.parametrize("rate", [2e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6])
@pytest.mark.parametrize("directions", [1, 4])
def test_what_survives_is_what_a_real_update_moves_along_its_direction(rate, directions):
    held = weights(torch.float16, GAUSSIAN, spread())
    size = rate / math.sqrt(directions)
    before = held.parameters["w"].detach().double()
    held.update(0, rate, [1] * directions)
    moved = before - held.parameters["w"].detach().double()
    wanted = sum(
        GAUSSIAN.draw(seed=0, step=0, k=k, name="w", start=0, stop=len(before)).double() for k in range(directions)
    ) * (rate / directions)
    alike = (before.abs() >= 2**-6) & (before.abs() < 2**-5)  # weights of one distance
    survived = float((moved * wanted)[alike].sum() / (wanted[alike] ** 2).sum())
    one = RoundingModel(weights(torch.float16, value=torch.full((1,), 0.02)))
    assert 1 - one.lost_fraction(size, normal=True) == pytest.approx(min(1, survived), abs=0.03)


def test_the_papers_k_directions_may_train_in_float16():
    """Full tuning at η = 1e-4 with K = 16: ±η/K would be lost for many weights, what is really moved is not."""
    held = weights(torch.float16, GAUSSIAN, spread())
    assert RoundingModel(held).lost_fraction(1e-4 / 16, normal=False) > 0.3
    assert RoundingModel(held).lost_fraction(1e-4 / 4, normal=True) < 0.01
    paper = {"dtype": "float16", "mu": 1e-3, "max_steps": 1000, "learning_rate": 1e-4, "direction_law": "gaussian"}
    for directions in (1, 4, 16):
        notes = check_update_precision(held, settings(directions=directions, **paper))
        assert [note for note in notes if "wrong sign" in note] and len(notes) == 2
    assert "the last 95 of 1,000 steps" in notes[1]


@pytest.mark.parametrize(("factor", "tail"), [(9.99, 10), (2.49, 40), (20.1, 4)])
def test_the_end_of_a_linear_schedule_that_rounds_away_is_said(factor, tail):
    given = settings(learning_rate=LEAST * factor)
    (note,) = check_update_precision(weights(), given)
    assert f"with the schedule 'linear' the last {tail} of 100 steps are so small" in note
    assert tail == sum(
        RoundingModel(weights()).lost_fraction(given.learning_rate_at(step), normal=False) == 1 for step in range(100)
    )


def test_most_of_a_schedule_is_refused_with_its_share():
    with pytest.raises(PACZeroError, match=r"learning_rate: with the schedule 'linear' the last 66 of 100 steps"):
        check_update_precision(weights(), settings(learning_rate=LEAST * 1.5))


def test_a_first_step_or_mu_that_rounds_away_is_refused():
    with pytest.raises(PACZeroError, match=r"learning_rate: 0\.0001 rounds away by 100% in the type of the trained"):
        check_update_precision(weights(), settings(learning_rate=1e-4))
    with pytest.raises(PACZeroError, match="mu: 1e-05 rounds away"):
        check_update_precision(weights(), settings(mu=1e-5))
    with pytest.raises(PACZeroError, match=r"learning_rate: 0\.0001 shared by 16 directions rounds away"):
        check_update_precision(weights(), settings(learning_rate=1e-4, directions=16))


def test_real_numbers_are_told_from_which_size_on_a_step_survives():
    """MeZO's 1e-7 in float16: whether that trains depends on derivatives that are unknown before the run."""
    held = weights(torch.float16, GAUSSIAN, torch.full((300,), 0.02))
    mezo = settings(learning_rate=1e-7, mechanism=MechanismConfig(name="none", clip=None))
    (note,) = check_update_precision(held, mezo)
    assert "unless what it releases is about 40 or larger; --dtype float32 keeps it" in note
    assert RoundingModel(held).lost_fraction(40.2e-7, normal=True) == pytest.approx(0.5, abs=0.01)
    assert (
        check_update_precision(held, settings(learning_rate=1e-4, mechanism=MechanismConfig(name="none", clip=None)))
        == []
    )


@pytest.mark.parametrize("fine", [{"lr_scheduler_type": "constant"}, {"learning_rate": 1e-6, "force": True}])
def test_what_is_not_said(fine):
    assert check_update_precision(weights(), settings(**fine)) == []


def test_float32_loses_nothing():
    assert check_update_precision(weights(torch.float32), settings(max_steps=10_000)) == []


@pytest.mark.parametrize(("dtype", "mu", "said"), [("bfloat16", 1e-3, 1), ("float16", 1e-3, 1), ("float16", 1e-2, 0)])
def test_a_coarse_model_beside_float32_adapters_is_told_of(dtype, mu, said):
    notes = check_update_precision(weights(torch.float32), settings(dtype=dtype, mu=mu))
    assert [f"a model in {dtype} rounds on its way what μ = {mu:g}" in note for note in notes] == [True] * said
