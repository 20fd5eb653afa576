"""A place that runs share: what one computed of the records the next one takes, and gets the same run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paczero.errors import PACZeroError
from paczero.optim.derivatives import Objective
from paczero.training.candidates import measured_candidates
from paczero.training.factory import make_objective
from paczero.training.state import journal_header

BALANCED = {"family": "balanced", "pilots": 3}
MakeTrainer = Callable[..., Any]


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
