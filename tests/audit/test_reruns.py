"""Re-runs: honest mechanisms stay within their bounds, a leak exceeds them, and an interrupted audit continues."""

import stat
from dataclasses import replace

import numpy as np
import pytest

from paczero.audit import reruns as module
from paczero.audit.reruns import attack, rerun
from paczero.audit.simulation import Simulation, settings
from paczero.config import MechanismConfig
from paczero.errors import PACZeroError
from paczero.mechanism.bounds import posterior_success

ARGS = settings(MechanismConfig(name="mi", budget=0.3, subsets=8), steps=6)


def short(directory, runs=40, args=ARGS, **more):
    return rerun(args, directory, runs=runs, units=32, **more)


def test_an_interrupted_audit_continues(tmp_path, monkeypatch):
    """No outcome is counted twice, and the same outcomes give the same figures."""
    directory, count = tmp_path / "audit", [0]
    real = Simulation.run

    def counted(self, *given, **more):
        count[0] += 1
        if count[0] == 25:
            raise KeyboardInterrupt
        return real(self, *given, **more)

    monkeypatch.setattr(Simulation, "run", counted)
    with pytest.raises(KeyboardInterrupt):
        short(directory)
    (folder,) = directory.iterdir()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (directory, folder)} == {0o700}
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600} and len(kept) == 24
    result = short(directory)
    assert count[0] == 25 + 16 and {path: path.read_bytes() for path in kept} == kept
    assert short(directory) == result and count[0] == 41
    assert result.runs == 40 and result.look == 1
    assert result.channel and not any(test.failed for test in result.channel)
    assert result.information.budget == 0.3 and not result.information.exceeded
    for found in result.attacks:
        prior = 1 / 8 if found.name == "bayes-secret" else 0.5
        assert found.comparison.bound == posterior_success(0.3, prior)
        assert not found.comparison.exceeded
        assert found.comparison.trials == (20 if found.name.startswith("trained") else 40)
        assert found.comparison.attacks == len(result.attacks) == 5


@pytest.mark.parametrize("directions", [1, 4])
@pytest.mark.parametrize("family", ["random", "balanced"])
def test_half_of_the_releases_or_more_are_unanimous_and_some_are_not(tmp_path, family, directions):
    args = replace(settings(MechanismConfig(family=family, pilots=16), directions=directions), test_seed=0)
    made = Simulation(args, units=module.UNITS, good=module.GOOD, alike=module.ALIKE)
    signs = made.run(tmp_path / "one").signs
    unanimous = np.abs(signs.mean(axis=-1)) == 1
    assert signs.shape == (24, directions, 128) and 0.5 <= unanimous.mean() <= 0.9


def test_other_settings_make_other_re_runs(tmp_path):
    short(tmp_path / "audit")
    short(tmp_path / "audit", args=settings(MechanismConfig(name="skip", subsets=8), steps=6))
    assert len([path for path in (tmp_path / "audit").iterdir() if path.is_dir()]) == 2


def test_a_leak_exceeds_the_bound(tmp_path, simulation):
    """The run reveals every sign and claims to reveal nothing; attacks and rule are those of an honest run."""
    lab = simulation("half-sign", steps=24, quick=True)
    trials = [lab.run(tmp_path / str(number)) for number in range(40)]
    lab.args, honest = replace(lab.args, mechanism=replace(lab.args.mechanism, name="zpl")), lab.args
    found = {result.name: result.comparison for result in attack(trials, lab).attacks}
    lab.args = honest
    assert found["bayes-unit"].bound == 0.5 and found["bayes-secret"].bound == 1 / 8
    assert found["bayes-unit"].exceeded and found["bayes-secret"].exceeded and found["bayes-units"].exceeded


def test_re_runs_that_are_added_later_are_another_look(tmp_path):
    first, again, more = (short(tmp_path / "audit", runs=runs) for runs in (40, 40, 44))
    assert (first.look, again.look, more.look) == (1, 1, 2)
    confidences = [result.attacks[0].comparison.interval.confidence for result in (first, more)]
    assert confidences == pytest.approx([1 - 0.001 / 2 / 5, 1 - 0.001 / 6 / 5], abs=1e-12)
    assert more.channel[0].level == pytest.approx(first.channel[0].level / 3)
    (kept,) = (tmp_path / "audit").glob("*.json")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    kept.write_text("nonsense")
    with pytest.raises(PACZeroError, match="delete it"):
        short(tmp_path / "audit")


def test_differentially_private_mechanisms_have_channel_tests_and_no_attacks(tmp_path):
    result = short(tmp_path / "a", args=settings(MechanismConfig(name="dp-sign", epsilon=2.0), steps=4))
    assert not result.attacks and result.information is None
    assert [test.name for test in result.channel] == ["bits and sums"] and not result.channel[0].failed


def test_outcomes_survive_storage(simulation, tmp_path):
    trial = simulation("mi", budget=0.3, channel="gaussian", directions=2).run(tmp_path / "one")
    module._write(tmp_path / "one.npz", trial)
    back = module._read(tmp_path / "one.npz")
    for name in ("y", "signs", "noise", "output", "beta", "sums", "sampled", "inside", "weights", "losses"):
        assert np.array_equal(getattr(back, name), getattr(trial, name)), name
        assert getattr(back, name).dtype == getattr(trial, name).dtype, name
    assert back.secret == trial.secret


def test_unusable_settings_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(PACZeroError, match="promises nothing that re-runs can test"):
        short(tmp_path / "a", args=settings(MechanismConfig(name="none")))
    with pytest.raises(PACZeroError, match="reruns: 39 was given"):
        short(tmp_path / "a", runs=39)
    short(tmp_path / "b")
    path = next((tmp_path / "b").glob("*/7.npz"))
    for damaged in (b"", path.read_bytes()[:100], b'{"y": 1}\n'):
        path.write_bytes(damaged)
        with pytest.raises(PACZeroError, match="delete it"):
            short(tmp_path / "b")
