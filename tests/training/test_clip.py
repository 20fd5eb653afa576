"""`clip: auto` is the median size of the dev units' derivatives, and a run that goes on keeps it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paczero.config import MechanismConfig
from paczero.config_io import read_settings
from paczero.errors import IntegrityError, PACZeroError
from paczero.optim.derivatives import Derivatives
from paczero.training.clip import DIRECTIONS, clip_of_run, measure_clip

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


class Known:
    """An objective with known derivatives, one column a direction."""

    def __init__(self, columns: np.ndarray):
        self.columns = columns

    def derivatives(self, weights: Any, index: int, directions: int) -> Derivatives:
        return Derivatives(self.columns[:, [index]], 0, None, 0.0)


def test_it_is_the_median_size(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    columns = np.random.default_rng(0).standard_normal((40, DIRECTIONS)) * 3
    trainer = make_trainer(tmp_path / "run", mechanism=SIGN, directions=4)
    found = measure_clip(trainer.args, Known(columns), trainer._trained, lambda *_: None)  # type: ignore[arg-type]
    assert found == float(f"{np.median(np.abs(columns)):.2g}")
    trainer = make_trainer(tmp_path / "run", mechanism=SIGN | {"name": "dp-aggzo"}, directions=4)
    found = measure_clip(trainer.args, Known(columns), trainer._trained, lambda *_: None)  # type: ignore[arg-type]
    lengths = np.sqrt(4 * np.square(columns).mean(axis=1))
    assert found == float(f"{np.median(lengths):.2g}"), "of a vector that is clipped as a whole"
    for bad in (columns * 0, columns * np.nan):
        with pytest.raises(PACZeroError, match=r"mechanism\.clip: auto found a median derivative"):
            measure_clip(trainer.args, Known(bad), trainer._trained, lambda *_: None)  # type: ignore[arg-type]


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
    monkeypatch.setattr("paczero.training.trainer.measure_clip", lambda *_: pytest.fail("measured again"))
    make_trainer(run, mechanism=SIGN).train(resume_from_checkpoint=True)
    assert clip_in(run) > 0


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    assert clip_of_run(path) is None
    for text in ("", "{}", "x", '{"mechanism": {"clip": "auto"}}'):
        path.write_text(text)
        with pytest.raises(IntegrityError, match="its first line names no clip"):
            clip_of_run(path)


def test_without_a_dev_set_it_is_refused_before_anything_is_read(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    with pytest.raises(PACZeroError, match=r"mechanism\.clip: auto was given without a dev set"):
        make_trainer(tmp_path / "run", mechanism=SIGN, dev=None)
