"""Records end to end: the scores of one record at a time, whatever lies beside it, whichever path is switched off."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from peft import LoraConfig

from paczero.config import EngineConfig
from paczero.engine.hidden_cache import HiddenCache
from paczero.models.adapters import attach

from ..scoring import FAMILIES, PROMPTS, WORDS, Decoder, centred, scorer, slow_scores

# An instruction in front of every prompt, and each fast path switched off in turn.
INSTRUCTED = [[7, 30, 11, 25, 8, 8, *prompt] for prompt in PROMPTS]
ENGINES = {
    "all": EngineConfig(),
    **{name: EngineConfig(**{name: False}) for name in ("packing", "prefix", "narrowing", "cache", "merge")},
    "none": EngineConfig(packing=False, prefix=False, narrowing=False, cache=False, merge=False),
}


@pytest.mark.parametrize("words", list(WORDS.values())[::2], ids=list(WORDS)[::2])
@pytest.mark.parametrize("engine", ENGINES.values(), ids=list(ENGINES))
@pytest.mark.parametrize("family", FAMILIES)
def test_every_fast_path_can_be_switched_off(
    decoder: Decoder, stirred: Callable[..., None], family: str, engine: EngineConfig, words: list[list[int]]
) -> None:
    targets = ["c_attn"] if family == "gpt2" else ["q_proj", "v_proj"]
    peft = LoraConfig(r=2, target_modules=targets, layers_to_transform=[1, 2], fan_in_fan_out=family == "gpt2")
    model, trained = attach(decoder(family), peft_config=peft)
    fast = scorer(
        model, words, prompts=INSTRUCTED, engine=engine, batch_tokens=120, first_layer=1, cache=HiddenCache(2**30, None)
    )
    stirred(trained)
    paths = fast.paths()
    for name in ("packing", "prefix", "cache"):
        assert (name in paths) == (getattr(engine, name) and (name != "prefix" or engine.packing))
    assert ("merge" in paths) == (engine.merge and family != "gpt2"), "PEFT's GPT-2 layers are no nn.Linear"
    fast.check()
    slow = slow_scores(model, words, INSTRUCTED)
    np.testing.assert_allclose(centred(fast.scores()), centred(slow), atol=4e-4, rtol=4e-4)
    for parameter in trained.values():  # merged anew for every pass
        parameter.data *= 1.5
    slow = slow_scores(model, words, INSTRUCTED)
    np.testing.assert_allclose(centred(fast.scores()), centred(slow), atol=8e-4, rtol=8e-4)
    some = np.arange(fast.records) % 4 == 1
    np.testing.assert_allclose(centred(fast.scores(some)[some]), centred(slow[some]), atol=8e-4, rtol=8e-4)


TARGETS = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "opt": ["q_proj", "v_proj", "out_proj", "fc1", "fc2"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}
TARGETS |= {"qwen2": TARGETS["llama"], "qwen3": TARGETS["llama"]}


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("layers", [[0, 1, 2], [1, 2], [2]])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_on_every_matrix(
    decoder: Decoder, stirred: Callable[..., None], family: str, layers: list[int], cache: bool
) -> None:
    """Each matrix alone, and all of them: stand-ins for some must not hide what others are cut or kept by."""
    words = WORDS["two of several tokens"]
    for chosen in [*([name] for name in TARGETS[family]), TARGETS[family]]:
        peft = LoraConfig(r=1, target_modules=chosen, layers_to_transform=layers, fan_in_fan_out=family == "gpt2")
        model, trained = attach(decoder(family), peft_config=peft)
        store, engine = HiddenCache(2**30, None), EngineConfig(cache=cache)
        fast = scorer(model, words, engine=engine, first_layer=layers[0], cache=store, batch_tokens=200)
        stirred(trained)
        slow = slow_scores(model, words)
        np.testing.assert_allclose(centred(fast.scores()), centred(slow), atol=6e-4, rtol=6e-4, err_msg=str(chosen))


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_record_does_not_depend_on_its_neighbours(decoder: Decoder, family: str, prefix: bool) -> None:
    """Alone, among others, beside a much longer one: the same scores but for rounding."""
    model, words = decoder(family), WORDS["two of several tokens"]
    engine = EngineConfig(prefix=prefix)
    whole = scorer(model, words, prompts=INSTRUCTED, engine=engine, batch_tokens=10_000)
    together = centred(whole.scores())
    assert len(whole.batches) == 1
    for record, prompt in enumerate(INSTRUCTED):
        alone = scorer(model, words, prompts=[prompt], engine=engine).scores()[0]
        np.testing.assert_allclose(alone - alone.mean(), together[record], atol=5e-5)
    others = [*INSTRUCTED[3:5], INSTRUCTED[0] * 3]
    np.testing.assert_allclose(centred(scorer(model, words, prompts=others).scores())[:2], together[3:5], atol=5e-5)


@pytest.mark.parametrize("words", list(WORDS.values())[::2], ids=list(WORDS)[::2])
@pytest.mark.parametrize("prompts", [PROMPTS, INSTRUCTED], ids=["plain", "instructed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_long_records_go_through_the_fused_kernel(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch, family: str, prompts: list[list[int]], words: list[list[int]]
) -> None:
    model = decoder(family)
    short = scorer(model, words, prompts=prompts).scores()
    monkeypatch.setattr("paczero.engine.packing._SHORT", 0)
    calls: list[int] = []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *args, **more: calls.append(1) or fused(*args, **more),
    )
    long = scorer(model, words, prompts=prompts).scores()
    assert calls
    np.testing.assert_allclose(centred(long), centred(short), atol=1e-4)


def test_a_prefix_is_computed_once_a_micro_batch(decoder: Decoder) -> None:
    fast = scorer(decoder("opt"), WORDS["two of one token"], prompts=INSTRUCTED)
    assert fast.batches[0].prefix == 6
    prefixes = 6 * len(fast.batches)
    positions = sum(batch.positions for batch in fast.batches)
    assert positions == sum(len(prompt) - 6 for prompt in INSTRUCTED) + prefixes
    other = scorer(decoder("opt"), WORDS["two of one token"])
    assert positions < sum(batch.positions for batch in other.batches) + prefixes + 1
