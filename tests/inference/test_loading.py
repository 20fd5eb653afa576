"""Adapters load on the base that they were trained on, and on no other; PEFT and transformers alone score the same."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from paczero.inference import predict

TASK = {"template": "{text} It was {label}", "labels": {"0": "terrible", "1": "great"}}
SCRIPT = Path(__file__).with_name("plain_scoring.py")
WORDS = ("terrible", "great")
ROUNDING = 2e-5  # nats; of float32 through three layers, in another order


def test_its_base_lies_elsewhere(metrics, refused, lone_adapter, tiny_model_dir, tiny_test_csv, tmp_path):
    config = lone_adapter / "adapter_config.json"
    config.write_text(config.read_text().replace(str(tiny_model_dir), str(tmp_path / "gone")))
    assert "neither here nor on the hub" in refused(lone_adapter, tiny_test_csv, task=TASK)
    assert metrics(lone_adapter, tiny_test_csv, task=TASK, model=str(tiny_model_dir))["records"] == 24
    content = json.loads(config.read_text()) | {"base_model_name_or_path": None}
    config.write_text(json.dumps(content))
    assert "the adapter names no base model" in refused(lone_adapter, tiny_test_csv, task=TASK)


def test_an_adapter_of_another_base(refused, lone_adapter, finished_once, make_tiny_model, tiny_test_csv, tmp_path):
    other = make_tiny_model(tmp_path / "same shape", seed=1)
    assert "base model" in refused(finished_once / "release", tiny_test_csv, model=other, code=1)
    shallow = _changed_model(make_tiny_model(tmp_path / "shallow"), num_hidden_layers=2)
    assert "expected the base" in refused(lone_adapter, tiny_test_csv, task=TASK, model=shallow)
    wide = _changed_model(make_tiny_model(tmp_path / "wide"), hidden_size=48, num_attention_heads=6)
    assert "expected the base" in refused(lone_adapter, tiny_test_csv, task=TASK, model=wide)


def _changed_model(path, **changes):
    config = AutoConfig.from_pretrained(path)
    for name, value in changes.items():
        setattr(config, name, value)
    config.layer_types = None
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    return path


def test_an_adapter_with_weights_of_other_layers(refused, lone_adapter, tiny_test_csv):
    path = lone_adapter / "adapter_model.safetensors"
    save_file({name.replace("layers.2.", "layers.1."): value for name, value in load_file(path).items()}, path)
    message = refused(lone_adapter, tiny_test_csv, task=TASK)
    assert "belongs to another base" in message and "8 of its weights" in message


def test_an_adapter_that_is_none_of_lora(refused, lone_adapter, tiny_test_csv):
    config = lone_adapter / "adapter_config.json"
    good = json.loads(config.read_text())
    config.write_text(json.dumps(good | {"peft_type": "PROMPT_TUNING"}))
    assert "expected LORA" in refused(lone_adapter, tiny_test_csv, task=TASK)
    for broken in ("{}", "[" * 100_000):
        config.write_text(broken)
        assert "no adapter's configuration" in refused(lone_adapter, tiny_test_csv, task=TASK)
    config.write_text(json.dumps(good))
    (lone_adapter / "adapter_model.safetensors").write_bytes(b"cut off")
    assert "cannot be loaded" in refused(lone_adapter, tiny_test_csv, task=TASK)


@pytest.fixture(scope="module")
def prompts(tiny_test_csv):
    lines = tiny_test_csv.read_text().splitlines()[1:13]
    return [f"{line.rpartition(',')[0]} It was" for line in lines]


@pytest.fixture(scope="module")
def plain(finished_once, finished_full_once, tiny_model_dir, prompts):
    """Scores (R, C) of the adapter, the merged adapter, the tuned model and the base, from another process."""
    adapter, tuned = finished_once / "release" / "adapter", finished_full_once / "release" / "model"
    jobs = {
        "adapter": {"model": str(tiny_model_dir), "adapter": str(adapter), "merge": False},
        "merged": {"model": str(tiny_model_dir), "adapter": str(adapter), "merge": True},
        "tuned": {"model": str(tuned), "adapter": None, "merge": False},
        "base": {"model": str(tiny_model_dir), "adapter": None, "merge": False},
    }
    given = json.dumps([job | {"prompts": prompts, "words": WORDS} for job in jobs.values()])
    done = subprocess.run([sys.executable, str(SCRIPT)], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(jobs, map(np.array, json.loads(done.stdout)), strict=True))


@pytest.fixture
def ours(tiny_test_csv):
    """The margin of the second label (R,), as `predict` has it."""

    def of_target(target):
        records = predict(target, tiny_test_csv).records[:12]
        return np.array([np.log(row["probability 1"]) - np.log(row["probability 0"]) for row in records])

    return of_target


def margins(scores):
    return scores[:, 1] - scores[:, 0]


def test_training_moved_the_weights(plain):
    for name in ("adapter", "tuned"):
        assert np.abs(margins(plain[name]) - margins(plain["base"])).max() > 100 * ROUNDING


def test_an_adapter_loaded_by_peft_alone(plain, ours, finished_once):
    assert margins(plain["adapter"]) == pytest.approx(ours(finished_once), abs=ROUNDING)


def test_merged_into_its_base(plain):
    assert plain["merged"] == pytest.approx(plain["adapter"], abs=ROUNDING)


def test_a_tuned_model_loaded_by_transformers_alone(plain, ours, finished_full_once):
    assert margins(plain["tuned"]) == pytest.approx(ours(finished_full_once), abs=ROUNDING)
