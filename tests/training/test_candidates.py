"""Candidate halves: drawn from public features, kept on disk; pilot derivatives shared by `cache_dir`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paczero.config import MechanismConfig, TaskConfig
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism import draw_subsets
from paczero.optim.derivatives import Objective
from paczero.training import candidates as training_candidates
from paczero.training.candidates import keep_candidates, measured_candidates, read_candidates
from paczero.training.factory import make_objective
from paczero.training.state import journal_header

BALANCED = {"family": "balanced", "pilots": 3}
MakeTrainer = Callable[..., Any]


def candidates(trainer: Any, **mechanism: Any) -> np.ndarray:
    trainer.args = replace(trainer.args, mechanism=MechanismConfig(**({"subsets": 8} | mechanism)))
    objective = make_objective(trainer.scorer(trainer.pool), trainer.pool)
    return measured_candidates(trainer.args, objective, trainer._trained, trainer.pool, lambda *_: None)()


@pytest.mark.parametrize("restore", ["copy", "arithmetic"])
@pytest.mark.parametrize("family", ["random", "paired", "balanced"])
def test_candidates_are_public_halves_and_leave_the_weights(
    make_trainer: MakeTrainer, tmp_path: Path, family: str, restore: str
) -> None:
    trainer = make_trainer(tmp_path / "run", restore=restore)
    before = trainer.weights.fingerprint()
    found = candidates(trainer, family=family, pilots=3)
    assert found.shape == (48, 8) and found.dtype == bool
    assert (found.sum(axis=1) == 4).all()
    assert trainer.weights.fingerprint() == before
    np.testing.assert_array_equal(found, candidates(trainer, family=family, pilots=3))
    if family == "random":
        np.testing.assert_array_equal(found, draw_subsets(48, 8, seed=0))


def test_features_and_labels_are_the_units(make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: Any) -> None:
    """A unit has the mean of its records' hidden states and the label of its first record."""
    rows = [{"text": f"film {n} is fine", "label": str(n // 40), "who": f"p{n % 40}"} for n in range(80)]
    trainer = make_trainer(tmp_path / "run", pool=rows, dev=None, task=TaskConfig(unit_column="who"))
    told: dict[str, Any] = {}
    monkeypatch.setattr(
        training_candidates, "draw_subsets", lambda *args, **named: told.update(named) or draw_subsets(*args, **named)
    )
    candidates(trainer, family="balanced", pilots=2)
    states = trainer.scorer(trainer.pool).features()
    np.testing.assert_allclose(told["features"], (states[:40] + states[40:]) / 2, rtol=1e-6)
    assert told["labels"].tolist() == [0] * 40
    assert told["pilots"].shape == (40, 2) and np.abs(told["pilots"]).max() <= 25


def test_candidates_are_kept(tmp_path: Path) -> None:
    drawn = draw_subsets(33, 10, seed=1)
    path = tmp_path / "candidates.npz"
    np.testing.assert_array_equal(keep_candidates(path, drawn), drawn)
    np.testing.assert_array_equal(read_candidates(path), drawn)
    for content in (b"", b"PK\x03\x04", path.read_bytes()[:-40]):
        path.write_bytes(content)
        with pytest.raises(IntegrityError, match="cannot be read; delete it to draw them again"):
            read_candidates(path)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps (pilots too) whose derivatives are computed."""
    seen: list[int] = []
    plain = Objective.derivatives

    def counted(self: Objective, weights: Any, step: int, *more: Any) -> Any:
        seen.append(step)
        return plain(self, weights, step, *more)

    monkeypatch.setattr(Objective, "derivatives", counted)
    return seen


def transcript(run: Path) -> str:
    return (run / "release" / "transcript.jsonl").read_text()


@pytest.mark.parametrize("limit", [0, 2**31])
def test_the_next_run_takes_states_and_pilots(
    make_trainer: MakeTrainer, tmp_path: Path, passes: list[int], limit: int
) -> None:
    place = tmp_path / "shared"
    said: list[str] = []

    def trained(name: str, **more: Any) -> Path:
        run = tmp_path / name
        trainer = make_trainer(run, mechanism=BALANCED, max_steps=2, cache_bytes=limit, **more)
        trainer.progress = lambda what, done, of: said.append(what)
        trainer.train()
        return run

    alone = trained("alone")
    assert len(passes) == 3 + 2 and not place.exists()
    trained("first", cache_dir=str(place))
    assert place.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in place.iterdir())
    kept = sorted(path.name for path in place.iterdir())
    assert len(kept) == 5, "states of pool and dev set with their descriptions, and the pilots"
    said.clear()
    passes.clear()
    again = trained("second", cache_dir=str(place))
    assert not said and len(passes) == 2
    assert transcript(again) == transcript(alone)
    assert sorted(path.name for path in place.iterdir()) == kept
    assert not (again / "private" / "cache").exists()


def test_pilots_are_taken_only_where_all_they_depend_on_is_the_same(
    make_trainer: MakeTrainer, tmp_path: Path, passes: list[int]
) -> None:
    place = str(tmp_path / "shared")

    def measured(name: str, *, mechanism: Any = BALANCED, **more: Any) -> int:
        passes.clear()
        trainer = make_trainer(tmp_path / name, mechanism=mechanism, max_steps=1, cache_dir=place, dev=None, **more)
        objective = make_objective(trainer.scorer(trainer.pool), trainer.pool)
        weights, base = trainer._trained, trainer._base["sha256"]
        measured_candidates(trainer.args, objective, weights, trainer.pool, trainer.progress, base)
        return len(passes)

    assert measured("first") == 3
    assert measured("clipped", mechanism=BALANCED | {"clip": 0.5}) == 0
    assert measured("other steps", learning_rate=0.01) == 0
    assert measured("seed", seed=1) == 3
    assert measured("mu", mu=1e-2) == 3
    assert measured("gaussian", direction_law="gaussian") == 3
    assert measured("batches", batch_tokens=128) == 3
    assert measured("more", mechanism=BALANCED | {"pilots": 4}) == 4
    for path in Path(place).glob("*.npz"):
        path.write_bytes(path.read_bytes()[:-30])
    assert measured("damaged") == 3


def test_a_place_that_others_may_enter_is_refused(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    place = tmp_path / "open"
    place.mkdir(mode=0o755)
    with pytest.raises(PACZeroError, match=r"cache_dir: .* is open to others"):
        make_trainer(tmp_path / "run", cache_dir=str(place))
    (tmp_path / "file").touch()
    with pytest.raises(PACZeroError, match=r"cache_dir: .* cannot be made"):
        make_trainer(tmp_path / "run", cache_dir=str(tmp_path / "file"))


def test_it_is_no_part_of_what_a_run_computes(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def header(name: str, **more: Any) -> dict[str, Any]:
        trainer = make_trainer(tmp_path / name, **more)
        return journal_header(trainer.args, trainer.header, trainer.pool.dataset, None)

    assert header("one") == header("two", cache_dir=str(tmp_path / "shared"))
