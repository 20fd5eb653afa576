"""The one-run audit: an interval for ε that holds the truth, and refutes a mechanism with half its noise."""

import math
from dataclasses import replace

import numpy as np
import pytest

from paczero.audit import one_run_canaries as module
from paczero.audit.losses import QuadraticLosses
from paczero.audit.one_run_canaries import audit_one_run
from paczero.audit.positive_controls import changed
from paczero.audit.simulation import Simulation, settings
from paczero.config import MechanismConfig
from paczero.errors import PACZeroError
from paczero.training.factory import make_mechanism

KNOWN, CANARIES = 32, 600


def lab(build=make_mechanism, steps=100, directions=1, **mechanism):
    chosen = MechanismConfig(**({"delta": 1e-5} if "epsilon" in mechanism else {}), **mechanism)
    units = KNOWN + CANARIES
    losses = QuadraticLosses(units, odd=CANARIES)
    # The weights hardly move, so that the sums stay as large as they are at the start.
    args = replace(settings(chosen, steps=steps, directions=directions), learning_rate=1e-4, test_seed=3)
    return Simulation(args, units=units, build=build, losses=losses)


@pytest.mark.parametrize(
    ("given", "broken"),
    [
        ({"name": "dp-sign", "epsilon": 2.0, "steps": 150, "directions": 4}, {"eps0": 2.0}),
        ({"name": "dpzero", "epsilon": 2.0}, {"sigma": 0.5}),
        ({"name": "dp-aggzo", "epsilon": 2.0, "directions": 3}, {"sigma": 0.5}),
    ],
    ids=str,
)
def test_an_honest_mechanism_is_left_alone_and_one_with_half_the_noise_is_refuted(given, broken):
    honest, half = (audit_one_run(lab(build, **given), KNOWN, seed=1) for build in (make_mechanism, changed(**broken)))
    assert not honest.refuted and honest.epsilon_low < given["epsilon"] < honest.epsilon_high
    assert honest.epsilon_stated == pytest.approx(given["epsilon"], rel=0.01)
    assert half.refuted and half.epsilon_low > half.epsilon_stated == honest.epsilon_stated
    assert honest.factor_low < 1 < half.factor_low < half.factor < half.factor_high
    for result in (honest, half):
        assert result.epsilon_by_guesses < result.epsilon_high and result.canaries == CANARIES
        assert result.correct <= result.guesses in (150, 600)


def test_the_interval_holds_the_truth_as_often_as_stated():
    """Bits whose sums depend on earlier bits, and a true factor of 1.5."""
    rng, missed = np.random.default_rng(0), 0
    for _ in range(200):
        logs, ahead = np.zeros(len(module._FACTORS)), 0.0
        for _ in range(60):
            total = 3 * math.tanh(ahead) + 1
            y = 1.0 if rng.random() < 1 / (1 + math.exp(-1.5 * 0.4 * total)) else -1.0
            logs -= np.log1p(np.exp(-y * 0.4 * module._FACTORS * total))
            ahead += y
        _, low, high = module._interval(logs, 0.9)
        missed += not low <= 1.5 <= high
    assert missed <= 20


def test_steps_that_tell_nothing_bound_nothing():
    assert module._interval(np.zeros(len(module._FACTORS)), 0.95)[1:] == (0.0, math.inf)


def test_what_cannot_be_audited_from_one_run():
    with pytest.raises(PACZeroError, match="states no ε"):
        audit_one_run(lab(name="zpl", subsets=8), KNOWN)
    with pytest.raises(PACZeroError, match="two canaries or more"):
        audit_one_run(lab(name="dpzero", epsilon=2.0, steps=2), KNOWN + CANARIES)
