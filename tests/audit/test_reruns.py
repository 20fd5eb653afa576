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
    assert result.runs == 40
    for found in result.attacks:
        prior = 1 / 8 if found.name == "bayes-secret" else 0.5
        assert found.comparison.bound == posterior_success(0.3, prior)
        assert not found.comparison.exceeded
        assert found.comparison.trials == (20 if found.name.startswith("trained") else 40)
        assert found.comparison.attacks == len(result.attacks) == 5


def test_other_settings_make_other_re_runs(tmp_path):
    short(tmp_path / "audit")
    short(tmp_path / "audit", args=settings(MechanismConfig(name="skip", subsets=8), steps=6))
    assert len(list((tmp_path / "audit").iterdir())) == 2


def test_a_leak_exceeds_the_bound(tmp_path, simulation):
    """The run reveals every sign and claims to reveal nothing; attacks and rule are those of an honest run."""
    lab = simulation("half-sign", steps=24)
    trials = [lab.run(tmp_path / str(number)) for number in range(40)]
    lab.args, honest = replace(lab.args, mechanism=replace(lab.args.mechanism, name="zpl")), lab.args
    found = {result.name: result.comparison for result in attack(trials, lab).attacks}
    lab.args = honest
    assert found["bayes-unit"].bound == 0.5 and found["bayes-secret"].bound == 1 / 8
    assert found["bayes-unit"].exceeded and found["bayes-secret"].exceeded and found["bayes-units"].exceeded


def test_outcomes_survive_storage(simulation, tmp_path):
    trial = simulation("mi", budget=0.3, channel="gaussian", directions=2).run(tmp_path / "one")
    module._write(tmp_path / "one.npz", trial)
    back = module._read(tmp_path / "one.npz")
    for name in ("y", "signs", "noise", "output", "inside", "weights", "losses"):
        assert np.array_equal(getattr(back, name), getattr(trial, name)), name
        assert getattr(back, name).dtype == getattr(trial, name).dtype, name
    assert back.secret == trial.secret


def test_unusable_settings_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(PACZeroError, match="never reads the secret half"):
        short(tmp_path / "a", args=settings(MechanismConfig(name="none")))
    with pytest.raises(PACZeroError, match="reruns: 39 was given"):
        short(tmp_path / "a", runs=39)
    short(tmp_path / "b")
    path = next((tmp_path / "b").glob("*/7.npz"))
    for damaged in (b"", path.read_bytes()[:100], b'{"y": 1}\n'):
        path.write_bytes(damaged)
        with pytest.raises(PACZeroError, match="delete it"):
            short(tmp_path / "b")
