"""A run's parts: candidates and their features, headers, and weights rebuilt from a transcript."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, BloomConfig

from paczero.config import MechanismConfig, TaskConfig
from paczero.data.encoding import context_length
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism import draw_subsets
from paczero.mechanism.transcript import Transcript
from paczero.release.replay import rebuild
from paczero.training import candidates as training_candidates
from paczero.training.candidates import keep_candidates, measured_candidates, read_candidates
from paczero.training.factory import make_objective

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


def test_the_headers_speak_of_public_things_only(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", mechanism={"name": "mi", "budget": 0.3, "channel": "gaussian"})
    header = trainer.header
    assert json.loads(json.dumps(header)) == header
    assert header["mechanism"] == {"name": "mi", "clip": 25.0, "channel": "gaussian", "allocation": "adaptive"}
    assert (header["budget"], header["units"], header["subsets"]) == (0.3, 48, 8)
    text = json.dumps(header)
    assert "number 1-" not in text and str(tmp_path) not in text and trainer.pool.dataset.hash() not in text
    assert make_trainer(tmp_path / "run", mechanism={"name": "none"}).header["budget"] is None


def test_moves_that_round_away(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    coarse = {"peft": None, "dtype": "bfloat16", "mu": 0.1}
    with pytest.raises(PACZeroError, match=r"learning_rate: 0\.0001 rounds away by \d+% in the type of the trained"):
        make_trainer(tmp_path / "run", learning_rate=1e-4, **coarse)
    with pytest.raises(PACZeroError, match="mu: 1e-05 rounds away"):
        make_trainer(tmp_path / "run", **(coarse | {"mu": 1e-5, "learning_rate": 0.1}))
    make_trainer(tmp_path / "run", learning_rate=1e-4, force=True, **coarse)


@pytest.fixture(scope="module")
def release(make_trainer: MakeTrainer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("assembly") / "run"
    make_trainer(run, directions=2, ema_decay=0.5, restore="arithmetic").train()
    return run / "release"


def rebuilt(release: Path, model: Path, *, until: int = 6, **changes: Any) -> str:
    base = AutoModelForCausalLM.from_pretrained(model)
    transcript = Transcript.read(release / "transcript.jsonl")
    transcript.header.update(changes)
    return rebuild(transcript, base, until=until)[1].fingerprint()


def test_every_released_bit_counts(release: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    expected = json.loads((release / "privacy.json").read_text())["weights_sha256"]
    assert rebuilt(release, tiny_model_dir) == expected
    assert rebuilt(release, tiny_model_dir, until=5) != expected
    lines = (release / "transcript.jsonl").read_text().splitlines(keepends=True)
    for step in (0, 5):
        changed = Path(shutil.copytree(release, tmp_path / f"changed{step}"))
        line = json.loads(lines[1 + step])
        line["y"][1] *= -1
        other = [*lines[: 1 + step], json.dumps(line, separators=(",", ":")) + "\n", *lines[2 + step :]]
        (changed / "transcript.jsonl").write_text("".join(other))
        assert rebuilt(changed, tiny_model_dir) != expected


def test_another_base_or_start_is_refused(
    release: Path, tiny_model_dir: Path, make_tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(IntegrityError, match="base model: its weights have the hash"):
        rebuilt(release, make_tiny_model(tmp_path / "model", seed=4))
    adapter = Transcript.read(release / "transcript.jsonl").header["adapter"]
    with pytest.raises(IntegrityError, match="the initial adapter does not have the hash"):
        rebuilt(release, tiny_model_dir, adapter=adapter | {"sha256": "0" * 64})
    with pytest.raises(IntegrityError, match="the initial adapter does not have the hash"):
        rebuilt(release, tiny_model_dir, seed=1)
    with pytest.raises(IntegrityError, match="7 steps were requested"):
        rebuilt(release, tiny_model_dir, until=7)


def test_context_length(tiny_model_dir: Path) -> None:
    assert context_length(AutoModelForCausalLM.from_pretrained(tiny_model_dir)) == 128
    bloom = AutoModelForCausalLM.from_config(BloomConfig(hidden_size=8, n_layer=1, n_head=1, vocab_size=9))
    assert context_length(bloom) > 10**9, "its positions have no end"
