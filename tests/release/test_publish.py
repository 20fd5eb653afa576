"""A release appears in one rename, complete, the same however often it was begun."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from paczero.errors import IntegrityError
from paczero.mechanism.transcript import Transcript
from paczero.models.adapters import attach
from paczero.release import publish
from paczero.release.statement import check
from paczero.run_directory import RunDirectory
from paczero.training.loop import Outcome
from paczero.training.state import write_initial_files

MakeTrainer = Callable[..., Any]


@pytest.fixture
def trained(make_trainer: MakeTrainer, tmp_path: Path) -> Any:
    """A trainer whose run was made and staged up to its last act."""
    trainer = make_trainer(tmp_path / "run", dev=None, max_steps=1)
    trainer.run.create(lambda staged: write_initial_files(staged, trainer.args, {}))
    Transcript.create(trainer.run.staged_transcript, trainer.header).append(0, (1,))
    return trainer


def publish_it(trainer: Any) -> dict[str, Any]:
    return trainer._publish(Outcome(done=1, chosen=1))


def released(run: RunDirectory) -> dict[str, bytes]:
    return {str(path.relative_to(run.release)): path.read_bytes() for path in run.release.rglob("*") if path.is_file()}


def test_what_an_attempt_left_is_begun_anew(trained: Any, tmp_path: Path) -> None:
    run = trained.run
    (run.staging / "adapter").mkdir(parents=True)
    (run.staging / "adapter" / "old.bin").write_text("left by a killed process")
    statement = publish_it(trained)
    assert run.finished and not run.staging.exists()
    assert not (run.release / "adapter" / "old.bin").exists()
    assert json.loads((run.release / "privacy.json").read_text()) == statement
    check(statement)
    assert set(statement["files"]) == set(released(run)) - {"privacy.json"}


def test_a_release_is_never_replaced(trained: Any) -> None:
    publish_it(trained)
    before = released(trained.run)
    with pytest.raises(OSError):
        publish_it(trained)
    assert released(trained.run) == before


def test_another_transcript_is_not_published(trained: Any) -> None:
    trained.header = trained.header | {"seed": 5}
    with pytest.raises(IntegrityError, match="its header is another run's"):
        publish_it(trained)
    assert not trained.run.release.exists()


@pytest.fixture
def parts(tiny_model_dir: Path) -> tuple[Any, PreTrainedTokenizerBase]:
    return AutoModelForCausalLM.from_pretrained(tiny_model_dir), AutoTokenizer.from_pretrained(tiny_model_dir)


def test_an_adapter_in_one_spelling(parts: tuple[Any, PreTrainedTokenizerBase], tmp_path: Path) -> None:
    """PEFT writes sets as they come; the base's name is what the run was given."""
    base, tokenizer = parts
    model, _ = attach(
        base, peft_config=LoraConfig(target_modules=["v_proj", "q_proj", "o_proj"], modules_to_save=["norm"])
    )
    publish.save_weights(model, tokenizer, tmp_path / "adapter", base="some/base")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["o_proj", "q_proj", "v_proj"]
    assert config["base_model_name_or_path"] == "some/base"
    assert list(config) == sorted(config)
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_a_whole_model_with_its_tokenizer(parts: tuple[Any, PreTrainedTokenizerBase], tmp_path: Path) -> None:
    base, tokenizer = parts
    model, _ = attach(base)
    publish.save_weights(model, tokenizer, tmp_path / "model", base="some/base")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), base.parameters(), strict=True))
    assert AutoTokenizer.from_pretrained(tmp_path / "model").get_vocab() == tokenizer.get_vocab()
    assert str(tmp_path) not in (tmp_path / "model" / "config.json").read_text()
