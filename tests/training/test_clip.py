"""`clip: auto` is the median size of the dev units' derivatives, and a run that goes on keeps it."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paczero.config import MechanismConfig
from paczero.config_io import read_settings
from paczero.errors import IntegrityError, PACZeroError
from paczero.training.clip import (
    DIRECTIONS,
    measured_log_odds,
    measured_of_run,
    median_clip,
    sign_efficiency,
    sign_note,
)

MakeTrainer = Callable[..., Any]
SIGN = {"name": "dp-sign", "epsilon": 2.0, "clip": "auto"}


def clip_in(run: Path) -> float:
    first = (run / "release" / "transcript.jsonl").read_text().splitlines()[0]
    return float(json.loads(first)["mechanism"]["clip"])


def test_only_private_mechanisms_measure_it() -> None:
    assert MechanismConfig().clip == MechanismConfig(name="none").clip == 25.0
    assert MechanismConfig(name="dp-sign", epsilon=2.0).clip == "auto"
    assert read_settings({"mechanism": {"clip": "auto"}}) == {"mechanism.clip": "auto"}
    assert read_settings({"mechanism": {"clip": "2"}}) == {"mechanism.clip": 2.0}
    with pytest.raises(PACZeroError, match=r"mechanism\.clip: 'much' was given; expected a number or one of auto"):
        read_settings({"mechanism": {"clip": "much"}})
    with pytest.raises(PACZeroError, match=r"mechanism\.clip: 'auto' was given; expected a number here"):
        MechanismConfig(name="dp-sign", epsilon=2.0).number_of_clip  # noqa: B018


def test_it_is_the_median_size(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    columns = np.random.default_rng(0).standard_normal((40, DIRECTIONS)) * 3
    args = make_trainer(tmp_path / "run", mechanism=SIGN, directions=4).args
    assert median_clip(args, columns) == float(f"{np.median(np.abs(columns)):.2g}")
    args = replace(args, mechanism=MechanismConfig(name="dp-aggzo", epsilon=2.0))
    lengths = np.sqrt(4 * np.square(columns).mean(axis=1))
    assert median_clip(args, columns) == float(f"{np.median(lengths):.2g}"), "of a vector that is clipped as a whole"
    for bad in (columns * 0, columns * np.nan):
        with pytest.raises(PACZeroError, match=r"mechanism\.clip: auto found a median derivative"):
            median_clip(args, bad)


def test_derivatives_are_those_of_the_dev_set_and_the_weights_stay(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", mechanism=SIGN)
    before = trainer.weights.fingerprint()
    measured = trainer.dev_derivatives(trainer.dev)
    assert measured.shape == (trainer.dev.dataset.units, DIRECTIONS) and np.abs(measured).max() > 0
    assert trainer.weights.fingerprint() == before


@pytest.mark.parametrize("shared", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("units", [100, 10_000])
def test_the_efficiency_is_that_of_simulated_pools(shared: float, units: int) -> None:
    rng, eps0 = np.random.default_rng(3), 0.03

    def draw(count: int, directions: int) -> np.ndarray:
        return rng.standard_normal((count, directions)) + shared * rng.standard_normal(directions)

    sums = np.array([np.clip(draw(units, 1), -1, 1).sum() for _ in range(1500)])
    true = float((np.tanh(eps0 * sums / 2) * sums).mean() / np.abs(sums).mean())
    found = [sign_efficiency(draw(400, DIRECTIONS), 1.0, eps0, units) for _ in range(30)]
    assert np.mean(found) == pytest.approx(true, abs=0.1)


def test_a_note_where_bits_are_mostly_coins() -> None:
    columns = np.random.default_rng(0).standard_normal((400, DIRECTIONS))
    assert sign_note(columns, 1.0, 1.0, 1000, 500) is None
    text = sign_note(columns, 1.0, 0.03, 1000, 500)
    assert text is not None and "with 1,000 units, 500 steps" in text
    better = int(re.findall(r"max_steps ([0-9,]+)", text)[0].replace(",", ""))
    assert sign_efficiency(columns, 1.0, 0.03 * math.sqrt(500 / better), 1000) >= 0.5
    assert "fewer steps do not help enough" in str(sign_note(columns, 1.0, 1e-4, 40, 500))


def test_a_run_states_it_and_starts_from_the_same_weights(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    automatic = make_trainer(tmp_path / "auto", mechanism=SIGN)
    automatic.train()
    clip = clip_in(tmp_path / "auto")
    make_trainer(tmp_path / "given", mechanism=SIGN | {"clip": clip}).train()
    steps = [(tmp_path / name / "release" / "transcript.jsonl").read_text().splitlines() for name in ("auto", "given")]
    assert steps[0] == steps[1] and len(steps[0]) > 1
    assert json.loads((tmp_path / "auto" / "release" / "privacy.json").read_text())["mechanism"]["clip"] == clip


def test_a_run_that_goes_on_does_not_measure_again(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        pass

    class Stopping:
        def on_step(self, step: Any) -> None:
            if step.index == 1:
                raise Stop

        def on_dev(self, result: Any) -> None:
            pass

    run = tmp_path / "run"
    trainer = make_trainer(run, mechanism=SIGN)
    trainer.observers = [Stopping()]
    with pytest.raises(Stop):
        trainer.train()
    monkeypatch.setattr("paczero.training.trainer.dev_derivatives", lambda *_: pytest.fail("measured again"))
    make_trainer(run, mechanism=SIGN).train(resume_from_checkpoint=True)
    assert clip_in(run) > 0


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    assert measured_of_run(path, ["clip"]) is None
    for text in ("", "{}", "x", '{"mechanism": {"clip": "auto"}}'):
        path.write_text(text)
        with pytest.raises(IntegrityError, match="its first line names no clip"):
            measured_of_run(path, ["clip"])
    path.write_text('{"mechanism": {"clip": 2, "eps0": 0.1}}\n')
    assert measured_of_run(path, ["clip", "eps0"]) == {"clip": 2.0, "eps0": 0.1}


def test_log_odds_are_those_of_a_unit_with_the_dev_set_s_mean_square() -> None:
    columns = np.random.default_rng(0).standard_normal((400, DIRECTIONS))
    for clip in (0.5, 3.0):
        square = np.square(np.clip(columns, -clip, clip) / clip).mean()
        found = measured_log_odds(columns, clip=clip, rho=0.1, count=500)
        assert 500 * found**2 * square / 8 == pytest.approx(0.1, rel=1e-4)
    with pytest.raises(PACZeroError, match=r"mechanism\.individual: derivatives of 0 were found"):
        measured_log_odds(columns * 0, clip=1.0, rho=0.1, count=500)


def test_without_a_dev_set_it_is_refused_before_anything_is_read(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    with pytest.raises(PACZeroError, match=r"mechanism\.clip: auto was given without a dev set"):
        make_trainer(tmp_path / "run", mechanism=SIGN, dev=None)


@pytest.mark.parametrize("clip", ["auto", 25.0])
def test_a_run_warns_of_bits_that_carry_little_with_any_clip(
    make_trainer: MakeTrainer, tmp_path: Path, caplog: pytest.LogCaptureFixture, clip: str | float
) -> None:
    make_trainer(tmp_path / "run", mechanism=SIGN | {"epsilon": 0.05, "clip": clip}).train()
    assert [text for text in caplog.messages if "of the sum's signal" in text]
