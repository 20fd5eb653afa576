"""SmolLM2-135M on critics' snippets, as in the demo but short: trains, replays, loads with PEFT, makes sense."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from paczero import EngineConfig, PACZeroConfig, PACZeroTrainer
from paczero.cli.main import main
from paczero.config import MechanismConfig, TaskConfig
from paczero.data.metrics import accuracy, median_threshold
from paczero.data.rotten_tomatoes import read_snippets
from paczero.errors import PACZeroError

pytestmark = pytest.mark.timeout(600)  # the first test that needs the model waits for its conversion

TASK = TaskConfig(template="{text} It was {label}", labels={"rotten": "terrible", "fresh": "great"})
PRAISE = ("A wonderful, moving and beautifully acted film.", "One of the best comedies of the year, a pure delight.")
BLAME = ("A dull, clumsy and badly acted mess.", "One of the worst comedies of the year, a painful bore.")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    """The first 24 snippets of each label, in turn."""
    try:
        snippets = read_snippets()
    except PACZeroError as error:
        pytest.skip(str(error))
    by_label = [[s for s in snippets if s.label == label][:24] for label in ("rotten", "fresh")]
    return [{"text": s.text, "label": s.label} for pair in zip(*by_label, strict=True) for s in pair]


@pytest.fixture(scope="module")
def untuned_and_trained(
    smollm2_dir: Path, rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[np.ndarray, PACZeroTrainer]:
    """The pool's scores (48, 2) before training, and the trainer after four steps in the last layer."""
    torch.set_num_threads(1)
    trainer = PACZeroTrainer(
        model=str(smollm2_dir),
        args=PACZeroConfig(
            output_dir=str(tmp_path_factory.mktemp("real") / "run"),
            max_steps=4,
            learning_rate=0.01,
            task=TASK,
            mechanism=MechanismConfig(name="zpl", subsets=16, family="balanced", pilots=2),
        ),
        train_dataset=rows,
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"], layers_to_transform=[29]),
    )
    untuned = trainer.predict(rows)
    trainer.train()
    return untuned, trainer


@pytest.fixture(scope="module")
def trained(untuned_and_trained: tuple[np.ndarray, PACZeroTrainer]) -> PACZeroTrainer:
    return untuned_and_trained[1]


def test_the_untuned_model_tells_praise_from_blame(
    untuned_and_trained: tuple[np.ndarray, PACZeroTrainer], rows: list[dict[str, str]]
) -> None:
    scores, targets = untuned_and_trained[0], np.array([row["label"] == "fresh" for row in rows], dtype=np.int64)
    assert scores.shape == (48, 2) and np.isfinite(scores).all()
    assert accuracy(scores, targets, median_threshold(scores)) > 0.7


def test_training_moves_the_model_and_it_still_makes_sense(
    untuned_and_trained: tuple[np.ndarray, PACZeroTrainer], rows: list[dict[str, str]]
) -> None:
    untuned, trainer = untuned_and_trained
    change = np.abs(margins(trainer.predict(rows)) - margins(untuned))
    assert 0 < change.max() < 2, "four small steps"
    texts = [{"text": text, "label": "fresh"} for text in (*PRAISE, *BLAME)]
    said = margins(trainer.predict(texts))
    assert said[:2].min() > said[2:].max()
    assert trainer.weights.elements == 4 * (576 + 576) + 4 * (576 + 192)


def test_replay_verifies(trained: PACZeroTrainer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(trained.run.root), "--verify"]) == 0, capsys.readouterr().err
    statement = json.loads((trained.run.release / "privacy.json").read_text())
    assert statement["weights_sha256"] == trained.weights.fingerprint()


def test_peft_loads_what_the_trainer_scores(
    trained: PACZeroTrainer, smollm2_dir: Path, rows: list[dict[str, str]]
) -> None:
    """Bit for bit in the same micro-batches, and up to rounding one record at a time with full logits."""
    base = AutoModelForCausalLM.from_pretrained(smollm2_dir, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, trained.run.release / "adapter").eval()
    tokenizer = AutoTokenizer.from_pretrained(smollm2_dir)
    ours = trained.predict(rows)
    assert np.array_equal(scores_of(loaded, trained, rows), ours)
    plainly = [plain_margin(loaded, tokenizer, row["text"]) for row in rows[:6]]
    assert margins(ours)[:6] == pytest.approx(plainly, abs=1e-4)


def scores_of(model: Any, trainer: PACZeroTrainer, rows: list[dict[str, str]]) -> np.ndarray:
    """Scores by another model, all of whose layers run, in the trainer's micro-batches.

    Its adapter runs beside the matrices, as the trainer's does: in its first trained layer their products are kept.
    """
    from paczero.data.encoding import context_length, prepare
    from paczero.models.layers import plain
    from paczero.training.factory import make_scorer

    records = prepare(rows, TASK, trainer.processing_class, context=context_length(plain(model)))
    args = replace(trainer.args, engine=EngineConfig(merge=False))
    return make_scorer(model, records, args, first_layer=0, cache=None).scores()


def margins(scores: np.ndarray) -> np.ndarray:
    """By how much `great` is likelier than `terrible`, nats."""
    return scores[:, 1] - scores[:, 0]


def plain_margin(model: Any, tokenizer: Any, text: str) -> float:
    """The same with transformers alone."""
    ids = tokenizer(f"{text} It was", return_tensors="pt")["input_ids"]
    words = [tokenizer(word)["input_ids"] for word in (" terrible", " great")]
    assert [len(word) for word in words] == [1, 1]
    with torch.no_grad():
        chances = model(input_ids=ids).logits[0, -1].double().log_softmax(-1)
    return float(chances[words[1][0]] - chances[words[0][0]])
