"""Adapters added to the weights: the same function, the base untouched, and left alone where it would not be exact."""

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from paczero.engine.lora_merge import find_mergeable, merging

MANY = 10**6


def adapted(decoder: Any, stirred: Any, family: str = "llama", **settings: Any) -> nn.Module:
    config = LoraConfig(**({"r": 2, "target_modules": ["q_proj", "down_proj"], "lora_alpha": 3} | settings))
    model = get_peft_model(decoder(family), config).eval()
    stirred({name: p for name, p in model.named_parameters() if p.requires_grad})
    return model


def outputs(model: nn.Module) -> np.ndarray:
    with torch.inference_mode():
        return model(input_ids=torch.arange(2, 22)[None]).logits.numpy()


@pytest.mark.parametrize("family", ["llama", "qwen2", "opt"])
@pytest.mark.parametrize("rslora", [True, False])
def test_the_same_function_and_the_base_untouched(decoder: Any, stirred: Any, family: str, rslora: bool) -> None:
    targets = ["q_proj", "fc2"] if family == "opt" else ["q_proj", "down_proj"]
    model = adapted(decoder, stirred, family, target_modules=targets, use_rslora=rslora)
    before = {name: p.clone() for name, p in model.named_parameters()}
    expected = outputs(model)
    found = find_mergeable(model, positions=MANY)
    assert len(found) == 6
    with merging(found):
        names = [type(module).__name__ for module in model.modules()]
        merged = outputs(model)
    np.testing.assert_allclose(merged, expected, atol=2e-5, rtol=2e-5)
    assert np.ptp(expected) > 1 and "LoraLayer" not in names
    np.testing.assert_array_equal(outputs(model), expected)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_adapters_are_taken_as_they_stand_on_entering(decoder: Any, stirred: Any) -> None:
    model = adapted(decoder, stirred)
    found = find_mergeable(model, positions=MANY)
    with merging(found):
        outputs(model)
    stirred({name: p for name, p in model.named_parameters() if "lora_B" in name}, seed=5)
    expected = outputs(model)
    with merging(found):
        np.testing.assert_allclose(outputs(model), expected, atol=2e-5, rtol=2e-5)


def test_it_must_pay(decoder: Any, stirred: Any) -> None:
    """q_proj is 16 x 16: merging writes 256 weights; down_proj 16 x 32."""
    model = adapted(decoder, stirred)
    assert [len(find_mergeable(model, positions=n)) for n in (1, 16, 17, 21, 22)] == [0, 0, 3, 3, 6]


@pytest.mark.parametrize(
    "settings",
    [{"use_dora": True}, {"target_modules": ["embed_tokens"]}, {"lora_bias": True, "target_modules": ["q_proj"]}],
    ids=["dora", "embedding", "bias"],
)
def test_what_is_no_plain_lora_is_left_alone(decoder: Any, stirred: Any, settings: dict[str, Any]) -> None:
    assert not find_mergeable(adapted(decoder, stirred, "qwen2", **settings), positions=MANY)


def test_half_precision_and_skipped_layers_are_left_alone(decoder: Any, stirred: Any) -> None:
    model = adapted(decoder, stirred)
    assert len(find_mergeable(model, positions=MANY, skip=lambda base: base.weight.shape == (16, 16))) == 3
    for module in model.modules():
        if hasattr(module, "base_layer"):
            module.base_layer.to(torch.bfloat16)
    assert not find_mergeable(model, positions=MANY)
