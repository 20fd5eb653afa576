"""Scores through all shortcuts against one record at a time through the plain model, for five families of decoders."""

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from transformers import LlamaForCausalLM

from paczero.config import EngineConfig
from paczero.engine.hidden_cache import HiddenCache
from paczero.errors import PACZeroError
from paczero.models.adapters import attach
from paczero.models.layers import first_trained_layer, plain

from ..scoring import FAMILIES, PROMPTS, WORDS, Decoder, centred, scorer, slow_scores


@pytest.mark.parametrize("words", WORDS.values(), ids=list(WORDS))
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_one_record_at_a_time(decoder: Decoder, family: str, words: list[list[int]]) -> None:
    model = decoder(family)
    expected = slow_scores(model, words)
    assert np.ptp(centred(expected)) > 1, "the oracle tells candidates apart"
    for first in (0, 1, 2):
        for limit in (2**30,) if first else (0,):
            fast = scorer(model, words, first_layer=first, cache=HiddenCache(limit, None))
            np.testing.assert_allclose(centred(fast.scores()), centred(expected), atol=2e-4, rtol=2e-4)
            fast.check()


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_the_last_hidden_state_of_the_prompt(decoder: Decoder, family: str) -> None:
    model = decoder(family)
    found = scorer(model, WORDS["two of several tokens"], first_layer=2, cache=HiddenCache(2**30, None)).features()
    with torch.no_grad():
        for prompt, row in zip(PROMPTS, found, strict=True):
            hidden = model.base_model(input_ids=torch.tensor([prompt])).last_hidden_state[0, -1]
            np.testing.assert_allclose(row, hidden.numpy(), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("words", list(WORDS.values())[::2])
@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_that_has_moved(
    decoder: Decoder, stirred: Callable[..., None], family: str, layer: int, words: list[list[int]]
) -> None:
    """The cache below the adapter's layer is filled before its weights move, and stays right."""
    targets = ["c_attn"] if family == "gpt2" else ["q_proj", "v_proj"]
    peft = LoraConfig(
        r=2, target_modules=targets, layers_to_transform=[layer], lora_dropout=0.5, fan_in_fan_out=family == "gpt2"
    )
    model, trained = attach(decoder(family), peft_config=peft)
    first = first_trained_layer(model, list(trained))
    assert first == layer
    fast = scorer(model, words, first_layer=first, cache=HiddenCache(2**30, None))
    before = fast.scores()
    stirred(trained)
    assert np.abs(fast.scores() - before).max() > 1e-2, "the adapter matters"
    np.testing.assert_allclose(centred(fast.scores()), centred(slow_scores(model, words)), atol=3e-4, rtol=3e-4)


@pytest.mark.parametrize("words", list(WORDS.values())[::2])
@pytest.mark.parametrize(
    ("family", "targets", "kept", "settled"),
    [
        ("llama", ["o_proj", "down_proj"], True, 2),
        ("llama", ["down_proj"], True, 5),
        ("llama", ["gate_proj", "down_proj"], True, 5),
        ("llama", ["v_proj", "down_proj"], False, 0),
        ("qwen3", ["o_proj", "up_proj"], True, 2),
        ("opt", ["out_proj", "fc1"], True, 2),
        ("opt", ["fc2"], True, 2),
        ("gpt2", ["c_proj"], False, 0),
    ],
)
@pytest.mark.parametrize("limit", [0, 2**30])
def test_attention_that_never_changes_is_kept(
    decoder: Decoder,
    stirred: Callable[..., None],
    tmp_path: Path,
    family: str,
    targets: list[str],
    kept: bool,
    settled: int,
    limit: int,
    words: list[list[int]],
) -> None:
    """Where nothing before attention's output projection trains, the states are one vector a reading place.

    What frozen modules behind it give, as long as nothing that they read trains, is kept too, where it has room; of a
    block that only prepares what its last matrix reads, that alone.
    """
    peft = LoraConfig(r=2, target_modules=targets, layers_to_transform=[2], fan_in_fan_out=family == "gpt2")
    model, trained = attach(decoder(family), peft_config=peft)
    cache = HiddenCache(limit, tmp_path)
    fast = scorer(model, words, first_layer=2, cache=cache)
    places = fast.batches[0].reads.shape[1]
    assert all((states[0].shape[1] == places) == kept for states in cache.states)
    if kept:
        assert {len(states) for states in cache.states} == {2 + (settled if limit else 0)}
    stirred(trained)
    fast.check()
    np.testing.assert_allclose(centred(fast.scores()), centred(slow_scores(model, words)), atol=3e-4, rtol=3e-4)
    wanted = np.arange(fast.records) % 3 == 0
    np.testing.assert_allclose(centred(fast.scores(wanted)[wanted]), centred(fast.scores()[wanted]), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_full_tuning_of_the_last_layer(decoder: Decoder, stirred: Callable[..., None], family: str) -> None:
    words = WORDS["three, one a prefix of another"]
    model, trained = attach(decoder(family), train_layers=[-1])
    first = first_trained_layer(model, list(trained))
    assert first == 2
    fast = scorer(model, words, first_layer=first, cache=HiddenCache(2**30, None))
    stirred(trained, size=0.05)
    np.testing.assert_allclose(centred(fast.scores()), centred(slow_scores(model, words)), atol=3e-4, rtol=3e-4)


@pytest.mark.parametrize("words", WORDS.values(), ids=list(WORDS))
def test_a_kept_cache_is_the_same_and_private(decoder: Decoder, tmp_path: Path, words: list[list[int]]) -> None:
    """In memory, in a mapped file, and taken from either's file by a later start, which runs no layer below."""
    model = decoder("llama")
    inside = scorer(model, words, first_layer=2, cache=HiddenCache(2**30, None)).scores()
    for limit in (2**30, 0):
        place = tmp_path / f"private {limit}" / "cache"
        first = scorer(model, words, first_layer=2, cache=HiddenCache(limit, place))
        np.testing.assert_array_equal(first.scores(), inside)
        data, index = sorted(place.iterdir())
        assert data.stat().st_size == sum(batch.positions for batch in first.batches) * 16 * 4
        assert {stat.S_IMODE(path.stat().st_mode) for path in (data, index)} == {0o600}
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        for later in (2**30, 0):
            told: list[int] = []
            again = scorer(
                model,
                words,
                first_layer=2,
                cache=HiddenCache(later, place),
                progress=lambda done, of, told=told: told.append(done),
            )
            np.testing.assert_array_equal(again.scores(), inside)
            assert not told, "nothing was computed again"


CHANGES: dict[str, dict[str, Any]] = {
    "another record": {"prompts": [*PROMPTS[:-1], [9, 9]]},
    "another order": {"prompts": PROMPTS[::-1]},
    "another template": {"prompts": [[*prompt, 3] for prompt in PROMPTS]},
    "other label words": {"words": WORDS["two of several tokens"]},
    "another tree of the same tokens": {"words": [[40, 41, 42], [50]], "before": [[40, 42], [41, 42]]},
    "other micro-batches": {"batch_tokens": 30},
    "no packing": {"engine": EngineConfig(packing=False)},
    "another layer": {"first_layer": 1},
    "another base": {"cache": "another"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_another_base_or_record_or_template_takes_no_kept_states(
    decoder: Decoder, tmp_path: Path, change: dict[str, Any]
) -> None:
    model, told = decoder("llama"), []
    usual: dict[str, Any] = {"words": change.get("before", WORDS["two of one token"]), "first_layer": 2}
    scorer(model, **usual, cache=HiddenCache(2**30, tmp_path, base="one"))
    base = change.get("cache", "one")
    settings = usual | {name: value for name, value in change.items() if name not in ("cache", "before")}
    scorer(
        model,
        **settings,
        cache=HiddenCache(2**30, tmp_path, base=base),
        progress=lambda done, of: told.append((done, of)),
    )
    assert told


@pytest.mark.parametrize("first", [0, 2])
@pytest.mark.parametrize("words", [WORDS["two of one token"], WORDS["two of several tokens"]])
def test_some_records_only(decoder: Decoder, first: int, words: list[list[int]]) -> None:
    fast = scorer(decoder("qwen3"), words, first_layer=first, cache=HiddenCache(2**30, None))
    whole = fast.scores()
    for wanted in (np.arange(len(PROMPTS)) % 3 == 0, np.arange(len(PROMPTS)) == 7, np.zeros(len(PROMPTS), dtype=bool)):
        some = fast.scores(wanted)
        np.testing.assert_allclose(centred(some[wanted]), centred(whole[wanted]), atol=2e-4)
        assert not some[~wanted].any()


def test_the_model_is_as_it_was_afterwards(decoder: Decoder) -> None:
    """Also where a pass is given up or fails in the middle."""
    model = decoder("llama")
    layers, words = list(model.model.layers), WORDS["two of several tokens"]
    before = slow_scores(model, words)
    fast = scorer(model, words, first_layer=1, cache=HiddenCache(2**30, None))
    fast.scores()
    given: Iterator[Any] = fast._outputs(None)
    next(given)
    given.close()  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        scorer(model, words, first_layer=1, cache=HiddenCache(2**30, None), progress=lambda: None)  # type: ignore
    assert list(model.model.layers) == layers
    assert not any(module._forward_pre_hooks for module in model.modules())
    np.testing.assert_array_equal(slow_scores(model, words), before)


def test_the_cost_is_what_is_run(decoder: Decoder) -> None:
    fast = scorer(decoder("llama"), WORDS["two of several tokens"])
    rows: list[int] = []
    plain(fast.model).model.embed_tokens.register_forward_hook(lambda _, args, out: rows.append(args[0].numel()))
    fast.scores()
    assert sum(rows) == sum(batch.positions for batch in fast.batches)
    nodes = 2  # of the tree of the two: 40 and 40 41
    assert sum(batch.tokens for batch in fast.batches) == sum(map(len, PROMPTS)) + nodes * len(PROMPTS)


class Scaled(LlamaForCausalLM):
    """Does something between decoder and logits of which nothing in its configuration tells."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * 0.5
        return output


class Backwards(LlamaForCausalLM):
    """Its positions count down, so padding and shortcuts that count up do not suit it."""

    def forward(self, input_ids: Any = None, position_ids: Any = None, **kwargs: Any) -> Any:
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1] - 1, -1, -1)[None] * 3
        return super().forward(input_ids=input_ids, position_ids=position_ids, **kwargs)


@pytest.mark.parametrize("kind", [Scaled, Backwards])
@pytest.mark.parametrize("words", WORDS.values(), ids=list(WORDS))
def test_a_model_that_does_something_of_its_own_is_refused(
    decoder: Decoder, kind: type[LlamaForCausalLM], words: list[list[int]]
) -> None:
    model = kind(decoder("llama").config).eval()
    model.load_state_dict(decoder("llama").state_dict())
    with pytest.raises(PACZeroError, match=f"{kind.__name__} scores a record .* not supported"):
        scorer(model, words).check()


def test_a_model_that_overflows_is_refused(decoder: Decoder) -> None:
    model = decoder("llama")
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.inf)
    with pytest.raises(PACZeroError, match=r"not finite in torch\.float32"):
        scorer(model, WORDS["two of one token"]).check()


def test_a_window_shorter_than_the_records_is_refused_or_right(decoder: Decoder) -> None:
    """Sliding attention shows in long records only."""
    for words in WORDS.values():
        model = decoder(
            "qwen2",
            use_sliding_window=True,
            sliding_window=4,
            max_window_layers=0,
            layer_types=["sliding_attention"] * 3,
        )
        fast = scorer(model, words)
        apart = np.abs(centred(fast.scores()) - centred(slow_scores(model, words))).max()
        if apart > 1e-2:
            with pytest.raises(PACZeroError, match="not supported"):
                fast.check()


@pytest.mark.parametrize("name", ["logit_scale", "logits_scaling", "final_logit_softcapping"])
def test_what_configurations_tell_of_logits(name: str) -> None:
    """Cohere, Granite and Gemma 2 do more between head and softmax."""
    import transformers

    kind = {"logit_scale": "Cohere", "logits_scaling": "Granite", "final_logit_softcapping": "Gemma2"}[name]
    more = {"head_dim": 4} if kind == "Gemma2" else {}
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=60,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.4,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        **{name: 3.0},
        **more,
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    for words in WORDS.values():
        fast = scorer(model, words)
        np.testing.assert_allclose(centred(fast.scores()), centred(slow_scores(model, words)), atol=5e-4, rtol=5e-4)
