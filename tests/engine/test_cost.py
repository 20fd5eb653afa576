"""What a run is said to take."""

from collections.abc import Callable

import pytest
from peft import LoraConfig
from transformers import PreTrainedModel

from paczero.config import MechanismConfig, PACZeroConfig
from paczero.data.batching import micro_batches
from paczero.data.completions import CandidateTree
from paczero.engine.cost import Cost, estimate
from paczero.models.adapters import attach

Decoder = Callable[..., PreTrainedModel]
PROMPTS = [[7] * length for length in (3, 9, 4, 4, 12, 5, 30, 2)]
TREE = CandidateTree([[40, 41], [42]])


def cost(decoder: Decoder, layer: int = 2, **settings: object) -> Cost:
    model, trained = attach(
        decoder("llama"), peft_config=LoraConfig(r=2, target_modules=["q_proj"], layers_to_transform=[layer])
    )
    return estimate(
        model,
        micro_batches(PROMPTS, TREE, batch_tokens=40),
        TREE,
        first_layer=layer,
        elements=sum(p.numel() for p in trained.values()),
        args=PACZeroConfig(**settings),  # type: ignore[arg-type]
    )


def test_what_is_counted(decoder: Decoder) -> None:
    found = cost(decoder, max_steps=10, directions=3)
    model = decoder("llama")
    batches = micro_batches(PROMPTS, TREE, batch_tokens=40)
    assert found.tokens == sum(batch.positions for batch in batches)
    assert found.padding == 0
    assert set(found.paths) >= {"packing", "narrowing"}
    assert (found.layers, found.trained_layers, found.trained) == (3, 1, 2 * 16 + 16 * 2)
    assert found.parameters == sum(p.numel() for p in model.parameters()) + found.trained
    assert found.passes == 60
    # What reaches the layer, what its norm makes of it, and the frozen parts of q (16 wide), k and v (8 wide each).
    kept = found.tokens * (16 + 16 + 16 + 8 + 8) * 4
    assert found.memory == found.parameters * 4 + found.trained * 8 + kept


def test_times_scale_with_the_settings(decoder: Decoder) -> None:
    found = cost(decoder, max_steps=100)
    assert found.step_seconds > 0 and found.cache_seconds > 0
    assert found.seconds == pytest.approx(found.cache_seconds + 100 * found.step_seconds)
    assert cost(decoder, layer=0).cache_seconds == 0


def test_pilots_are_counted_where_they_are_measured(decoder: Decoder) -> None:
    balanced = MechanismConfig(family="balanced", pilots=7)
    found = cost(decoder, max_steps=10, mechanism=balanced)
    assert found.passes == 20 + 14
    assert found.seconds > found.cache_seconds + 10 * found.step_seconds
    assert cost(decoder, max_steps=10, mechanism=MechanismConfig(family="paired")).passes == 20
    assert cost(decoder, max_steps=10, mechanism=MechanismConfig(name="none", family="balanced")).passes == 20


def test_limits_and_copies_change_the_memory(decoder: Decoder) -> None:
    whole = cost(decoder)
    assert cost(decoder, restore="arithmetic").memory == whole.memory - 4 * whole.trained
    assert cost(decoder, cache_bytes=100).memory == whole.memory - whole.tokens * 64 * 4 + 100


def test_kept_attention_leaves_the_read_positions_to_pay_for(decoder: Decoder) -> None:
    peft = LoraConfig(r=2, target_modules=["o_proj"], layers_to_transform=[2])
    model, trained = attach(decoder("llama"), peft_config=peft)
    batches = micro_batches(PROMPTS, TREE, batch_tokens=40)
    elements = sum(p.numel() for p in trained.values())
    found = estimate(model, batches, TREE, first_layer=2, elements=elements, args=PACZeroConfig(max_steps=10))
    assert found.memory < found.parameters * 4 + found.trained * 8 + found.tokens * 16 * 4
    assert found.seconds == pytest.approx(found.cache_seconds + 10 * found.step_seconds)


def test_the_model_scores_as_before(decoder: Decoder) -> None:
    model, _ = attach(decoder("llama"), train_layers=[1])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batches = micro_batches(PROMPTS, TREE, batch_tokens=40)
    estimate(model, batches, TREE, first_layer=1, elements=1, args=PACZeroConfig())
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert batches[0].records.tolist() != list(range(8))


def test_copies_of_all_weights_have_their_type(decoder: Decoder) -> None:
    model, trained = attach(decoder("llama").half())
    elements = sum(p.numel() for p in trained.values())
    found = estimate(
        model,
        micro_batches(PROMPTS, TREE, batch_tokens=40),
        TREE,
        first_layer=0,
        elements=elements,
        args=PACZeroConfig(dtype="float16", restore="arithmetic"),
    )
    assert found.memory == 2 * found.parameters + 2 * elements
