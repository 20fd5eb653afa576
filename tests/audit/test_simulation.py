"""The simulation trains with the users' code, always from the same start, and gives the attacker all public values."""

import numpy as np
import pytest

from paczero.audit.simulation import Simulation, scratch, settings, settings_of
from paczero.config import MechanismConfig
from paczero.mechanism.registry import SPECS
from paczero.mechanism.signs import subset_signs

from ..written_runs import make_header


@pytest.mark.parametrize("family", ["random", "paired", "balanced"])
def test_the_attacker_can_compute_the_signs(simulation, tmp_path, family):
    """Derivatives and candidates are public here."""
    lab = simulation("mi", family=family, budget=0.3)
    assert (lab.membership.sum(axis=1) == 4).all()
    trial = lab.run(tmp_path / "one")
    for step in range(8):
        expected = subset_signs(trial.derivatives[step, 0], lab.membership, clip=lab.args.mechanism.clip)
        assert (trial.signs[step, 0] == expected).all()
    assert (trial.inside == lab.membership[:, trial.secret]).all()


def test_every_run_begins_at_the_start(simulation, tmp_path):
    lab = simulation("none")
    first, second = lab.run(tmp_path / "one"), lab.run(tmp_path / "two")
    assert (first.y == second.y).all() and (first.weights == second.weights).all()
    assert (first.losses == second.losses).all()


def test_secrets_are_fresh(simulation, tmp_path):
    lab = simulation("zpl")
    assert len({lab.run(tmp_path / str(number)).secret for number in range(12)}) > 2


def test_units_outside_the_pool_have_no_influence(simulation, tmp_path):
    """The mean of `none` is over the pool; the attacker also gets the derivatives of the other units."""
    lab, in_pool = simulation("none"), np.arange(32) < 20
    trial = lab.run(tmp_path / "some", in_pool=in_pool)
    np.testing.assert_allclose(trial.y[:, 0], trial.derivatives[:, 0, :20].mean(axis=1), rtol=1e-12)
    assert trial.derivatives.shape == (8, 1, 32)


def test_a_secret_sample_is_drawn_from_the_pool(tmp_path):
    args = settings(MechanismConfig(name="dpzero", epsilon=2.0, sampling_prob=0.5, clip=1.0), steps=4)
    trial = Simulation(args, units=40).run(tmp_path / "one", in_pool=np.arange(40) < 32)
    assert trial.y.shape == (4, 1) and np.isfinite(trial.y).all()


@pytest.mark.parametrize("name", list(SPECS))
def test_the_audited_runs_mechanism_is_used(name):
    header = make_header(name, directions=64 if name == "dp-aggzo" else 1)
    args = settings_of(header)
    assert args.mechanism.name == name and args.mechanism.subsets == 128 and args.mechanism.family == "balanced"
    assert args.mechanism.budget == (0.33 if name == "mi" else None)
    assert args.mechanism.epsilon == header["mechanism"].get("epsilon")
    assert args.directions == (4 if name == "dp-aggzo" else 1)


def test_nothing_is_left_behind():
    with scratch() as root:
        (root / "some").mkdir()
    assert not root.exists()
