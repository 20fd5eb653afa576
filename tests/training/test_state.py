"""The headers of transcript and journal hold public values only; accounts of units outlive the process."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paczero.errors import IntegrityError
from paczero.mechanism.individual import Share
from paczero.mechanism.journal import Journal
from paczero.release.verify.release import verify_release

from ..faults.remains import left
from ..interruptions import Stop, StopAt

MakeTrainer = Callable[..., Any]


def test_the_headers_speak_of_public_things_only(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", mechanism={"name": "mi", "budget": 0.3, "channel": "gaussian"})
    header = trainer.header
    assert json.loads(json.dumps(header)) == header
    assert header["mechanism"] == {"name": "mi", "clip": 25.0, "channel": "gaussian", "allocation": "adaptive"}
    assert (header["budget"], header["units"], header["subsets"]) == (0.3, 48, 8)
    text = json.dumps(header)
    assert "number 1-" not in text and str(tmp_path) not in text and trainer.pool.dataset.hash() not in text
    assert make_trainer(tmp_path / "run", mechanism={"name": "none"}).header["budget"] is None


INDIVIDUAL = {"mechanism": {"name": "dp-sign", "epsilon": 2.0, "individual": True}, "directions": 2}


def accounts(run: Path) -> np.ndarray:
    """What the units had spent before and after the last step, (2, N)."""
    with np.load(run / "private" / "spent.npz") as stored:
        return np.array(stored["accounts"])


def mechanism_in(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "release" / "privacy.json").read_text())["mechanism"]
    return content


@pytest.fixture(scope="module")
def whole(make_trainer: MakeTrainer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("individual") / "run"
    make_trainer(run, **INDIVIDUAL).train()
    return run


def test_a_run_with_individual_accounting_states_it_and_verifies(whole: Path, make_trainer: MakeTrainer) -> None:
    stated = mechanism_in(whole)
    share = Share(stated["rho"])
    assert stated["individual"] is True and 1.99 < share.epsilon(stated["delta"]) <= stated["epsilon"] == 2.0
    assert stated["posterior_success"] == share.success
    assert math.sqrt(8 * share.rho / 12) < stated["eps0"] <= math.sqrt(16 * share.rho / 12), "half are as the clip"
    checked = dict(verify_release(whole).lines)
    assert checked["noise"].startswith(f"ρ = {share.rho:g} gives ε = 2 of the stated 2,") or "1.99" in checked["noise"]
    assert f"| Share ρ of a unit | `{share.rho:g}" in (whole / "release" / "README.md").read_text()
    limit = 8 * share.rho / stated["eps0"] ** 2 * 2**40
    spent = accounts(whole)[1]
    assert (spent > limit).any() and (spent < limit).any(), "some units have stopped, others have not"
    assert spent.max() <= limit + 1


def test_what_units_have_spent_is_in_no_released_file(whole: Path) -> None:
    released = {path.name for path in (whole / "release").rglob("*")}
    assert "spent.npz" not in released and (whole / "private" / "spent.npz").stat().st_mode & 0o777 == 0o600
    public = b"".join(path.read_bytes() for path in (whole / "release").rglob("*") if path.is_file())
    values = {str(value).encode() for value in accounts(whole).ravel().tolist() if value > 10**6}
    assert values and not any(value in public for value in values)
    journal = (whole / "private" / "journal.jsonl").read_bytes()
    assert not any(value in journal for value in values)


@pytest.fixture(scope="module")
def interrupted(make_trainer: MakeTrainer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four of six steps are done; copy it."""
    run = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.raises(Stop):
        make_trainer(run, **INDIVIDUAL, observers=[StopAt(3)]).train()
    return run


def test_a_killed_run_goes_on_with_what_was_spent(
    make_trainer: MakeTrainer, interrupted: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(interrupted, tmp_path / "run"))
    make_trainer(run, **INDIVIDUAL).train(resume_from_checkpoint=True)
    assert left(run) == left(whole) and np.array_equal(accounts(run), accounts(whole))

    class Killed(Exception):
        pass

    def kill(*_: Any) -> None:
        raise Killed

    run = Path(shutil.copytree(interrupted, tmp_path / "between"))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Journal, "append", kill)
        make_trainer(run, **INDIVIDUAL).train(resume_from_checkpoint=True)
    assert not np.array_equal(accounts(run), accounts(interrupted)), "charged, and not released"
    make_trainer(run, **INDIVIDUAL).train(resume_from_checkpoint=True)
    assert left(run) == left(whole) and np.array_equal(accounts(run), accounts(whole))


def test_a_run_that_lost_its_accounts_or_has_older_ones_is_refused(
    make_trainer: MakeTrainer, interrupted: Path, whole: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(interrupted, tmp_path / "run"))
    path = run / "private" / "spent.npz"
    for data in (None, (whole / "private" / "spent.npz").read_bytes(), b"x"):
        path.unlink()
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(IntegrityError, match="spent: "):
            make_trainer(run, **INDIVIDUAL).train(resume_from_checkpoint=True)
        path.touch()


def test_dev_records_decide_how_large_eps0_is_and_the_share_how_much_is_spent(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    """A clip that never bites leaves every unit its share for long; ε₀ grows, the share does not."""
    wide = {"name": "dp-sign", "epsilon": 2.0, "individual": True, "clip": 1000.0}
    make_trainer(tmp_path / "run", mechanism=wide, max_steps=3).train()
    stated = mechanism_in(tmp_path / "run")
    assert stated["rho"] == Share.of(2.0, delta=stated["delta"]).rho
    assert stated["eps0"] > 10 * math.sqrt(8 * stated["rho"] / 3)
    with pytest.raises(Exception, match=r"mechanism\.individual: true was given without a dev set"):
        make_trainer(tmp_path / "other", mechanism=wide, dev=None)
