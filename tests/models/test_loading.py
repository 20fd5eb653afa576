"""Loading, what trains, names, and from which layer on training can change anything."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from paczero.errors import PACZeroError
from paczero.models.adapters import attach, peft_config_from, peft_settings
from paczero.models.layers import find_layers, first_trained_layer
from paczero.models.loading import HfApi, base_fingerprint, constants, load, pick_device

Decoder = Callable[..., PreTrainedModel]
IDS = torch.tensor([[3, 14, 15, 9, 26, 5]])


def hidden_inputs(model: torch.nn.Module, ids: torch.Tensor) -> list[torch.Tensor]:
    """What reaches each decoder layer, and what leaves the decoder and the head."""
    seen: list[torch.Tensor] = []
    found = find_layers(model)
    handles = [
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append((args or (kwargs["hidden_states"],))[0].clone()), with_kwargs=True
        )
        for layer in found.layers
    ]
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    for handle in handles:
        handle.remove()
    return [*seen, logits]


def test_load_from_a_directory(tiny_model_dir: Path) -> None:
    model, tokenizer = load(str(tiny_model_dir), dtype="bfloat16", device="cpu")
    assert (model.dtype, model.training) == (torch.bfloat16, False)
    assert tokenizer("It was great")["input_ids"]


def test_a_loaded_model_is_taken_as_it_is(tiny_model_dir: Path) -> None:
    given = AutoModelForCausalLM.from_pretrained(tiny_model_dir).train()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    model, found = load(given, dtype="bfloat16", device="auto", tokenizer=tokenizer)
    assert model is given and not model.training and model.dtype == torch.float32
    assert found is tokenizer
    assert load(given, dtype="float32", device="cpu")[1].get_vocab() == tokenizer.get_vocab()


def one_line(error: pytest.ExceptionInfo[PACZeroError]) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 700
    return text


@pytest.mark.parametrize("content", [None, {}, {"model_type": "no-such-type"}, "not json", {"model_type": "llama"}])
def test_what_cannot_be_loaded(content: Any, tmp_path: Path) -> None:
    place = tmp_path / "model"
    if content is not None:
        place.mkdir()
        (place / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(PACZeroError) as error:
        load(str(place), dtype="float32", device="cpu")
    assert one_line(error).startswith(f"model: the model of {str(place)!r} cannot be loaded")


def test_weights_that_are_cut_off(make_tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    place = make_tiny_model(tmp_path / "model")
    weights = place / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(PACZeroError, match="cannot be loaded"):
        load(str(place), dtype="float32", device="cpu")


def test_a_model_without_its_tokenizer(make_tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    place = make_tiny_model(tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (place / name).unlink(missing_ok=True)
    with pytest.raises(PACZeroError) as error:
        load(str(place), dtype="float32", device="cpu")
    assert one_line(error).startswith(f"model: the tokenizer of {str(place)!r} cannot be loaded")


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "", "mps:0"])
def test_a_device_that_is_not_here(device: str) -> None:
    with pytest.raises(PACZeroError) as error:
        pick_device(device)
    assert one_line(error).startswith(f"device: {device!r} was given")


def test_the_base_fingerprint_sees_every_weight(decoder: Decoder) -> None:
    model = decoder("llama")
    first = base_fingerprint(model)
    assert base_fingerprint(decoder("llama")) == first
    for parameter in model.parameters():
        with torch.no_grad():
            before = parameter.flatten()[-1].item()
            parameter.view(-1)[-1] += 1
            assert base_fingerprint(model) != first
            parameter.view(-1)[-1] = before
    assert base_fingerprint(model) == first
    assert base_fingerprint(model.to(torch.bfloat16)) != first


def test_tied_weights_count_once(tiny_model_dir: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    _, trained = attach(model)
    assert "lm_head.weight" not in trained and "model.embed_tokens.weight" in trained
    assert sum(p.numel() for p in trained.values()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("family", ["llama", "opt", "gpt2", "qwen2", "qwen3"])
@pytest.mark.parametrize("chosen", [[0], [-1], [0, 2], [-3, 1]])
def test_chosen_layers(decoder: Decoder, family: str, chosen: list[int]) -> None:
    model, trained = attach(decoder(family), train_layers=chosen)
    found = find_layers(model)
    expected = {id(p) for layer in chosen for p in found.layers[layer].parameters()}
    assert {id(p) for p in trained.values()} == expected
    assert {id(p) for p in model.parameters() if p.requires_grad} == expected
    assert {found.layer_of(name) for name in trained} == {layer % 3 for layer in chosen}
    assert first_trained_layer(model, list(trained)) == min(layer % 3 for layer in chosen)


@pytest.mark.parametrize("family", ["llama", "opt", "gpt2", "qwen2", "qwen3"])
def test_nothing_below_the_first_trained_layer_changes(
    decoder: Decoder, stirred: Callable[..., None], family: str
) -> None:
    """For every single parameter: moving it leaves what reaches that layer, and changes something above."""
    model = decoder(family)
    before = hidden_inputs(model, IDS)
    for name, parameter in model.named_parameters():
        saved = parameter.detach().clone()
        stirred({name: parameter}, size=1.0)
        first = first_trained_layer(model, [name])
        after = hidden_inputs(model, IDS)
        if first > 0:
            assert all(torch.equal(a, b) for a, b in zip(before[: first + 1], after[: first + 1], strict=True)), name
        changes = not torch.equal(before[-1], after[-1])
        assert changes or name.endswith("k_proj.bias"), name  # a shift of all keys cancels in the softmax
        with torch.no_grad():
            parameter.copy_(saved)


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({"target_modules": ["q_proj"], "layers_to_transform": [1, 2]}, 1),
        ({"target_modules": ["q_proj", "v_proj"]}, 0),
        ({"target_modules": ["o_proj", "up_proj"], "layers_to_transform": 2}, 2),
        ({"target_modules": ["v_proj"], "layers_to_transform": [2], "modules_to_save": ["lm_head"]}, 2),
        ({"target_modules": ["v_proj"], "layers_to_transform": [2], "bias": "all"}, 0),
        ({"target_modules": ["v_proj"], "rank_pattern": {"v_proj": 1}, "use_rslora": True}, 0),
    ],
)
def test_adapters(decoder: Decoder, settings: dict[str, Any], first: int) -> None:
    """Canonical names say nothing of PEFT, the start is the public seed's, and the model is the base at first."""
    base = decoder("qwen2")
    base.config.tie_word_embeddings = False
    before = hidden_inputs(base, IDS)[-1]
    model, trained = attach(base, peft_config=LoraConfig(r=2, **settings), seed=5)
    assert not model.training
    assert first_trained_layer(model, list(trained)) == first
    assert all("default" not in name and "base_model" not in name for name in trained)
    assert len({id(p) for p in trained.values()}) == len(trained)
    assert {id(p) for p in trained.values()} == {id(p) for p in model.parameters() if p.requires_grad}
    torch.testing.assert_close(hidden_inputs(model, IDS)[-1], before)
    _, again = attach(decoder("qwen2"), peft_config=LoraConfig(r=2, **settings), seed=5)
    assert again.keys() == trained.keys()
    assert all(torch.equal(again[name], trained[name]) for name in trained)
    _, other = attach(decoder("qwen2"), peft_config=LoraConfig(r=2, **settings), seed=6)
    assert any(not torch.equal(other[name], trained[name]) for name in trained if "lora_A" in name)


@pytest.mark.parametrize(
    ("peft", "message"),
    [
        (PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), "PROMPT_TUNING was given; expected LORA"),
        (PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), "PREFIX_TUNING was given; expected LORA"),
        (LoraConfig(target_modules=["nowhere"]), "peft: .*nowhere"),
        (LoraConfig(target_modules=["q_proj"], layers_to_transform=[3]), "layers_to_transform: 3 was given; .* 0 to 2"),
        (LoraConfig(target_modules=["q_proj"], layers_to_transform=[-1]), "layers_to_transform: -1 was given"),
        (LoraConfig(target_modules=["q_proj"], init_lora_weights="gaussian"), "init_lora_weights: 'gaussian'"),
        (LoraConfig(target_modules=["q_proj"], init_lora_weights=False), "init_lora_weights: False"),
        (LoraConfig(target_modules=["embed_tokens"]), "expected LoRA of linear layers"),
        (LoraConfig(target_modules=["q_proj"], use_dora=True), "expected LoRA of linear layers"),
    ],
)
def test_adapters_that_are_refused(decoder: Decoder, peft: Any, message: str) -> None:
    with pytest.raises(PACZeroError, match=message) as error:
        attach(decoder("llama"), peft_config=peft)
    one_line(error)


def test_a_model_that_has_an_adapter_already(decoder: Decoder) -> None:
    """Its base would not be the base that a replay starts from."""
    model = decoder("llama")
    wrapped, _ = attach(model, peft_config=LoraConfig(target_modules=["q_proj"]))
    for given in (model, wrapped):
        with pytest.raises(PACZeroError, match="model: it has an adapter already"):
            load(given, dtype="float32", device="cpu", tokenizer=object())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layers", "message"), [([3], "3 was given; expected an index from -3 to 2"), ([-4], "-4 was")]
)
def test_layers_that_are_not_there(decoder: Decoder, layers: list[int], message: str) -> None:
    with pytest.raises(PACZeroError, match=f"train_layers: {message}"):
        attach(decoder("gpt2"), train_layers=layers)


def test_no_layers_and_both_kinds(decoder: Decoder) -> None:
    with pytest.raises(PACZeroError, match="nothing would train"):
        attach(decoder("llama"), train_layers=[])
    with pytest.raises(PACZeroError, match="train_layers: given together with peft"):
        attach(decoder("llama"), train_layers=[0], peft_config=LoraConfig(target_modules=["q_proj"]))


def test_a_model_without_decoder_layers(decoder: Decoder) -> None:
    model = decoder("llama")
    model.config.num_hidden_layers = 17
    with pytest.raises(PACZeroError, match="no list of 17 decoder layers in LlamaForCausalLM"):
        find_layers(model)


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 4, "lora_alpha": 8, "target_modules": ["v_proj", "q_proj"], "layers_to_transform": [1]},
        {"target_modules": "all-linear", "lora_dropout": 0.1, "bias": "lora_only", "rank_pattern": {"q_proj": 3}},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"], "use_rslora": True},
    ],
)
def test_peft_settings_make_the_round_trip(settings: dict[str, Any]) -> None:
    """Through JSON, as config.yaml and the transcript hold them."""
    config = LoraConfig(**settings)
    told = json.loads(json.dumps(peft_settings(config)))
    assert told["peft_type"] == "LORA"
    again = peft_config_from(told)
    assert peft_settings(again) == told
    for name, value in settings.items():
        found = getattr(again, name)
        assert (sorted(found) if isinstance(found, set) else found) == (
            sorted(value) if isinstance(value, list) else value
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type: 'IA3' was given; expected LORA"),
        ({"rank": 8}, "rank is no key of peft's LoraConfig"),
        ({"target_modules": ["q_proj"], "layers_pattern": "layers"}, "peft: .*layers_to_transform"),
    ],
)
def test_peft_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PACZeroError, match=message) as error:
        peft_config_from(settings)
    one_line(error)


def test_a_name_that_is_nowhere_is_one_short_question(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def model_info(self: object, name: str, **options: object) -> None:
        asked.append((name, options))
        raise ConnectionError("no route to the hub\nand more")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "model_info", model_info)
    with pytest.raises(PACZeroError, match=r"no directory 'models/none' in .*ConnectionError: no route to the hub\)"):
        load("models/none", dtype="float32", device="cpu")
    assert asked == [("models/none", {"timeout": 10})]
    with pytest.raises(PACZeroError, match=r"no directory '/nowhere/at/all'"):
        load("/nowhere/at/all", dtype="float32", device="cpu")
