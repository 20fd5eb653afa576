"""Who watches a run: what is written down for its owner, and what trackers and callbacks are told."""

import json
import stat
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import EarlyStoppingCallback, TrainerCallback

from paczero.config import PACZeroConfig
from paczero.errors import PACZeroError
from paczero.mechanism.base import Release
from paczero.training.callbacks import Callbacks, Diagnostics, Trackers, check_trackers
from paczero.training.loop import DevResult, Step


def step(index: int, loss: float | None = 0.5) -> Step:
    release = Release(step=index, y=(1,), unanimous=(True,), signs=(b"\xf0",), q=(1.0,), beta=(0.1,), noise=(0.2,))
    return Step(index, 10, 0.01, release, spent=0.1 * index, loss=loss, seconds=0.25)


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "diagnostics.jsonl"


def test_a_line_a_step_and_a_line_an_evaluation(path: Path) -> None:
    with closing(Diagnostics(path)) as diagnostics:
        diagnostics.on_dev(DevResult(0, 0.5, 0.7, 0.0))
        diagnostics.on_step(step(0))
        assert len(rows(path)) == 2, "at once"
    assert rows(path) == [
        {"kind": "dev", "t": 0, "accuracy": 0.5, "loss": 0.7, "threshold": 0.0},
        {"kind": "step", "t": 0, "seconds": 0.25, "unanimous": [True], "spent": 0.0, "nonfinite": 0, "loss": 0.5},
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_directions_that_moved_nothing_are_written_down(path: Path) -> None:
    with closing(Diagnostics(path)) as diagnostics:
        diagnostics.on_step(replace(step(0), zero_derivatives=1))
    assert rows(path)[0]["zero_derivatives"] == 1


def test_a_second_start_adds_what_is_new(path: Path) -> None:
    result = DevResult(2, 0.1 + 0.2, 1 / 3, 0.0)
    with closing(Diagnostics(path)) as diagnostics:
        diagnostics.on_step(step(0))
        diagnostics.on_dev(result)
    before = path.read_bytes()
    path.write_bytes(before + b'{"kind": "dev", "t": 4, "acc')
    with closing(Diagnostics(path)) as diagnostics:
        assert diagnostics.dev == {2: result}, "to the last bit"
        assert path.read_bytes() == before
        diagnostics.on_step(step(0, loss=None))  # from the journal
        diagnostics.on_step(step(0))
        diagnostics.on_dev(result)
        assert path.read_bytes() == before
        diagnostics.on_step(step(1))
    assert [row["t"] for row in rows(path)] == [0, 2, 1]


def test_lines_behind_a_broken_one_go_with_it(path: Path) -> None:
    path.write_bytes(b'{"kind": "step", "t": 0}\n{"kind": "st\n{"kind": "step", "t": 2}\n')
    with closing(Diagnostics(path)) as diagnostics:
        diagnostics.on_step(step(2))
    assert [row["t"] for row in rows(path)] == [0, 2]


def test_trackers_are_sent_public_figures(tmp_path: Path) -> None:
    settings = {"max_steps": 3, "mechanism": {"name": "zpl", "budget": None}, "report_to": ["tensorboard"]}
    trackers = Trackers(["tensorboard"], run="mine", directory=tmp_path / "trackers", settings=settings)
    with closing(trackers):
        trackers.on_dev(DevResult(0, 0.5, 0.7, 0.0))
        trackers.on_step(step(0))
        trackers.on_step(step(1))
    events = EventAccumulator(str(tmp_path / "trackers" / "mine"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"learning_rate", "dev/accuracy", "dev/loss"}
    assert [event.step for event in events.Scalars("learning_rate")] == [1, 2]
    assert events.Scalars("dev/accuracy")[0].value == 0.5


def test_no_tracker_is_no_work(tmp_path: Path) -> None:
    with closing(Trackers([], run="mine", directory=tmp_path / "trackers", settings={})) as trackers:
        trackers.on_step(step(0))
    assert not list(tmp_path.iterdir())


def test_a_tracker_that_is_not_installed() -> None:
    with pytest.raises(PACZeroError, match=r"'trackio' is not installed; `pip install 'paczero\[trackio\]'`"):
        check_trackers(["tensorboard", "trackio"])


class Replaces(TrainerCallback):
    """Answers with a control of its own, as transformers allows."""

    def on_step_end(self, args: object, state: object, control: object, **more: object) -> object:
        from transformers import TrainerControl

        return TrainerControl(should_training_stop=True)


def test_a_callback_may_answer_with_another_control() -> None:
    callbacks = Callbacks([Replaces], PACZeroConfig(), model=None, processing_class=None)
    assert not callbacks.stop
    callbacks.on_step(step(4))
    assert callbacks.stop
    assert (callbacks.state.global_step, callbacks.state.log_history) == (5, [{"learning_rate": 0.01, "step": 5}])


@pytest.mark.parametrize("select", ["loss", "accuracy"])
def test_the_early_stopping_of_transformers(select: str) -> None:
    stopping = EarlyStoppingCallback(early_stopping_patience=2)
    callbacks = Callbacks([stopping], PACZeroConfig(metric_for_best_model=select), model=None, processing_class=None)
    stops = []
    with callbacks.training():
        for done, (accuracy, loss) in enumerate([(0.5, 0.7), (0.6, 0.6), (0.6, 0.6), (0.55, 0.65)]):
            callbacks.on_dev(DevResult(done, accuracy, loss, 0.0))
            stops.append(callbacks.stop)
    assert stops == [False, False, False, True]
