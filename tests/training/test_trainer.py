"""`PACZeroTrainer` from end to end on a tiny model: each kind of run, twice; what it leaves; what it refuses."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, MixtralConfig, MixtralForCausalLM, TrainerCallback

from paczero import PACZeroConfig, PACZeroTrainer
from paczero.config import MechanismConfig
from paczero.errors import IntegrityError, PACZeroError
from paczero.mechanism.transcript import Transcript
from paczero.models.layers import plain
from paczero.release import statement
from paczero.release.replay import rebuild
from paczero.training.evaluation import Evaluator
from paczero.training.factory import make_objective
from paczero.training.loop import DevResult

from ..conftest import tiny_texts

MakeTrainer = Callable[..., PACZeroTrainer]
FULL = {"peft": None}
LAST = {"peft": None, "train_layers": [-1]}
MI = {"name": "mi", "budget": 0.4}
KINDS: dict[str, dict[str, Any]] = {
    "zpl lora": {},
    "zpl all parameters": FULL | {"learning_rate": 0.01},
    "zpl chosen layers, drift": {"peft": None, "train_layers": [0, 2], "restore": "arithmetic"},
    "paired, average": {"mechanism": {"family": "paired"}, "ema_decay": 0.7},
    "balanced, several directions": {"mechanism": {"family": "balanced", "pilots": 3}, "directions": 2},
    "mi bit": LAST | {"mechanism": MI, "directions": 2, "metric_for_best_model": "accuracy"},
    "mi bit uniform, part of the units": {"mechanism": MI | {"allocation": "uniform"}, "units_per_step": 33},
    "mi gaussian": {"mechanism": MI | {"channel": "gaussian"}, "threshold": "median", "metric_for_best_model": "loss"},
    "mi without a budget": {"mechanism": {"name": "mi", "budget": 0.0}},
    "none": {"mechanism": {"name": "none", "clip": None}, "directions": 3, "ema_decay": 0.3},
    "gaussian directions": LAST
    | {"direction_law": "gaussian", "lr_scheduler_type": "constant", "restore": "arithmetic"},
    "mapped cache": LAST | {"cache_bytes": 0},
    "half precision": LAST | {"dtype": "bfloat16", "learning_rate": 0.1, "mu": 0.05},
    "no dev set": {"dev": None},
}


def released(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in (run / "release").rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_what_its_settings_say(
    make_trainer: MakeTrainer, tiny_model_dir: Path, tmp_path: Path, kind: str
) -> None:
    """Twice the same bytes; the statement holds; the transcript alone leads to the served weights; they score alike."""
    settings = KINDS[kind]
    first, second = make_trainer(tmp_path / "a", **settings), make_trainer(tmp_path / "b", **settings)
    result, _ = first.train(), second.train()
    release = tmp_path / "a" / "release"
    assert released(tmp_path / "a") == released(tmp_path / "b")
    statement.check(json.loads((release / "privacy.json").read_text()))
    assert result.statement["weights_sha256"] == first.weights.fingerprint()

    transcript = Transcript.read(release / "transcript.jsonl")
    assert len(transcript.y) == result.steps == 6
    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=getattr(torch, first.args.dtype)).eval()
    model, weights = rebuild(transcript, base, until=result.chosen_step)
    assert weights.fingerprint() == result.statement["weights_sha256"]

    ids = torch.tensor([[5, 9, 14, 200]])
    with torch.no_grad():
        expected = first.model(input_ids=ids).logits
        assert torch.equal(model(input_ids=ids).logits, expected)
        dtype = getattr(torch, first.args.dtype)
        if settings.get("peft", "lora") is None:
            loaded = AutoModelForCausalLM.from_pretrained(release / "model", dtype=dtype)
            assert AutoTokenizer.from_pretrained(release / "model")("a film")["input_ids"]
        else:
            loaded = PeftModel.from_pretrained(
                AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=dtype), release / "adapter"
            )
        assert torch.equal(loaded.eval()(input_ids=ids).logits, expected)
    assert not torch.equal(plain(first.model)(input_ids=ids).logits, base_logits(tiny_model_dir, ids, dtype))


def base_logits(place: Path, ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return AutoModelForCausalLM.from_pretrained(place, dtype=dtype)(input_ids=ids).logits


@pytest.mark.parametrize(("metric", "average"), [("loss", 0.0), ("accuracy", 0.0), (None, 0.6), ("loss", 0.6)])
def test_the_step_that_is_served(make_trainer: MakeTrainer, tmp_path: Path, metric: str | None, average: float) -> None:
    trainer = make_trainer(
        tmp_path / "run", metric_for_best_model=metric, ema_decay=average, max_steps=8, threshold="median"
    )
    result = trainer.train()
    assert [row.done for row in result.dev] == [0, 2, 4, 6, 8]
    trained = result.dev[1:]
    best = {"loss": min(trained, key=lambda row: row.loss), "accuracy": max(trained, key=lambda row: row.accuracy)}
    chosen = best.get(metric, result.dev[-1])
    assert result.chosen_step == chosen.done
    now = trainer.evaluate()
    assert now == {"eval_accuracy": chosen.accuracy, "eval_loss": chosen.loss, "eval_threshold": chosen.threshold}
    assert chosen.threshold != 0


def test_training_without_privacy_learns(make_trainer: MakeTrainer, tmp_path: Path, tiny_pool_csv: Path) -> None:
    """The tiny model can: a sign of the derivative that is wrong would raise the loss."""
    trainer = make_trainer(
        tmp_path / "run", peft=None, mechanism={"name": "none"}, max_steps=60, eval_steps=60, learning_rate=0.005
    )
    before = trainer.evaluate(str(tiny_pool_csv))["eval_loss"]
    trainer.train()
    assert trainer.evaluate(str(tiny_pool_csv))["eval_loss"] < before - 0.05


@pytest.mark.parametrize("change", [{"learning_rate": 0.02}, {"mechanism": MI}, {"mu": 1e-2, "restore": "arithmetic"}])
def test_with_args_is_a_new_trainer_in_less_time(make_trainer: MakeTrainer, tmp_path: Path, change: Any) -> None:
    trainer = make_trainer(tmp_path / "a", mechanism={"name": "none"})
    trainer.train()
    fresh = make_trainer(tmp_path / "b", **change)
    other = trainer.with_args(fresh.args.__class__(**(vars(fresh.args) | {"output_dir": str(tmp_path / "c")})))
    assert other.scorer(other.pool) is trainer.scorer(trainer.pool)
    assert other.scorer(other.dev) is trainer.scorer(trainer.dev)
    other.train()
    fresh.train()
    assert released(tmp_path / "b") == released(tmp_path / "c")
    third = trainer.with_args(PACZeroConfig(**(vars(trainer.args) | {"output_dir": str(tmp_path / "d")})))
    third.train()
    assert released(tmp_path / "d") == released(tmp_path / "a")


def test_with_args_refuses_what_the_parts_depend_on(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "a")
    for name, value in {"seed": 3, "dtype": "bfloat16", "batch_tokens": 64, "train_layers": [1]}.items():
        with pytest.raises(PACZeroError, match=f"{name}: differs from the trainer's"):
            trainer.with_args(PACZeroConfig(**(vars(trainer.args) | {name: value})))


class ProgressCallback(TrainerCallback):
    """Records every event and stops a run after a number of evaluations."""

    def __init__(self, evaluations: int = 100):
        self.left, self.events, self.logs = evaluations, [], []

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        assert more["model"] is not None and more["processing_class"] is not None
        assert (args.max_steps, state.max_steps) == (6, 6)
        self.events.append("begin")

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.events.append(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        self.logs.append(logs)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **more: Any) -> Any:
        self.events.append(f"evaluated {state.global_step}")
        self.left -= 1
        if self.left == 0:
            control.should_training_stop = True
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.events.append("end")


def test_callbacks_hear_of_everything_public(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    watcher = ProgressCallback()
    make_trainer(tmp_path / "run", callbacks=[watcher, ProgressCallback]).train()
    expected = ["begin", "evaluated 0", 1, 2, "evaluated 2", 3, 4, "evaluated 4", 5, 6, "evaluated 6", "end"]
    assert watcher.events == expected
    assert {name for logs in watcher.logs for name in logs} == {"learning_rate", "eval_accuracy", "eval_loss"}


def test_a_callback_may_stop_a_run(make_trainer: MakeTrainer, tmp_path: Path, tiny_model_dir: Path) -> None:
    """The transcript keeps what ran, the schedule stays that of all steps, and a replay ends at the same weights."""
    watcher = ProgressCallback(evaluations=3)
    trainer = make_trainer(tmp_path / "run", callbacks=[watcher])
    result = trainer.train()
    assert (result.steps, result.chosen_step, watcher.events[-1]) == (4, 4, "end")
    transcript = Transcript.read(tmp_path / "run" / "release" / "transcript.jsonl")
    assert (len(transcript.y), transcript.header["steps"]) == (4, 6)
    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    _, weights = rebuild(transcript, base, until=4)
    assert weights.fingerprint() == result.statement["weights_sha256"]


def test_stopped_between_evaluations_is_evaluated(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    class Soon(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            control.should_training_stop = state.global_step == 3

    result = make_trainer(tmp_path / "run", callbacks=[Soon()], metric_for_best_model="loss").train()
    assert [row.done for row in result.dev] == [0, 2, 3]


def test_data_of_every_kind_is_the_same_pool(make_trainer: MakeTrainer, tmp_path: Path, tiny_pool_csv: Path) -> None:
    rows = [
        dict(zip(("text", "label"), line.rsplit(",", 1), strict=True))
        for line in tiny_pool_csv.read_text().splitlines()[1:]
    ]
    pools: list[Any] = [
        tiny_pool_csv,
        rows,
        Dataset.from_list(rows),
        [row | {"label": int(row["label"])} for row in rows],
    ]
    hashes = {make_trainer(tmp_path / "run", pool=pool).pool.dataset.hash() for pool in pools}
    assert len(hashes) == 1


def test_a_loaded_model_and_its_tokenizer(tiny_model_dir: Path, tiny_pool_csv: Path, tmp_path: Path) -> None:
    trainer = PACZeroTrainer(
        AutoModelForCausalLM.from_pretrained(tiny_model_dir),
        PACZeroConfig(output_dir=str(tmp_path / "run"), max_steps=2, learning_rate=0.1),
        tiny_pool_csv,
        processing_class=AutoTokenizer.from_pretrained(tiny_model_dir),
        peft_config=LoraConfig(target_modules=["q_proj"]),
    )
    result = trainer.train()
    assert result.statement["test_seed"] is None and result.statement["half"]["posterior_success"] == 0.5
    assert result.dev == [] and result.chosen_step == 2
    with pytest.raises(PACZeroError, match="eval_dataset: none was given"):
        trainer.evaluate()
    with pytest.raises(PACZeroError, match="it has an adapter already"):
        PACZeroTrainer(trainer.model, trainer.args, tiny_pool_csv, processing_class=trainer.processing_class)


def test_dropout_is_refused_since_it_would_be_off(tiny_model_dir: Path, tiny_pool_csv: Path, tmp_path: Path) -> None:
    peft = LoraConfig(target_modules=["q_proj"], lora_dropout=0.1)
    with pytest.raises(PACZeroError, match=r"peft\.lora_dropout: 0\.1 was given; expected 0") as error:
        PACZeroTrainer(str(tiny_model_dir), PACZeroConfig(output_dir=str(tmp_path)), tiny_pool_csv, peft_config=peft)
    assert "\n" not in str(error.value)


def test_scores_and_accuracies_of_other_records(
    make_trainer: MakeTrainer, tmp_path: Path, tiny_test_csv: Path, tiny_dev_csv: Path
) -> None:
    trainer = make_trainer(tmp_path / "run")
    scores = trainer.predict(str(tiny_test_csv))
    assert scores.shape == (24, 2)
    labels = np.array([int(line[-1]) for line in tiny_test_csv.read_text().splitlines()[1:]])
    told = trainer.evaluate(str(tiny_test_csv), metric_key_prefix="test")
    assert told["test_accuracy"] == np.mean((scores[:, 1] > scores[:, 0]) == labels)
    assert set(told) == {"test_accuracy", "test_loss", "test_threshold"}
    assert trainer.evaluate() == trainer.evaluate(str(tiny_dev_csv))


def test_saved_elsewhere(make_trainer: MakeTrainer, tmp_path: Path, tiny_model_dir: Path) -> None:
    trainer = make_trainer(tmp_path / "run")
    folder = trainer.save_model(tmp_path / "saved")
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model_dir), folder)
    ids = torch.tensor([[5, 9]])
    assert torch.equal(loaded(input_ids=ids).logits, trainer.model(input_ids=ids).logits)


def test_the_settings_that_a_run_keeps(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", mechanism=MI)
    trainer.train()
    kept = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert kept["peft"] == {
        "peft_type": "LORA",
        "r": 2,
        "target_modules": ["q_proj", "v_proj"],
        "layers_to_transform": [2],
    }
    assert kept["mechanism"]["budget"] == 0.4 and kept["task"]["labels"] == {"0": "terrible", "1": "great"}
    assert {"model", "data", "peft", *vars(trainer.args)} == set(kept)


def test_the_secret_of_an_earlier_run(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    make_trainer(tmp_path / "a").train()
    secret = tmp_path / "a" / "private" / "secret.json"
    with pytest.raises(PACZeroError, match=r"drawn from 8 candidates, but mechanism\.subsets is 16"):
        make_trainer(tmp_path / "c", mechanism={"subsets": 16}, secret=secret).train()
    assert not (tmp_path / "c").exists()
    make_trainer(tmp_path / "b", test_seed=99, secret=secret).train()
    kept = [json.loads((tmp_path / name / "private" / "secret.json").read_bytes()) for name in "ab"]
    assert {key for key in kept[0] if kept[0][key] != kept[1][key]} == {"earlier"}


def test_a_run_that_diverges_publishes_the_best_step_before(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    judge = Evaluator.dev_result

    def odd(self: Evaluator, done: int, **more: Any) -> DevResult:
        found = judge(self, done, **more)
        return replace(found, loss=float("nan"), threshold=float("nan")) if done >= 4 else found

    monkeypatch.setattr(Evaluator, "dev_result", odd)
    chosen = {"metric_for_best_model": "loss", "threshold": "median"}
    result = make_trainer(tmp_path / "run", max_steps=12, **chosen).train()
    assert (result.steps, result.chosen_step) == (4, 2)
    assert "the dev loss after step 4 is nan" in caplog.text and "the weights of step 2 serve" in caplog.text
    assert statement.check_release(tmp_path / "run" / "release")["steps_run"] == 4


def test_shared_records_are_noted(make_trainer: MakeTrainer, tmp_path: Path, tiny_pool_csv: Path) -> None:
    trainer = make_trainer(tmp_path / "run", dev=tiny_pool_csv)
    assert any(note.startswith("dev set: 48 of 48 records share a text") for note in trainer.notes)


def test_shared_records_are_refused_where_the_pool_is_protected(
    make_trainer: MakeTrainer, tmp_path: Path, tiny_pool_csv: Path
) -> None:
    private = {"name": "dp-sign", "epsilon": 2.0}
    with pytest.raises(PACZeroError, match="dev set: 48 of 48 records share a text with the pool"):
        make_trainer(tmp_path / "run", dev=tiny_pool_csv, mechanism=private)
    trainer = make_trainer(tmp_path / "other", dev=tiny_pool_csv)
    with pytest.raises(PACZeroError, match="dev set: 48 of 48 records share a text with the pool"):
        trainer.with_args(replace(trainer.args, mechanism=MechanismConfig(**private)))


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"dev": None, "metric_for_best_model": "loss"},
        "eval_dataset: none was given, but metric_for_best_model is 'loss'",
    ),
    ({"dev": None, "threshold": "median"}, "eval_dataset: none was given"),
    ({"callbacks": [print]}, "callbacks: a builtin_function_or_method was given"),
    ({"callbacks": [int]}, "callbacks: a int was given"),
    ({"report_to": ["wandb"]}, "report_to: 'wandb' is not installed"),
    ({"pool": "nowhere.csv"}, "nowhere.csv"),
    ({"model": "/nowhere"}, "model: the model of '/nowhere' cannot be loaded"),
    ({"pool": [{"text": "a", "label": "1"}] * 31}, "31 units"),
    ({"peft": None, "dtype": "bfloat16", "learning_rate": 1e-6}, "learning_rate: 1e-06 rounds away by"),
    ({"peft": {"target_modules": ["nowhere"]}}, "peft: "),
    ({"device": "cuda:99"}, "device: 'cuda:99' was given"),
    ({"units_per_step": 49}, "units_per_step: 49 was given"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_what_cannot_work_is_refused_before_a_directory_is_made(
    make_trainer: MakeTrainer, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(PACZeroError, match=message) as error:
        make_trainer(tmp_path / "run", **settings)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_loaded_model_in_half_precision_is_refused_where_the_pool_is_hidden(
    make_trainer: MakeTrainer, tiny_model_dir: Path, tmp_path: Path
) -> None:
    """The settings know nothing of its type; one such parameter is enough."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    model.model.layers[0].mlp.to(torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    for mechanism in ({"name": "dpzero", "epsilon": 2.0}, {"name": "dp-sign", "epsilon": 2.0}):
        with pytest.raises(PACZeroError, match=r"model: 'bfloat16' was given with .* expected 'float32'"):
            make_trainer(tmp_path / "run", model=model, mechanism=mechanism, processing_class=tokenizer)
    make_trainer(tmp_path / "run", model=model, mechanism={"name": "zpl"}, processing_class=tokenizer)


def test_experts_are_refused_where_the_pool_is_hidden(
    make_trainer: MakeTrainer, tiny_model_dir: Path, tmp_path: Path
) -> None:
    """What an expert computes for a record depends on how many other tokens chose it."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = MixtralConfig(vocab_size=len(tokenizer), num_key_value_heads=2, num_local_experts=4, **sizes)
    model = MixtralForCausalLM(config)
    with pytest.raises(PACZeroError, match="model: one with experts was given"):
        make_trainer(
            tmp_path / "run", model=model, mechanism={"name": "dp-sign", "epsilon": 2.0}, processing_class=tokenizer
        )
    make_trainer(tmp_path / "run", model=model, mechanism={"name": "zpl"}, processing_class=tokenizer)


def test_no_pool(tiny_model_dir: Path) -> None:
    with pytest.raises(PACZeroError, match="train_dataset: none was given"):
        PACZeroTrainer(str(tiny_model_dir))


def test_a_median_with_three_labels(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    from paczero.config import TaskConfig

    rows = [{"text": f"film {number}", "label": str(number % 3)} for number in range(40)]
    task = TaskConfig(labels={"0": "terrible", "1": "great", "2": "lovely indeed"})
    dev = tmp_path / "dev.csv"
    dev.write_text("text,label\nanother film,2\n")
    with pytest.raises(PACZeroError, match="'median' was given with 3 labels"):
        make_trainer(tmp_path / "run", pool=rows, dev=dev, task=task, threshold="median")
    make_trainer(tmp_path / "run", pool=rows, dev=None, task=task, max_steps=2).train()


def test_a_changed_bit_is_not_loaded(make_trainer: Callable[..., Any], tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run")
    trainer.train()
    served = trainer.weights.fingerprint()
    make_trainer(tmp_path / "other").with_args(trainer.args).load_released()
    path = tmp_path / "run" / "release" / "transcript.jsonl"
    first, *steps = path.read_text().splitlines()
    changed = [steps[0].replace("[1]", "[-1]") if "[1]" in steps[0] else steps[0].replace("[-1]", "[1]"), *steps[1:]]
    path.write_text("\n".join([first, *changed]) + "\n")
    with pytest.raises(IntegrityError, match="other weights than it states"):
        trainer.with_args(trainer.args).load_released()
    assert served == json.loads((path.parent / "privacy.json").read_text())["weights_sha256"]


def test_arguments_of_transformers_are_refused(make_trainer: Callable[..., Any], tmp_path: Path) -> None:
    from transformers import TrainingArguments

    with pytest.raises(PACZeroError, match=r"args: a TrainingArguments was given; expected a paczero.PACZeroConfig"):
        PACZeroTrainer("model", TrainingArguments(output_dir=str(tmp_path)), [])


def test_moves_that_round_away(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    coarse = {"peft": None, "dtype": "bfloat16", "mu": 0.1}
    with pytest.raises(PACZeroError, match=r"learning_rate: 0\.0001 rounds away by \d+% in the type of the trained"):
        make_trainer(tmp_path / "run", learning_rate=1e-4, **coarse)
    with pytest.raises(PACZeroError, match="mu: 1e-05 rounds away"):
        make_trainer(tmp_path / "run", **(coarse | {"mu": 1e-5, "learning_rate": 0.1}))
    make_trainer(tmp_path / "run", learning_rate=1e-4, force=True, **coarse)


def test_units_are_isolated_where_the_mechanism_needs_it(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """The pool's units alone, in every run of the same trainer; a pool that lacks one leaves the others as they are."""
    dp = MechanismConfig(name="dp-sign", epsilon=2.0, clip=1.0)
    trainer = make_trainer(tmp_path / "a", mechanism={"name": "zpl"})
    private = trainer.with_args(replace(trainer.args, mechanism=dp))
    for _ in range(2):
        assert [trainer.scorer(records).isolated for records in (trainer.pool, trainer.dev)] == [False, False]
        assert [private.scorer(records).isolated for records in (private.pool, private.dev)] == [True, False]

    def derivatives(of: PACZeroTrainer) -> np.ndarray:
        return make_objective(of.scorer(of.pool), of.pool).derivatives(of.weights, 0, 1).values

    rows = [{"text": text, "label": label} for text, label in tiny_texts(48, seed=1)]
    fewer = make_trainer(tmp_path / "b", mechanism=vars(dp), pool=[*rows[:20], *rows[21:]])
    np.testing.assert_array_equal(derivatives(fewer), np.delete(derivatives(private), 20, axis=0))
