"""Adapters load on the base that they were trained on, and on no other."""

import json

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

TASK = {"template": "{text} It was {label}", "labels": {"0": "terrible", "1": "great"}}


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
